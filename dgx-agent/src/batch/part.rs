//! A part's pages, each to its outcome.
//!
//! Memory: page texts under way are bounded by bytes; outcomes and spans of one part are held until its commit.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, future, stream};
use proto::{
    docs::Counts,
    hash::sha256_hex,
    ids::{CharSpan, DocId, PageKey},
    parquet_io::TableFile,
    rows::{BatchPage, LedgerRow, Outcome, SuggestionRow},
    schema::Table,
};
use rayon::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BatchError, Meter, PartPlan, Run,
    admit::{Admitted, DUPLICATE_KEY, RowKey, Verdict, admit},
    files,
};
use crate::engine::{Annotator, PageResult, PageSpan, Stamp, on_rayon};

/// Rows read together: a page may be many megabytes.
const ROWS_AT_ONCE: usize = 16;

/// The unit of the byte budget; a semaphore does not count far enough for bytes.
const BUDGET_UNIT: usize = 1 << 10;

/// A part whose pages all have their outcome.
#[derive(Debug, Default)]
pub(super) struct Annotated {
    /// In the order of the keys, so that doing a part again gives the same rows.
    pages: BTreeMap<RowKey, Page>,
}

#[derive(Debug)]
pub(super) struct Page {
    ledger: LedgerRow,
    spans: Vec<Hashed>,
}

/// A span with what is hashed of it. That is done page by page, while the model server works: at the part's end it would
/// wait.
#[derive(Debug)]
struct Hashed {
    found: PageSpan,
    place: CharSpan,
    span_id: String,
    text_sha256: String,
}

/// The part. `told`: what was told of its pages on the way, whatever comes of it.
pub(super) async fn annotate(
    run: &Run<'_>,
    part: &PartPlan,
    told: &mut Counts,
) -> Result<Annotated, BatchError> {
    let store = &run.pipeline.store;
    let (found, bytes) = files::sha256(store, &part.key).await?;
    if found != part.sha256 {
        return Err(BatchError::BadData(format!(
            "{} is not the file that the batch was made with: its SHA-256 is {found}, not {}; restore it, or make the \
             batch again",
            store.uri_of(&part.key),
            part.sha256
        )));
    }
    let file = TableFile::open_sized(store, &part.key, bytes, Table::BatchPages).await?;
    let limits = run.pipeline.config.limits;
    let turn = run.turn.clone().lock_owned().await;
    let mut seen = Seen::default();
    let mut done = Annotated::default();
    {
        // Boxed: the compiler cannot see that this stream may move between threads.
        let rows = file.read::<BatchPage>(ROWS_AT_ONCE)?.map_err(BatchError::from);
        let admitted = rows.and_then(|rows| admit_all(rows, limits.page_bytes));
        let mut pages = admitted
            .map_ok(|rows| stream::iter(rows).map(Ok))
            .try_flatten()
            .try_filter_map(|row| future::ready(Ok(run.plan.repeats.at_home(part.number, row))))
            .try_filter_map(|row| future::ready(Ok(seen.first(row))))
            .and_then(|row| run.budget.reserve(row))
            // All pages are begun: it is the next part's turn.
            .chain(stream::once(async { drop(turn) }).filter_map(|()| future::ready(None)))
            .map(|reserved| spawn(run, reserved))
            .buffer_unordered(run.plan.annotator.pages_at_once())
            .boxed();
        while let Some(done_page) = pages.next().await {
            let (key, page) = done_page?;
            let counts = page.counts();
            run.meter.page(&counts);
            told.add(&counts);
            done.pages.insert(key, page);
        }
    }
    for key in seen.different {
        if let Some(page) = done.pages.get_mut(&key) {
            page.refuse(DUPLICATE_KEY);
        }
    }
    Ok(done)
}

async fn admit_all(rows: Vec<BatchPage>, page_bytes: usize) -> Result<Vec<Admitted>, BatchError> {
    let admitted = on_rayon(move || rows.into_iter().map(|row| admit(row, page_bytes)).collect()).await;
    admitted.map_err(|panicked| BatchError::Internal(panicked.to_string()))
}

/// The keys of a part: a copy of a page is that page, another page of its key spoils both.
#[derive(Default)]
struct Seen {
    content: HashMap<RowKey, String>,
    different: HashSet<RowKey>,
}

impl Seen {
    fn first(&mut self, row: Admitted) -> Option<Admitted> {
        match self.content.get(&row.key) {
            None => {
                self.content.insert(row.key.clone(), row.content_sha256.clone());
                Some(row)
            }
            Some(content) => {
                if *content != row.content_sha256 {
                    self.different.insert(row.key);
                }
                None
            }
        }
    }
}

/// Bytes of text that may be under way. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    units: usize,
    free: Arc<Semaphore>,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(BUDGET_UNIT);
        Self { units, free: Arc::new(Semaphore::new(units)) }
    }

    /// The row with its share; one that is larger than all of it takes all.
    pub async fn reserve(&self, row: Admitted) -> Result<(Admitted, OwnedSemaphorePermit), BatchError> {
        let bytes = if let Verdict::Work(text) = &row.verdict { text.len() } else { 0 };
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT).min(self.units)).unwrap_or(u32::MAX);
        let permit = self.free.clone().acquire_many_owned(units).await;
        Ok((row, permit.map_err(|closed| BatchError::Internal(closed.to_string()))?))
    }
}

