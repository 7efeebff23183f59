//! Mentions that OCR garbled, or that the model tidied up.
//!
//! Pairs of characters that mention and page share say where to look; an alignment there says how like the mention
//! the page is, and each of its words. The page goes by once for all the mentions that wait.

use std::cmp::Reverse;

use super::Bounds;
use super::align::Grid;
use super::context::Context;
use super::page::{NONE, Scan, Wanted, count_words};
use super::shapes::Look;

/// Longest mention that is looked for by likeness, in characters.
const MAX_CHARS: usize = 256;

/// Letters and digits of a page, times the texts that are sought by likeness, up to which groups of three and pairs are
/// looked at; beyond, groups of four, and only the rarest of each text.
const MANY: usize = 400_000;
const RARE_PLACES: u32 = 96;
const RARE_GROUPS: u32 = 256;

/// Places that are aligned for a text, and for one of so few letters and digits.
const MAX_ALIGNED: usize = 8;
const MAX_ALIGNED_SHORT: usize = 24;
const SHORT: usize = 6;

/// Letters and digits in front of a mention by which places are found for it, at least and at most; and how many places.
const MIN_LEAD: usize = 8;
const MAX_LEAD: usize = 10;
const MAX_LED: usize = 4;

/// Marks between two letters that are passed over for where a text begins.
const MAX_MARKS: usize = 8;

/// Of overlapping places, these many with most votes are looked at.
const MAX_WINDOWS: usize = 96;

const FEW_BITS: u32 = 12;
const GROUP_BITS: u32 = 16;

/// Keeps the beginnings of mentions that the page's first letters share from being negative.
const SHIFT: u64 = 1024;

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

/// Where the page's letters and digits are.
#[derive(Debug, Default)]
struct Solid(Vec<u32>);

impl Solid {
    /// The place of a diagonal: where its text begins; None beyond the page.
    fn place(&self, diagonal: u64) -> Option<usize> {
        match diagonal.checked_sub(SHIFT) {
            Some(at) => self.0.get(at as usize).map(|at| *at as usize),
            None => Some(0),
        }
    }

    /// Whether a text is known to stand, as it was asked for, where these diagonals are: nothing is looked for there.
    fn is_known(&self, scan: &Scan, want: &Wanted, first: u64, last: u64) -> bool {
        let (Some(first), Some(last)) = (self.place(first), self.place(last)) else { return false };
        let places = &scan.places[want.places.clone()];
        let from = places.partition_point(|place| (place.start as usize) < first);
        places.get(from).is_some_and(|place| place.start as usize <= last)
    }
}

#[derive(Debug, Default)]
pub(super) struct Fuzzy {
    pub likes: Vec<Like>,
    solid: Solid,
    /// Of the page's letters and digits.
    classes: Vec<u8>,
    heads: Vec<u32>,
    groups: Vec<Group>,
    counts: Vec<u32>,
    votes: Vec<u64>,
    windows: Vec<(Reverse<u32>, u64, u64)>,
    grid: Grid,
}

impl Fuzzy {
    /// Finds the places that are like the texts; those of a text are together, the likest first. Texts for which
    /// groups of three find nothing good are looked for by pairs.
    pub fn find(
        &mut self,
        scan: &Scan,
        wanted: &[Wanted],
        texts: &[u32],
        leads: &[(u32, Context)],
        source: &str,
    ) {
        self.likes.clear();
        if texts.is_empty() || scan.page.len() == 0 {
            return;
        }
        let look = Look::new();
        self.flatten(scan, look);
        let few = self.solid.0.len() * texts.len() <= MANY;
        if !few {
            self.round(scan, wanted, texts, (4, GROUP_BITS, true), source);
            return;
        }
        self.round(scan, wanted, texts, (3, FEW_BITS, false), source);
        let rest: Vec<u32> = texts.iter().copied().filter(|text| !self.has_good(*text)).collect();
        if !rest.is_empty() {
            self.likes.retain(|like| !rest.contains(&like.text));
            self.round(scan, wanted, &rest, (2, FEW_BITS, false), source);
            self.likes.sort_by_key(|like| (like.text, like.cost, like.start));
        }
        for (text, context) in leads {
            if !self.has_good(*text) {
                self.follow(scan, &wanted[*text as usize], (*text, context), look, source);
            }
        }
    }

