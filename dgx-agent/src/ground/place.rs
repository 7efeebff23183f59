//! Which of the places where a mention could stand is its own.

use std::collections::BTreeMap;
use std::ops::Range;

use super::page::Page;
use super::{GroundedSpan, MatchKind, Sought};
use crate::offsets::CodePoints;

/// Characters in front of a mention that are compared, and how many must agree to say anything.
pub(super) const CONTEXT: usize = 40;
const MIN_CONTEXT: usize = 3;

/// A place where a mention could stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// In the normalised page.
    pub range: Range<usize>,
    /// In the page.
    pub bytes: Range<usize>,
    pub kind: MatchKind,
    pub similarity: f64,
}

/// Gives places to mentions, each place once.
pub(super) struct Placer<'a> {
    page: &'a Page<'a>,
    /// Starts to ends of what is taken, in bytes.
    taken: BTreeMap<usize, usize>,
    /// Index of a mention to where it was placed, in bytes.
    placed: BTreeMap<usize, usize>,
    spans: Vec<(Range<usize>, GroundedSpan)>,
}

impl<'a> Placer<'a> {
    pub fn new(page: &'a Page<'a>) -> Self {
        Self { page, taken: BTreeMap::new(), placed: BTreeMap::new(), spans: Vec::new() }
    }

    /// Takes the best free place for a mention: the one with its words in front, then the one that reads most like
    /// it, then the first after the mention before it, then the first.
    pub fn place(&mut self, sought: &Sought<'_>, candidates: &[Candidate]) -> bool {
        let after = self.placed.range(..sought.index).next_back().map_or(0, |(_, place)| *place);
        let free = candidates.iter().filter(|candidate| self.is_free(&candidate.bytes));
        let best = free.min_by_key(|candidate| {
            let context = self.context(candidate.range.start, &sought.before.chars);
            let start = candidate.bytes.start;
            (std::cmp::Reverse(context), candidate.kind, start < after, start)
        });
        let Some(best) = best.cloned() else { return false };
        self.taken.insert(best.bytes.start, best.bytes.end);
        self.placed.insert(sought.index, best.bytes.start);
        let span = GroundedSpan {
            mention: sought.index,
            label: sought.mention.label.clone(),
            start: 0,
            end: 0,
            text: self.page.text[best.bytes.clone()].to_owned(),
            match_kind: best.kind,
            similarity: best.similarity,
            norm_value: None,
        };
        self.spans.push((best.bytes, span));
        true
    }

    /// The spans in the order of the page.
    pub fn spans(mut self) -> Vec<GroundedSpan> {
        let points = CodePoints::new(self.page.text);
        self.spans.sort_by_key(|(bytes, _)| bytes.start);
        let place = |(bytes, span): (Range<usize>, GroundedSpan)| GroundedSpan {
            start: points.at(bytes.start),
            end: points.at(bytes.end),
            ..span
        };
        self.spans.into_iter().map(place).collect()
    }

    pub fn is_free(&self, bytes: &Range<usize>) -> bool {
        self.taken.range(..bytes.end).next_back().is_none_or(|(_, end)| *end <= bytes.start)
    }

    /// How many characters before `start` are those of `before`, blanks and punctuation aside.
    fn context(&self, start: usize, before: &[char]) -> usize {
        let words = |chars: &'_ [char]| -> Vec<char> {
            chars.iter().rev().filter(|c| c.is_alphanumeric()).copied().take(CONTEXT).collect()
        };
        if before.is_empty() {
            return 0;
        }
        let wanted = words(before);
        let there = words(&self.page.normal.chars[start.saturating_sub(2 * CONTEXT)..start]);
        let alike = wanted.iter().zip(&there).take_while(|(a, b)| a == b).count();
        if alike >= MIN_CONTEXT.min(wanted.len()) { alike } else { 0 }
    }
}
