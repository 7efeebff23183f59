//! `report.html`: the report with charts, and the places where two runs differ. Pure.
//!
//! The file needs nothing beside it, asks for nothing and runs nothing: its policy allows its own style alone.

use std::collections::BTreeMap;

use minijinja::{Environment, Value, context};
use serde::Serialize;

use crate::{
    commands::html::{self, Mark, visible},
    evaluation::{
        PageId, Span,
        compare::{ChangedPage, ChangedSpan, Difference},
        report::{Comparison, EvalReport, Run, shown, signed},
        scores::{Average, Named, Score},
    },
    failure::Failure,
};

const TEMPLATE: &str = include_str!("eval.html.j2");
/// Code points around a span, on either side.
const AROUND: usize = 60;
/// Of a span itself.
const LONGEST: usize = 600;
/// Places shown of a page; all are counted.
const TOLD_SPANS: usize = 40;

/// `labels`: names and titles in the order of the labelset. `texts`: of the pages that changed.
pub(super) fn render(
    report: &EvalReport,
    labels: &[(String, String)],
    texts: &BTreeMap<PageId, String>,
    compared: bool,
) -> Result<String, Failure> {
    let hues: Vec<usize> = (0..labels.len()).map(|n| html::hue(n, labels.len())).collect();
    let comparison = report.comparison.as_ref();
    let changed = comparison.iter().flat_map(|comparison| &comparison.pages);
    let changed: Vec<_> =
        changed.enumerate().map(|(n, page)| ChangedView::of(n, page, labels, texts)).collect();
    let other = comparison.map(|comparison| &comparison.other);
    let scores = &report.run.scores;
    let shown = context! {
        report,
        truth => context! { source => visible(&report.truth.source) },
        made => format!("{}, {}", report.tool_version, report.created_at.format("%Y-%m-%d %H:%M UTC")),
        compared,
        hues,
        bars => scores.labels.iter().filter(|l| counts(l)).map(|l| BarView::of(l, other)).collect::<Vec<_>>(),
        rows => scores.labels.iter().map(RowView::label).collect::<Vec<_>>(),
        all => RowView::scores("all", None, scores.lost(), &scores.micro.exact, &scores.micro.overlapping),
        mean => [average(&scores.averages.exact), average(&scores.averages.overlapping)],
        by_match => scores.by_match.iter().map(|part| RowView::part("match", part)).collect::<Vec<_>>(),
        by_source => scores.by_source.iter().map(|part| RowView::part("source", part)).collect::<Vec<_>>(),
        reliability => report.reliability.as_ref().map(|found| context! {
            spans => found.spans,
            error => shown(Some(found.calibration_error)),
            points => found.bins.iter().map(|bin| context! {
                x => format!("{:.1}", 45.0 + 260.0 * bin.confidence),
                y => format!("{:.1}", 270.0 - 260.0 * bin.right),
                told => format!("{} spans of confidence {:.2}: {:.2} right", bin.spans, bin.confidence, bin.right),
            }).collect::<Vec<_>>(),
        }),
        differences => comparison.map(|comparison| differences(report, comparison)),
        changed,
        runs => [Some(&report.run), other].into_iter().flatten().collect::<Vec<_>>(),
    };
    html::render(Environment::new(), "report.html", TEMPLATE, shown)
}

/// Labels that neither truth nor suggestions have get no bar.
fn counts(label: &Named) -> bool {
    label.scores.exact.truth + label.scores.exact.suggested > 0
}

/// A label's bars.
#[derive(Serialize)]
struct BarView {
    name: String,
    title: String,
    bars: [Bar; 3],
}

#[derive(Serialize)]
struct Bar {
    class: &'static str,
    y: usize,
    /// Of a hundred.
    width: Option<String>,
    /// The other run's, as a tick.
    tick: Option<String>,
    told: String,
    value: String,
}

impl BarView {
    fn of(label: &Named, other: Option<&Run>) -> Self {
        let theirs = other.and_then(|run| run.scores.labels.iter().find(|other| other.name == label.name));
        let theirs = theirs.map(|other| shares(&other.scores.exact)).unwrap_or_default();
        let ours = shares(&label.scores.exact);
        let bar = |n: usize, class: &'static str, what: &str| Bar {
            class,
            y: 2 + 11 * n,
            width: ours[n].map(percent),
            tick: theirs[n].map(percent),
            told: format!("{what} {}", shown(ours[n])),
            value: shown(ours[n]),
        };
        let bars = [bar(0, "p", "precision"), bar(1, "r", "recall"), bar(2, "f", "F1")];
        Self { name: visible(&label.name), title: visible(&label.title), bars }
    }
}

fn shares(score: &Score) -> [Option<f64>; 3] {
    [score.precision, score.recall, score.f1]
}

fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// A line of a table.
#[derive(Serialize)]
struct RowView {
    name: String,
    title: Option<String>,
    truth: u64,
    lost: u64,
    suggested: u64,
    /// Right, precision, recall, F1: exact, then overlapping.
    cells: [[String; 4]; 2],
}

impl RowView {
    fn label(label: &Named) -> Self {
        let title = Some(visible(&label.title)).filter(|title| *title != label.name);
        Self::scores(&label.name, title, label.lost, &label.scores.exact, &label.scores.overlapping)
    }

    fn part(what: &str, part: &Named) -> Self {
        Self::scores(
            &format!("{what} {}", part.name),
            None,
            part.lost,
            &part.scores.exact,
            &part.scores.overlapping,
        )
    }

