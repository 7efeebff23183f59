//! The engine without a model: the labelset's patterns, validators and lists.
//!
//! It is the embedded default, the fallback, and the baseline that a model must beat.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use proto::labelset::{Label, Labelset, LabelsetError, Rule};

use crate::ground::{GroundedSpan, MatchKind};
use crate::offsets::CodePoints;
use crate::overlap;
use crate::validate::{Checked, check};

/// Changes when the same labelset finds other spans; part of the engine's model version.
pub const VERSION: &str = "1";

/// Values of a label that are looked for again on the page that names them.
const MAX_REPEATED: usize = 32;

/// Shortest value that is looked for again, in characters.
const MIN_REPEATED: usize = 5;

/// The rules of a labelset, ready to work.
#[derive(Debug, Clone)]
pub struct Rules {
    labelset: Labelset,
}

impl Rules {
    /// Compiles the patterns.
    pub fn new(labelset: &Labelset) -> Result<Self, LabelsetError> {
        labelset.compile()?;
        Ok(Self { labelset: labelset.clone() })
    }

    /// The spans of a page, in order, none overlapping another.
    pub fn annotate(&self, text: &str) -> Vec<GroundedSpan> {
        let points = CodePoints::new(text);
        let mut spans = Vec::new();
        for label in &self.labelset.labels {
            let found = find(label, text);
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

/// What the rules of a label find, the first rule first; then what stands again, where it may.
fn find(label: &Label, text: &str) -> Found {
    let mut found = Found::new();
    for place in label.rules.iter().flat_map(|rule| values(rule, text)) {
        let end = place.start + label.length_before_stop(&text[place.clone()]);
        let place = trim(text, place.start..end);
        if place.is_empty() || !is_free(&found, &place) {
            continue;
        }
        if let Checked::Keep(norm_value, _) = check(label, &text[place.clone()]) {
            found.insert(place.start, (place.end, norm_value));
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

fn is_free(found: &Found, place: &Range<usize>) -> bool {
    found.range(..place.end).next_back().is_none_or(|(_, (end, _))| *end <= place.start)
}

/// The values that a rule finds, in order. The next search begins where a value ends, not where what follows it
/// does: that may be the cue of the next.
///
/// Most matches begin within a word, and cannot be: they are passed over, up to the next border, before anything is
/// asked of their groups.
fn values<'a>(rule: &'a Rule, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let regex = rule.regex();
    let mut groups = (!rule.is_value).then(|| (rule.group(), regex.capture_locations()));
    let at_border = rule.has_cue || rule.is_value;
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let whole = regex.find_at(text, from)?;
            if whole.start() == text.len() {
                return None;
            }
            let next = text.ceil_char_boundary(whole.start() + 1);
            if at_border && !is_border(text, whole.start()) {
                from = next_border(text, next);
                continue;
            }
            let value = match &mut groups {
                None => whole.range(),
                Some((group, places)) => {
                    regex.captures_read_at(places, text, whole.start())?;
                    places.get(*group).map_or(whole.range(), |(start, end)| start..end)
                }
            };
            if is_border(text, value.start) && is_border(text, value.end) {
                from = value.end.max(next);
                return Some(value);
            }
            from = if at_border { next_border(text, next) } else { next };
        }
    })
}

/// The first border from `at`, which is between two characters.
fn next_border(text: &str, at: usize) -> usize {
    let mut places = text[at..].char_indices().map(|(offset, _)| at + offset);
    places.find(|place| is_border(text, *place)).unwrap_or(text.len())
}

/// Whether neither a word nor a number goes across a place.
fn is_border(text: &str, at: usize) -> bool {
    let kind = |c: char| match c {
        c if c.is_numeric() => 2,
        c => u8::from(c.is_alphanumeric()),
    };
    let left = text[..at].chars().next_back().map_or(0, kind);
    let right = text[at..].chars().next().map_or(0, kind);
    left != right || left == 0
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
    let places = values.into_iter().flat_map(|value| text.match_indices(value));
    places.map(|(start, value)| start..start + value.len()).filter(whole).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(String, String, Option<String>)> {
        let spans = Rules::new(&Labelset::embedded()).expect("it compiles").annotate(text);
        spans.into_iter().map(|span| (span.label, span.text, span.norm_value)).collect()
    }

    fn expect(text: &str, expected: &[(&str, &str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(label, text, value)| {
                ((*label).to_owned(), (*text).to_owned(), (!value.is_empty()).then(|| (*value).to_owned()))
            })
            .collect();
        assert_eq!(found(text), expected, "{text}");
    }

    #[test]
    fn forms_in_four_languages() {
        expect(
            "Name of vessel: MARBLE HERRING\nIMO No.: 4522460\nRadio call sign: FGGX\nFlag State: France",
            &[
                ("VESSEL_NAME", "MARBLE HERRING", ""),
                ("IMO", "4522460", "4522460"),
                ("CALL_SIGN", "FGGX", "FGGX"),
                ("FLAG", "France", "FRA"),
            ],
        );
        expect(
            "Armador: Armadora Nube Blanca S.L.\nEslora total: 100,55 m\nVálida desde: 9 de septiembre de 2022",
            &[
                ("OWNER", "Armadora Nube Blanca S.L.", ""),
                ("LENGTH", "100,55 m", "100.55"),
                ("DATE", "9 de septiembre de 2022", "2022-09-09"),
            ],
        );
        expect(
            "Capitaine: Hippolyte Ficelle\nPort d'attache: Concarneau\nJauge brute: 1 856 tjb\nMMSI: 663933965",
            &[
                ("MASTER", "Hippolyte Ficelle", ""),
                ("PORT", "Concarneau", ""),
                ("TONNAGE", "1 856 tjb", "1856"),
                ("MMSI", "663933965", "663933965"),
            ],
        );
        expect(
            "Название судна: ГОЛУБОЙ ЧАЙНИК\nОрудие лова: донный трал\nДата: 23 февраля 2022 г.",
            &[
                ("VESSEL_NAME", "ГОЛУБОЙ ЧАЙНИК", ""),
                ("GEAR_TYPE", "донный трал", "TB"),
                ("DATE", "23 февраля 2022 г.", "2022-02-23"),
            ],
        );
    }

    #[test]
    fn what_is_named_once_is_found_again() {
        expect(
            "The longliner OCEAN LANTERN sailed. Nothing was heard of OCEAN LANTERN, or of OCEAN LANTERNS.",
            &[
                ("VESSEL_TYPE", "longliner", "longliner"),
                ("VESSEL_NAME", "OCEAN LANTERN", ""),
                ("VESSEL_NAME", "OCEAN LANTERN", ""),
            ],
        );
    }

    #[test]
    fn what_its_validator_refuses_is_no_span() {
        expect("IMO No.: 4522461, MMSI 999933965, on 31/02/2022 in a manta ray's wake", &[]);
    }

    #[test]
    fn odd_rules_and_odd_pages_come_to_an_end() {
        let toml = Labelset::embedded().toml().replacen("value = '{{rfmos}}'", "value = 'x{0,3}'", 1);
        let labelset = Labelset::parse(&toml).expect("still a labelset");
        assert_eq!(Rules::new(&labelset).expect("it compiles").annotate("IMO é"), []);
        let rules = Rules::new(&Labelset::embedded()).expect("it compiles");
        for unit in ["a", "AB ", "1", "1234567 ", "\n", "Owner: ", "«А» ", "船"] {
            let started = std::time::Instant::now();
            rules.annotate(&unit.repeat(500_000 / unit.len()));
            assert!(started.elapsed().as_secs() < 10, "{unit:?}: {:?}", started.elapsed());
        }
    }

    /// Every match is looked at, whole, one character after the other.
    fn values_one_by_one(rule: &Rule, text: &str) -> Vec<Range<usize>> {
        let (mut found, mut from) = (Vec::new(), 0);
        let mut places = rule.regex().capture_locations();
        while let Some(whole) = rule.regex().captures_read_at(&mut places, text, from) {
            if whole.start() == text.len() {
                break;
            }
            let (start, end) = places.get(rule.group()).unwrap_or((whole.start(), whole.end()));
            let next = text.ceil_char_boundary(whole.start() + 1);
            let borders = is_border(text, start) && is_border(text, end);
            from = next;
            if borders && (!rule.has_cue || is_border(text, whole.start())) {
                from = end.max(next);
                found.push(start..end);
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn what_is_passed_over_is_no_value(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("IMO 4522460".to_owned()), Just("OCEAN LANTERN".to_owned()), Just("call sign: ".to_owned()),
                    Just("7 марта 2024 г.".to_owned()), Just("12.50 GT".to_owned()), Just("Panama".to_owned()),
                    "[0-9]{1,9}", "[A-Zé船ж]{1,6}", "[ \\n:|/«»—.-]{1,3}", "\\PC{0,3}",
                ],
                0..30,
            ),
        ) {
            let text = pieces.concat();
            let labelset = Labelset::embedded();
            labelset.compile().expect("it compiles");
            for rule in labelset.labels.iter().flat_map(|label| &label.rules) {
                prop_assert_eq!(values(rule, &text).collect::<Vec<_>>(), values_one_by_one(rule, &text));
            }
        }

        #[test]
        fn spans_are_on_the_page(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("IMO 4522460 ".to_owned()), Just("vessel: BLUE KETTLE\n".to_owned()), Just("Owner: ".to_owned()),
                    Just("Paper Moon Fishing Co. Ltd".to_owned()), Just("7 марта 2024 г.".to_owned()), "\\PC{0,5}",
                    "[ \\n:«»—é\u{301}船]{1,3}",
                ],
                0..20,
            ),
        ) {
            let text = pieces.concat();
            let chars: Vec<char> = text.chars().collect();
            let spans = Rules::new(&Labelset::embedded()).expect("it compiles").annotate(&text);
            for (n, span) in spans.iter().enumerate() {
                prop_assert_eq!(span.mention, n);
                prop_assert_eq!(chars[span.start..span.end].iter().collect::<String>(), span.text.clone());
            }
            prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
