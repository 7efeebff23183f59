//! Mentions that OCR garbled, or that the model tidied up.
//!
//! Pairs of characters that mention and page share say where to look; an alignment there says how like the mention
//! the page is, and each of its words. The page goes by once for all the mentions that wait.

use std::cmp::Reverse;

use super::Bounds;
use super::fold::is_word;
use super::page::{NONE, Scan, Wanted, count_words};
use super::shapes::{Look, NO, PAIR, TWIN, bit};

/// Longest mention that is looked for by likeness, in characters.
const MAX_CHARS: usize = 256;

/// Letters and digits of a page, times the texts that are sought by likeness, up to which groups of three and pairs are
/// looked at; beyond, groups of four, and only the rarest of each text.
const MANY: usize = 400_000;
const RARE_PLACES: u32 = 96;
const RARE_GROUPS: u32 = 256;

/// Places that are aligned for a text.
const MAX_ALIGNED: usize = 8;

/// Of overlapping places, these many with most votes are looked at.
const MAX_WINDOWS: usize = 96;

const FEW_BITS: u32 = 12;
const GROUP_BITS: u32 = 16;

/// Letters of a word in an identifier that may be read as other letters: of a month's name.
const MIN_MONTH: usize = 3;

/// Keeps the beginnings of mentions that the page's first letters share from being negative.
const SHIFT: u64 = 1024;

/// Costs beyond any bound, above the place where a path began.
const INF: u32 = 0x7000 << 16;

/// A place that is like a text, and what it costs to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Like {
    pub text: u32,
    /// In tenths of an edit.
    pub cost: u16,
    pub start: u32,
    pub end: u32,
    /// Tenths of an edit in a hundred characters of the word that is least like its own.
    pub worst: u16,
    /// Letters and digits of the text.
    pub letters: u16,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    key: u32,
    next: u32,
    /// Which of the texts that are sought.
    nth: u32,
    offset: u32,
}

#[derive(Debug, Default)]
pub(super) struct Fuzzy {
    pub likes: Vec<Like>,
    /// Where the page's letters and digits are, and their classes.
    solid: Vec<u32>,
    classes: Vec<u8>,
    heads: Vec<u32>,
    groups: Vec<Group>,
    counts: Vec<u32>,
    votes: Vec<u64>,
    windows: Vec<(Reverse<u32>, u64, u64)>,
    grid: Grid,
}

/// What an alignment works with.
#[derive(Debug, Default)]
struct Grid {
    mention: Vec<char>,
    /// By character of the mention: whether it is of an identifier, and of no word of letters alone: of a month.
    strict: Vec<bool>,
    /// It has no digit: a digit in its place is an error of OCR, not another number.
    letters_only: bool,
    /// By character of the mention: what it and the one before it may be read as.
    mention_pairs: Vec<u32>,
    page: Vec<char>,
    page_pairs: Vec<u32>,
    page_alone: Vec<u16>,
    rows: Vec<u32>,
    steps: Vec<u8>,
}

impl Fuzzy {
    /// Finds the places that are like the texts; those of a text are together, the likest first. Texts for which
    /// groups of three find nothing good are looked for by pairs.
    pub fn find(&mut self, scan: &Scan, wanted: &[Wanted], texts: &[u32], source: &str) {
        self.likes.clear();
        if texts.is_empty() || scan.page.len() == 0 {
            return;
        }
        let look = Look::new();
        self.flatten(scan, look);
        let few = self.solid.len() * texts.len() <= MANY;
        if !few {
            self.round(scan, wanted, texts, (4, GROUP_BITS, true), source);
            return;
        }
        self.round(scan, wanted, texts, (3, FEW_BITS, false), source);
        let good = |text: u32| {
            let likes = &self.likes;
            let from = likes.partition_point(|like| like.text < text);
            likes.get(from).is_some_and(|like| like.text == text && Bounds::allow(like, 0, false))
        };
        let rest: Vec<u32> = texts.iter().copied().filter(|text| !good(*text)).collect();
        if !rest.is_empty() {
            self.likes.retain(|like| !rest.contains(&like.text));
            self.round(scan, wanted, &rest, (2, FEW_BITS, false), source);
            self.likes.sort_by_key(|like| (like.text, like.cost, like.start));
        }
    }

    fn round(&mut self, scan: &Scan, wanted: &[Wanted], texts: &[u32], by: (usize, u32, bool), source: &str) {
        let look = Look::new();
        self.vote(scan, wanted, texts, look, by);
        let votes = std::mem::take(&mut self.votes);
        for votes in votes.chunk_by(|a, b| a >> 32 == b >> 32) {
            let text = texts[(votes[0] >> 32) as usize];
            self.weigh(scan, &wanted[text as usize], text, votes, look, source);
        }
        self.votes = votes;
        self.votes.clear();
    }

