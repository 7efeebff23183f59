//! The SIMULATED SME: a scripted reviewer that knows the truth, for the demo and the tests. No person reviews here.
//!
//! ```text
//!  argilla (list records) ─► decide (pure: suggestions against the truth) ─► argilla (responses, in bulk)
//!                               ▲
//!  truth.parquet ─► truth ──────┘
//! ```
//! Offsets are code points, half-open. This file is pure; [`truth`] reads a file and [`argilla`] talks to a server.

pub mod argilla;
pub mod truth;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Said at the start and the end of every run.
pub const NAME: &str = "SIMULATED SME";

/// Records that are discarded, of a thousand.
const DISCARDED_PER_MILLE: u64 = 30;

/// A labelled span of a page: `start` inclusive, `end` exclusive, in code points.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub label: String,
}

impl Span {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What became of the suggestions of one record or of many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Suggestions that equal a true span.
    pub accepted: usize,
    /// Suggestions moved to the true span of their label that they overlap.
    pub corrected: usize,
    /// Suggestions that no true span answers to.
    pub dropped: usize,
    /// True spans that nothing suggested.
    pub added: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.corrected += other.corrected;
        self.dropped += other.dropped;
        self.added += other.added;
    }
}

/// The answer to one record: its spans, and how they came from the suggestions.
#[derive(Debug, PartialEq, Eq)]
pub struct Review {
    pub spans: Vec<Span>,
    pub tally: Tally,
}

/// Reviews one record's suggestions. A true span answers to one suggestion at most: one that equals it, else the
/// first that overlaps it with its label. Without truth for the page nothing can be judged, and all are accepted.
///
/// The answer's spans are the true ones, so they overlap only if those do.
pub fn decide(suggested: &[Span], truth: Option<&[Span]>) -> Review {
    let Some(truth) = truth else {
        let tally = Tally { accepted: suggested.len(), ..Tally::default() };
        return Review { spans: suggested.to_vec(), tally };
    };
    let mut unanswered: Vec<&Span> = truth.iter().collect();
    let mut claim = |wanted: &dyn Fn(&Span) -> bool| {
        let found = unanswered.iter().position(|span| wanted(span));
        found.map(|at| unanswered.remove(at)).is_some()
    };
    let (equal, other): (Vec<_>, Vec<_>) = suggested.iter().partition(|span| claim(&|truth| truth == *span));
    let (near, wrong): (Vec<_>, Vec<_>) =
        other.into_iter().partition(|span| claim(&|truth| truth.label == span.label && truth.overlaps(span)));
    let tally =
        Tally { accepted: equal.len(), corrected: near.len(), dropped: wrong.len(), added: unanswered.len() };
    Review { spans: truth.to_vec(), tally }
}

/// Whether the reviewer discards this record: about 3 in 100, and the same ones for the same seed.
pub fn discards(seed: u64, record: &str) -> bool {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(record).finalize();
    let draw = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    draw % 1000 < DISCARDED_PER_MILLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u32, end: u32, label: &str) -> Span {
        Span { start, end, label: label.to_owned() }
    }

    fn tally(accepted: usize, corrected: usize, dropped: usize, added: usize) -> Tally {
        Tally { accepted, corrected, dropped, added }
    }

    #[test]
    fn equal_spans_are_accepted_and_missing_ones_added() {
        let truth = [span(0, 5, "IMO"), span(9, 12, "FLAG")];
        let review = decide(&[span(0, 5, "IMO")], Some(&truth));
        assert_eq!(review, Review { spans: truth.to_vec(), tally: tally(1, 0, 0, 1) });
    }

    #[test]
    fn overlapping_spans_of_the_label_are_corrected() {
        let truth = [span(3, 9, "OWNER")];
        let review = decide(&[span(0, 5, "OWNER")], Some(&truth));
        assert_eq!(review, Review { spans: truth.to_vec(), tally: tally(0, 1, 0, 0) });
    }

    #[test]
    fn another_label_or_place_is_dropped() {
        let truth = [span(3, 9, "OWNER")];
        let review = decide(&[span(3, 9, "OPERATOR"), span(9, 11, "OWNER")], Some(&truth));
        assert_eq!(review, Review { spans: truth.to_vec(), tally: tally(0, 0, 2, 1) });
    }

    #[test]
    fn a_true_span_answers_to_one_suggestion_and_an_equal_one_goes_first() {
        let truth = [span(3, 9, "DATE")];
        let review = decide(&[span(0, 4, "DATE"), span(3, 9, "DATE"), span(8, 12, "DATE")], Some(&truth));
        assert_eq!(review.tally, tally(1, 0, 2, 0));
        let review = decide(&[span(0, 4, "DATE"), span(8, 12, "DATE")], Some(&truth));
        assert_eq!(review.tally, tally(0, 1, 1, 0));
    }

    #[test]
    fn a_page_whose_truth_is_empty_loses_every_suggestion() {
        let review = decide(&[span(0, 4, "DATE")], Some(&[]));
        assert_eq!(review, Review { spans: Vec::new(), tally: tally(0, 0, 1, 0) });
    }

    #[test]
    fn without_truth_suggestions_stay() {
        let suggested = [span(0, 4, "DATE")];
        assert_eq!(decide(&suggested, None), Review { spans: suggested.to_vec(), tally: tally(1, 0, 0, 0) });
    }

    #[test]
    fn the_seed_discards_the_same_few() {
        let discarded =
            |seed| (0..10_000).filter(|n| discards(seed, &format!("doc:{n}"))).collect::<Vec<_>>();
        let few = discarded(7);
        assert!((200..400).contains(&few.len()), "{}", few.len());
        assert_eq!(few, discarded(7));
        assert_ne!(few, discarded(8));
    }
}
