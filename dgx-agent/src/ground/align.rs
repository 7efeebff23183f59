//! How like a mention a place of the page is: a weighted alignment that knows what OCR does to characters.

use super::fold::is_word;
use super::fuzzy::Like;
use super::page::Scan;
use super::shapes::{Look, NO, PAIR, TWIN, bit};

/// Costs beyond any bound, above the place where a path began.
const INF: u32 = 0x7000 << 16;

/// What an alignment works with.
#[derive(Debug, Default)]
pub(super) struct Grid {
    pub(super) mention: Vec<char>,
    /// By character of the mention: whether it is of an identifier, and of no word of letters alone, as a
    /// month or a unit.
    strict: Vec<bool>,
    /// It has no digit: a digit in its place is an error of OCR, not another number.
    letters_only: bool,
    /// How many of its digits may be another on the page.
    bends: usize,
    /// By character of the mention: what it and the one before it may be read as.
    mention_pairs: Vec<u32>,
    page: Vec<char>,
    page_pairs: Vec<u32>,
    page_alone: Vec<u16>,
    rows: Vec<u32>,
    steps: Vec<u8>,
}

/// Letters of a word that must be like its own: of less, as a numeral, one stroke is most.
const MIN_WORD: u32 = 3;

/// How a cell was come to.
const BOTH: u8 = 0;
const LOST: u8 = 1;
const ADDED: u8 = 2;
const JOINED: u8 = 3;
const SPLIT: u8 = 4;

impl Grid {
    pub(super) fn read_mention(&mut self, core: &[char], look: Look, identifier: bool) {
        self.strict.clear();
        for word in core.chunk_by(|a, b| is_word(*a) == is_word(*b)) {
            let spelt = word.iter().all(|c| c.is_alphabetic());
            self.strict.extend(std::iter::repeat_n(identifier && !spelt, word.len()));
        }
        let digits = core.iter().filter(|c| c.is_numeric()).count();
        self.letters_only = !identifier && digits == 0;
        let letters = core.iter().filter(|c| c.is_alphabetic()).count();
        self.bends = if !identifier && letters >= ADDRESS { digits / BENT_OF } else { 0 };
        self.mention.clear();
        self.mention.extend(core.iter().map(|c| look.plain(*c)));
        self.mention_pairs.clear();
        let mut before = ' ';
        for &c in &self.mention {
            self.mention_pairs.push(look.pair(before, c));
            before = c;
        }
    }

