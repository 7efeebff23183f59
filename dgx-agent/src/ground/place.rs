//! Which of the places where a mention could stand is its own.
//!
//! The words in front of it say most; then how it is written; then the order of the mentions, which is the page's.

mod alike;

use std::cmp::Reverse;
use std::ops::Range;

use proto::labelset::Labelset;

use super::context::{CONTEXT, Context, MIN_CONTEXT, distance};
use super::fold::Folded;
use super::page::{NONE, Place, Scan, Sought, Wanted};
use super::shapes::Look;
use super::{GroundedSpan, MatchKind};
use crate::offsets::CodePoints;

/// Neighbours, in the list of mentions, that are asked where they are.
const NEIGHBOURS: usize = 32;

/// Comparisons of context, for a page: 10,000 mentions of one word that stands 10,000 times get no more.
const MAX_COMPARED: usize = 400_000;

/// Places of one text among which context chooses.
const MAX_CHOICE: usize = 256;

/// A place for a mention, in the folded page and in bytes.
struct Fit {
    range: Range<usize>,
    bytes: Range<usize>,
    exact: bool,
}

pub(super) struct Placer<'a> {
    text: &'a str,
    scan: &'a Scan,
    labelset: &'a Labelset,
    sought: &'a [Sought<'a>],
    wanted: &'a [Wanted],
    look: Look,
    /// Of each mention, by its index: where it is, or must be.
    whereabouts: Vec<u32>,
    /// Which of `sought` ask for a text, in order: by text.
    asking: Vec<u32>,
    asking_of: Vec<Range<usize>>,
    /// Of each of `sought`: the place that is meant for it.
    meant: Vec<u32>,
    /// What is taken of the folded page, in order.
    taken: Vec<(u32, u32)>,
    compared: usize,
    spans: Vec<(Range<usize>, GroundedSpan)>,
}

impl<'a> Placer<'a> {
    pub fn new(
        text: &'a str,
        mentions: usize,
        scan: &'a Scan,
        (sought, wanted): (&'a [Sought<'a>], &'a [Wanted]),
        labelset: &'a Labelset,
    ) -> Self {
        let mut asking: Vec<u32> = (0..sought.len() as u32).collect();
        asking.sort_by_key(|nth| (sought[*nth as usize].text, *nth));
        let mut asking_of = Vec::with_capacity(wanted.len());
        let mut from = 0;
        for want in wanted {
            asking_of.push(from..from + want.asked);
            from += want.asked;
        }
        // Who has one place alone is there, whoever else wants to be.
        let mut whereabouts = vec![NONE; mentions];
        for one in sought {
            let want = &wanted[one.text];
            if want.asked == 1 && want.places.len() == 1 {
                whereabouts[one.index] = scan.places[want.places.start].start;
            }
        }
        let meant = vec![NONE; sought.len()];
        Self {
            text,
            scan,
            labelset,
            sought,
            wanted,
            look: Look::new(),
            whereabouts,
            asking,
            asking_of,
            meant,
            taken: Vec::with_capacity(mentions),
            compared: 0,
            spans: Vec::with_capacity(mentions),
        }
    }

    /// Gives a mention one of the places where it stands as asked; false when none is free.
    pub fn place(&mut self, nth: usize) -> bool {
        let text = self.sought[nth].text;
        let places = self.wanted[text].places.clone();
        let single = places.len() == 1 && self.wanted[text].asked == 1;
        if single {
            return self.take_place(nth, places.start);
        }
        if self.meant[nth] == NONE {
            self.share_out(text);
        }
        let meant = self.meant[nth];
        if meant != NONE && self.take_place(nth, meant as usize) {
            return true;
        }
        match self.best(nth, places) {
            Some(place) => self.take_place(nth, place),
            None => false,
        }
    }

