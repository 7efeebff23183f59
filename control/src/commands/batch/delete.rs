//! `batch delete`: all that lies in a batch's folder, unless somebody works on it or signed it.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    time::{Duration, Instant},
};

use proto::{
    grpc::Batch,
    keys::{BatchKeys, Key},
    lease::{self, Holder},
    store::{Object, RootUri, Store, StoreError},
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
        && let Some(holder) = holder(store, &keys, lease::PERIOD).await?
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

/// Who works on the batch now, whichever agent it is: in a folder a lease is locked, elsewhere it is rewritten within a
/// period.
async fn holder(store: &Store, keys: &BatchKeys, period: Duration) -> Result<Option<Holder>, StoreError> {
    let leases = async || -> Result<BTreeMap<Key, Option<String>>, StoreError> {
        let found = store.list_sorted(&keys.leases()).await?.into_iter();
        Ok(found.map(|object| (object.key, object.etag)).collect())
    };
    let before = leases().await?;
    let found = match store.root() {
        RootUri::Folder(_) => before.into_keys().find(|key| is_locked(store, key)),
        RootUri::Bucket { .. } if before.is_empty() => None,
        RootUri::Bucket { .. } => {
            tokio::time::sleep(period * 2).await;
            leases().await?.into_iter().find(|(key, etag)| before.get(key) != Some(etag)).map(|(key, _)| key)
        }
    };
    let Some(key) = found else { return Ok(None) };
    // Given back just now: somebody works on the batch all the same.
    Ok(Some(Holder::of(&store.get_opt(&key).await?.unwrap_or_default())))
}

fn is_locked(store: &Store, lease: &Key) -> bool {
    let file = store.local_path(lease).and_then(|path| File::open(path).ok());
    file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::{memory::InMemory, path::Path};

    use super::*;

    fn keys() -> BatchKeys {
        BatchKeys::new(&"b".parse().expect("an id"))
    }

    fn beat(beat: u64) -> Vec<u8> {
        Holder { host: "spark".into(), pid: 7, instance: "a".into(), beat }.document()
    }

    #[tokio::test]
    async fn in_a_bucket_it_is_who_rewrites_a_lease() {
        let root = "s3://lake".parse().expect("a root");
        let (store, keys) = (Store::with_inner(Arc::new(InMemory::new()), Path::default(), root), keys());
        let period = Duration::from_millis(20);
        assert_eq!(holder(&store, &keys, period).await.expect("looked"), None);
        for part in [0, 1] {
            store.put(&keys.lease(part), beat(0)).await.expect("written");
        }
        assert_eq!(holder(&store, &keys, period).await.expect("looked"), None, "left by one that is gone");
        let beats = async {
            for number in 1.. {
                store.put(&keys.lease(1), beat(number)).await.expect("written");
                tokio::time::sleep(period).await;
            }
        };
        let found = tokio::select! {
            () = beats => None,
            found = holder(&store, &keys, period) => found.expect("looked"),
        };
        assert_eq!(found.expect("it beats").host, "spark");
    }

    #[tokio::test]
    async fn in_a_folder_it_is_who_locks_a_lease() {
        let folder = tempfile::tempdir().expect("a folder");
        let store =
            Store::open(folder.path().to_str().expect("UTF-8"), &Default::default()).expect("a store");
        let keys = keys();
        store.put(&keys.lease(3), beat(0)).await.expect("written");
        let look = || holder(&store, &keys, Duration::ZERO);
        assert_eq!(look().await.expect("looked"), None, "left by one that is gone");
        let lease = File::open(store.local_path(&keys.lease(3)).expect("a folder")).expect("there");
        lease.lock().expect("locked");
        assert_eq!(look().await.expect("looked").expect("it is locked").pid, 7);
        drop(lease);
        assert_eq!(look().await.expect("looked"), None);
    }
}