    fn flatten(&mut self, scan: &Scan, look: Look) {
        self.solid.clear();
        self.classes.clear();
        self.solid.reserve(scan.page.len());
        self.classes.reserve(scan.page.len());
        for (at, &c) in scan.page.chars.iter().enumerate() {
            if let Some(class) = look.class(c) {
                self.solid.push(at as u32);
                self.classes.push(class);
            }
        }
    }

    /// Finds the groups of `length` characters that texts and page share; with `rare`, the rarest alone.
    fn vote(
        &mut self,
        scan: &Scan,
        wanted: &[Wanted],
        texts: &[u32],
        look: Look,
        (length, bits, rare): (usize, u32, bool),
    ) {
        let mask = (1u32 << (6 * length)) - 1;
        let slot = |key: u32| (key.wrapping_mul(0x9E37_79B1) >> (32 - bits)) as usize;
        self.groups.clear();
        self.heads.clear();
        self.heads.resize(1 << bits, NONE);
        for (nth, &text) in texts.iter().enumerate() {
            let core = &scan.words.chars[wanted[text as usize].core.clone()];
            if core.len() > MAX_CHARS {
                continue;
            }
            let mut key = 0u32;
            for (offset, class) in core.iter().filter_map(|c| look.class(*c)).enumerate() {
                key = (key << 6 | u32::from(class)) & mask;
                if offset + 1 < length {
                    continue;
                }
                let offset = offset + 1 - length;
                let slot = slot(key);
                let first = self.heads[slot];
                // What a text says twice over says little of the place.
                let said = |group: &Group| group.nth == nth as u32 && group.key == key;
                let twice = self
                    .groups
                    .get(first as usize)
                    .is_some_and(|one| said(one) && self.groups.get(one.next as usize).is_some_and(said));
                if !twice {
                    self.heads[slot] = self.groups.len() as u32;
                    self.groups.push(Group { key, next: first, nth: nth as u32, offset: offset as u32 });
                }
            }
        }
        if rare {
            self.keep_rare(slot, mask, length, texts.len());
        }
        let mut key = 0u32;
        for (at, &class) in self.classes.iter().enumerate() {
            key = (key << 6 | u32::from(class)) & mask;
            let mut next = self.heads[slot(key)];
            while let Some(group) = self.groups.get(next as usize) {
                if group.key == key && at + 1 >= length {
                    let start = at as u64 + 1 - length as u64 + SHIFT;
                    self.votes.push(u64::from(group.nth) << 32 | (start - u64::from(group.offset)));
                }
                next = group.next;
            }
        }
        self.votes.sort_unstable();
    }

    /// Drops the groups that stand everywhere, and of each text all but the rarest.
    fn keep_rare(&mut self, slot: impl Fn(u32) -> usize, mask: u32, length: usize, texts: usize) {
        self.counts.clear();
        self.counts.resize(1 << GROUP_BITS, 0);
        let mut key = 0u32;
        for (at, &class) in self.classes.iter().enumerate() {
            key = (key << 6 | u32::from(class)) & mask;
            if at + 1 >= length {
                self.counts[slot(key)] += 1;
            }
        }
        let mut kept = std::mem::take(&mut self.groups);
        kept.sort_by_key(|group| (group.nth, self.counts[slot(group.key)], group.offset));
        let mut left = vec![RARE_GROUPS; texts];
        kept.retain(|group| {
            let count = self.counts[slot(group.key)];
            let left = &mut left[group.nth as usize];
            let keep = count > 0 && count <= RARE_PLACES && count <= *left;
            *left -= if keep { count } else { 0 };
            keep
        });
        self.heads.fill(NONE);
        for group in kept {
            let head = &mut self.heads[slot(group.key)];
            let next = std::mem::replace(head, self.groups.len() as u32);
            self.groups.push(Group { next, ..group });
        }
    }

