//! The mentions made ready, and where each stands on the page but for how it is written.
//!
//! Nothing is indexed but the mentions: a table of their longest words. The page goes by once, and each of its words
//! is looked up there. Work is bounded by the page and the number of mentions, whatever they hold.

use std::ops::Range;

use proto::labelset::{Labelset, Mention};

use super::Reason;
use super::fold::{Folded, MAX_BYTES, Word, is_word};

/// Longest mention, in characters. Longer ones are no names, numbers or dates.
pub(super) const MAX_MENTION: usize = 1000;

/// Places that are kept for each text, beside one for each mention that asks for it.
const MAX_PLACES: usize = 1024;

/// Characters compared for one of the page, and for each mention. A page that needs more is one word over and over.
const EFFORT_PER_CHAR: usize = 16;
const EFFORT_PER_MENTION: usize = 16_384;

/// A number of this many digits is found though letters stand before or after it: `MMSI351234567`.
const LONG_NUMBER: usize = 6;
/// Letters of a unit that stands before its number.
const UNIT: usize = 4;

pub(super) const NONE: u32 = u32::MAX;

/// A mention and the text that it asks for.
#[derive(Debug)]
pub(super) struct Sought<'a> {
    pub index: usize,
    pub mention: &'a Mention,
    /// In the folded mentions: all of it.
    pub whole: Range<usize>,
    pub text: usize,
    pub rank: usize,
}

/// A text that one or more mentions ask for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// In the folded mentions: without punctuation at its ends.
    pub core: Range<usize>,
    /// Of an identifier's label.
    pub identifier: bool,
    /// How many mentions ask for it.
    pub asked: usize,
    /// Its places in [`Places`].
    pub places: Range<usize>,
    anchor: Word,
    next: u32,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    text: u32,
    /// In the folded page, as is `end`.
    pub start: u32,
    pub end: u32,
    /// 0: by itself; 1: it is a part of a longer number; 2: letters or digits touch it.
    pub bond: u8,
}

/// Mentions and page, folded.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub page: Folded,
    pub words: Folded,
    pub places: Vec<Place>,
    table: Vec<(u32, u32)>,
    hits: Vec<(u32, u32)>,
    parts: Vec<(Word, u32)>,
}

pub(super) type Seeking<'a> = (Vec<Sought<'a>>, Vec<Wanted>);

impl Scan {
    /// Folds the mentions and finds those that ask for the same. `refuse` is told of those that ask for nothing.
    pub fn take<'a>(
        &mut self,
        mentions: &'a [Mention],
        labelset: &Labelset,
        mut refuse: impl FnMut(usize, Reason),
    ) -> Seeking<'a> {
        self.words.clear();
        self.table.clear();
        self.table.resize((mentions.len() * 4).next_power_of_two().max(64), (0, NONE));
        let mut sought = Vec::with_capacity(mentions.len());
        let mut wanted: Vec<Wanted> = Vec::with_capacity(mentions.len());
        for (index, mention) in mentions.iter().enumerate() {
            let text = mention.text.trim();
            if text.len() > MAX_MENTION * 4 {
                refuse(index, Reason::TooLong);
                continue;
            }
            self.parts.clear();
            let parts = &mut self.parts;
            let whole = self.words.add(text, |word, end| parts.push((word, end)));
            let core = self.words.core(whole.clone());
            if whole.len() > MAX_MENTION {
                refuse(index, Reason::TooLong);
                continue;
            }
            let Some(anchor) = self.anchor() else {
                refuse(index, Reason::Empty);
                continue;
            };
            let label = labelset.label(&mention.label);
            let anchor = Word { start: anchor.start - core.start as u32, ..anchor };
            let identifier = label.is_some_and(|label| label.identifier);
            let text = self.enter(&mut wanted, core, anchor, identifier);
            let rank = label.map_or(labelset.labels.len(), |_| labelset.rank(&mention.label));
            sought.push(Sought { index, mention, whole, text, rank });
        }
        (sought, wanted)
    }

    /// The longest word, in the parts that dashes make of it.
    fn anchor(&self) -> Option<Word> {
        let joint = |word: &Word, end: u32| (word.start + 1..end).any(|at| self.words.is_joint(at as usize));
        let parts = self.parts.iter().filter(|(word, end)| !joint(word, *end));
        parts.max_by_key(|(word, end)| (end - word.start, word.start)).map(|(word, _)| *word)
    }

    fn enter(
        &mut self,
        wanted: &mut Vec<Wanted>,
        core: Range<usize>,
        anchor: Word,
        identifier: bool,
    ) -> usize {
        let slot = slot_of(&self.table, anchor.hash);
        let first = self.table[slot].1;
        let mut next = first;
        let mut steps = 0;
        while let Some(other) = wanted.get_mut(next as usize).filter(|_| steps < MAX_PLACES) {
            let same = other.identifier == identifier
                && self.words.chars[other.core.clone()] == self.words.chars[core.clone()];
            if same {
                other.asked += 1;
                return next as usize;
            }
            next = other.next;
            steps += 1;
        }
        self.table[slot] = (anchor.hash, wanted.len() as u32);
        wanted.push(Wanted { core, identifier, asked: 1, places: 0..0, anchor, next: first });
        wanted.len() - 1
    }

    /// Folds the page and finds the places of what is wanted, in the order of the page.
    pub fn find(&mut self, text: &str, wanted: &mut [Wanted]) {
        self.page.clear();
        self.hits.clear();
        self.places.clear();
        if text.len() > MAX_BYTES || wanted.is_empty() {
            return;
        }
        let (table, hits) = (&self.table, &mut self.hits);
        self.page.add(text, |word, _| {
            let (hash, first) = table[slot_of(table, word.hash)];
            if first != NONE && hash == word.hash {
                hits.push((first, word.start));
            }
        });
        let mut effort = self.page.len() * EFFORT_PER_CHAR + wanted.len() * EFFORT_PER_MENTION;
        for &(first, at) in &self.hits {
            let mut text = first;
            while let Some(want) = wanted.get_mut(text as usize) {
                let this = text;
                text = want.next;
                let enough = want.places.end >= MAX_PLACES + 2 * want.asked;
                let Some(start) = at.checked_sub(want.anchor.start).filter(|_| !enough) else { continue };
                let core = &self.words.chars[want.core.clone()];
                let there =
                    self.page.chars.get(start as usize..start as usize + core.len()).unwrap_or_default();
                let alike = core.iter().zip(there).take_while(|(a, b)| a == b).count();
                effort = effort.saturating_sub(4 + alike / 4);
                if alike < core.len() {
                    continue;
                }
                let end = start + alike as u32;
                if let Some(bond) = bond(&self.page, start as usize, end as usize, core, want.identifier) {
                    // For now a count.
                    want.places.end += 1;
                    self.places.push(Place { text: this, start, end, bond });
                }
            }
            if effort == 0 {
                break;
            }
        }
        self.places.sort_unstable();
        self.places.dedup();
        wanted.iter_mut().for_each(|want| want.places = 0..0);
        let mut from = 0;
        for places in self.places.chunk_by(|a, b| a.text == b.text) {
            let range = from..from + places.len();
            from = range.end;
            wanted[places[0].text as usize].places = range;
        }
    }
}

