//! Merged records into Argilla: streamed, in bulks, idempotent, never over somebody's review.
//!
//! ```text
//! argilla_records.parquet ─► bulks (≤ 250 records, bounded bytes) ─► look up: what is there, who answered?
//!     ─► plan ─► clear outdated suggestions ─► new texts ─► everything ─► read back what was stored
//! ```
//! There is no compare-and-set, so responses are looked at right before each bulk and again in its answer: a
//! response that came in between is reported, not hidden.

use std::collections::{BTreeMap, HashMap};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use proto::{parquet_io::ParquetIoError, rows::ArgillaRecord};
use serde::Serialize;

use super::{
    client::{ArgillaError, Client, LOOKUP},
    dataset::ReadyDataset,
    model::{Fields, Record, RecordUpsert},
    plan::{Item, Step, step},
};

/// Of texts and spans in one bulk; a single larger record goes alone.
const BULK_BYTES: usize = 4 << 20;
/// Records told by id in a report; all are counted.
const TOLD: usize = 100;
/// Single-record requests at a time.
const AT_ONCE: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error(transparent)]
    Argilla(#[from] ArgillaError),
    #[error(transparent)]
    Read(#[from] ParquetIoError),
}

/// What became of the records of one push: each is counted once in created, updated, unchanged, kept_reviewed or
/// set_aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PushReport {
    pub records: u64,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Answered, and different now: left as the reviewer saw them.
    pub kept_reviewed: u64,
    /// Refused, each for its reason; the rest was pushed.
    pub set_aside: u64,
    /// Of created and updated: answered between our look and our write.
    pub raced: u64,
    /// Record id to what there is to say about it; the first hundred, and the first hundred that were set aside.
    pub told: BTreeMap<String, String>,
}

impl PushReport {
    fn tell(&mut self, external_id: &str, what: impl Into<String>) {
        if self.told.len() < TOLD {
            self.told.insert(external_id.to_owned(), what.into());
        }
    }

    fn set_aside(&mut self, external_id: &str, reason: &str) {
        self.set_aside += 1;
        // Told even where a hundred others are: these are what a person has to act on.
        if self.set_aside <= TOLD as u64 {
            self.told.insert(external_id.to_owned(), format!("set aside: {reason}"));
        }
    }
}

/// Pushes every record of `rows`; `tick` hears of the state after each bulk.
pub async fn push<E: From<PushError>>(
    client: &Client,
    dataset: &ReadyDataset,
    mut rows: impl Stream<Item = Result<Vec<ArgillaRecord>, ParquetIoError>> + Unpin,
    mut tick: impl AsyncFnMut(&PushReport) -> Result<(), E>,
) -> Result<PushReport, E> {
    let mut push = Push { client, dataset, report: PushReport::default() };
    let (mut bulk, mut bytes) = (Vec::new(), 0);
    while let Some(chunk) = rows.try_next().await.map_err(PushError::from)? {
        for row in chunk {
            push.report.records += 1;
            match Item::of(&row, &dataset.question_id) {
                Err(reason) => push.report.set_aside(&row.id, &reason),
                Ok(item) => {
                    if bulk.len() == LOOKUP || (!bulk.is_empty() && bytes + item.bytes() > BULK_BYTES) {
                        push.bulk(&bulk).await?;
                        tick(&push.report).await?;
                        bulk.clear();
                        bytes = 0;
                    }
                    bytes += item.bytes();
                    bulk.push(item);
                }
            }
        }
    }
    push.bulk(&bulk).await?;
    tick(&push.report).await?;
    Ok(push.report)
}

struct Push<'a> {
    client: &'a Client,
    dataset: &'a ReadyDataset,
    report: PushReport,
}

/// What an upsert that bisects ends with.
#[derive(Default)]
struct Upserted {
    stored: Vec<Record>,
    /// External id to reason.
    refused: HashMap<String, String>,
}