    /// Aligns a text with the places that most of its groups point to.
    fn weigh(&mut self, scan: &Scan, want: &Wanted, text: u32, votes: &[u64], look: Look, source: &str) {
        let core = &scan.words.chars[want.core.clone()];
        let letters = count_words(core);
        let reach = 2 + letters as u64 / 10;
        let least = match letters {
            0..=5 => 1,
            6..=12 => 2,
            letters => letters as u32 / 6,
        };
        // How many votes each place has together with those that errors may have shifted from it.
        let diagonal = |vote: &u64| vote & 0xFFFF_FFFF;
        let windows = &mut self.windows;
        windows.clear();
        let mut end = 0;
        for (at, vote) in votes.iter().enumerate() {
            while end < votes.len() && diagonal(&votes[end]) <= diagonal(vote) + reach {
                end += 1;
            }
            let count = (end - at) as u32;
            if count >= least {
                windows.push((Reverse(count), diagonal(vote), diagonal(&votes[end - 1])));
            }
        }
        if windows.len() > MAX_WINDOWS {
            windows.select_nth_unstable(MAX_WINDOWS);
            windows.truncate(MAX_WINDOWS);
        }
        windows.sort_unstable();
        let mut clusters: Vec<(u64, u64)> = Vec::with_capacity(MAX_ALIGNED);
        let most = windows.first().map_or(0, |(count, ..)| count.0);
        for &(count, first, last) in windows.iter() {
            // What has so few votes beside the best is not like the text, or much less.
            if count.0 * 2 < most {
                break;
            }
            if clusters.iter().all(|(other, _)| first.abs_diff(*other) > reach) {
                clusters.push((first, last));
            }
            if clusters.len() == MAX_ALIGNED {
                break;
            }
        }
        if clusters.is_empty() {
            return;
        }
        self.grid.read_mention(core, look, want.identifier);
        let limit = Bounds::most(letters);
        let from = self.likes.len();
        for (first, last) in clusters {
            let place = |diagonal: u64| match (diagonal.checked_sub(SHIFT), self.solid.as_slice()) {
                (Some(at), solid) => solid.get(at as usize).map_or(scan.page.len(), |at| *at as usize),
                (None, _) => 0,
            };
            let (first, last) = (place(first), place(last));
            let like = self.grid.align(scan, look, first, last.max(first), limit, want.identifier, source);
            self.likes.extend(like.map(|like| Like { text, letters: letters as u16, ..like }));
        }
        self.likes[from..].sort_by_key(|like| (like.cost, like.start, like.end));
        // Of those that overlap, the likest.
        let mut kept = from;
        for at in from..self.likes.len() {
            let like = self.likes[at];
            if self.likes[from..kept].iter().all(|other| like.end <= other.start || other.end <= like.start) {
                self.likes[kept] = like;
                kept += 1;
            }
        }
        self.likes.truncate(kept);
    }
}

/// How a cell was come to.
const BOTH: u8 = 0;
const LOST: u8 = 1;
const ADDED: u8 = 2;
const JOINED: u8 = 3;
const SPLIT: u8 = 4;

impl Grid {
    fn read_mention(&mut self, core: &[char], look: Look, identifier: bool) {
        self.strict.clear();
        for word in core.chunk_by(|a, b| is_word(*a) == is_word(*b)) {
            let spelt = word.len() >= MIN_MONTH && word.iter().all(|c| c.is_alphabetic());
            self.strict.extend(std::iter::repeat_n(identifier && !spelt, word.len()));
        }
        self.letters_only = !identifier && !core.iter().any(|c| c.is_numeric());
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
    fn align(
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
            let letters_only = self.letters_only;
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
    fn trimmed(&self, look: Look, start: usize, end: usize) -> Option<(usize, usize)> {
        let chars = self.page.get(start..end)?;
        let stands_for = |mention: Option<&char>, c: char| {
            c != ' ' && mention.is_some_and(|mention| look.replaced(*mention, c, false) <= TWIN)
        };
        let first = chars.iter().position(|c| is_word(*c) || stands_for(self.mention.first(), *c))?;
        let last = chars.iter().rposition(|c| is_word(*c) || stands_for(self.mention.last(), *c))?;
        Some((start + first, start + last + 1))
    }

    /// Goes back along the best path and tells the word that is least like its own.
    fn worst(&self, mut k: usize, stride: usize) -> u16 {
        let mut i = self.mention.len();
        let (mut worst, mut word, mut cost) = (0, 0, 0);
        let cell = |i: usize, k: usize| self.rows[i * stride + k + 1] >> 16;
        let mut close = |word: &mut u32, cost: &mut u32| {
            if *word >= 2 {
                worst = worst.max(*cost * 100 / *word);
            }
            (*word, *cost) = (0, 0);
        };
        while i > 0 {
            let here = cell(i, k);
            let (up, right) = match self.steps[i * stride + k + 1] {
                LOST => (1, Some(1)),
                ADDED => (0, None),
                JOINED => (2, Some(1)),
                SPLIT => (1, None),
                _ => (1, Some(0)),
            };
            let from = i;
            i -= up;
            k = match right {
                Some(right) => k + right,
                None if k > 0 => k - 1,
                None => break,
            };
            cost += here.saturating_sub(cell(i, k));
            for at in (i..from).rev() {
                if is_word(self.mention[at]) { word += 1 } else { close(&mut word, &mut cost) }
            }
        }
        close(&mut word, &mut cost);
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
    (left && right).then_some(GLUED)
}