    /// The best alignment that begins near `first` to `last` and ends, as it begins, at borders of words.
    #[expect(clippy::too_many_arguments, reason = "the inner loop's parts are borrowed one by one")]
    pub(super) fn align(
        &mut self,
        scan: &Scan,
        look: Look,
        first: usize,
        last: usize,
        limit: u16,
        identifier: bool,
        source: &str,
    ) -> Option<Like> {
        let length = self.mention.len();
        let slack = 3 + length / 8;
        // The page's start is padded, so that the band begins as far before it as anywhere.
        let pad = slack.saturating_sub(first);
        let from = first.saturating_sub(slack);
        // A band: the row of the n-th character covers the page from n on.
        let width = last - from + pad + slack + 1;
        let to = (from + length + width - pad).min(scan.page.len());
        self.page.clear();
        self.page.resize(pad, '\0');
        self.page.extend(scan.page.chars[from..to].iter().map(|c| look.plain(*c)));
        self.page_pairs.clear();
        self.page_alone.clear();
        let mut before = ' ';
        for &c in &self.page {
            self.page_pairs.push(look.pair(before, c));
            self.page_alone.push(look.alone(c, identifier));
            before = c;
        }
        // What may begin and end here, at what cost.
        let edge =
            |at: usize, begins: bool| edge(scan, from + at.checked_sub(pad)?, begins, identifier, source);
        let stride = width + 2;
        self.rows.clear();
        self.rows.resize((length + 1) * stride, INF);
        self.steps.clear();
        self.steps.resize((length + 1) * stride, BOTH);
        for k in 0..width.min(self.page.len()) {
            if let Some(cost) = edge(k, true) {
                self.rows[k + 1] = u32::from(cost) << 16 | k as u32;
            }
        }
        let ceiling = (u32::from(limit) + 1) << 16;
        for i in 1..=length {
            let wanted = self.mention[i - 1];
            let strict = self.strict[i - 1];
            let lost = cost(look.alone(wanted, strict));
            let (wanted_bit, wanted_pair) = match strict {
                true => (0, 0),
                false => (bit(wanted), self.mention_pairs[i - 1]),
            };
            let (above, row) = self.rows.split_at_mut(i * stride);
            let (two_above, above) = above.split_at_mut((i - 1) * stride);
            let two_above = two_above.len().checked_sub(stride).map(|at| &two_above[at..]);
            let steps = &mut self.steps[i * stride..(i + 1) * stride];
            let mut least = INF;
            let (letters_only, bends) = (self.letters_only, self.bends > 0);
            for k in 0..width {
                // The page's character is the one before j.
                let j = i + k;
                if j > self.page.len() {
                    break;
                }
                let there = self.page[j - 1];
                let mut reading = look.replaced(wanted, there, strict);
                if reading == NO && letters_only && there.is_ascii_digit() {
                    reading = DIGIT_IN_NAME;
                }
                if reading == NO && bends && wanted.is_ascii_digit() && there.is_ascii_digit() {
                    reading = DIGIT_BENT;
                }
                let mut best = above[k + 1] + cost(reading);
                let mut step = BOTH;
                let other = above[k + 2] + lost;
                if other < best {
                    (best, step) = (other, LOST);
                }
                let other = row[k] + cost(self.page_alone[j - 1]);
                if other < best {
                    (best, step) = (other, ADDED);
                }
                if wanted_pair & bit(there) != 0
                    && let Some(two_above) = two_above
                {
                    let other = two_above[k + 2] + (u32::from(PAIR) << 16);
                    if other < best {
                        (best, step) = (other, JOINED);
                    }
                }
                if wanted_bit & self.page_pairs[j - 1] != 0 && k > 0 {
                    let other = above[k] + (u32::from(PAIR) << 16);
                    if other < best {
                        (best, step) = (other, SPLIT);
                    }
                }
                let best = best.min(INF);
                row[k + 1] = best;
                steps[k + 1] = step;
                least = least.min(best);
            }
            if least >= ceiling {
                return None;
            }
        }
        let row = &self.rows[length * stride..];
        let ends = (0..width).filter(|k| length + k <= self.page.len() && row[k + 1] < ceiling);
        let costs = ends.filter_map(|k| Some((row[k + 1] + (u32::from(edge(length + k, false)?) << 16), k)));
        let (cell, k) = costs.min_by_key(|(cell, k)| {
            (*cell >> 16, (length + k).abs_diff(length + (*cell & 0xFFFF) as usize))
        })?;
        let cost = (cell >> 16) as u16;
        let (start, end) = self.trimmed(look, (cell & 0xFFFF) as usize, length + k)?;
        let (start, end) = (from + start - pad, from + end - pad);
        let worst = self.worst(k, stride);
        (cost <= limit).then_some(Like {
            text: 0,
            cost,
            start: start as u32,
            end: end as u32,
            worst,
            letters: 0,
        })
    }

    /// Without blanks and punctuation at the ends, which the alignment may have taken in, but for what stands for the
    /// mention's first or last character (`§ August` for `5 August`).
    pub(super) fn trimmed(&self, look: Look, start: usize, end: usize) -> Option<(usize, usize)> {
        let chars = self.page.get(start..end)?;
        let stands_for = |mention: Option<&char>, c: char| {
            c != ' ' && mention.is_some_and(|mention| look.replaced(*mention, c, false) <= TWIN)
        };
        let first = chars.iter().position(|c| is_word(*c) || stands_for(self.mention.first(), *c))?;
        let last = chars.iter().rposition(|c| is_word(*c) || stands_for(self.mention.last(), *c))?;
        Some((start + first, start + last + 1))
    }