impl Push<'_> {
    async fn bulk(&mut self, items: &[Item]) -> Result<(), PushError> {
        let ids: Vec<&str> = items.iter().map(|item| item.external_id.as_str()).collect();
        let found = self.client.lookup(&self.dataset.id, &ids).await?;
        let there: HashMap<&str, &Record> =
            found.iter().filter_map(|record| Some((record.external_id.as_deref()?, record))).collect();

        let (mut outdated, mut texts, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            let stored = there.get(item.external_id.as_str()).copied();
            match step(item, stored) {
                Step::Unchanged => self.report.unchanged += 1,
                Step::KeepReviewed { text_changed } => {
                    self.report.kept_reviewed += 1;
                    let what = if text_changed { "the text" } else { "the suggestions or metadata" };
                    let told = format!("reviewed, so left as it is, though {what} changed");
                    self.report.tell(&item.external_id, told);
                }
                Step::Create => all.push(item),
                Step::Update { clear, text_first } => {
                    outdated.extend(stored.filter(|_| clear).map(|record| record.id.as_str()));
                    if text_first {
                        texts.push(item);
                    }
                    all.push(item);
                }
            }
        }
        let clear = |id| self.client.clear_suggestions(id);
        stream::iter(outdated).map(Ok).try_for_each_concurrent(AT_ONCE, clear).await?;

        let first = self.upsert(&texts, false).await?;
        all.retain(|item| !first.refused.contains_key(&item.external_id));
        let second = self.upsert(&all, true).await?;
        for (external_id, reason) in first.refused.iter().chain(&second.refused) {
            self.report.set_aside(external_id, reason);
        }
        self.read_back(&all, &second, &there);
        Ok(())
    }

    /// Bulks that are refused are halved until the bad records stand alone; everything else is stored.
    async fn upsert(&self, items: &[&Item], with_suggestions: bool) -> Result<Upserted, PushError> {
        let mut done = Upserted::default();
        let mut pending = vec![items];
        while let Some(items) = pending.pop().filter(|items| !items.is_empty()) {
            let bodies: Vec<_> = items.iter().map(|item| body(item, with_suggestions)).collect();
            match self.client.upsert(&self.dataset.id, &bodies).await {
                Ok(stored) => done.stored.extend(stored),
                Err(error) if error.rejects_content() => match items {
                    [item] => drop(done.refused.insert(item.external_id.clone(), error.to_string())),
                    items => {
                        let (left, right) = items.split_at(items.len() / 2);
                        pending.extend([right, left]);
                    }
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// Counts what the answer shows as stored, and tells what is not as it was sent.
    fn read_back(&mut self, sent: &[&Item], upserted: &Upserted, before: &HashMap<&str, &Record>) {
        let after: HashMap<&str, &Record> = upserted
            .stored
            .iter()
            .filter_map(|record| Some((record.external_id.as_deref()?, record)))
            .collect();
        for item in sent.iter().filter(|item| !upserted.refused.contains_key(&item.external_id)) {
            let id = item.external_id.as_str();
            match after.get(id) {
                Some(stored) if item.equals(stored) => {
                    let counted = if before.contains_key(id) {
                        &mut self.report.updated
                    } else {
                        &mut self.report.created
                    };
                    *counted += 1;
                    if !stored.responses.is_empty() {
                        self.report.raced += 1;
                        self.report.tell(id, "answered while it was written: look at this review again");
                    }
                }
                Some(_) => self.report.set_aside(id, "Argilla stored something else than was sent"),
                None => self.report.set_aside(id, "Argilla's answer does not show it as stored"),
            }
        }
    }
}

fn body(item: &Item, with_suggestions: bool) -> RecordUpsert<'_> {
    RecordUpsert {
        external_id: &item.external_id,
        fields: Fields { text: &item.text },
        metadata: &item.metadata,
        suggestions: if with_suggestions { &item.suggestions } else { &[] },
    }
}
