//! What lies in a batch's folder: its documents, read and understood, and its files.

pub mod annotated;
pub mod retries;

use futures::{StreamExt, TryStreamExt};
use proto::{
    docs::{self, BatchSpec, CommitRecord, Manifest, RetryPin, Signoff},
    ids::BatchId,
    keys::{self, BatchFile, BatchKeys, Key, PartKind, batch_of},
    store::Object,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ctx::Ctx, failure::Failure};

/// Documents on their way at a time.
const AT_ONCE: usize = 16;

/// None when `control` did not make the batch, or when there is none.
pub async fn spec(ctx: &Ctx, batch: &BatchId) -> Result<Option<BatchSpec>, Failure> {
    document(ctx, &BatchKeys::new(batch).spec()).await
}

/// None until every part is committed.
pub async fn manifest(ctx: &Ctx, batch: &BatchId) -> Result<Option<Manifest>, Failure> {
    document(ctx, &BatchKeys::new(batch).manifest()).await
}

/// The batch that has the pages that failed in this one.
pub async fn retried_by(ctx: &Ctx, batch: &BatchId) -> Result<Option<BatchId>, Failure> {
    let pin: Option<RetryPin> = document(ctx, &BatchKeys::new(batch).retry()).await?;
    Ok(pin.map(|pin| pin.batch_id))
}

/// The commits that are there, by part.
pub async fn commits(ctx: &Ctx, batch: &BatchId) -> Result<Vec<CommitRecord>, Failure> {
    let keys = BatchKeys::new(batch);
    let objects = part_files(ctx, &keys, PartKind::Commits).await?;
    let commits = objects.iter().map(|object| document::<CommitRecord>(ctx, &object.key));
    let commits: Vec<_> = futures::stream::iter(commits).buffered(AT_ONCE).try_collect().await?;
    Ok(commits.into_iter().flatten().collect())
}

/// Every sign-off under the root, the newest first.
pub async fn signoffs(ctx: &Ctx) -> Result<Vec<Signoff>, Failure> {
    let store = ctx.store()?;
    let found = store.list(keys::ARGILLA_IN).try_filter_map(|object| async move {
        Ok(batch_of(&object.key, BatchFile::Signoff).map(|_| object.key))
    });
    let found: Vec<Key> = found.try_collect().await?;
    let signoffs = found.iter().map(|key| document::<Signoff>(ctx, key));
    let signoffs: Vec<_> = futures::stream::iter(signoffs).buffered(AT_ONCE).try_collect().await?;
    let mut signoffs: Vec<Signoff> = signoffs.into_iter().flatten().collect();
    signoffs.sort_by(|a, b| (b.signed_at, &b.batch_id).cmp(&(a.signed_at, &a.batch_id)));
    Ok(signoffs)
}

/// The files of one kind, by key. Those of a foreign producer have names of their own.
pub async fn part_files(ctx: &Ctx, keys: &BatchKeys, kind: PartKind) -> Result<Vec<Object>, Failure> {
    let end = if kind == PartKind::Commits { ".json" } else { ".parquet" };
    let mut objects = ctx.store()?.list_sorted(&keys.parts(kind)).await?;
    objects.retain(|object| object.key.as_str().ends_with(end));
    Ok(objects)
}

/// There is no such batch.
pub fn unknown(ctx: &Ctx, batch: &BatchId) -> Failure {
    Failure::data(format!(
        "there is no batch {batch} under {}: run `control batch create {batch}`, or give --root",
        ctx.settings.root
    ))
}

/// A JSON document of a version that is known here; None when it is not there.
pub async fn document<D: DeserializeOwned>(ctx: &Ctx, key: &Key) -> Result<Option<D>, Failure> {
    let store = ctx.store()?;
    let Some(bytes) = store.get_opt(key).await? else { return Ok(None) };
    let uri = store.uri_of(key);
    let way_out = match key.as_str() {
        key if key.contains("/commits/") || key.ends_with("/_manifest.json") => {
            "restore it; or delete it, and `control preannotate retry BATCH --lost` for its batch makes it again"
        }
        _ => "restore it",
    };
    let unreadable = |error| Failure::data(format!("{uri} cannot be understood ({error}): {way_out}"));
    let value: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if let Some(version) = value.get("version").and_then(Value::as_u64)
        && version > u64::from(docs::VERSION)
    {
        return Err(Failure::config(format!(
            "{uri} is of version {version}, and this control knows {}: take a newer one",
            docs::VERSION
        )));
    }
    serde_json::from_value(value).map(Some).map_err(unreadable)
}
