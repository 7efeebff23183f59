//! What a preview shows: pages with their suggestions and outcomes, part by part, until enough are read.
//!
//! Memory: at most `max_pages` pages and [`MAX_TEXT`] bytes of text, with the spans of these pages. A key that has
//! several rows is shown once, with the text that the ledger speaks of.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::TryStreamExt;
use proto::{
    docs::{BatchSpec, Counts, Provenance},
    hash::sha256_hex,
    ids::BatchId,
    keys::{BatchKeys, PartKind},
    parquet_io::TableFile,
    rows::{BatchPage, LedgerRow, Outcome, Row, Suggestion},
    store::Store,
};

use crate::{
    batch::{
        self,
        annotated::{Annotated, PartFiles},
    },
    ctx::Ctx,
    failure::Failure,
};

/// Of all pages together: a browser should open the file.
const MAX_TEXT: usize = 64 << 20;
const READ_PAGES: usize = 64;

#[derive(Debug)]
pub(super) struct Loaded {
    pub pages: Vec<ShownPage>,
    /// Pages of the batch.
    pub total: u64,
    pub spec: Option<BatchSpec>,
    /// Of the manifest, or of the first commit.
    pub provenance: Option<Provenance>,
    /// Of the whole batch, when it is complete.
    pub counts: Option<Counts>,
    /// Rows without document or page number.
    pub unnamed: u64,
    /// Suggestions of shown pages that were made on another text.
    pub foreign_spans: u64,
    /// Why another batch's outcomes of failed pages are not shown.
    pub note: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct ShownPage {
    pub page: BatchPage,
    /// None while no part with it is committed.
    pub ledger: Option<LedgerRow>,
    pub spans: Vec<Suggestion>,
}

type PageId = (String, i32);

impl Loaded {
    pub async fn read(ctx: &Ctx, id: &BatchId, max_pages: usize) -> Result<Self, Failure> {
        let store = ctx.store()?;
        let parts = batch::part_files(ctx, &BatchKeys::new(id), PartKind::Pages).await?;
        if parts.is_empty() {
            return Err(batch::unknown(ctx, id));
        }
        let (spec, annotated) = (batch::spec(ctx, id).await?, Annotated::of(ctx, id).await?);
        let mut loaded = Self {
            pages: Vec::new(),
            total: spec.as_ref().map_or(0, |spec| spec.pages),
            spec,
            provenance: annotated.provenance,
            counts: annotated.counts,
            unnamed: 0,
            foreign_spans: 0,
            note: annotated.note,
        };
        let (mut text, mut rows) = (0, 0);
        for part in &parts {
            let file = TableFile::open(store, part, BatchPage::TABLE).await?;
            rows += file.rows();
            let room = max_pages.saturating_sub(loaded.pages.len());
            if room > 0 && text < MAX_TEXT {
                let files = annotated.parts.get(part.key.as_str());
                text += loaded.part(store, file, files, &annotated.retried, room, MAX_TEXT - text).await?;
            } else if loaded.total > 0 {
                break;
            }
        }
        if loaded.total == 0 {
            loaded.total = rows.max(loaded.pages.len() as u64);
        }
        Ok(loaded)
    }

