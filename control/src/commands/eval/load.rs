//! A batch's suggestions on the pages that the truth knows, part by part.
//!
//! Memory: these pages' spans, and the keys of all pages of the batch; no text but that of pages asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::TryStreamExt;
use proto::{
    docs::{BatchSpec, Provenance},
    hash::sha256_hex,
    ids::BatchId,
    keys::{BatchKeys, PartKind},
    parquet_io::TableFile,
    rows::{BatchPage, LedgerRow, Outcome, Row, Suggestion},
};

use super::truth::{Known, Truth, place};
use crate::{
    batch::{
        self,
        annotated::{self, Annotated},
    },
    ctx::Ctx,
    evaluation::{Page, PageId, Suggested, report::Pages},
    failure::Failure,
};

/// Pages of text in memory at a time.
const READ_PAGES: usize = 64;

/// A batch, annotated, and its pages that are scored.
#[derive(Debug)]
pub(super) struct Loaded {
    pub id: BatchId,
    pub spec: Option<BatchSpec>,
    pub provenance: Provenance,
    pub pages: BTreeMap<PageId, Page>,
    pub counts: Pages,
    /// Every page with an outcome, scored or not.
    pub all: HashSet<PageId>,
    pub notes: Vec<String>,
}

impl Loaded {
    pub async fn read(ctx: &Ctx, id: &BatchId, truth: &Truth) -> Result<Self, Failure> {
        let pages = batch::part_files(ctx, &BatchKeys::new(id), PartKind::Pages).await?;
        if pages.is_empty() {
            return Err(batch::unknown(ctx, id));
        }
        let (spec, annotated) = (batch::spec(ctx, id).await?, Annotated::of(ctx, id).await?);
        let provenance = annotated.provenance.ok_or_else(|| {
            Failure::data(format!(
                "batch {id} has no suggestions yet: run `control preannotate submit {id} --watch` first"
            ))
        })?;
        let mut loaded = Self {
            id: id.clone(),
            spec,
            provenance,
            pages: BTreeMap::new(),
            counts: Pages::default(),
            all: HashSet::new(),
            notes: Vec::new(),
        };
        let (mut foreign, mut nowhere) = (0, 0);
        for files in annotated.retried.iter().chain(annotated.parts.values()) {
            let mut ledger = annotated::rows::<LedgerRow>(ctx.store()?, &files.ledger).await?;
            while let Some(rows) = ledger.try_next().await? {
                rows.into_iter().for_each(|row| loaded.page(row, truth));
            }
            let mut suggestions = annotated::rows::<Suggestion>(ctx.store()?, &files.suggestions).await?;
            while let Some(rows) = suggestions.try_next().await? {
                for row in rows {
                    let Some(page) = loaded.pages.get_mut(&(row.doc_id.into_owned(), row.page_num)) else {
                        continue;
                    };
                    if page.page_sha256.as_deref() != Some(&row.page_sha256) {
                        foreign += 1;
                        continue;
                    }
                    let Some(span) = place(row.label.into_owned(), row.start, row.end) else {
                        nowhere += 1;
                        continue;
                    };
                    let (confidence, match_kind, source) =
                        (row.confidence, row.match_kind.into_owned(), row.source.into_owned());
                    page.suggested.push(Suggested { span, confidence, match_kind, source });
                }
            }
        }
        loaded.pages.values_mut().for_each(|page| {
            page.suggested.sort_by(|a, b| (a.span.start, &a.span).cmp(&(b.span.start, &b.span)));
        });
        loaded.count(annotated.counts.is_some());
        loaded.notes.extend(annotated.note.map(|note| format!("batch {id}: {note}")));
        loaded.note_if(foreign, "suggestions were made on another text and do not count");
        loaded.note_if(nowhere, "suggestions have no place and do not count");
        Ok(loaded)
    }

    /// Takes a page in if it can be scored, and counts it. One that was tried again came before.
    fn page(&mut self, row: LedgerRow, truth: &Truth) {
        let id = (row.doc_id, row.page_num);
        if !self.all.insert(id.clone()) {
            return;
        }
        let counts = &mut self.counts;
        let known = match row.outcome {
            Outcome::Skipped => None,
            _ => Some(truth.page(&id, row.run_id, row.page_sha256.as_deref())),
        };
        let count = match (&known, row.outcome) {
            (None, _) => &mut counts.skipped,
            (Some(Known::Not), _) => &mut counts.not_in_truth,
            (Some(Known::OtherText), _) => &mut counts.other_text,
            (Some(Known::OtherRun), _) => &mut counts.other_run,
            (_, outcome) => scored(counts, outcome),
        };
        *count += 1;
        if let Some(Known::Answers(answers)) = known {
            let (outcome, page_sha256) = (row.outcome, row.page_sha256);
            let page = Page { id: id.clone(), outcome, page_sha256, suggested: Vec::new(), answers };
            self.pages.insert(id, page);
        }
    }

    fn count(&mut self, complete: bool) {
        let seen = self.all.len() as u64;
        self.counts.batch = self.spec.as_ref().map_or(seen, |spec| spec.pages.max(seen));
        self.counts.pending = self.counts.batch - seen;
        if !complete {
            let id = &self.id;
            self.notes.push(format!("batch {id} is not complete: only committed parts are scored"));
        }
    }

    fn note_if(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.notes.push(format!("batch {}: {count} {what}", self.id));
        }
    }

    /// Keeps the pages that the other run has too, with the same text.
    pub fn keep_common(&mut self, other: &BTreeMap<PageId, Option<String>>) {
        let counts = &mut self.counts;
        self.pages.retain(|id, page| {
            let common = other.get(id).is_some_and(|hash| *hash == page.page_sha256);
            if !common {
                *scored(counts, page.outcome) -= 1;
                counts.not_in_both += 1;
            }
            common
        });
    }

    /// The scored pages, each with the hash of its text.
    pub fn hashes(&self) -> BTreeMap<PageId, Option<String>> {
        self.pages.iter().map(|(id, page)| (id.clone(), page.page_sha256.clone())).collect()
    }

    /// The texts of these pages, as far as they are there and have their page's hash.
    pub async fn texts(
        &self,
        ctx: &Ctx,
        wanted: &BTreeSet<PageId>,
    ) -> Result<BTreeMap<PageId, String>, Failure> {
        let mut found = BTreeMap::new();
        for part in batch::part_files(ctx, &BatchKeys::new(&self.id), PartKind::Pages).await? {
            if found.len() == wanted.len() {
                break;
            }
            let mut rows = TableFile::open(ctx.store()?, &part, BatchPage::TABLE)
                .await?
                .read::<BatchPage>(READ_PAGES)?;
            while let Some(rows) = rows.try_next().await? {
                for row in rows {
                    let (Some(doc_id), Some(page_num), Some(text)) = (row.doc_id, row.page_num, row.text)
                    else {
                        continue;
                    };
                    let id = (doc_id, page_num);
                    let hash = || self.pages.get(&id).and_then(|page| page.page_sha256.as_deref());
                    if wanted.contains(&id) && hash() == Some(sha256_hex(&text).as_str()) {
                        found.insert(id, text);
                    }
                }
            }
        }
        Ok(found)
    }
}

fn scored(counts: &mut Pages, outcome: Outcome) -> &mut u64 {
    match outcome {
        Outcome::Suggested => &mut counts.suggested,
        Outcome::Empty => &mut counts.empty,
        Outcome::Failed => &mut counts.failed,
        Outcome::Skipped => &mut counts.skipped,
    }
}
