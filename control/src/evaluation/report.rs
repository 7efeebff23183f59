//! `report.json`, and the same for people. No text of a page is in either.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use proto::{
    docs::{LabelFit, Provenance},
    ids::BatchId,
};
use serde::Serialize;

use super::{
    calibration::{MIN_SPANS, Reliability},
    compare::{ChangedPage, Difference},
    scores::{Average, Both, Score, Scores},
};
use crate::{printer::Answer, report::table};

/// Of `report.json`. Fields are added under the same version; it rises when one changes its meaning or goes.
pub const VERSION: u32 = 1;

/// `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalReport {
    pub version: u32,
    pub created_at: DateTime<Utc>,
    pub tool_version: String,
    /// The run that is judged.
    pub run: Run,
    pub truth: Truth,
    /// Null where no scored suggestion has a confidence.
    pub reliability: Option<Reliability>,
    /// With `--compare` alone.
    pub comparison: Option<Comparison>,
    /// With `--fit` alone.
    pub fit: Option<Fit>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
    /// The files and objects that were written.
    pub artifacts: Vec<String>,
}

/// A batch's suggestions, and what they are worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub batch_id: BatchId,
    /// Name and version, where the batch carries its labelset.
    pub labelset: Option<String>,
    /// Engine, model and digest, prompt hash, labelset hash, options, agent version.
    pub provenance: Provenance,
    pub pages: Pages,
    pub scores: Scores,
}

/// The pages of a batch by whether they are scored. All but `batch` add up to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// Distinct pages of the batch.
    pub batch: u64,
    /// Scored, by outcome. A failed page has no suggestions: all that is on it is missed.
    pub suggested: u64,
    pub empty: u64,
    pub failed: u64,
    /// Not scored: the agent refused to look at them.
    pub skipped: u64,
    /// Not scored: no part with them is committed yet.
    pub pending: u64,
    /// Not scored: the truth does not know them, or nobody has reviewed them.
    pub not_in_truth: u64,
    /// Not scored: the truth is of another text, or of another OCR run.
    pub other_text: u64,
    pub other_run: u64,
    /// Not scored: the other batch has no such page, or none with this text.
    pub not_in_both: u64,
}

impl Pages {
    pub fn scored(&self) -> u64 {
        self.suggested + self.empty + self.failed
    }

    fn left_out(&self) -> String {
        let reasons = [
            ("skipped", self.skipped),
            ("pending", self.pending),
            ("not in the truth", self.not_in_truth),
            ("of another text", self.other_text),
            ("of another OCR run", self.other_run),
            ("not in both batches", self.not_in_both),
        ];
        let told: Vec<_> =
            reasons.iter().filter(|(_, n)| *n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
        if told.is_empty() { String::new() } else { format!("; left out: {}", told.join(", ")) }
    }
}

/// What suggestions were judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Truth {
    /// `file`, or `answers` of people.
    pub kind: &'static str,
    /// A path, or the URI of the export's `schema.json`.
    pub source: String,
    /// Truths of scored pages: more than those where several people answered one.
    pub answers: u64,
    /// Who gave these.
    pub annotators: Vec<String>,
    /// Answers that discard their record. They are no truth.
    pub discarded: u64,
    /// True values on scored pages that OCR lost. They count neither for nor against anyone.
    pub lost: u64,
    /// Pages of the truth that are not in the batch, or not committed.
    pub pages_elsewhere: u64,
}

/// This run against another, over the pages of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub other: Run,
    /// This run's shares less the other's, of exact places: `all`, then each label.
    pub differences: Vec<Difference>,
    /// An answer each; of them the worst are in `pages`.
    pub pages_changed: u64,
    pub gained_right: u64,
    pub lost_right: u64,
    pub gained_wrong: u64,
    pub lost_wrong: u64,
    /// The worst first.
    pub pages: Vec<ChangedPage>,
}

/// What `--fit` came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// Where it is stored; null when no label could be fitted, and nothing was.
    pub uri: Option<String>,
    /// An earlier fit was there.
    pub replaced: bool,
    pub labels: BTreeMap<String, LabelFit>,
    /// Labels with too few judged suggestions that have a confidence, and how many.
    pub too_few: BTreeMap<String, u64>,
}

/// A share for people.
pub fn shown(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{share:.3}"))
}

/// A difference for people.
pub fn signed(difference: Option<f64>) -> String {
    difference.map_or_else(
        || "–".to_owned(),
        |difference| if difference.abs() < 0.0005 { "=".to_owned() } else { format!("{difference:+.3}") },
    )
}

