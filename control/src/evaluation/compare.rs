//! Two runs over the same pages: what the first has gained and lost over the second.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    Answer, Page, Span,
    scores::{Score, Scores, judge},
};

/// How a span of a page differs between the runs. A right span that the first lacks is lost, and so forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    LostRight,
    GainedWrong,
    GainedRight,
    LostWrong,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostRight => "lost right",
            Self::GainedWrong => "gained wrong",
            Self::GainedRight => "gained right",
            Self::LostWrong => "lost wrong",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedSpan {
    pub change: Change,
    #[serde(flatten)]
    pub span: Span,
}

/// A page whose spans differ, by one of its answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedPage {
    pub doc_id: String,
    pub page_num: i32,
    pub annotator: Option<String>,
    pub gained_right: u64,
    pub lost_right: u64,
    pub gained_wrong: u64,
    pub lost_wrong: u64,
    /// The worst first.
    pub spans: Vec<ChangedSpan>,
}

impl ChangedPage {
    /// What got worse, less what got better.
    pub fn loss(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.lost_right) + signed(self.gained_wrong)
            - signed(self.gained_right)
            - signed(self.lost_wrong)
    }
}

/// The first run's share less the second's; null where either has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub name: String,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
}

/// Of exact places: all spans together, then each label.
pub fn differences(first: &Scores, second: &Scores) -> Vec<Difference> {
    let less = |name: &str, a: &Score, b: &Score| {
        let less = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a - b);
        Difference {
            name: name.to_owned(),
            precision: less(a.precision, b.precision),
            recall: less(a.recall, b.recall),
            f1: less(a.f1, b.f1),
        }
    };
    let label = |name: &str| {
        let of = |scores: &Scores| {
            let found = scores.labels.iter().find(|label| label.name == name);
            found.map_or(Score::from(super::scores::Tally::default()), |label| label.scores.exact)
        };
        less(name, &of(first), &of(second))
    };
    let mut names: Vec<&str> = first.labels.iter().map(|label| label.name.as_str()).collect();
    let others = second.labels.iter().map(|label| label.name.as_str());
    let others: Vec<_> = others.filter(|name| !names.contains(name)).collect();
    names.extend(others);
    let all = less("all", &first.micro.exact, &second.micro.exact);
    [all].into_iter().chain(names.into_iter().map(label)).collect()
}

/// The pages that differ, the worst first. Both runs have the same pages and answers, in the same order.
pub fn changes<'a>(pages: impl IntoIterator<Item = (&'a Page, &'a Page)>) -> Vec<ChangedPage> {
    let mut changed: Vec<ChangedPage> = pages
        .into_iter()
        .flat_map(|(first, second)| first.answers.iter().map(move |answer| change(first, second, answer)))
        .filter(|page| !page.spans.is_empty())
        .collect();
    changed.sort_by(|a, b| {
        let by = |page: &ChangedPage| (page.loss(), page.lost_right, page.gained_wrong, page.spans.len());
        let key = |page: &ChangedPage| (page.doc_id.clone(), page.page_num, page.annotator.clone());
        by(b).cmp(&by(a)).then_with(|| key(a).cmp(&key(b)))
    });
    changed
}

fn change(first: &Page, second: &Page, answer: &Answer) -> ChangedPage {
    let (a, b) = (split(first, answer), split(second, answer));
    let mut spans = Vec::new();
    let mut add = |change, there: &BTreeSet<Span>, not: &BTreeSet<Span>| {
        spans.extend(there.difference(not).map(|span| ChangedSpan { change, span: span.clone() }));
        there.difference(not).count() as u64
    };
    let page = ChangedPage {
        doc_id: first.id.0.clone(),
        page_num: first.id.1,
        annotator: answer.annotator.clone(),
        lost_right: add(Change::LostRight, &b.0, &a.0),
        gained_wrong: add(Change::GainedWrong, &a.1, &b.1),
        gained_right: add(Change::GainedRight, &a.0, &b.0),
        lost_wrong: add(Change::LostWrong, &b.1, &a.1),
        spans: Vec::new(),
    };
    ChangedPage { spans, ..page }
}

/// The spans that are right by the answer, and those that are wrong.
fn split(page: &Page, answer: &Answer) -> (BTreeSet<Span>, BTreeSet<Span>) {
    let spans = page.spans();
    let judged = judge(&spans, answer).exact;
    let (right, wrong): (Vec<_>, Vec<_>) = spans.into_iter().zip(judged).partition(|(_, right)| *right);
    let spans = |found: Vec<(Span, bool)>| found.into_iter().map(|(span, _)| span).collect();
    (spans(right), spans(wrong))
}

#[cfg(test)]
mod tests {
    use super::{super::scores::tests::page, *};

    #[test]
    fn the_worst_page_is_first_and_every_change_is_told() {
        let truth = [("A", 0, 5), ("A", 7, 9)];
        let better = (page(&[("A", 0, 5)], &truth), page(&[("A", 1, 5)], &truth));
        let mut worse = (page(&[("B", 0, 5)], &truth), page(&[("A", 0, 5), ("A", 7, 9)], &truth));
        worse.0.id = ("z".into(), 9);
        let same = page(&[("A", 0, 5), ("B", 0, 1)], &truth);
        let pages = [(&better.0, &better.1), (&worse.0, &worse.1), (&same, &same)];
        let changed = changes(pages);
        assert_eq!(changed.len(), 2);
        let counts = |p: &ChangedPage| (p.gained_right, p.lost_right, p.gained_wrong, p.lost_wrong);
        assert_eq!((changed[0].doc_id.as_str(), counts(&changed[0])), ("z", (0, 2, 1, 0)));
        assert_eq!((changed[1].doc_id.as_str(), counts(&changed[1])), ("d", (1, 0, 0, 1)));
        assert_eq!(changed[0].spans[0].change, Change::LostRight);
        // Turned round, all that was lost is gained.
        let turned = changes(pages.map(|(a, b)| (b, a)));
        assert_eq!(counts(&turned[1]), (2, 0, 0, 1));
        assert_eq!(
            changed.iter().map(ChangedPage::loss).sum::<i64>(),
            -turned.iter().map(ChangedPage::loss).sum::<i64>()
        );
    }

    #[test]
    fn differences_are_null_where_either_has_no_share() {
        let a = Scores::of(&[page(&[("A", 0, 5)], &[("A", 0, 5)])], &[]);
        let b = Scores::of(&[page(&[("B", 0, 5)], &[("A", 0, 5)])], &[]);
        let found = differences(&a, &b);
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["all", "A", "B"]);
        assert_eq!((found[0].f1, found[1].precision, found[1].recall), (Some(1.0), None, Some(1.0)));
    }
}
