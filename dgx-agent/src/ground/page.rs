//! A page's index: its normalised text, and where each word stands.

use std::ops::Range;

use super::MatchKind;
use super::normal::{Normal, is_unspaced, is_word};
use super::place::Candidate;

/// Places that one mention looks at. A page on which its rarest word stands more often is a list of that word.
const MAX_PLACES: usize = 1024;

/// A number of this many digits is found though letters stand before or after it: `MMSI351234567`.
const LONG_NUMBER: usize = 6;

pub(super) struct Page<'a> {
    pub text: &'a str,
    pub normal: Normal,
    words: Postings,
}

/// Where keys stand: pairs of key and place, sorted.
pub(super) struct Postings(Vec<(u32, u32)>);

impl Postings {
    pub fn new(mut entries: Vec<(u32, u32)>) -> Self {
        entries.sort_unstable();
        Self(entries)
    }

    /// The places of a key, in order.
    pub fn of(&self, key: u32) -> &[(u32, u32)] {
        let start = self.0.partition_point(|(other, _)| *other < key);
        let rest = &self.0[start..];
        &rest[..rest.partition_point(|(other, _)| *other == key)]
    }
}

impl<'a> Page<'a> {
    pub fn new(text: &'a str) -> Self {
        let normal = Normal::new(text);
        let mut entries = Vec::new();
        for word in words(&normal.chars) {
            entries.push((hash(&normal.chars[word.clone()]), word.start as u32));
            // What a dash joined is there whole and in parts: `LAN-TERN`, but also `vessel—LANTERN`.
            let mut part = word.start;
            for joint in (word.start + 1..word.end).filter(|at| normal.is_joint(*at)) {
                entries.push((hash(&normal.chars[part..joint]), part as u32));
                part = joint;
            }
            if part > word.start {
                entries.push((hash(&normal.chars[part..word.end]), part as u32));
            }
        }
        Self { text, words: Postings::new(entries), normal }
    }

    /// Where a mention stands but for case, blanks, hyphens, ligatures, accents, quotes and dashes; in order.
    pub fn find(&self, mention: &Normal, verbatim: &str) -> Vec<Candidate> {
        let core = mention.core();
        let chars = &mention.chars[core.clone()];
        let places = words(chars).map(|word| (self.words.of(hash(&chars[word.clone()])), word.start));
        let Some((places, offset)) = places.min_by_key(|(places, _)| places.len()) else {
            return Vec::new();
        };
        let starts = places.iter().filter_map(|(_, place)| (*place as usize).checked_sub(offset));
        let here = starts.filter(|start| self.stands_at(*start, chars));
        here.take(MAX_PLACES).filter_map(|start| self.candidate(start, mention, &core, verbatim)).collect()
    }

    fn stands_at(&self, start: usize, chars: &[char]) -> bool {
        let end = start + chars.len();
        if self.normal.chars.get(start..end) != Some(chars) {
            return false;
        }
        let digit =
            |at: Option<usize>| at.and_then(|at| self.normal.chars.get(at)).is_some_and(char::is_ascii_digit);
        let number = chars.len() >= LONG_NUMBER && chars.iter().all(char::is_ascii_digit);
        (self.normal.is_border(start) && self.normal.is_border(end))
            || (number && !digit(start.checked_sub(1)) && !digit(Some(end)))
    }

    /// The core at `start`, with as much of the mention's outer punctuation as stands there, too.
    fn candidate(
        &self,
        start: usize,
        mention: &Normal,
        core: &Range<usize>,
        verbatim: &str,
    ) -> Option<Candidate> {
        let page = &self.normal.chars;
        let alike = |(a, b): &(&char, &char)| a == b;
        let left = mention.chars[..core.start].iter().rev().zip(page[..start].iter().rev());
        let left = left.take_while(alike).count();
        let end = start + core.len();
        let right = mention.chars[core.end..].iter().zip(&page[end..]).take_while(alike).count();
        let mut wide = start - left..end + right;
        while wide.start < start && page[wide.start] == ' ' {
            wide.start += 1;
        }
        while wide.end > end && page[wide.end - 1] == ' ' {
            wide.end -= 1;
        }
        let (range, bytes) = match self.normal.bytes(wide.clone()) {
            Some(bytes) => (wide, bytes),
            None => (start..end, self.normal.bytes(start..end)?),
        };
        let exact = &self.text[bytes.clone()] == verbatim;
        let kind = if exact { MatchKind::Exact } else { MatchKind::Normalized };
        Some(Candidate { range, bytes, kind, similarity: 1.0 })
    }
}

/// Runs of letters and runs of digits; each character alone in scripts that do not part words.
fn words(chars: &[char]) -> impl Iterator<Item = Range<usize>> {
    let kind = |c: char| match c {
        c if !is_word(c) => 0,
        c if is_unspaced(c) => 1,
        c if c.is_numeric() => 2,
        _ => 3,
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        at += chars[at..].iter().take_while(|c| kind(**c) == 0).count();
        let first = kind(*chars.get(at)?);
        let length = match first {
            1 => 1,
            first => chars[at..].iter().take_while(|c| kind(**c) == first).count(),
        };
        let word = at..at + length;
        at = word.end;
        Some(word)
    })
}

/// FNV-1a. Two words with one hash cost a comparison, no more.
pub(super) fn hash(chars: &[char]) -> u32 {
    chars.iter().fold(0x811C_9DC5, |hash, c| (hash ^ u32::from(*c)).wrapping_mul(0x0100_0193))
}
