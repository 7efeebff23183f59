//! A part's rows as files and a commit record, and the manifest over all of them. How they become what stands is the
//! business of `protocol`.
//!
//! Constraint: all times of an attempt are one, and it stands in the record, so that the bytes can be made again.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use proto::{
    docs::{self, CommitRecord, CommitTags, Counts, Manifest, ManifestPart, Provenance},
    ids::BatchId,
    keys::{Key, PartKind},
    parquet_io::{EncodeError, encode},
};

use super::{
    BatchError, PartPlan, Run,
    failpoint::{Point, reach},
    files,
    part::Annotated,
    protocol::{Attempt, Settled},
};
use crate::{clock, engine::on_rayon};

/// Writes a part's files and its commit record; the record that stands in the end.
pub(super) async fn commit(
    run: &Run<'_>,
    part: &PartPlan,
    annotated: Arc<Annotated>,
) -> Result<CommitRecord, BatchError> {
    reach(Point::Part, part.number).await;
    // Another agent may have been faster.
    let settled = match run.protocol().record(part.number).await? {
        Some(record) => run.protocol().settle(record, None).await?,
        None => {
            let attempt = attempt(run, part, annotated.clone(), now()).await?;
            run.protocol().commit(&attempt).await?
        }
    };
    match settled {
        Settled::Whole(record) => Ok(record),
        Settled::Lost(record) => match_standing(run, part, annotated, record).await,
    }
}

/// To let go of a part's rows takes tens of milliseconds, for which nobody should wait.
pub(super) fn drop_aside<T: Send + 'static>(rows: T) {
    rayon::spawn(move || drop(rows));
}

/// Makes those files again that are not as the standing record has them: with its time, all else being equal. A ledger of a
/// model seldom is: its latencies are not.
async fn match_standing(
    run: &Run<'_>,
    part: &PartPlan,
    annotated: Arc<Annotated>,
    record: CommitRecord,
) -> Result<CommitRecord, BatchError> {
    let again = attempt(run, part, annotated, record.committed_at).await?;
    if let Settled::Whole(record) = run.protocol().settle(record, Some(&again)).await? {
        return Ok(record);
    }
    let uri = |key: &Key| run.pipeline.store.uri_of(key);
    Err(BatchError::Differs(format!(
        "part {} of batch {}: its files are not what {} says, and cannot be made again as they were; restore them, or \
         delete that record and {}, and run the batch again: the part is committed anew then",
        part.number,
        run.plan.batch,
        uri(&run.keys.part(PartKind::Commits, part.number)),
        uri(&run.keys.manifest())
    )))
}

/// The rows as files, with one time in all of them.
async fn attempt(
    run: &Run<'_>,
    part: &PartPlan,
    annotated: Arc<Annotated>,
    at: DateTime<Utc>,
) -> Result<Attempt, BatchError> {
    let plan = run.plan;
    let counts = annotated.counts();
    let keys = [PartKind::Suggestions, PartKind::Ledger].map(|kind| run.keys.part(kind, part.number));
    let stamps = plan.annotator.stamps();
    let made = on_rayon(move || {
        let file = |key: &Key, rows: usize, bytes: Bytes| (files::describe(key, rows, &bytes), bytes);
        let suggestions = || {
            let rows = annotated.suggestions(&stamps, at);
            Ok::<_, EncodeError>(file(&keys[0], rows.len(), encode(&rows)?))
        };
        let ledger = || {
            let rows = annotated.ledger();
            Ok::<_, EncodeError>(file(&keys[1], rows.len(), encode(&rows)?))
        };
        let (suggestions, ledger) = rayon::join(suggestions, ledger);
        Ok::<_, EncodeError>((suggestions?, ledger?))
    });
    let (suggestions, ledger) = made.await.map_err(|panic| BatchError::Internal(panic.to_string()))??;
    let record = CommitRecord {
        version: docs::VERSION,
        batch_id: plan.batch.clone(),
        part: part.number,
        fingerprint: plan.fingerprint.clone(),
        pages: part.file(),
        suggestions: suggestions.0,
        ledger: ledger.0,
        counts,
        provenance: plan.provenance.clone(),
        committed_at: at,
        etags: CommitTags::default(),
    };
    Ok(Attempt { record, suggestions: suggestions.1, ledger: ledger.1 })
}

/// The manifest over the parts, by number.
pub(super) fn manifest(
    batch: &BatchId,
    fingerprint: &str,
    provenance: &Provenance,
    parts: Vec<ManifestPart>,
    counts: Counts,
) -> Manifest {
    Manifest {
        version: docs::VERSION,
        batch_id: batch.clone(),
        fingerprint: fingerprint.to_owned(),
        parts,
        counts,
        provenance: provenance.clone(),
        completed_at: now(),
    }
}

/// In microseconds, as Parquet keeps it.
fn now() -> DateTime<Utc> {
    let now = clock::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}