    /// Whether a mention's words in front are nowhere where it stands as asked.
    pub fn is_doubtful(&mut self, nth: usize) -> bool {
        let places = self.wanted[self.sought[nth].text].places.clone();
        let Some(before) = &self.sought[nth].mention.before else { return false };
        if places.is_empty() || places.len() >= 8 {
            return false;
        }
        // Mostly they are there to the letter.
        let there = |place: usize| {
            let start = self.scan.page.byte(self.scan.places[place].start as usize);
            self.text[..start].trim_end().ends_with(before.trim())
        };
        if places.clone().any(there) {
            return false;
        }
        let Some(context) = self.context_of(nth).filter(|context| context.len() >= 2 * MIN_CONTEXT) else {
            return false;
        };
        !places.is_empty()
            && places.len() < 8
            && places.clone().all(|place| self.agrees(&context, self.scan.places[place].start) == 0)
    }

    /// Means places for all that ask for a text: first for those whose words in front say which, then in order.
    fn share_out(&mut self, text: usize) {
        let asking = self.asking_of[text].clone();
        let places = self.wanted[text].places.clone();
        if asking.len() == 1 {
            let nth = self.asking[asking.start] as usize;
            if let Some(place) = self.best(nth, places) {
                self.mean(nth, place);
            }
            return;
        }
        let mut free: Vec<usize> = places.filter(|place| self.is_free_place(*place)).collect();
        if free.len() > asking.len() {
            // As many as are asked for, and those that are written best, where these are enough.
            let good = |place: &usize| {
                let place = &self.scan.places[*place];
                (place.bond, !self.is_verbatim(place, self.asking[asking.start] as usize))
            };
            let mut grades: Vec<_> = free.iter().map(good).collect();
            grades.sort_unstable();
            let last = grades[asking.len() - 1];
            if last == grades[0] {
                free.retain(|place| good(place) <= last);
            } else {
                free.retain(|place| self.scan.places[*place].bond <= last.0);
            }
        }
        let mut claims: Vec<(usize, u32, u32)> = Vec::new();
        for &nth in &self.asking[asking.clone()] {
            let Some(context) = self.context_of(nth as usize) else { continue };
            for &place in free.iter().take(MAX_CHOICE) {
                if self.compared >= MAX_COMPARED {
                    break;
                }
                self.compared += 1;
                let agrees = self.agrees(&context, self.scan.places[place].start);
                if agrees > 0 {
                    claims.push((agrees, nth, place as u32));
                }
            }
        }
        claims.sort_by_key(|(agrees, nth, place)| (Reverse(*agrees), *nth, *place));
        let mut used = vec![false; free.len()];
        let slot = |free: &[usize], place: usize| free.binary_search(&place).ok();
        for (_, nth, place) in claims {
            if self.meant[nth as usize] == NONE
                && let Some(slot) = slot(&free, place as usize).filter(|slot| !used[*slot])
            {
                used[slot] = true;
                self.mean(nth as usize, place as usize);
            }
        }
        let mut lowest = 0;
        for at in asking {
            let nth = self.asking[at] as usize;
            if self.meant[nth] != NONE {
                continue;
            }
            while lowest < used.len() && used[lowest] {
                lowest += 1;
            }
            let (after, _) = self.between(self.sought[nth].index);
            let first = free.partition_point(|place| self.scan.places[*place].start < after).max(lowest);
            let later = (first..free.len()).take(MAX_CHOICE).find(|slot| !used[*slot]);
            let Some(slot) =
                later.or_else(|| (lowest..free.len()).take(MAX_CHOICE).find(|slot| !used[*slot]))
            else {
                break;
            };
            used[slot] = true;
            self.mean(nth, free[slot]);
        }
    }

    fn mean(&mut self, nth: usize, place: usize) {
        self.meant[nth] = place as u32;
        self.whereabouts[self.sought[nth].index] = self.scan.places[place].start;
    }

    /// The best free place for one mention.
    fn best(&mut self, nth: usize, places: Range<usize>) -> Option<usize> {
        let context = self.context_of(nth);
        let (after, until) = self.between(self.sought[nth].index);
        let mut best = None;
        for place in places {
            let here = self.scan.places[place];
            if !self.is_free(here.start, here.end) {
                continue;
            }
            let mut agrees = 0;
            if let Some(context) = &context
                && self.compared < MAX_COMPARED
            {
                self.compared += 1;
                agrees = self.agrees(context, here.start);
            }
            let order = match here.start {
                start if start < after => 2,
                start => u8::from(start > until),
            };
            let grade = (Reverse(agrees), here.bond, !self.is_verbatim(&here, nth), order, here.start);
            if best.as_ref().is_none_or(|(other, _)| grade < *other) {
                best = Some((grade, place));
            }
        }
        best.map(|(_, place)| place)
    }