impl Run {
    fn line(&self) -> String {
        let Provenance { engine, model, model_digest, prompt_sha256, labelset_sha256, agent_version, .. } =
            &self.provenance;
        let labelset = self.labelset.as_deref().unwrap_or("labelset");
        format!(
            "{}: {engine}, model {model} ({}), prompt {}, {labelset} ({}), agent {agent_version}\n",
            self.batch_id,
            short(model_digest),
            short(prompt_sha256),
            short(labelset_sha256)
        )
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

const HEADER: [&str; 12] = [
    "",
    "truth",
    "lost",
    "suggested",
    "right",
    "precision",
    "recall",
    "F1",
    "overlapping",
    "precision",
    "recall",
    "F1",
];
const NUMBERS: [usize; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

fn row(name: &str, lost: u64, scores: &Both<Score>) -> Vec<String> {
    let Both { exact, overlapping } = scores;
    let mut row =
        vec![name.to_owned(), exact.truth.to_string(), lost.to_string(), exact.suggested.to_string()];
    for score in [exact, overlapping] {
        row.push(score.right.to_string());
        row.extend([score.precision, score.recall, score.f1].map(shown));
    }
    row
}

fn average(averages: &Both<Average>) -> Vec<String> {
    let mut row = vec!["mean of the labels".to_owned(), String::new(), String::new(), String::new()];
    for average in [averages.exact, averages.overlapping] {
        row.push(String::new());
        row.extend([average.precision, average.recall, average.f1].map(shown));
    }
    row
}

fn scores_table(scores: &Scores) -> String {
    let mut rows: Vec<_> = scores.labels.iter().map(|l| row(&l.name, l.lost, &l.scores)).collect();
    rows.push(row("all", scores.lost(), &scores.micro));
    rows.push(average(&scores.averages));
    for (what, parts) in [("match", &scores.by_match), ("source", &scores.by_source)] {
        rows.extend(parts.iter().map(|part| row(&format!("{what} {}", part.name), part.lost, &part.scores)));
    }
    table(&HEADER, &NUMBERS, rows)
}

fn comparison_table(comparison: &Comparison) -> String {
    let cells =
        |d: &Difference| [vec![d.name.clone()], [d.precision, d.recall, d.f1].map(signed).into()].concat();
    let mut text = format!("\nthe difference to {}", comparison.other.line());
    let differences = comparison.differences.iter().map(cells);
    text.push_str(&table(&["", "precision", "recall", "F1"], &[1, 2, 3], differences));
    text.push_str(&format!(
        "\n{} pages changed: {} right gained, {} right lost, {} wrong gained, {} wrong lost\n",
        comparison.pages_changed,
        comparison.gained_right,
        comparison.lost_right,
        comparison.gained_wrong,
        comparison.lost_wrong
    ));
    let header = ["document", "page", "right gained", "right lost", "wrong gained", "wrong lost"];
    let pages = comparison.pages.iter().take(10).map(|page| {
        let counts = [page.gained_right, page.lost_right, page.gained_wrong, page.lost_wrong];
        let counts = counts.map(|count| count.to_string());
        [vec![page.doc_id.clone(), page.page_num.to_string()], counts.into()].concat()
    });
    if comparison.pages_changed > 0 {
        text.push_str(&table(&header, &[1, 2, 3, 4, 5], pages));
    }
    text
}

fn fit_lines(fit: &Fit) -> String {
    let mut text = "\n".to_owned();
    for (label, found) in &fit.labels {
        text.push_str(&format!("fitted {label}: {} spans, {} points\n", found.n, found.points.len()));
    }
    for (label, n) in &fit.too_few {
        text.push_str(&format!(
            "not fitted {label}: {n} spans with a confidence, and {MIN_SPANS} are needed\n"
        ));
    }
    if let Some(uri) = &fit.uri {
        let instead = if fit.replaced { ", in place of the calibration that was there" } else { "" };
        text.push_str(&format!("stored in {uri}{instead}\n"));
    }
    text
}

impl Answer for EvalReport {
    fn text(&self) -> String {
        let pages = &self.run.pages;
        let mut text = self.run.line();
        text.push_str(&format!(
            "{} of {} pages scored against {} answers of {} {}{}\n",
            pages.scored(),
            pages.batch,
            self.truth.answers,
            self.truth.kind,
            self.truth.source,
            pages.left_out()
        ));
        text.push('\n');
        text.push_str(&scores_table(&self.run.scores));
        if let Some(found) = &self.reliability {
            let (spans, error) = (found.spans, found.calibration_error);
            text.push_str(&format!(
                "\n{spans} suggestions have a confidence; it is off by {error:.3} on average\n"
            ));
        }
        text.extend(self.comparison.iter().map(comparison_table));
        text.extend(self.fit.iter().map(fit_lines));
        for artifact in &self.artifacts {
            text.push_str(&format!("  {artifact}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }

    fn gate(&self) -> Option<String> {
        let fit = self.fit.as_ref().filter(|fit| fit.labels.is_empty())?;
        let most = fit.too_few.iter().max_by_key(|(label, n)| (**n, std::cmp::Reverse(label.as_str())));
        let found = most.map_or_else(
            || "no scored suggestion has a confidence".to_owned(),
            |(label, n)| format!("the label with the most, {label}, has {n}"),
        );
        Some(format!(
            "nothing is fitted: a label needs {MIN_SPANS} reviewed spans with a confidence, and {found}; review more \
             of batch {}, or run it with a model that gives confidences",
            self.run.batch_id
        ))
    }
}