    /// Whether a text has a place that is like enough whatever stands in front of it.
    fn has_good(&self, text: u32) -> bool {
        let from = self.likes.partition_point(|like| like.text < text);
        self.likes.get(from).is_some_and(|like| like.text == text && Bounds::allow(like, false, false))
    }

    /// Looks where the words in front of a mention stand: what follows them may be it, though hardly like it.
    fn follow(
        &mut self,
        scan: &Scan,
        want: &Wanted,
        (text, context): (u32, &Context),
        look: Look,
        source: &str,
    ) {
        let core = &scan.words.chars[want.core.clone()];
        if context.len() < MIN_LEAD || core.len() > MAX_CHARS {
            return;
        }
        let mut lead = [0; MAX_LEAD];
        let lead = &mut lead[..context.len().min(MAX_LEAD)];
        lead.copy_from_slice(&context.classes[..lead.len()]);
        lead.reverse();
        let letters = count_words(core);
        let found = self.likes.len();
        for at in memchr::memmem::find_iter(&self.classes, lead).take(MAX_LED) {
            let Some(&start) = self.solid.0.get(at + lead.len()) else { continue };
            let known = |like: &Like| like.text == text && like.start <= start && start < like.end;
            let places = &scan.places[want.places.clone()];
            if self.likes.iter().any(known)
                || places.binary_search_by_key(&start, |place| place.start).is_ok()
            {
                continue;
            }
            self.grid.read_mention(core, look, want.identifier);
            let (start, limit) = (start as usize, Bounds::most(letters));
            let like = self.grid.align(scan, look, start, start, limit, want.identifier, source);
            self.likes.extend(like.map(|like| Like { text, letters: letters as u16, ..like }));
        }
        if self.likes.len() > found {
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
        self.solid.0.clear();
        self.classes.clear();
        self.solid.0.reserve(scan.page.len());
        self.classes.reserve(scan.page.len());
        for (at, &c) in scan.page.chars.iter().enumerate() {
            if let Some(class) = look.class(c) {
                self.solid.0.push(at as u32);
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
        // Of a short word one error may leave a single pair, and pairs are everywhere.
        let short = letters <= SHORT;
        let aligned = if short { MAX_ALIGNED_SHORT } else { MAX_ALIGNED };
        let mut clusters: Vec<(u64, u64)> = Vec::with_capacity(aligned);
        let mut most = 0;
        for &(count, first, last) in windows.iter() {
            // What has so few votes beside the best is not like the text, or much less.
            if count.0 * 2 < most && !short {
                break;
            }
            if clusters.iter().all(|(other, _)| first.abs_diff(*other) > reach)
                && !self.solid.is_known(scan, want, first, last)
            {
                most = most.max(count.0);
                clusters.push((first, last));
            }
            if clusters.len() == aligned {
                break;
            }
        }
        if clusters.is_empty() {
            return;
        }
        self.grid.read_mention(core, look, want.identifier);
        let mut limit = Bounds::most(letters);
        let from = self.likes.len();
        for (first, last) in clusters {
            let place = |diagonal: u64| self.solid.place(diagonal).unwrap_or(scan.page.len());
            let (first, next, last) = (place(first), place(last + 1), place(last));
            // Where a letter was read as a mark, the text begins later, behind what else is no letter: `[|3£BT5`.
            let last = if next > last + 2 { next.min(last + MAX_MARKS) } else { last };
            let like = self.grid.align(scan, look, first, last.max(first), limit, want.identifier, source);
            self.likes.extend(like.map(|like| Like { text, letters: letters as u16, ..like }));
            // What costs so much more than another place is never chosen.
            limit = like.map_or(limit, |like| limit.min(like.cost + Bounds::BEYOND));
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