    /// Where the mentions before and after this one in the list are.
    fn between(&self, index: usize) -> (u32, u32) {
        let known = |place: &&u32| **place != NONE;
        let before = self.whereabouts[..index].iter().rev().take(NEIGHBOURS).find(known);
        let after = self.whereabouts[index + 1..].iter().take(NEIGHBOURS).find(known);
        (before.copied().unwrap_or(0), after.copied().unwrap_or(NONE))
    }

    fn is_free_place(&self, place: usize) -> bool {
        let place = &self.scan.places[place];
        self.is_free(place.start, place.end)
    }

    fn is_free(&self, start: u32, end: u32) -> bool {
        let next = self.taken.partition_point(|(taken, _)| *taken < end);
        next.checked_sub(1).and_then(|at| self.taken.get(at)).is_none_or(|(_, taken)| *taken <= start)
    }

    fn is_verbatim(&self, place: &Place, nth: usize) -> bool {
        self.fit(place, nth).is_some_and(|fit| fit.exact)
    }

    fn take_place(&mut self, nth: usize, place: usize) -> bool {
        let place = self.scan.places[place];
        if !self.is_free(place.start, place.end) {
            return false;
        }
        let Some(fit) = self.fit(&place, nth) else { return false };
        let kind = if fit.exact { MatchKind::Exact } else { MatchKind::Normalized };
        self.take(nth, fit.range, fit.bytes, kind, 1.0);
        true
    }

    /// The place, with as much of the mention's outer punctuation as stands there, too.
    fn fit(&self, place: &Place, nth: usize) -> Option<Fit> {
        let page = &self.scan.page.chars;
        let sought = &self.sought[nth];
        let mention = &self.scan.words.chars;
        let core = &self.wanted[sought.text].core;
        // The text may have been folded for another mention; this one's own ends count.
        let own = self.scan.words.core(sought.whole.clone());
        let (start, end) = (place.start as usize, place.end as usize);
        let mut wide = start..end;
        if own != sought.whole || core.len() != own.len() {
            let alike = |(a, b): &(&char, &char)| a == b;
            let left = mention[sought.whole.start..own.start].iter().rev().zip(page[..start].iter().rev());
            let right = mention[own.end..sought.whole.end].iter().zip(&page[end..]);
            wide = start - left.take_while(alike).count()..end + right.take_while(alike).count();
            while wide.start < start
                && (page[wide.start] == ' ' || !self.is_free(wide.start as u32, start as u32))
            {
                wide.start += 1;
            }
            while wide.end > end && (page[wide.end - 1] == ' ' || !self.is_free(end as u32, wide.end as u32))
            {
                wide.end -= 1;
            }
        }
        let (range, bytes) = match self.scan.page.bytes(self.text, wide.clone()) {
            Some(bytes) => (wide, bytes),
            None => (start..end, self.scan.page.bytes(self.text, start..end)?),
        };
        let exact = self.text[bytes.clone()] == *sought.mention.text.trim();
        Some(Fit { range, bytes, exact })
    }

    fn take(
        &mut self,
        nth: usize,
        range: Range<usize>,
        bytes: Range<usize>,
        match_kind: MatchKind,
        similarity: f64,
    ) {
        let place = (range.start as u32, range.end as u32);
        let at = self.taken.partition_point(|taken| *taken < place);
        self.taken.insert(at, place);
        let Sought { index, mention, .. } = self.sought[nth];
        self.whereabouts[index] = place.0;
        let span = GroundedSpan {
            mention: index,
            label: mention.label.clone(),
            start: 0,
            end: 0,
            text: self.text[bytes.clone()].to_owned(),
            match_kind,
            similarity,
            norm_value: None,
        };
        self.spans.push((bytes, span));
    }

