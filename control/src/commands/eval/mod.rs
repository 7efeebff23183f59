//! `eval`: what a batch's suggestions are worth, against a truth or what people answered.
//!
//! ```text
//! truth (file | export) ─┐
//! ledger, suggestions ───┴─► load ─► evaluation (pure) ─► report.json, html ─► report.html
//!                                        └──── --fit ────► argilla/calibration/…json
//! ```
//! Nothing of the batch changes. Only `--fit` writes below the root, and says so.

mod html;
mod load;
mod truth;

use std::{collections::BTreeSet, path::PathBuf};

use proto::{
    docs::{Calibration, VERSION as DOCS_VERSION},
    keys,
};

use self::{load::Loaded, truth::Truth};
use super::html::write;
use crate::{
    batch::annotated,
    cli::EvalArgs,
    ctx::Ctx,
    evaluation::{
        calibration, compare,
        report::{Comparison, EvalReport, Fit, Run, Truth as TruthDoc, VERSION},
        scores::Scores,
    },
    failure::Failure,
};

/// Changed pages that a report tells of; all are counted.
const TOLD_PAGES: usize = 200;

pub async fn run(ctx: &Ctx, args: &EvalArgs) -> Result<EvalReport, Failure> {
    if args.compare.as_ref() == Some(&args.batch) {
        return Err(Failure::usage(format!("batch {} cannot be compared with itself", args.batch)));
    }
    let work = Box::pin(evaluate(ctx, args));
    ctx.until_stopped(work, || "interrupted; no report was written".to_owned()).await
}

async fn evaluate(ctx: &Ctx, args: &EvalArgs) -> Result<EvalReport, Failure> {
    let truth = Truth::of(ctx, args).await?;
    let mut loaded = Loaded::read(ctx, &args.batch, &truth).await?;
    let mut other = None;
    if let Some(id) = &args.compare {
        let mut second = Loaded::read(ctx, id, &truth).await?;
        let (first_pages, second_pages) = (loaded.hashes(), second.hashes());
        loaded.keep_common(&second_pages);
        second.keep_common(&first_pages);
        other = Some(second);
    }
    if loaded.pages.is_empty() {
        return Err(nothing(&loaded, &truth));
    }
    let comparison = other.as_ref().map(|second| comparison(&loaded, second));
    let observed = calibration::observed(loaded.pages.values());
    let scored = run_of(&loaded);
    let mut notes = truth.notes.clone();
    notes.extend_from_slice(&loaded.notes);
    notes.extend(other.iter().flat_map(|second| second.notes.clone()));
    notes.extend(unknown_labels(&loaded));
    let truth = told(&truth, &loaded, &scored);
    if truth.annotators.len() > 1 {
        notes.push(format!(
            "{} people answered, and each answer is a truth of its page: a page that two answered counts twice",
            truth.annotators.len()
        ));
    }
    if truth.discarded > 0 {
        notes.push(format!("{} answers discard their record and are no truth", truth.discarded));
    }
    let mut report = EvalReport {
        version: VERSION,
        created_at: ctx.now(),
        tool_version: concat!("control ", env!("CARGO_PKG_VERSION")).to_owned(),
        run: scored,
        truth,
        reliability: calibration::reliability(&observed),
        comparison,
        fit: None,
        notes,
        artifacts: Vec::new(),
    };
    if args.fit {
        let (labels, too_few) = calibration::fit(&observed);
        let mut fit = Fit { uri: None, replaced: false, labels, too_few };
        store(ctx, &report, &mut fit).await?;
        report.artifacts.extend(fit.uri.clone());
        report.fit = Some(fit);
    }
    files(ctx, args, report, &loaded, other.as_ref()).await
}

/// Writes report.json and report.html.
async fn files(
    ctx: &Ctx,
    args: &EvalArgs,
    mut report: EvalReport,
    loaded: &Loaded,
    other: Option<&Loaded>,
) -> Result<EvalReport, Failure> {
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("eval-{}", args.batch)));
    let folder = std::path::absolute(&folder).map_err(|error| Failure::file("write", &folder, &error))?;
    let (html, json) = (folder.join("report.html"), folder.join("report.json"));
    report.artifacts.extend([&html, &json].map(|path| path.display().to_string()));
    let changed = report.comparison.iter().flat_map(|comparison| &comparison.pages);
    let changed: BTreeSet<_> = changed.map(|page| (page.doc_id.clone(), page.page_num)).collect();
    let texts = if changed.is_empty() { Default::default() } else { loaded.texts(ctx, &changed).await? };
    let labels = annotated::labels(loaded.spec.as_ref());
    write(&html, &html::render(&report, &labels, &texts, other.is_some())?)?;
    let document = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::data(format!("the report cannot be written as JSON: {error}")))?;
    write(&json, &document)?;
    Ok(report)
}

