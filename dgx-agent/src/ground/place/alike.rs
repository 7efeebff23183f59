//! The places that are given by likeness: to what OCR garbled, and to what a model tidied up.
//!
//! What is too little like a mention, or no more like it than another place, stays out; an identifier goes only where
//! nobody could read another one.

use std::ops::Range;

use proto::labelset::{Label, Verdict};

use super::super::fold::is_word;
use super::super::fuzzy::{Fuzzy, Like};
use super::super::page::{NONE, Sought, is_group_of_number};
use super::super::shapes::NO;
use super::super::{Bounds, MatchKind, Reason};
use super::Placer;

/// Characters behind a name in which its numeral stands.
const NEAR: usize = 12;

impl Placer<'_> {
    /// Gives the mentions that wait for a text the places that are most like it.
    pub fn place_alike(&mut self, waiting: &[u32], fuzzy: &Fuzzy) -> Vec<(u32, Reason)> {
        let Some(&first) = waiting.first() else { return Vec::new() };
        let text = self.sought[first as usize].text as u32;
        let likes = fuzzy.likes.partition_point_of(text);
        let mut left = Vec::new();
        for (done, &nth) in waiting.iter().enumerate() {
            if let Err(reason) = self.place_one_alike(nth as usize, waiting.len() - done, likes) {
                left.push((nth, reason));
            }
        }
        left
    }

    /// Places a mention by likeness where its words in front are, when it stands as asked only where they are not.
    pub fn place_in_context(&mut self, nth: usize, fuzzy: &Fuzzy) -> bool {
        let likes = fuzzy.likes.partition_point_of(self.sought[nth].text as u32);
        let Some(context) = self.context_of(nth) else { return false };
        let there = |like: &&Like| self.agrees(&context, like.start) * 3 >= context.len() * 2;
        let likes: Vec<Like> = likes.iter().filter(there).copied().collect();
        self.place_one_alike(nth, 1, &likes).is_ok()
    }

    fn place_one_alike(&mut self, nth: usize, waiting: usize, likes: &[Like]) -> Result<(), Reason> {
        let sought = &self.sought[nth];
        let label = self.labelset.label(&sought.mention.label);
        let context = self.context_of(nth);
        let (after, until) = self.between(sought.index);
        let mut choices: Vec<(i32, usize, Like)> = Vec::new();
        let mut taken = false;
        for like in likes {
            let agrees = context.as_ref().map_or(0, |context| self.agrees(context, like.start));
            let spoken = context.as_ref().is_some_and(|context| Bounds::speaks(agrees, context.len()));
            let in_order = after <= like.start && like.start <= until && (after > 0 || until != NONE);
            if !Bounds::allow(like, spoken, in_order) {
                continue;
            }
            if !self.is_free(like.start, like.end) {
                taken = true;
                continue;
            }
            if is_group_of_number(&self.scan.page, like.start as usize, like.end as usize) {
                continue;
            }
            let lost = self.lost_capitals(sought, like);
            let like = Like { cost: like.cost + lost, ..*like };
            // Words in front do not make a name of a word that is written small.
            if !Bounds::allow(&like, spoken && lost == 0, in_order) || self.is_another(sought, &like, label) {
                continue;
            }
            let score = i32::from(like.cost) - 2 * agrees.min(12) as i32 - if in_order { 3 } else { 0 };
            choices.push((score, agrees, like));
        }
        choices.sort_by_key(|(score, _, like)| (*score, like.start));
        let Some((score, _, best)) = choices.first().copied() else {
            return Err(if taken { Reason::Taken } else { Reason::NotFound });
        };
        let read = |like: &Like| &self.scan.page.chars[like.start as usize..like.end as usize];
        let rivals = choices.iter().filter(|(other, ..)| *other < score + Bounds::MARGIN);
        if rivals.clone().count() > waiting && rivals.clone().any(|(.., like)| read(like) != read(&best)) {
            return Err(Reason::Ambiguous);
        }
        // Several wait: they take theirs in the order of the page.
        let best = match waiting {
            1 => best,
            waiting => {
                rivals.map(|(.., like)| *like).take(waiting).min_by_key(|like| like.start).unwrap_or(best)
            }
        };
        let range = best.start as usize..best.end as usize;
        let bytes = self.scan.page.bytes(self.text, range.clone()).ok_or(Reason::NotFound)?;
        let same = || {
            let read = |c: &&char| **c != ' ';
            let core = &self.scan.words.chars[self.wanted[sought.text].core.clone()];
            core.iter().filter(read).eq(self.scan.page.chars[range.clone()].iter().filter(read))
        };
        if best.cost > 0 && !self.says_the_same(sought, &range) {
            if !self.has_room_for_digits(sought, &range) {
                return Err(Reason::NotFound);
            }
            if let Some(label) = label.filter(|label| label.identifier) {
                told_apart(label, sought.mention.text.trim(), &self.text[bytes.clone()])?;
            }
        }
        let (kind, similarity) = match best.cost {
            _ if self.text[bytes.clone()] == *sought.mention.text.trim() => (MatchKind::Exact, 1.0),
            0 if same() => (MatchKind::Normalized, 1.0),
            cost => (MatchKind::Fuzzy, 1.0 - f64::from(cost) / (10.0 * f64::from(best.letters))),
        };
        self.take(nth, range, bytes, kind, similarity.max(0.5));
        Ok(())
    }

    /// Whether a place has the letters and digits that were asked for, and marks between digits where they were: only
    /// blanks differ, or which marks.
    fn says_the_same(&self, sought: &Sought<'_>, range: &Range<usize>) -> bool {
        let mention = &self.scan.words.chars[self.wanted[sought.text].core.clone()];
        let (mut mention, mut there) = (Signs::of(mention), Signs::of(&self.scan.page.chars[range.clone()]));
        loop {
            match (mention.next(), there.next()) {
                (None, None) => return true,
                (a, b) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether a place reads as another value of the label's than the mention, or is the name of one with another numeral:
    /// `Iran` is no `Iraq` that was garbled, nor `ALPHA` of `ALPHA III` the `ALPHA I`.
    fn is_another(&self, sought: &Sought<'_>, like: &Like, label: Option<&Label>) -> bool {
        let Some(label) = label.filter(|_| like.cost > 0) else { return false };
        let range = like.start as usize..like.end as usize;
        if self.leaves_a_numeral(sought, &range) {
            return true;
        }
        let Some(bytes) = self.scan.page.bytes(self.text, range) else { return false };
        let valid = |text: &str| match label.check_strictly(text) {
            Verdict::Valid(value) => Some(value),
            _ => None,
        };
        valid(&self.text[bytes])
            .is_some_and(|there| valid(sought.mention.text.trim()).is_some_and(|asked| asked != there))
    }

    /// Whether a place ends before the numeral of a name, where another one stands than was asked for.
    fn leaves_a_numeral(&self, sought: &Sought<'_>, range: &Range<usize>) -> bool {
        let mention = &self.scan.words.chars[self.wanted[sought.text].core.clone()];
        let page = &self.scan.page.chars;
        let Some(asked) = words(mention).next_back().filter(is_numeral) else { return false };
        let there = words(&page[range.clone()]).next_back().filter(is_numeral);
        let after = &page[range.end..page.len().min(range.end + NEAR)];
        let next = words(after).next().filter(is_numeral);
        there.is_none() && next.is_some_and(|next| next != asked)
    }

    /// Whether a place has a digit, or what may stand for one, for each digit that was asked for: `July 2004` is not
    /// `1 July 2004` whose 1 was read as a letter, nor `TAI PING` of `TAI PING 9` the `TAI PING 8`.
    fn has_room_for_digits(&self, sought: &Sought<'_>, range: &Range<usize>) -> bool {
        let mention = &self.scan.words.chars[self.wanted[sought.text].core.clone()];
        let for_digit = |c: &char| {
            let plain = self.look.plain(*c);
            !matches!(c, '/' | '\\') && ('0'..='9').any(|digit| self.look.replaced(digit, plain, true) != NO)
        };
        let between = |c: &char| !is_word(*c) && !for_digit(c);
        // A month that stands there as it was asked for stands for no digit.
        let spelt = |word: &&[char]| {
            word.iter().all(|c| c.is_alphabetic()) && mention.split(between).any(|other| other == *word)
        };
        let there = self.scan.page.chars[range.clone()].split(between).filter(|word| !spelt(word));
        there.flatten().filter(|c| for_digit(c)).count() >= mention.iter().filter(|c| c.is_numeric()).count()
    }

    /// What it costs that a word of a name begins small on the page: names are not written so.
    fn lost_capitals(&self, sought: &Sought<'_>, like: &Like) -> u16 {
        let asked = sought.mention.text.trim().chars().find(|c| c.is_alphanumeric());
        let there = self.scan.page.bytes(self.text, like.start as usize..like.start as usize + 1);
        let there = there.and_then(|bytes| self.text[bytes].chars().next());
        match (asked, there) {
            (Some(asked), Some(there)) if like.cost > 0 && asked.is_uppercase() && there.is_lowercase() => 8,
            _ => 0,
        }
    }
}

fn words(chars: &[char]) -> impl DoubleEndedIterator<Item = &[char]> {
    chars.split(|c| !is_word(*c)).filter(|word| !word.is_empty())
}

/// Up to XXXIX, as they stand behind names.
fn is_numeral(word: &&[char]) -> bool {
    !word.is_empty() && word.iter().all(|c| matches!(c.to_ascii_lowercase(), 'i' | 'v' | 'x'))
}

/// Whether an identifier that the page reads otherwise is the mention all the same: its validator must know the
/// mention for valid, and the page's reading for invalid or for the same value. Where both would do, nobody can tell.
fn told_apart(label: &Label, mention: &str, on_page: &str) -> Result<(), Reason> {
    match (label.check_strictly(mention), label.check_strictly(on_page)) {
        (Verdict::Valid(_), Verdict::Invalid) => Ok(()),
        (Verdict::Valid(mention), Verdict::Valid(on_page)) if mention == on_page => Ok(()),
        _ => Err(Reason::NotFound),
    }
}

/// Letters and digits of a text, each with whether a mark parts it, a digit, from a digit before it.
struct Signs<'a> {
    chars: std::slice::Iter<'a, char>,
    last: char,
}

impl<'a> Signs<'a> {
    fn of(chars: &'a [char]) -> Self {
        Self { chars: chars.iter(), last: ' ' }
    }
}

impl Iterator for Signs<'_> {
    type Item = (char, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let mut parted = false;
        loop {
            let c = *self.chars.next()?;
            if is_word(c) {
                let parts = parted && c.is_numeric() && self.last.is_numeric();
                self.last = c;
                return Some((c, parts));
            }
            parted |= c != ' ';
        }
    }
}

trait OfText {
    fn partition_point_of(&self, text: u32) -> &[Like];
}

impl OfText for Vec<Like> {
    /// Those of a text: together, but in no order of texts.
    fn partition_point_of(&self, text: u32) -> &[Like] {
        let start = self.partition_point(|like| like.text < text);
        let end = self.partition_point(|like| like.text <= text);
        &self[start..end]
    }
}
