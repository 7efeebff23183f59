//! `preview`: one HTML file that shows the suggestions on their pages, before anything is in Argilla.
//!
//! ```text
//! pages, suggestions, ledger ─► load (bounded) ─► html (pure) ─► preview.html.j2 ─► one file
//! ```
//! The file needs nothing beside it and asks for nothing: its policy forbids every request, and only its own
//! script may run, by a nonce that is a hash over the pages, so that no page can contain it.

mod load;

use std::{collections::BTreeMap, time::Instant};

use minijinja::{Environment, context};
use proto::{hash::sha256_of_fields, rows::Suggestion};
use serde::Serialize;

use self::load::{Loaded, ShownPage};
use super::html::{self, Mark, visible};
use crate::{batch::annotated, cli::PreviewArgs, ctx::Ctx, failure::Failure, report::Report};

const TEMPLATE: &str = include_str!("preview.html.j2");
/// What a page without a ledger row is called.
const PENDING: &str = "pending";

pub async fn run(ctx: &Ctx, args: &PreviewArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let read = Loaded::read(ctx, &args.batch, args.max_pages);
    let loaded = ctx.until_stopped(read, || "interrupted; no preview was written".to_owned()).await?;
    let view = View::of(&loaded);
    let made = format!("control {}, {}", env!("CARGO_PKG_VERSION"), ctx.now().format("%Y-%m-%d %H:%M UTC"));
    let html = render(args.batch.as_str(), &made, &loaded, &view)?;
    let path = args.output.clone().unwrap_or_else(|| format!("preview-{}.html", args.batch).into());
    let path = html::write(&path, &html)?;

    let mut report = Report::new("preview").pages(loaded.total, loaded.pages.len() as u64);
    report.outcomes = view.outcomes.clone();
    report = report.outcome("spans", view.spans).artifact(path.display().to_string());
    for note in &view.notes {
        report = report.note(note);
    }
    Ok(report.since(start))
}

