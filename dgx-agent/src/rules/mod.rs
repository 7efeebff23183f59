//! The engine without a model: the labelset's patterns, validators and lists.
//!
//! It is the embedded default, the fallback, and the baseline that a model must beat.

mod heads;
mod starts;
mod values;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use memchr::memmem;
use proto::labelset::{Label, Labelset, LabelsetError};

use crate::ground::{GroundedSpan, MatchKind};
use crate::offsets::CodePoints;
use crate::overlap;
use crate::validate::{Checked, check};
use starts::{Found as Starting, Starts};
use values::{Reader, is_border};

/// Changes when the same labelset finds other spans; part of the engine's model version.
pub const VERSION: &str = "2";

/// Values of a label that are looked for again on the page that names them.
const MAX_REPEATED: usize = 32;

/// Shortest value that is looked for again, in characters.
const MIN_REPEATED: usize = 5;

/// The rules of a labelset, ready to work. Copies share what is compiled.
#[derive(Debug, Clone)]
pub struct Rules {
    labelset: Labelset,
    /// Made for the first page.
    starts: Arc<OnceLock<Option<Starts>>>,
}

impl Rules {
    /// Compiles the patterns.
    pub fn new(labelset: &Labelset) -> Result<Self, LabelsetError> {
        labelset.compile()?;
        Ok(Self { labelset: labelset.clone(), starts: Arc::default() })
    }

    /// The spans of a page, in order, none overlapping another.
    pub fn annotate(&self, text: &str) -> Vec<GroundedSpan> {
        match self.starts.get_or_init(|| Starts::new(&self.labelset)) {
            Some(starts) => starts.with_found(text, |starting| self.spans(text, starting)),
            None => self.spans(text, &Starting::default()),
        }
    }

    fn spans(&self, text: &str, starting: &Starting) -> Vec<GroundedSpan> {
        let points = CodePoints::new(text);
        let mut spans = Vec::new();
        let mut first = 0;
        for label in &self.labelset.labels {
            let found = find(label, text, first, starting);
            first += label.rules.len();
            spans.extend(found.into_iter().map(|(start, (end, norm_value))| GroundedSpan {
                mention: 0,
                label: label.name.clone(),
                start: points.at(start),
                end: points.at(end),
                text: text[start..end].to_owned(),
                match_kind: MatchKind::Exact,
                similarity: 1.0,
                norm_value,
            }));
        }
        let mut spans = overlap::resolve(spans, |span| span, &self.labelset);
        spans.iter_mut().enumerate().for_each(|(n, span)| span.mention = n);
        spans
    }
}

/// Values of one label on a page: start to end, in bytes, and normal form. None overlaps another.
type Found = BTreeMap<usize, (usize, Option<String>)>;

/// What the rules of a label find, the first rule first; then what stands again, where it may. `first`: the number of
/// its first rule.
fn find(label: &Label, text: &str, first: usize, starting: &Starting) -> Found {
    let mut found = Found::new();
    for (nth, rule) in label.rules.iter().enumerate() {
        let take = |place: Range<usize>| {
            if !rule.is_ruled_out(&text[..place.start]) {
                take(label, text, place, &mut found);
            }
        };
        match starting.of(first + nth) {
            Some([]) => {}
            Some(starts) => Reader::new(rule, text).at(starts).for_each(take),
            None => Reader::new(rule, text).all().for_each(take),
        }
    }
    if label.repeats {
        for place in repeated(text, &found) {
            if is_free(&found, &place) {
                found.insert(place.start, (place.end, None));
            }
        }
    }
    found
}

/// Keeps a value up to its label's stop, where none stands yet, and the validator does not refuse it.
fn take(label: &Label, text: &str, place: Range<usize>, found: &mut Found) {
    let end = place.start + label.length_before_stop(&text[place.clone()]);
    let place = trim(text, place.start..end);
    if place.is_empty() || !is_free(found, &place) {
        return;
    }
    if let Checked::Keep(norm_value, _) = check(label, &text[place.clone()]) {
        found.insert(place.start, (place.end, norm_value));
    }
}

fn is_free(found: &Found, place: &Range<usize>) -> bool {
    found.range(..place.end).next_back().is_none_or(|(_, (end, _))| *end <= place.start)
}

/// Without blanks, quotes and marks at the ends; a closing point stays after a capital or an abbreviation's.
fn trim(text: &str, place: Range<usize>) -> Range<usize> {
    let outer = |c: char| !c.is_alphanumeric() && !matches!(c, '»' | '”' | '"' | ')' | '.');
    let value = &text[place.clone()];
    let start = place.start + (value.len() - value.trim_start_matches(|c: char| !c.is_alphanumeric()).len());
    let end = place.start + value.trim_end_matches(outer).len();
    start..end.max(start)
}

/// Where the values stand again, as whole words; the longest first.
fn repeated(text: &str, found: &Found) -> Vec<Range<usize>> {
    let values: HashSet<&str> = found.iter().map(|(start, (end, _))| &text[*start..*end]).collect();
    let mut values: Vec<&str> =
        values.into_iter().filter(|value| value.chars().count() >= MIN_REPEATED).collect();
    values.sort_unstable_by_key(|value| (Reverse(value.len()), *value));
    values.truncate(MAX_REPEATED);
    let whole = |place: &Range<usize>| is_border(text, place.start) && is_border(text, place.end);
    let places = values.into_iter().flat_map(|value| {
        memmem::find_iter(text.as_bytes(), value).map(move |start| start..start + value.len())
    });
    places.filter(whole).collect()
}
