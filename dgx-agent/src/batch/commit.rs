//! What makes a part and a batch done.
//!
//! Invariants: suggestions, then ledger, then the commit record; the record is create-only, and the first one stands.
//! A part that was written but not committed is written again. Files that are not what the standing record says
//! (two agents at one part) are made again to match it, or the part is named in an error.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use proto::{
    docs::{self, CommitRecord, Counts, FileRef, Manifest, ManifestPart},
    keys::{Key, PartKind},
    parquet_io::{EncodeError, encode},
    store::{Created, Store},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    BatchError, PartPlan, Plan, Run,
    failpoint::{Point, reach},
    files,
    part::Annotated,
};
use crate::{clock, engine::on_rayon};

/// How closely a committed part is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Its record alone.
    Record,
    /// Its files are there and have their size.
    Sizes,
    /// They have their hash.
    Hashes,
}

/// The commit of a part. None: there is none, or its files are not what it says.
pub(super) async fn standing(
    run: &Run<'_>,
    part: &PartPlan,
    look: Look,
) -> Result<Option<CommitRecord>, BatchError> {
    let (store, plan) = (&run.pipeline.store, run.plan);
    let key = run.keys.part(PartKind::Commits, part.number);
    let Some(record) = read::<CommitRecord>(store, &key).await? else { return Ok(None) };
    if record.batch_id != plan.batch || record.fingerprint != plan.fingerprint {
        return Err(another(store, &key, plan, &record.fingerprint));
    }
    for file in [&record.suggestions, &record.ledger] {
        let good = match look {
            Look::Record => true,
            Look::Sizes => files::has_size(store, file).await?,
            Look::Hashes => files::has_hash(store, file).await?,
        };
        if !good {
            tracing::warn!(file = file.key, "not what its commit says: the part is done again");
            return Ok(None);
        }
    }
    Ok(Some(record))
}

/// Writes a part's files and its commit record; the record that stands in the end.
pub(super) async fn commit(
    run: &Run<'_>,
    part: &PartPlan,
    annotated: Annotated,
) -> Result<CommitRecord, BatchError> {
    let (store, plan) = (&run.pipeline.store, run.plan);
    let annotated = Arc::new(annotated);
    reach(Point::Part, part.number).await;
    // Another agent may have been faster.
    if let Some(record) = standing(run, part, Look::Hashes).await? {
        return Ok(record);
    }
    let files = Files::make(run, part, annotated.clone(), now()).await?;
    files.put(store, part).await?;
    let record = CommitRecord {
        version: docs::VERSION,
        batch_id: plan.batch.clone(),
        part: part.number,
        fingerprint: plan.fingerprint.clone(),
        pages: FileRef {
            key: part.key.as_str().to_owned(),
            rows: part.rows,
            bytes: part.bytes,
            sha256: part.sha256.clone(),
        },
        suggestions: files.suggestions.0.clone(),
        ledger: files.ledger.0.clone(),
        counts: annotated.counts(),
        provenance: plan.provenance.clone(),
        committed_at: files.generated_at,
    };
    let key = run.keys.part(PartKind::Commits, part.number);
    if store.put_create(&key, document(&record)?).await? == Created::New {
        return Ok(record);
    }
    match standing(run, part, Look::Hashes).await? {
        Some(record) => Ok(record),
        None => match_standing(run, part, annotated, &key).await,
    }
}

/// Makes the files again as the standing record has them: with its time, all else being equal.
async fn match_standing(
    run: &Run<'_>,
    part: &PartPlan,
    annotated: Arc<Annotated>,
    key: &Key,
) -> Result<CommitRecord, BatchError> {
    let store = &run.pipeline.store;
    let uri = store.uri_of(key);
    let record = read::<CommitRecord>(store, key).await?;
    let record = record.ok_or_else(|| BatchError::Internal(format!("{uri} was there and is not")))?;
    let files = Files::make(run, part, annotated, record.committed_at).await?;
    if (&files.suggestions.0, &files.ledger.0) != (&record.suggestions, &record.ledger) {
        return Err(BatchError::Differs(format!(
            "part {} of batch {}: its files are not what {uri} says, and the model does not give the same again; \
             restore them, or delete that record and run the batch again",
            part.number, run.plan.batch
        )));
    }
    files.put(store, part).await?;
    Ok(record)
}

