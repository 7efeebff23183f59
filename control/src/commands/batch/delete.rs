//! `batch delete`: all that lies in a batch's folder, unless a job works on it or somebody signed it.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    time::Instant,
};

use proto::{
    grpc::Batch,
    keys::{BatchKeys, Key, LEASE_PERIOD},
    store::{Object, Store, StoreError},
};

use crate::{
    agent::{self, Agent},
    batch,
    cli::DeleteArgs,
    ctx::Ctx,
    failure::Failure,
    report::Report,
};

/// The agent is asked first, so that no job runs over what goes away; the batch's description goes last, so that a delete
/// that was interrupted can be repeated.
pub async fn delete(ctx: &Ctx, args: &DeleteArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let (store, keys) = (ctx.store()?, BatchKeys::new(&args.batch));
    let objects = store.list_sorted(keys.folder()).await?;
    if objects.is_empty() {
        return Err(batch::unknown(ctx, &args.batch));
    }
    if !args.signed && objects.iter().any(|object| object.key == keys.signoff()) {
        return Err(Failure::gate(format!(
            "batch {} is signed off: what rests on it could not be traced any more; --signed deletes it all the same",
            args.batch
        )));
    }
    if let Some(child) = batch::retried_by(ctx, &args.batch).await? {
        return Err(Failure::gate(format!(
            "the pages that failed in batch {} are with batch {child}: delete that first",
            args.batch
        )));
    }
    let spec = batch::spec(ctx, &args.batch).await?;
    let mut agent = Agent::connect(&ctx.settings).await?;
    // A batch of the same name below another root is not this one.
    let is_its = |job: &Batch| job.root_uri == store.root().to_string();
    let job = agent.find(&args.batch).await?.filter(is_its);
    // Of its own job the agent says whether that can go.
    if job.as_ref().is_none_or(|job| agent::has_ended(job.state()))
        && let Some(holder) = holder(store, &keys).await?
    {
        return Err(Failure::gate(format!(
            "batch {} is worked on by {holder}: cancel that job, or end that run, first",
            args.batch
        )));
    }
    let had_job = job.is_some();
    if had_job {
        agent.delete(&args.batch).await?;
    }
    let mut deleted = 0;
    let is_spec = |object: &Object| object.key == keys.spec();
    // Twice: the first look was before the last run ended.
    for _ in 0..2 {
        for object in store.list_sorted(keys.folder()).await?.iter().filter(|object| !is_spec(object)) {
            store.delete(&object.key).await?;
            deleted += 1;
        }
    }
    // Its pages may be retried by another one.
    if let Some(parent) = spec.filter(|spec| spec.retry).and_then(|spec| spec.parent)
        && batch::retried_by(ctx, &parent).await?.as_ref() == Some(&args.batch)
    {
        store.delete(&BatchKeys::new(&parent).retry()).await?;
    }
    if objects.iter().any(is_spec) {
        store.delete(&keys.spec()).await?;
        deleted += 1;
    }
    let report = Report::new("batch delete").outcome("objects", deleted).outcome("jobs", u64::from(had_job));
    Ok(report.since(start))
}

/// Who works on the batch now, whichever agent it is: in a folder a lease is locked, elsewhere it is rewritten.
async fn holder(store: &Store, keys: &BatchKeys) -> Result<Option<String>, StoreError> {
    let leases = async || -> Result<BTreeMap<Key, Option<String>>, StoreError> {
        let found = store.list_sorted(&keys.leases()).await?.into_iter();
        Ok(found.map(|object| (object.key, object.etag)).collect())
    };
    let before = leases().await?;
    let held = |key: &Key| {
        let lease = store.local_path(key).and_then(|path| File::open(path).ok());
        lease.is_some_and(|lease| matches!(lease.try_lock(), Err(TryLockError::WouldBlock)))
    };
    let mut found = before.keys().find(|key| held(key)).cloned();
    if found.is_none() && !before.is_empty() && store.local_path(&keys.spec()).is_none() {
        tokio::time::sleep(LEASE_PERIOD * 2).await;
        found =
            leases().await?.into_iter().find(|(key, etag)| before.get(key) != Some(etag)).map(|(key, _)| key);
    }
    let Some(key) = found else { return Ok(None) };
    let document = store.get_opt(&key).await?.unwrap_or_default();
    let lease: serde_json::Value = serde_json::from_slice(&document).unwrap_or_default();
    let who =
        |name: &str| lease[name].as_str().map(str::to_owned).or(lease[name].as_u64().map(|n| n.to_string()));
    Ok(Some(match (who("pid"), who("host")) {
        (Some(pid), Some(host)) => format!("process {pid} on {host}"),
        _ => "another agent".to_owned(),
    }))
}