    /// Puts mentions of one text, which were placed some as asked and some by likeness, in the order of the page
    /// wherever the words in front of them do not speak against it.
    fn put_in_order(&mut self) {
        let mut by_mention = vec![NONE; self.whereabouts.len()];
        for (at, (_, span)) in self.spans.iter().enumerate() {
            by_mention[span.mention] = at as u32;
        }
        for text in 0..self.asking_of.len() {
            let asking = self.asking[self.asking_of[text].clone()].iter().map(|nth| *nth as usize);
            let mut placed: Vec<(usize, usize)> = asking
                .map(|nth| (nth, by_mention[self.sought[nth].index]))
                .filter(|(_, at)| *at != NONE)
                .map(|(nth, at)| (nth, at as usize))
                .collect();
            placed.sort_by_key(|(nth, _)| self.sought[*nth].index);
            let is_later =
                |pair: &[(usize, usize)]| self.spans[pair[0].1].0.start > self.spans[pair[1].1].0.start;
            if placed.len() > MAX_CHOICE || !placed.windows(2).any(is_later) {
                continue;
            }
            let mut ordered: Vec<usize> = placed.iter().map(|(_, at)| *at).collect();
            ordered.sort_by_key(|at| self.spans[*at].0.start);
            // What stands around a value was asked for with each; what may be bent hangs on the label.
            let whole = |nth: usize| &self.scan.words.chars[self.sought[nth].whole.clone()];
            let label = |nth: usize| &self.sought[nth].mention.label;
            let (first, _) = placed[0];
            let one =
                placed.iter().all(|(nth, _)| whole(*nth) == whole(first) && label(*nth) == label(first));
            let agrees = |(nth, at): (usize, usize)| {
                let start = self.whereabouts[self.spans[at].1.mention];
                self.context_of(nth).map_or(0, |context| self.agrees(&context, start))
            };
            let now: usize = placed.iter().map(|pair| agrees(*pair)).sum();
            let then: usize = placed.iter().zip(&ordered).map(|((nth, _), at)| agrees((*nth, *at))).sum();
            if !one || then < now {
                continue;
            }
            for ((nth, _), at) in placed.iter().zip(ordered) {
                let Sought { index, mention, .. } = self.sought[*nth];
                let span = &mut self.spans[at].1;
                span.mention = index;
                span.match_kind = match span.match_kind {
                    _ if span.text == mention.text.trim() => MatchKind::Exact,
                    MatchKind::Exact => MatchKind::Normalized,
                    kind => kind,
                };
            }
        }
    }

    /// The spans in the order of the page.
    pub fn spans(mut self) -> Vec<GroundedSpan> {
        self.put_in_order();
        let points = CodePoints::new(self.text);
        self.spans.sort_by_key(|(bytes, _)| bytes.start);
        let place = |(bytes, span): (Range<usize>, GroundedSpan)| GroundedSpan {
            start: points.at(bytes.start),
            end: points.at(bytes.end),
            ..span
        };
        self.spans.into_iter().map(place).collect()
    }

    /// The classes of the letters and digits in front of a mention, the last first; None when it says too little.
    pub fn context_of(&self, nth: usize) -> Option<Context> {
        let before = self.sought[nth].mention.before.as_deref().filter(|before| !before.is_empty())?;
        let tail = before.char_indices().rev().nth(2 * CONTEXT).map_or(0, |(at, _)| at);
        let mut folded = Folded::default();
        folded.add(&before[tail..], |_, _| {});
        let mut context = Context { classes: [0; CONTEXT], length: 0 };
        for class in folded.chars.iter().rev().filter_map(|c| self.look.class(*c)).take(CONTEXT) {
            context.classes[context.length] = class;
            context.length += 1;
        }
        (context.length > 0).then_some(context)
    }

    /// How many of the letters and digits in front of a mention stand before a place, less those that do not; 0 when
    /// that says nothing.
    fn agrees(&self, context: &Context, start: u32) -> usize {
        let there = self.scan.page.chars[..start as usize].iter().rev().take(3 * CONTEXT);
        let there = there.filter_map(|c| self.look.class(*c)).take(context.length + 4);
        let errors = distance(&context.classes[..context.length], there);
        let alike = context.length.saturating_sub(2 * errors);
        if alike >= MIN_CONTEXT.min(context.length) { alike } else { 0 }
    }
}