/// The page as a task of its own, so that pages go on side by side; it ends with its future.
fn spawn(
    run: &Run<'_>,
    reserved: Result<(Admitted, OwnedSemaphorePermit), BatchError>,
) -> impl Future<Output = Result<(RowKey, Page), BatchError>> + Send + use<> {
    let (annotator, meter) = (run.plan.annotator.clone(), run.meter.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let (row, _permit) = reserved?;
        page(&annotator, &meter, row).await
    }));
    // A panic's message may hold page text.
    async {
        task.await.unwrap_or_else(|_| Err(BatchError::Internal("the work on a page panicked".to_owned())))
    }
}

pub(super) async fn page(
    annotator: &Annotator,
    meter: &Meter,
    row: Admitted,
) -> Result<(RowKey, Page), BatchError> {
    let Admitted { key, page_sha256, run_id, verdict, .. } = row;
    let (outcome, reason, result) = match verdict {
        Verdict::Done(outcome, reason) => (outcome, Some(reason), PageResult::default()),
        Verdict::Work(text) => {
            let result = annotator
                .annotate(text.into(), meter)
                .await
                .map_err(|error| BatchError::from_model_server(&error))?;
            match result.failed {
                Some(reason) => (Outcome::Failed, Some(reason), result),
                None if result.spans.is_empty() => (Outcome::Empty, Some("no_mentions"), result),
                None => (Outcome::Suggested, None, result),
            }
        }
    };
    let ledger = LedgerRow {
        doc_id: key.0.clone(),
        page_num: key.1,
        page_sha256,
        outcome,
        reason: reason.map(str::to_owned),
        spans: count(result.spans.len()),
        ungrounded: count(result.ungrounded),
        chunks: count(result.chunks),
        attempts: count(result.attempts as usize),
        prompt_tokens: i64::try_from(result.prompt_tokens).unwrap_or(i64::MAX),
        output_tokens: i64::try_from(result.output_tokens).unwrap_or(i64::MAX),
        latency_ms: i64::try_from(result.latency.as_millis()).unwrap_or(i64::MAX),
        run_id,
    };
    let spans = DocId::new(&key.0)
        .map_or_else(|_| Vec::new(), |doc_id| hashed(&PageKey::new(doc_id, key.1), result.spans));
    Ok((key, Page { ledger, spans }))
}

fn hashed(key: &PageKey, spans: Vec<PageSpan>) -> Vec<Hashed> {
    let spans = spans.into_iter().filter_map(|found| {
        let place = |at: usize| u32::try_from(at).ok();
        let place = CharSpan::new(place(found.span.start)?, place(found.span.end)?)?;
        let (span_id, text_sha256) = (key.span_id(&found.span.label, place), sha256_hex(&found.span.text));
        Some(Hashed { found, place, span_id, text_sha256 })
    });
    spans.collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Page {
    fn refuse(&mut self, reason: &str) {
        self.spans.clear();
        self.ledger.spans = 0;
        self.ledger.ungrounded = 0;
        self.ledger.outcome = Outcome::Skipped;
        self.ledger.reason = Some(reason.to_owned());
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let number = |number: i32| u64::try_from(number).unwrap_or(0);
        let row = &self.ledger;
        counts.add_page(row.outcome, row.reason.as_deref(), number(row.spans), number(row.ungrounded));
        counts
    }
}

impl Annotated {
    /// A page alone.
    pub fn of(page: (RowKey, Page)) -> Self {
        Self { pages: BTreeMap::from([page]) }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.pages.values().for_each(|page| counts.add(&page.counts()));
        counts
    }

    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.pages.values().map(|page| page.ledger.clone()).collect()
    }

    /// By document, page and place.
    pub fn suggestions<'a>(
        &'a self,
        stamps: &'a [Stamp; 2],
        generated_at: DateTime<Utc>,
    ) -> Vec<SuggestionRow<'a>> {
        let pages: Vec<&Page> = self.pages.values().collect();
        pages.into_par_iter().flat_map_iter(|page| page.suggestions(stamps, generated_at)).collect()
    }
}

impl Page {
    fn suggestions<'a>(
        &'a self,
        stamps: &'a [Stamp; 2],
        generated_at: DateTime<Utc>,
    ) -> Vec<SuggestionRow<'a>> {
        let Self { ledger, spans } = self;
        let row = |span: &'a Hashed| {
            let Hashed { found: PageSpan { span, source, confidence }, place, span_id, text_sha256 } = span;
            let stamp = &stamps[usize::from(source.has_model())];
            SuggestionRow {
                doc_id: ledger.doc_id.as_str().into(),
                page_num: ledger.page_num,
                span_id: span_id.as_str().into(),
                label: span.label.as_str().into(),
                start: place.start.0.cast_signed(),
                end: place.end.0.cast_signed(),
                text: span.text.as_str().into(),
                text_sha256: text_sha256.as_str().into(),
                confidence: *confidence,
                model: stamp.model.as_str().into(),
                model_version: stamp.digest.as_str().into(),
                generated_at,
                match_kind: span.match_kind.as_str().into(),
                similarity: span.similarity,
                page_sha256: ledger.page_sha256.as_deref().unwrap_or_default().into(),
                prompt_sha256: stamp.prompt_sha256.as_str().into(),
                source: source.as_str().into(),
                norm_value: span.norm_value.as_deref().map(Into::into),
                run_id: ledger.run_id,
            }
        };
        spans.iter().map(row).collect()
    }
}
