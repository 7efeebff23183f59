//! The values of one rule on a page, in order, none overlapping another.
//!
//! The next search begins where a value ends, not where what follows it does: that may be the cue of the next.

use std::ops::Range;

use proto::labelset::Rule;
use regex_automata::{Anchored, Input, util::primitives::NonMaxUsize};

/// What a rule is worked with.
pub(super) struct Reader<'a> {
    rule: &'a Rule,
    text: &'a str,
    /// The value's group; 0 where the match is the value.
    group: usize,
    slots: Vec<Option<NonMaxUsize>>,
}

impl<'a> Reader<'a> {
    pub fn new(rule: &'a Rule, text: &'a str) -> Self {
        let group = if rule.is_value { 0 } else { rule.group() };
        Self { rule, text, group, slots: vec![None; 2 * (group + 1)] }
    }

    /// The values whose matches begin at some of these places, which are borders and in order.
    pub fn at(mut self, starts: &'a [u32]) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut from = 0;
        starts.iter().filter_map(move |&start| {
            let start = start as usize;
            if start < from {
                return None;
            }
            let value = self.value(start).filter(|value| self.stands_alone(value))?;
            from = value.end;
            Some(value)
        })
    }

    /// All values. Most matches begin within a word, and cannot be: they are passed over, up to the next border,
    /// before anything is asked of their groups.
    pub fn all(mut self) -> impl Iterator<Item = Range<usize>> + 'a {
        let text = self.text;
        let mut from = 0;
        std::iter::from_fn(move || {
            loop {
                let start = self.rule.regex().search(&Input::new(text).range(from..))?.start();
                if start == text.len() {
                    return None;
                }
                let next = text.ceil_char_boundary(start + 1);
                from = next_border(text, next);
                if !is_border(text, start) {
                    continue;
                }
                let value = self.value(start)?;
                if self.stands_alone(&value) {
                    from = value.end.max(next);
                    return Some(value);
                }
            }
        })
    }

    /// The value of the match that begins at a place.
    fn value(&mut self, start: usize) -> Option<Range<usize>> {
        let input = Input::new(self.text).range(start..).anchored(Anchored::Yes);
        if self.group == 0 {
            return Some(self.rule.regex().search(&input)?.range());
        }
        self.rule.regex().search_slots(&input, &mut self.slots)?;
        let slot = |nth: usize| self.slots[nth].map(NonMaxUsize::get);
        let value = slot(2 * self.group).zip(slot(2 * self.group + 1));
        value.or(slot(0).zip(slot(1))).map(|(start, end)| start..end)
    }

    fn stands_alone(&self, value: &Range<usize>) -> bool {
        is_border(self.text, value.start) && is_border(self.text, value.end)
    }
}

/// The first border from `at`, which is between two characters.
fn next_border(text: &str, at: usize) -> usize {
    let mut places = text[at..].char_indices().map(|(offset, _)| at + offset);
    places.find(|place| is_border(text, *place)).unwrap_or(text.len())
}

/// Whether neither a word nor a number goes across a place.
pub(super) fn is_border(text: &str, at: usize) -> bool {
    let left = text[..at].chars().next_back().map_or(0, kind);
    let right = text[at..].chars().next().map_or(0, kind);
    left != right || left == 0
}

/// Digits, other letters, and what is neither.
#[inline]
pub(super) fn kind(c: char) -> u8 {
    match c {
        '0'..='9' => 2,
        'a'..='z' | 'A'..='Z' => 1,
        '\0'..='\x7F' => 0,
        c if c.is_numeric() => 2,
        c => u8::from(c.is_alphanumeric()),
    }
}
