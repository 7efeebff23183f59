//! Precision, recall and F1 of pages with their answers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, Page, Span, matching};

/// Spans, and those of them that are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub truth: u64,
    pub suggested: u64,
    pub right: u64,
}

/// A tally with its shares; each is null where it would be a share of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    pub truth: u64,
    pub suggested: u64,
    /// Suggestions with a partner in the truth; never more than either.
    pub right: u64,
    /// right / suggested
    pub precision: Option<f64>,
    /// right / truth
    pub recall: Option<f64>,
    /// 2 right / (suggested + truth)
    pub f1: Option<f64>,
}

impl From<Tally> for Score {
    fn from(Tally { truth, suggested, right }: Tally) -> Self {
        Self {
            truth,
            suggested,
            right,
            precision: share(right, suggested),
            recall: share(right, truth),
            f1: share(2 * right, suggested + truth),
        }
    }
}

/// The mean over labels, each of the same weight; over those that have the number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Average {
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
}

/// Something counted twice: where the place must be the same, and where it must overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Both<T> {
    pub exact: T,
    pub overlapping: T,
}

/// The scores of one label, match kind or source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    pub name: String,
    /// As people read it.
    pub title: String,
    /// True values that OCR lost: not in `truth`, for nobody could find them.
    pub lost: u64,
    #[serde(flatten)]
    pub scores: Both<Score>,
}

/// What a run is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Over all spans.
    pub micro: Both<Score>,
    /// Over the labels.
    #[serde(rename = "macro")]
    pub averages: Both<Average>,
    /// In the order of the labelset, then any others by name.
    pub labels: Vec<Named>,
    /// By how the mention was found on its page. The truth is all of it here: recall is the part that these found.
    pub by_match: Vec<Named>,
    /// By who suggested the span; the truth is all of it here too.
    pub by_source: Vec<Named>,
}

/// Which spans of a page are right by one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Of each suggestion.
    pub exact: Vec<bool>,
    pub overlapping: Vec<bool>,
}

pub fn judge(suggested: &[Span], answer: &Answer) -> Judged {
    let right = |partners: matching::Partners| partners.iter().map(Option::is_some).collect();
    Judged {
        exact: right(matching::exact(suggested, &answer.spans)),
        overlapping: right(matching::overlapping(suggested, &answer.spans)),
    }
}

/// None for a share of nothing.
#[allow(clippy::cast_precision_loss, reason = "counts of spans are far below 2^52")]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[derive(Default)]
struct Count {
    lost: u64,
    tally: Both<Tally>,
}

impl Count {
    fn truth(&mut self, spans: u64) {
        self.tally.exact.truth += spans;
        self.tally.overlapping.truth += spans;
    }

    fn suggested(&mut self, exact: bool, overlapping: bool) {
        for (tally, right) in [(&mut self.tally.exact, exact), (&mut self.tally.overlapping, overlapping)] {
            tally.suggested += 1;
            tally.right += u64::from(right);
        }
    }

    fn named(self, name: &str, title: String) -> Named {
        Named { name: name.to_owned(), title, lost: self.lost, scores: scores(self.tally) }
    }
}

fn scores(tally: Both<Tally>) -> Both<Score> {
    Both { exact: tally.exact.into(), overlapping: tally.overlapping.into() }
}

impl Scores {
    /// `labels`: names and titles of the labelset.
    pub fn of<'a>(pages: impl IntoIterator<Item = &'a Page>, labels: &[(String, String)]) -> Self {
        let (mut all, mut by_label) = (Count::default(), BTreeMap::<String, Count>::new());
        let (mut by_match, mut by_source) = (BTreeMap::new(), BTreeMap::new());
        for page in pages {
            let spans = page.spans();
            for answer in &page.answers {
                let judged = judge(&spans, answer);
                all.truth(answer.spans.len() as u64);
                for span in &answer.spans {
                    by_label.entry(span.label.clone()).or_default().truth(1);
                }
                for (label, lost) in &answer.lost {
                    by_label.entry(label.clone()).or_default().lost += lost;
                    all.lost += lost;
                }
                let right = judged.exact.into_iter().zip(judged.overlapping);
                for (suggested, (exact, overlapping)) in page.suggested.iter().zip(right) {
                    for count in [
                        &mut all,
                        by_label.entry(suggested.span.label.clone()).or_default(),
                        by_match.entry(suggested.match_kind.clone()).or_default(),
                        by_source.entry(suggested.source.clone()).or_default(),
                    ] {
                        count.suggested(exact, overlapping);
                    }
                }
            }
        }
        let (truth, lost) = (all.tally.exact.truth, all.lost);
        let parts = |counts: BTreeMap<String, Count>| -> Vec<Named> {
            let part = |(name, mut count): (String, Count)| {
                count.truth(truth);
                count.lost = lost;
                count.named(&name, name.clone())
            };
            counts.into_iter().map(part).collect()
        };
        let mut named: Vec<Named> = labels
            .iter()
            .map(|(name, title)| by_label.remove(name).unwrap_or_default().named(name, title.clone()))
            .collect();
        named.extend(by_label.into_iter().map(|(name, count)| count.named(&name, name.clone())));
        Self {
            micro: scores(all.tally),
            averages: Both {
                exact: average(&named, |label| label.scores.exact),
                overlapping: average(&named, |label| label.scores.overlapping),
            },
            labels: named,
            by_match: parts(by_match),
            by_source: parts(by_source),
        }
    }

    /// True values that OCR lost.
    pub fn lost(&self) -> u64 {
        self.labels.iter().map(|label| label.lost).sum()
    }
}