    /// Goes back along the best path and tells the word that is least like its own.
    pub(super) fn worst(&self, mut k: usize, stride: usize) -> u16 {
        let mut i = self.mention.len();
        let (mut worst, mut word, mut lost, mut cost) = (0, 0, 0, 0);
        let cell = |i: usize, k: usize| self.rows[i * stride + k + 1] >> 16;
        let mut close = |word: &mut u32, lost: &mut u32, cost: &mut u32| {
            if *word >= MIN_WORD {
                worst = worst.max(*cost * 100 / *word);
            }
            // `Harbour Co` is not `Harbour`.
            if *word > 1 && lost == word {
                worst = u32::MAX;
            }
            (*word, *lost, *cost) = (0, 0, 0);
        };
        let mut bent = 0;
        while i > 0 {
            let here = cell(i, k);
            let step = self.steps[i * stride + k + 1];
            let (up, right) = match step {
                LOST => (1, Some(1)),
                ADDED => (0, None),
                JOINED => (2, Some(1)),
                SPLIT => (1, None),
                _ => (1, Some(0)),
            };
            if step == BOTH && self.bends > 0 {
                let (asked, there) = (self.mention[i - 1], self.page[i + k - 1]);
                bent += usize::from(asked != there && asked.is_numeric() && there.is_numeric());
            }
            let from = i;
            i -= up;
            k = match right {
                Some(right) => k + right,
                None if k > 0 => k - 1,
                None => break,
            };
            cost += here.saturating_sub(cell(i, k));
            for at in (i..from).rev() {
                if is_word(self.mention[at]) {
                    word += 1;
                    lost += u32::from(step == LOST);
                } else {
                    close(&mut word, &mut lost, &mut cost);
                }
            }
        }
        close(&mut word, &mut lost, &mut cost);
        if bent > self.bends {
            return u16::MAX;
        }
        worst.min(u32::from(u16::MAX)) as u16
    }
}

/// Words that stand beside names, and that OCR glues to them when it loses a blank.
const BESIDE: &[&str] = &[
    "and", "the", "for", "from", "with", "was", "has", "are", "und", "der", "die", "das", "den", "dem",
    "des", "von", "vom", "zum", "zur", "mit", "aus", "bei", "ist", "les", "aux", "par", "est", "que", "sur",
    "dans", "pour", "los", "las", "con", "por", "para", "del", "que",
];

/// What it costs that a digit stands for a letter that is not drawn like it, in what has no digits.
const DIGIT_IN_NAME: u16 = 8;

/// An address, or another text of so many letters that is no identifier, is known by them: of so many digits one may be
/// another, at this cost.
const ADDRESS: usize = 16;
const BENT_OF: usize = 5;
const DIGIT_BENT: u16 = 10;

/// What it costs that a blank was lost there.
const GLUED: u16 = 3;

/// Longest of them.
const LONGEST_BESIDE: usize = 4;

/// A cost as cells have it.
fn cost(tenths: u16) -> u32 {
    if tenths >= NO { INF } else { u32::from(tenths) << 16 }
}

/// What it costs to begin or end here: nothing at a border; little where a blank was lost before a capital, or beside
/// one of the small words.
fn edge(scan: &Scan, at: usize, begins: bool, identifier: bool, source: &str) -> Option<u16> {
    let chars = &scan.page.chars;
    if scan.page.is_border(at) {
        return Some(0);
    }
    let letter = |c: &&char| c.is_ascii_alphabetic();
    // The letters from here to where the page's word begins or ends.
    let rest = match begins {
        true => at - chars[..at].iter().rev().take(LONGEST_BESIDE + 1).take_while(letter).count()..at,
        false => at..at + chars[at..].iter().take(LONGEST_BESIDE + 1).take_while(letter).count(),
    };
    if identifier {
        return None;
    }
    let beside =
        |word: &str| word.len() == rest.len() && word.chars().eq(chars[rest.clone()].iter().copied());
    if (2..=LONGEST_BESIDE).contains(&rest.len()) && BESIDE.iter().copied().any(beside) {
        return Some(GLUED);
    }
    let byte = scan.page.byte(at);
    let right = source[byte..].chars().next().is_some_and(char::is_uppercase);
    let left = source[..byte].chars().next_back().is_some_and(char::is_lowercase);
    // A single letter is the name's own, misread: `SOPHIcE`.
    let beyond = if begins { at.checked_sub(2).and_then(|at| chars.get(at)) } else { chars.get(at + 1) };
    (left && right && beyond.is_some_and(|c| c.is_alphabetic())).then_some(GLUED)
}