    /// Adds at most `room` pages of a part; answers with the bytes of their text.
    async fn part(
        &mut self,
        store: &Store,
        file: TableFile,
        annotated: Option<&PartFiles>,
        retried: &[PartFiles],
        room: usize,
        max_text: usize,
    ) -> Result<usize, Failure> {
        let mut order: Vec<PageId> = Vec::new();
        let mut variants: HashMap<PageId, Vec<BatchPage>> = HashMap::new();
        let mut text = 0;
        let mut chunks = file.read::<BatchPage>(READ_PAGES)?;
        'rows: while let Some(chunk) = chunks.try_next().await? {
            for page in chunk {
                let (Some(doc_id), Some(page_num)) = (page.doc_id.clone(), page.page_num) else {
                    self.unnamed += 1;
                    continue;
                };
                let id = (doc_id, page_num);
                if !variants.contains_key(&id) {
                    if order.len() == room || text > max_text {
                        break 'rows;
                    }
                    order.push(id.clone());
                }
                let rows = variants.entry(id).or_default();
                if !rows.contains(&page) {
                    text += page.text.as_ref().map_or(0, String::len);
                    rows.push(page);
                }
            }
        }
        let mut made = match annotated {
            Some(files) => Made::read(store, files, |id| variants.contains_key(id)).await?,
            None => Made::default(),
        };
        made.retry(store, retried).await?;
        let Made { mut ledger, mut spans } = made;
        for id in order {
            let ledger = ledger.remove(&id);
            let rows = variants.remove(&id).unwrap_or_default();
            let Some(page) = spoken_of(rows, ledger.as_ref()) else { continue };
            let hash = page.text.as_deref().map(sha256_hex);
            let spans = spans.remove(&id).unwrap_or_default();
            let (mut spans, foreign): (Vec<_>, Vec<_>) =
                spans.into_iter().partition(|span| Some(&*span.page_sha256) == hash.as_deref());
            self.foreign_spans += foreign.len() as u64;
            spans.sort_by_key(|span| (span.start, span.end));
            self.pages.push(ShownPage { page, ledger, spans });
        }
        Ok(text)
    }

    /// Shown suggestions by label.
    pub fn by_label(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for span in self.pages.iter().flat_map(|page| &page.spans) {
            *counts.entry(&*span.label).or_default() += 1;
        }
        counts
    }
}

/// What was made of some pages.
#[derive(Default)]
struct Made {
    ledger: HashMap<PageId, LedgerRow>,
    spans: HashMap<PageId, Vec<Suggestion>>,
}

impl Made {
    /// Of a part, the pages that are wanted.
    async fn read(
        store: &Store,
        files: &PartFiles,
        wanted: impl Fn(&PageId) -> bool,
    ) -> Result<Self, Failure> {
        let mut made = Self::default();
        let mut rows = batch::annotated::rows::<LedgerRow>(store, &files.ledger).await?;
        while let Some(rows) = rows.try_next().await? {
            for row in rows {
                let id = (row.doc_id.clone(), row.page_num);
                if wanted(&id) {
                    made.ledger.entry(id).or_insert(row);
                }
            }
        }
        let mut rows = batch::annotated::rows::<Suggestion>(store, &files.suggestions).await?;
        while let Some(rows) = rows.try_next().await? {
            for row in rows {
                let id = (row.doc_id.to_string(), row.page_num);
                if wanted(&id) {
                    made.spans.entry(id).or_default().push(row);
                }
            }
        }
        Ok(made)
    }

    /// Pages that failed become what they are where they were tried again; the newest file comes first.
    async fn retry(&mut self, store: &Store, retried: &[PartFiles]) -> Result<(), Failure> {
        let failed = self.ledger.values().filter(|row| row.outcome == Outcome::Failed);
        let mut failed: HashSet<PageId> = failed.map(|row| (row.doc_id.clone(), row.page_num)).collect();
        for files in retried {
            if failed.is_empty() {
                break;
            }
            let made = Self::read(store, files, |id| failed.contains(id)).await?;
            failed.retain(|id| !made.ledger.contains_key(id));
            self.ledger.extend(made.ledger);
            self.spans.extend(made.spans);
        }
        Ok(())
    }
}

/// Of several rows with one key, the one whose text the ledger names.
fn spoken_of(rows: Vec<BatchPage>, ledger: Option<&LedgerRow>) -> Option<BatchPage> {
    let named = ledger.and_then(|row| row.page_sha256.as_deref());
    let at = rows
        .iter()
        .position(|row| named.is_some() && row.text.as_deref().map(sha256_hex).as_deref() == named);
    rows.into_iter().nth(at.unwrap_or(0))
}