fn average(labels: &[Named], score: fn(&Named) -> Score) -> Average {
    let mean = |number: fn(&Score) -> Option<f64>| {
        let found: Vec<f64> = labels.iter().filter_map(|label| number(&score(label))).collect();
        share(1, found.len() as u64).map(|weight| found.iter().sum::<f64>() * weight)
    };
    Average { precision: mean(|s| s.precision), recall: mean(|s| s.recall), f1: mean(|s| s.f1) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use proto::rows::Outcome;

    use super::{
        super::{Suggested, matching::tests::span},
        *,
    };

    pub fn page(suggested: &[(&str, u32, u32)], truth: &[(&str, u32, u32)]) -> Page {
        let spans =
            |spans: &[(&str, u32, u32)]| spans.iter().map(|(l, s, e)| span(l, *s, *e)).collect::<Vec<_>>();
        let suggested = spans(suggested).into_iter().map(|span| Suggested {
            span,
            confidence: None,
            match_kind: "exact".into(),
            source: "rules".into(),
        });
        Page {
            id: ("d".into(), 1),
            outcome: Outcome::Suggested,
            page_sha256: None,
            suggested: suggested.collect(),
            answers: vec![Arc::new(Answer { spans: spans(truth), ..Answer::default() })],
        }
    }

    fn labels() -> Vec<(String, String)> {
        ["A", "B", "C"].map(|name| (name.to_owned(), name.to_lowercase())).into()
    }

    #[test]
    fn shares_of_nothing_are_none_and_do_not_weigh() {
        let scores = Scores::of(
            &[page(&[("A", 0, 5), ("A", 7, 9), ("X", 1, 2)], &[("A", 0, 5), ("A", 8, 12), ("B", 3, 6)])],
            &labels(),
        );
        let names: Vec<_> = scores.labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C", "X"]);
        let exact: Vec<_> = scores.labels.iter().map(|l| l.scores.exact).collect();
        assert_eq!((exact[0].precision, exact[0].recall, exact[0].f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((exact[1].precision, exact[1].recall, exact[1].f1), (None, Some(0.0), Some(0.0)));
        assert_eq!((exact[2].precision, exact[2].recall, exact[2].f1), (None, None, None));
        assert_eq!((exact[3].precision, exact[3].recall, exact[3].f1), (Some(0.0), None, Some(0.0)));
        assert_eq!(scores.labels[0].scores.overlapping.right, 2);
        assert_eq!(scores.averages.exact.precision, Some(0.25), "over A and X");
        assert_eq!(scores.micro.exact, Tally { truth: 3, suggested: 3, right: 1 }.into());
        assert_eq!(scores.by_match[0].scores.exact.truth, 3);
    }

    #[test]
    fn each_answer_is_a_truth_of_its_page_and_lost_values_are_apart() {
        let mut page = page(&[("A", 0, 5)], &[("A", 0, 5)]);
        let lost = BTreeMap::from([("B".to_owned(), 2)]);
        page.answers.push(Arc::new(Answer { lost, ..Answer::default() }));
        let scores = Scores::of(&[page], &labels());
        assert_eq!(scores.micro.exact, Tally { truth: 1, suggested: 2, right: 1 }.into());
        assert_eq!((scores.lost(), scores.labels[1].lost), (2, 2));
        assert_eq!(scores.labels[1].scores.exact.recall, None);
    }

    proptest! {
        #[test]
        fn shares_lie_between_nothing_and_all(truth in 0u64..50, suggested in 0u64..50, right in 0u64..50) {
            let right = right.min(truth).min(suggested);
            let score = Score::from(Tally { truth, suggested, right });
            for share in [score.precision, score.recall, score.f1].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share));
            }
            if let (Some(p), Some(r), Some(f1)) = (score.precision, score.recall, score.f1) {
                prop_assert!(f1 <= p.max(r) + 1e-12 && f1 >= p.min(r) - 1e-12);
            }
            let turned = Score::from(Tally { truth: suggested, suggested: truth, right });
            prop_assert_eq!((turned.precision, turned.f1), (score.recall, score.f1));
        }
    }
}