/// What the template shows, less provenance.
struct View {
    labels: Vec<LabelView>,
    documents: Vec<DocumentView>,
    outcomes: BTreeMap<String, u64>,
    spans: u64,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct LabelView {
    name: String,
    title: String,
    count: u64,
    hue: usize,
}

#[derive(Serialize)]
struct DocumentView {
    doc_id: String,
    source: Option<String>,
    pages: Vec<PageView>,
}

#[derive(Serialize)]
struct PageView {
    /// Unique in the file.
    anchor: usize,
    page_num: i32,
    outcome: &'static str,
    reason: Option<String>,
    spans: usize,
    ungrounded: i32,
    confidence: Option<String>,
    /// Not to be escaped again.
    html: String,
    no_text: bool,
}

impl View {
    fn of(loaded: &Loaded) -> Self {
        let labels = labels(loaded);
        let numbers: BTreeMap<&str, (usize, &str)> =
            labels.iter().enumerate().map(|(n, l)| (l.name.as_str(), (n, l.title.as_str()))).collect();
        let mut documents: Vec<DocumentView> = Vec::new();
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        let (mut undrawn, mut spans) = (0, 0);
        let mut before: Option<&str> = None;
        for (anchor, shown) in loaded.pages.iter().enumerate() {
            let (page, left_out) = page(anchor, shown, &numbers);
            *outcomes.entry(page.outcome.to_owned()).or_default() += 1;
            undrawn += left_out;
            spans += page.spans as u64;
            let doc_id = shown.page.doc_id.as_deref().unwrap_or_default();
            if before != Some(doc_id) {
                before = Some(doc_id);
                let source = shown.page.source_uri.as_deref().map(visible);
                documents.push(DocumentView { doc_id: visible(doc_id), source, pages: Vec::new() });
            }
            if let Some(document) = documents.last_mut() {
                document.pages.push(page);
            }
        }
        Self { notes: notes(loaded, undrawn), labels, documents, outcomes, spans }
    }
}

/// The labels of the batch's labelset in its order, then any others that suggestions have.
fn labels(loaded: &Loaded) -> Vec<LabelView> {
    let mut counts = loaded.by_label();
    let named: Vec<_> = annotated::labels(loaded.spec.as_ref())
        .into_iter()
        .map(|(name, title)| {
            let count = counts.remove(name.as_str()).unwrap_or(0);
            (name, title, count)
        })
        .collect();
    let others = counts.into_iter().map(|(name, count)| (name.to_owned(), visible(name), count));
    let labels: Vec<_> = named.into_iter().chain(others).collect();
    let all = labels.len();
    let view = |(n, (name, title, count))| LabelView { name, title, count, hue: html::hue(n, all) };
    labels.into_iter().enumerate().map(view).collect()
}

fn page(anchor: usize, shown: &ShownPage, labels: &BTreeMap<&str, (usize, &str)>) -> (PageView, u64) {
    let marks: Vec<Mark> = shown.spans.iter().map(|span| mark(span, labels)).collect();
    let text = shown.page.text.as_deref().unwrap_or_default();
    let (html, left_out) = html::marked(text, &marks);
    let ledger = shown.ledger.as_ref();
    let view = PageView {
        anchor,
        page_num: shown.page.page_num.unwrap_or_default(),
        outcome: ledger.map_or(PENDING, |row| row.outcome.as_str()),
        reason: ledger.and_then(|row| row.reason.as_deref()).map(visible),
        spans: marks.len(),
        ungrounded: ledger.map_or(0, |row| row.ungrounded),
        confidence: shown
            .page
            .ocr_confidence
            .map(|c| format!("{:.0} %", if c <= 1.0 { c * 100.0 } else { c })),
        html,
        no_text: text.trim().is_empty(),
    };
    (view, left_out)
}

fn mark(span: &Suggestion, labels: &BTreeMap<&str, (usize, &str)>) -> Mark {
    let (label, title) = labels.get(&*span.label).copied().unwrap_or((0, &*span.label));
    let mut tooltip = format!("{title} ({}), {} match", span.label, span.match_kind);
    if span.similarity < 1.0 {
        tooltip.push_str(&format!(" ({:.2})", span.similarity));
    }
    if let Some(value) = &span.norm_value {
        tooltip.push_str(&format!("\nmeans: {value}"));
    }
    if let Some(confidence) = span.confidence {
        tooltip.push_str(&format!("\nconfidence: {confidence:.2}"));
    }
    tooltip.push_str(&format!("\ncharacters {} to {}", span.start, span.end));
    let offset = |at: i32| usize::try_from(at).unwrap_or(usize::MAX);
    Mark { start: offset(span.start), end: offset(span.end), label, name: span.label.to_string(), tooltip }
}

fn notes(loaded: &Loaded, undrawn: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let shown = loaded.pages.len() as u64;
    if shown < loaded.total {
        notes.push(format!("the first {shown} of {} pages are shown; --max-pages shows more", loaded.total));
    }
    if loaded.counts.is_none() {
        notes.push("the batch is not complete: pages marked pending have no outcome yet".to_owned());
    }
    notes.extend(loaded.note.clone());
    if loaded.unnamed > 0 {
        notes.push(format!("{} rows have no document or page number and are not shown", loaded.unnamed));
    }
    if loaded.foreign_spans > 0 {
        notes.push(format!(
            "{} suggestions were made on another text and are not shown",
            loaded.foreign_spans
        ));
    }
    if undrawn > 0 {
        notes.push(format!("{undrawn} suggestions lie outside their page or over another and are not drawn"));
    }
    notes
}

fn render(batch: &str, made: &str, loaded: &Loaded, view: &View) -> Result<String, Failure> {
    let pages = view.documents.iter().flat_map(|document| &document.pages);
    let nonce = sha256_of_fields(pages.map(|page| page.html.as_str()));
    let labelset = loaded.spec.as_ref().map(|spec| &spec.labelset);
    let shown = context! {
            nonce => &nonce[..32],
            batch,
            made,
            total => loaded.total,
            shown => loaded.pages.len(),
            spans => view.spans,
            outcomes => &view.outcomes,
            labels => &view.labels,
            documents => &view.documents,
            notes => &view.notes,
            provenance => &loaded.provenance,
            labelset => labelset.map(|l| context! { name => &l.name, version => &l.version, sha256 => &l.sha256 }),
            created => loaded.spec.as_ref().map(|spec| spec.created_at.format("%Y-%m-%d %H:%M UTC").to_string()),
    };
    html::render(Environment::new(), "preview.html", TEMPLATE, shown)
}