    fn scores(name: &str, title: Option<String>, lost: u64, exact: &Score, overlapping: &Score) -> Self {
        let cells = |score: &Score| {
            let [precision, recall, f1] = shares(score).map(shown);
            [score.right.to_string(), precision, recall, f1]
        };
        Self {
            name: visible(name),
            title,
            truth: exact.truth,
            lost,
            suggested: exact.suggested,
            cells: [cells(exact), cells(overlapping)],
        }
    }
}

fn average(average: &Average) -> [String; 3] {
    [average.precision, average.recall, average.f1].map(shown)
}

/// This run's share, the other's, and the difference: precision, recall, F1.
fn differences(report: &EvalReport, comparison: &Comparison) -> Vec<Value> {
    let share = |run: &Run, name: &str| {
        let label = run.scores.labels.iter().find(|label| label.name == name);
        match name {
            "all" => shares(&run.scores.micro.exact),
            _ => label.map(|label| shares(&label.scores.exact)).unwrap_or_default(),
        }
    };
    let row = |difference: &Difference| {
        let (ours, theirs) =
            (share(&report.run, &difference.name), share(&comparison.other, &difference.name));
        let by = [difference.precision, difference.recall, difference.f1];
        let cells: Vec<_> = (0..3)
            .map(|n| {
                let class = match by[n] {
                    Some(by) if by > 0.0005 => "better",
                    Some(by) if by < -0.0005 => "worse",
                    _ => "same",
                };
                context! { ours => shown(ours[n]), theirs => shown(theirs[n]), difference => signed(by[n]), class }
            })
            .collect();
        context! { name => visible(&difference.name), cells }
    };
    let told =
        |d: &&Difference| d.name == "all" || d.f1.is_some() || share(&report.run, &d.name)[2].is_some();
    comparison.differences.iter().filter(told).map(row).collect()
}

/// A page that changed, with its places.
#[derive(Serialize)]
struct ChangedView {
    anchor: usize,
    doc_id: String,
    page_num: i32,
    annotator: Option<String>,
    counts: [u64; 4],
    places: Vec<PlaceView>,
    more: usize,
}

#[derive(Serialize)]
struct PlaceView {
    change: &'static str,
    class: &'static str,
    label: String,
    start: u32,
    end: u32,
    /// Not to be escaped again. None: the text is not at hand.
    html: Option<String>,
}

impl ChangedView {
    fn of(
        anchor: usize,
        page: &ChangedPage,
        labels: &[(String, String)],
        texts: &BTreeMap<PageId, String>,
    ) -> Self {
        let text: Option<Vec<char>> =
            texts.get(&(page.doc_id.clone(), page.page_num)).map(|text| text.chars().collect());
        let places: Vec<_> = page
            .spans
            .iter()
            .take(TOLD_SPANS)
            .map(|ChangedSpan { change, span }| PlaceView {
                change: change.as_str(),
                class: if change.as_str().ends_with("right") { "right" } else { "wrong" },
                label: visible(&span.label),
                start: span.start,
                end: span.end,
                html: text.as_ref().and_then(|text| excerpt(text, span, labels)),
            })
            .collect();
        Self {
            anchor,
            doc_id: visible(&page.doc_id),
            page_num: page.page_num,
            annotator: page.annotator.as_deref().map(visible),
            counts: [page.gained_right, page.lost_right, page.gained_wrong, page.lost_wrong],
            more: page.spans.len() - places.len(),
            places,
        }
    }
}

/// The span and what stands around it; None when it lies outside the text.
fn excerpt(text: &[char], span: &Span, labels: &[(String, String)]) -> Option<String> {
    let (start, end) = (usize::try_from(span.start).ok()?, usize::try_from(span.end).ok()?);
    if start >= end || end > text.len() {
        return None;
    }
    let cut = end.min(start + LONGEST);
    let from = start.saturating_sub(AROUND);
    let to = if cut < end { cut } else { text.len().min(end + AROUND) };
    let label = labels.iter().position(|(name, _)| *name == span.label).unwrap_or(labels.len());
    let tooltip = format!("{}, characters {start} to {end}", span.label);
    let mark = Mark { start: start - from, end: cut - from, label, name: span.label.clone(), tooltip };
    let (mut drawn, _) = html::marked(&text[from..to].iter().collect::<String>(), &[mark]);
    if from > 0 {
        drawn.insert(0, '…');
    }
    if to < text.len() {
        drawn.push('…');
    }
    Some(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u32, end: u32) -> Span {
        Span { label: "IMO".into(), start, end }
    }

    #[test]
    fn an_excerpt_is_bounded_and_says_where_it_is_cut() {
        let labels = [("IMO".to_owned(), "IMO".to_owned())];
        let text: Vec<char> = "é".repeat(100).chars().chain("<b>9074729".chars()).collect();
        let drawn = excerpt(&text, &span(103, 110), &labels).expect("drawn");
        assert!(drawn.starts_with("…é") && drawn.ends_with(">9074729</mark>"), "{drawn}");
        assert!(drawn.contains("é&lt;b&gt;<mark class=\"l0\""), "{drawn}");
        assert_eq!(drawn.matches('é').count(), AROUND - 3);
        assert_eq!(excerpt(&text, &span(103, 111), &labels), None, "past the end");
        let long: Vec<char> = "x".repeat(10_000).chars().collect();
        let drawn = excerpt(&long, &span(0, 10_000), &labels).expect("drawn");
        assert!(drawn.len() < LONGEST + 200 && drawn.ends_with("</mark>…"), "{}", drawn.len());
    }
}