/// The two files of a part, encoded.
struct Files {
    /// The same in every row of the part, and in its record: so the bytes can be made again.
    generated_at: DateTime<Utc>,
    suggestions: (FileRef, Bytes),
    ledger: (FileRef, Bytes),
}

impl Files {
    async fn make(
        run: &Run<'_>,
        part: &PartPlan,
        annotated: Arc<Annotated>,
        generated_at: DateTime<Utc>,
    ) -> Result<Self, BatchError> {
        let keys = [PartKind::Suggestions, PartKind::Ledger].map(|kind| run.keys.part(kind, part.number));
        let annotator = run.plan.annotator.clone();
        let made = on_rayon(move || -> Result<Self, EncodeError> {
            let suggestions = annotated.suggestions(&annotator, generated_at);
            let ledger = annotated.ledger();
            let file = |key: &Key, rows: usize, bytes: Bytes| (files::describe(key, rows, &bytes), bytes);
            Ok(Self {
                generated_at,
                suggestions: file(&keys[0], suggestions.len(), encode(&suggestions)?),
                ledger: file(&keys[1], ledger.len(), encode(&ledger)?),
            })
        });
        Ok(made.await.map_err(|panicked| BatchError::Internal(panicked.to_string()))??)
    }

    async fn put(&self, store: &Store, part: &PartPlan) -> Result<(), BatchError> {
        for ((file, bytes), point) in [(&self.suggestions, Point::Suggestions), (&self.ledger, Point::Ledger)]
        {
            store.put(&Key::from_listing(&file.key), bytes.clone()).await?;
            reach(point, part.number).await;
        }
        Ok(())
    }
}

/// Writes the manifest over the commits of all parts; the one that stands in the end.
pub(super) async fn manifest(run: &Run<'_>, commits: &[CommitRecord]) -> Result<Manifest, BatchError> {
    let store = &run.pipeline.store;
    let mut counts = Counts::default();
    commits.iter().for_each(|commit| counts.add(&commit.counts));
    let parts = commits.iter().map(|commit| ManifestPart {
        part: commit.part,
        pages: commit.pages.clone(),
        suggestions: commit.suggestions.clone(),
        ledger: commit.ledger.clone(),
    });
    let manifest = Manifest {
        version: docs::VERSION,
        batch_id: run.plan.batch.clone(),
        fingerprint: run.plan.fingerprint.clone(),
        parts: parts.collect(),
        counts,
        provenance: run.plan.provenance.clone(),
        completed_at: now(),
    };
    reach(Point::Manifest, 0).await;
    match store.put_create(&run.keys.manifest(), document(&manifest)?).await? {
        Created::New => Ok(manifest),
        Created::Exists => standing_manifest(run).await?.ok_or_else(|| {
            BatchError::Internal(format!("{} was there and is not", store.uri_of(&run.keys.manifest())))
        }),
    }
}

pub(super) async fn standing_manifest(run: &Run<'_>) -> Result<Option<Manifest>, BatchError> {
    let (store, key) = (&run.pipeline.store, run.keys.manifest());
    let Some(manifest) = read::<Manifest>(store, &key).await? else { return Ok(None) };
    if manifest.fingerprint != run.plan.fingerprint {
        return Err(another(store, &key, run.plan, &manifest.fingerprint));
    }
    Ok(Some(manifest))
}

fn another(store: &Store, key: &Key, plan: &Plan, found: &str) -> BatchError {
    BatchError::Differs(format!(
        "{} is of other pages, another labelset, engine, model or option than this run of batch {} (fingerprint {found}, \
         now {}): run it as it was begun, or make a new batch with this one as its parent",
        store.uri_of(key),
        plan.batch,
        plan.fingerprint
    ))
}

async fn read<T: DeserializeOwned>(store: &Store, key: &Key) -> Result<Option<T>, BatchError> {
    let Some(bytes) = store.get_opt(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let uri = store.uri_of(key);
        BatchError::Differs(format!("{uri} cannot be read ({error}): delete it, and run the batch again"))
    })
}

fn document(document: &impl Serialize) -> Result<Vec<u8>, BatchError> {
    serde_json::to_vec_pretty(document).map_err(|error| BatchError::Internal(error.to_string()))
}

/// In microseconds, as Parquet keeps it.
fn now() -> DateTime<Utc> {
    let now = clock::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}
