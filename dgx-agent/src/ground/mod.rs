//! Mentions to places on their page.
//!
//! Models cannot count characters, tidy up what OCR broke, and invent. So each mention is looked for: as it stands;
//! then whatever the case, blanks, line-break hyphens, ligatures, accents, quotes and dashes; then by likeness that
//! knows how OCR errs. What is not found stays out, with the reason.
//!
//! ```text
//! text ─► normal (characters, and where they stand) ─► page (words) ─┐
//! mentions ─► normal ────────────────────────────────────────────────┴─► find ─► fuzzy ─► place ─► spans
//! ```
//!
//! Work is linear in the page and in the mentions: a mention looks at no more than a fixed number of places.

mod fuzzy;
mod normal;
mod page;
mod place;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use proto::labelset::{Labelset, Mention};
use serde::{Deserialize, Serialize};

use fuzzy::Fuzzy;
use normal::Normal;
use page::Page;
use place::{Candidate, Placer};

/// Longest mention, in characters. Longer ones are no names, numbers or dates.
const MAX_MENTION: usize = 1000;

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

/// Finds the mentions of a page, all together: of those that could overlap, the labelset's order says which is
/// placed first; repeated ones are spread over their occurrences by the words before them, then in order.
pub fn ground(text: &str, mentions: &[Mention], labelset: &Labelset) -> Grounded {
    let page = Page::new(text);
    let mut placer = Placer::new(&page);
    let mut ungrounded = Vec::new();
    let mut queue = Vec::with_capacity(mentions.len());
    for (index, mention) in mentions.iter().enumerate() {
        match Sought::new(index, mention, labelset) {
            Ok(sought) => queue.push(sought),
            Err(reason) => ungrounded.push(Ungrounded { mention: index, reason }),
        }
    }
    queue.sort_by_key(|sought| (sought.rank, std::cmp::Reverse(sought.normal.len()), sought.index));

    // All that stands as asked is placed before anything is placed by likeness.
    let mut found: HashMap<&str, Vec<Candidate>> = HashMap::new();
    let mut rest = Vec::new();
    for sought in queue {
        let candidates =
            found.entry(sought.text()).or_insert_with(|| page.find(&sought.normal, sought.text()));
        if !placer.place(&sought, candidates) {
            rest.push(sought);
        }
    }
    let mut waiting: HashMap<(&str, &str), usize> = HashMap::new();
    for sought in &rest {
        *waiting.entry(sought.key()).or_default() += 1;
    }
    let mut fuzzy = Fuzzy::new(&page);
    for sought in rest {
        let copies = waiting.get(&sought.key()).copied().unwrap_or(1);
        let label = labelset.label(&sought.mention.label);
        let reason = match fuzzy.find(&sought, copies, label, |bytes| placer.is_free(bytes)) {
            Ok(candidates) => {
                placer.place(&sought, &candidates);
                waiting.entry(sought.key()).and_modify(|copies| *copies -= 1);
                continue;
            }
            Err(Reason::NotFound) if found.get(sought.text()).is_some_and(|found| !found.is_empty()) => {
                Reason::Taken
            }
            Err(reason) => reason,
        };
        ungrounded.push(Ungrounded { mention: sought.index, reason });
    }
    ungrounded.sort_by_key(|ungrounded| ungrounded.mention);
    Grounded { spans: placer.spans(), ungrounded }
}

/// A mention made ready.
struct Sought<'a> {
    index: usize,
    mention: &'a Mention,
    normal: Normal,
    /// The words in front of it, where they say enough.
    before: Normal,
    rank: usize,
}

impl<'a> Sought<'a> {
    fn new(index: usize, mention: &'a Mention, labelset: &Labelset) -> Result<Self, Reason> {
        if mention.text.len() > MAX_MENTION * 4 {
            return Err(Reason::TooLong);
        }
        let normal = Normal::new(mention.text.trim());
        if normal.core().is_empty() {
            return Err(Reason::Empty);
        }
        if normal.len() > MAX_MENTION {
            return Err(Reason::TooLong);
        }
        let before = mention.before.as_deref().unwrap_or_default();
        let tail = before.char_indices().rev().nth(place::CONTEXT).map_or(0, |(at, _)| at);
        let before = Normal::new(&before[tail..]);
        Ok(Self { index, mention, normal, before, rank: labelset.rank(&mention.label) })
    }

    fn text(&self) -> &'a str {
        self.mention.text.trim()
    }

    /// The same for mentions that only their place tells apart.
    fn key(&self) -> (&'a str, &'a str) {
        (&self.mention.label, self.text())
    }
}