fn nothing(loaded: &Loaded, truth: &Truth) -> Failure {
    let counts = &loaded.counts;
    Failure::data(format!(
        "no page of batch {} can be scored against {}: of {} pages, {} are not in it, {} are of another text there, {} \
         of another OCR run, {} not in both batches, {} were skipped and {} are pending; is it the truth of these \
         documents?",
        loaded.id,
        truth.source,
        counts.batch,
        counts.not_in_truth,
        counts.other_text,
        counts.other_run,
        counts.not_in_both,
        counts.skipped,
        counts.pending
    ))
}

fn run_of(loaded: &Loaded) -> Run {
    let labelset = loaded.spec.as_ref().map(|spec| &spec.labelset);
    Run {
        batch_id: loaded.id.clone(),
        labelset: labelset.map(|labelset| format!("{} {}", labelset.name, labelset.version)),
        provenance: loaded.provenance.clone(),
        pages: loaded.counts.clone(),
        scores: Scores::of(loaded.pages.values(), &annotated::labels(loaded.spec.as_ref())),
    }
}

fn told(truth: &Truth, loaded: &Loaded, scored: &Run) -> TruthDoc {
    let answers = || loaded.pages.values().flat_map(|page| &page.answers);
    let annotators: BTreeSet<_> = answers().filter_map(|answer| answer.annotator.clone()).collect();
    TruthDoc {
        kind: truth.kind,
        source: truth.source.clone(),
        answers: answers().count() as u64,
        annotators: annotators.into_iter().collect(),
        discarded: truth.discarded,
        lost: scored.scores.lost(),
        pages_elsewhere: truth.elsewhere(&loaded.all),
    }
}

/// A slip of the pen in a truth would else be a label that nobody ever suggests.
fn unknown_labels(loaded: &Loaded) -> Option<String> {
    let known = annotated::labels(loaded.spec.as_ref());
    let all = loaded.pages.values().flat_map(|page| page.answers.iter().flat_map(|answer| &answer.spans));
    let unknown: BTreeSet<_> = all.map(|span| span.label.as_str()).collect();
    let unknown: Vec<_> =
        unknown.into_iter().filter(|name| !known.iter().any(|(known, _)| known == name)).collect();
    (!unknown.is_empty())
        .then(|| format!("the truth has labels that the labelset does not have: {}", unknown.join(", ")))
}

fn comparison(first: &Loaded, second: &Loaded) -> Comparison {
    let other = run_of(second);
    let pairs = first.pages.iter().filter_map(|(id, page)| Some((page, second.pages.get(id)?)));
    let mut pages = compare::changes(pairs);
    let sum = |count: fn(&compare::ChangedPage) -> u64| pages.iter().map(count).sum();
    let (gained_right, lost_right) = (sum(|page| page.gained_right), sum(|page| page.lost_right));
    let (gained_wrong, lost_wrong) = (sum(|page| page.gained_wrong), sum(|page| page.lost_wrong));
    let pages_changed = pages.len() as u64;
    pages.truncate(TOLD_PAGES);
    let differences = compare::differences(&run_of(first).scores, &other.scores);
    Comparison {
        other,
        differences,
        pages_changed,
        gained_right,
        lost_right,
        gained_wrong,
        lost_wrong,
        pages,
    }
}

/// Stores a calibration, if there is one; the newest stands.
async fn store(ctx: &Ctx, report: &EvalReport, fit: &mut Fit) -> Result<(), Failure> {
    let (id, provenance) = (&report.run.batch_id, &report.run.provenance);
    let key =
        keys::calibration(&provenance.labelset_sha256, &provenance.prompt_sha256, &provenance.model_digest);
    let store = ctx.store()?;
    if provenance.options.contains_key(Calibration::OPTION) {
        return Err(Failure::gate(format!(
            "batch {id} has calibrated confidences, and only raw ones can be fitted: fit a batch that was run before \
             the calibration; or remove {}, and a batch that is run then has raw ones",
            store.uri_of(&key)
        )));
    }
    if fit.labels.is_empty() {
        return Ok(());
    }
    let calibration = Calibration {
        version: DOCS_VERSION,
        created_at: report.created_at,
        tool_version: report.tool_version.clone(),
        batch_id: id.clone(),
        truth: report.truth.source.clone(),
        provenance: provenance.clone(),
        labels: fit.labels.clone(),
    };
    let json = serde_json::to_vec_pretty(&calibration)
        .map_err(|error| Failure::data(format!("the calibration cannot be written as JSON: {error}")))?;
    fit.replaced = store.head_opt(&key).await?.is_some();
    store.put(&key, json).await?;
    fit.uri = Some(store.uri_of(&key));
    Ok(())
}
