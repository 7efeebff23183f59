//! Mentions to places on their page.
//!
//! Models cannot count characters, tidy up what OCR broke, and invent. So each mention is looked for: as it stands;
//! then whatever the case, blanks, line-break hyphens, ligatures, accents, quotes and dashes; then by likeness that
//! knows how OCR errs. What is not found stays out, with the reason.
//!
//! ```text
//! mentions ─► fold ─► table of their words ─┐
//! page ─► fold (characters, and where they stand) ─► page (places) ─► fuzzy (likenesses) ─► place ─► spans
//! ```
//!
//! Work is linear in the page and in the mentions: a mention looks at no more than a fixed number of places.

mod align;
mod bounds;
mod context;
mod fold;
mod fuzzy;
mod page;
mod place;
mod shapes;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt;

use proto::labelset::{Labelset, Mention};
use serde::{Deserialize, Serialize};

use bounds::Bounds;
use context::Context;
use fuzzy::Fuzzy;
use page::Scan;
use place::Placer;

/// How a mention was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    Exact,
    Normalized,
    Fuzzy,
}

/// A mention and where it stands. `text` is the page's, from `start` to `end`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundedSpan {
    /// Index of the mention.
    pub mention: usize,
    pub label: String,
    /// Code points, inclusive.
    pub start: usize,
    /// Code points, exclusive.
    pub end: usize,
    pub text: String,
    pub match_kind: MatchKind,
    /// 1 unless the match is fuzzy.
    pub similarity: f64,
    /// The value in its normal form; what the validators make of it.
    pub norm_value: Option<String>,
}

/// Why a mention has no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No letter and no digit.
    Empty,
    TooLong,
    /// Nothing on the page is like it, or only what must not be taken for it.
    NotFound,
    /// Different places are equally like it.
    Ambiguous,
    /// Every place where it stands belongs to another mention.
    Taken,
    /// Its label is not of the labelset.
    UnknownLabel,
    /// The label's validator refuses it.
    Invalid,
}

/// A mention that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ungrounded {
    pub mention: usize,
    pub reason: Reason,
}

/// What became of the mentions of a page: each is in one of the lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grounded {
    /// In the order of the page, none overlapping another.
    pub spans: Vec<GroundedSpan>,
    /// In the order of the mentions.
    pub ungrounded: Vec<Ungrounded>,
}

impl MatchKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Normalized => "normalized",
            Self::Fuzzy => "fuzzy",
        }
    }
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::Taken => "taken",
            Self::UnknownLabel => "unknown_label",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a page needs to be worked on, kept from page to page: most pages are of one size.
#[derive(Default)]
struct Scratch {
    scan: Scan,
    fuzzy: Fuzzy,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Above this, in bytes, a page's scratch is not kept.
const KEPT: usize = 1 << 20;

/// Finds the mentions of a page, all together: of those that could overlap, the labelset's order says which is
/// placed first; repeated ones are spread over their occurrences by the words before them, then in order.
pub fn ground(text: &str, mentions: &[Mention], labelset: &Labelset) -> Grounded {
    let mut scratch = SCRATCH.take();
    let grounded = scratch.ground(text, mentions, labelset);
    if text.len() <= KEPT {
        SCRATCH.set(scratch);
    }
    grounded
}

impl Scratch {
    fn ground(&mut self, text: &str, mentions: &[Mention], labelset: &Labelset) -> Grounded {
        let mut ungrounded = Vec::new();
        let refuse = |mention, reason| ungrounded.push(Ungrounded { mention, reason });
        let (sought, mut wanted) = self.scan.take(mentions, labelset, refuse);
        self.scan.find(text, &mut wanted);
        let mut queue: Vec<u32> = (0..sought.len() as u32).collect();
        let order = |nth: &u32| {
            let one = &sought[*nth as usize];
            (one.rank, Reverse(wanted[one.text].core.len()), one.index)
        };
        queue.sort_by_key(order);

        let Self { scan, fuzzy } = self;
        let mut placer = Placer::new(text, mentions.len(), scan, (&sought, &wanted), labelset);
        // All that stands as asked is placed before anything is placed by likeness.
        let mut rest = Vec::new();
        let mut doubtful = Vec::new();
        for nth in queue {
            if placer.is_doubtful(nth as usize) {
                doubtful.push(nth);
            } else if !placer.place(nth as usize) {
                rest.push(nth);
            }
        }
        let text_of = |nth: u32| sought[nth as usize].text as u32;
        let mut texts: Vec<u32> = rest.iter().chain(&doubtful).map(|nth| text_of(*nth)).collect();
        texts.sort_unstable();
        texts.dedup();
        let leads: Vec<(u32, Context)> = (rest.iter().chain(&doubtful))
            .filter_map(|nth| Some((text_of(*nth), placer.context_of(*nth as usize)?)))
            .collect();
        fuzzy.find(scan, &wanted, &texts, &leads, text);
        // Of those whose words in front are elsewhere, some stand there garbled.
        for nth in doubtful {
            if !placer.place_in_context(nth as usize, fuzzy) && !placer.place(nth as usize) {
                rest.push(nth);
            }
        }
        // Those of a text together, where its first one was to be.
        let mut first = vec![u32::MAX; wanted.len()];
        for (at, nth) in rest.iter().enumerate() {
            let text = text_of(*nth) as usize;
            first[text] = first[text].min(at as u32);
        }
        rest.sort_by_key(|nth| (first[text_of(*nth) as usize], sought[*nth as usize].index));
        for waiting in rest.chunk_by(|a, b| text_of(*a) == text_of(*b)) {
            let stands = !wanted[text_of(waiting[0]) as usize].places.is_empty();
            for (nth, reason) in placer.place_alike(waiting, fuzzy) {
                let reason = if stands && reason == Reason::NotFound { Reason::Taken } else { reason };
                ungrounded.push(Ungrounded { mention: sought[nth as usize].index, reason });
            }
        }
        ungrounded.sort_by_key(|ungrounded| ungrounded.mention);
        Grounded { spans: placer.spans(), ungrounded }
    }
}
