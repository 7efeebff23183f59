//! What grounding is measured against: generated cases of fourteen kinds, and pages that were really read by OCR.
//!
//! A case is a page, its mentions, and for each of them the places that a person would mark, or none where it must
//! be refused. A span is right when it is one of them up to surrounding blanks and punctuation. Documents are split
//! in halves: bounds are tuned on one, figures are of the other.

mod bend;
pub mod kinds;
pub mod names;
pub mod odd;
pub mod real;
pub mod rules;

use dgx_agent::ground::ground;
use proto::labelset::{Labelset, Mention};

/// Kinds of mentions of real pages.
pub const KINDS_OF_REAL: [&str; 5] =
    ["whole", "garbled", "garbled number", "another identifier", "another document's"];

/// Code points, end exclusive.
pub type Place = (usize, usize);

/// A page with what is asked for.
#[derive(Debug, Clone)]
pub struct Case {
    pub text: String,
    pub mentions: Vec<Mention>,
    pub expected: Vec<Expected>,
}

/// What a person would say of a mention.
#[derive(Debug, Clone)]
pub struct Expected {
    pub kind: &'static str,
    /// Any of these; none: it must be refused.
    pub places: Vec<Place>,
}

/// How many mentions came out how. `missed`: refused though they stand there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    pub right: usize,
    pub wrong: usize,
    pub missed: usize,
}

impl Score {
    pub fn total(&self) -> usize {
        self.right + self.wrong + self.missed
    }

    pub fn share(&self, part: usize) -> f64 {
        100.0 * part as f64 / self.total().max(1) as f64
    }

    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }
}

/// One mention's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Right,
    Wrong,
    Missed,
}

/// Grounds a case and judges each of its mentions.
pub fn judge(case: &Case, labelset: &Labelset) -> Vec<(Judged, Option<Place>)> {
    let grounded = ground(&case.text, &case.mentions, labelset);
    let mut found = vec![None; case.mentions.len()];
    for span in &grounded.spans {
        found[span.mention] = Some((span.start, span.end));
    }
    judge_places(case, &found)
}

pub fn judge_places(case: &Case, found: &[Option<Place>]) -> Vec<(Judged, Option<Place>)> {
    let chars: Vec<char> = case.text.chars().collect();
    let judged = case.expected.iter().zip(found).map(|(expected, found)| match found {
        None if expected.places.is_empty() => Judged::Right,
        None => Judged::Missed,
        Some(found) if expected.places.iter().any(|place| core(&chars, *place) == core(&chars, *found)) => {
            Judged::Right
        }
        Some(_) => Judged::Wrong,
    });
    judged.zip(found.iter().copied()).collect()
}

/// Without blanks and punctuation at its ends.
fn core(chars: &[char], (start, end): Place) -> Place {
    let outside = |c: &&char| !c.is_alphanumeric();
    let inner = chars.get(start..end).unwrap_or_default();
    let left = inner.iter().take_while(outside).count();
    let right = inner.iter().rev().take_while(outside).count();
    if left == inner.len() { (start, end) } else { (start + left, end - right) }
}

impl Score {
    pub fn count(&mut self, judged: Judged) {
        match judged {
            Judged::Right => self.right += 1,
            Judged::Wrong => self.wrong += 1,
            Judged::Missed => self.missed += 1,
        }
    }
}