/// The slot of a hash, or the free one where it belongs.
fn slot_of(table: &[(u32, u32)], hash: u32) -> usize {
    let mask = table.len() - 1;
    let mut slot = hash as usize & mask;
    while table[slot].1 != NONE && table[slot].0 != hash {
        slot = (slot + 1) & mask;
    }
    slot
}

/// Whether a place begins or ends within a number: the end of `11,421` is no 421, nor its beginning 11. After four digits
/// or more a mark and a digit may be another number.
pub(super) fn is_group_of_number(page: &Folded, start: usize, end: usize) -> bool {
    let (before, inner, after) = (&page.chars[..start], &page.chars[start..end], &page.chars[end..]);
    let run = |digits: usize| (1..=3).contains(&digits);
    let numeric = |c: &&char| c.is_numeric();
    let goes_on = |mark: Option<&char>, digit: Option<&char>| {
        matches!(mark, Some('.' | ',')) && digit.is_some_and(|c| c.is_numeric())
    };
    let mut left = before.iter().rev();
    let mut right = after.iter();
    // Behind a name with a number OCR may have joined the next cell.
    let is_amount = inner.iter().filter(|c| c.is_alphabetic()).count() <= UNIT;
    (run(inner.iter().take_while(numeric).count()) && goes_on(left.next(), left.next()))
        || (is_amount
            && run(inner.iter().rev().take_while(numeric).count())
            && goes_on(right.next(), right.next()))
}

/// How a place hangs together with what is around it; None: it is a part of a word or number.
fn bond(page: &Folded, start: usize, end: usize, core: &[char], identifier: bool) -> Option<u8> {
    let at = |at: usize| page.chars.get(at).copied();
    let left = start.checked_sub(1).and_then(at);
    let right = at(end);
    let digit = |c: Option<char>| c.is_some_and(char::is_numeric);
    let first = core.first().copied();
    let last = core.last().copied();
    let number = core.iter().all(char::is_ascii_digit);
    let plain = !identifier
        && core.len() >= 4
        && (!number || core.len() >= LONG_NUMBER)
        && !(digit(first) && !core.iter().any(|c| matches!(c, '.' | ',')) && !number);
    // A digit beside a letter, where that is no code.
    let touches = |inner: Option<char>, outer: Option<char>| {
        (plain || (number && core.len() >= LONG_NUMBER)) && digit(inner) != digit(outer)
    };
    let borders = (page.is_border(start), page.is_border(end));
    let fits = (borders.0 || touches(first, left)) && (borders.1 || touches(last, right));
    if !fits {
        return None;
    }
    if !(borders.0 && borders.1) {
        return Some(2);
    }
    let mark = |c: Option<char>| c.is_some_and(|c| matches!(c, '.' | ',' | ':' | '/' | '-'));
    let longer_left = digit(first) && mark(left) && digit(start.checked_sub(2).and_then(at));
    let longer_right = digit(last) && mark(right) && digit(at(end + 1));
    if is_group_of_number(page, start, end) {
        return None;
    }
    Some(u8::from(longer_left || longer_right))
}

/// Letters and digits of a text.
pub(super) fn count_words(chars: &[char]) -> usize {
    chars.iter().filter(|c| is_word(**c)).count()
}
