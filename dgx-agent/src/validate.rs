//! What the labelset's validators make of spans: a normal form, a doubt, or a refusal.
//!
//! | the validator says | `on_invalid` | the span | its confidence, where it has one |
//! |---|---|---|---|
//! | valid | | stays, with its normal form | as it is |
//! | nothing: the label has none | | stays | as it is |
//! | garbled by OCR, nobody can tell from what | | stays | halved |
//! | invalid | `drop` | goes, and counts as ungrounded | |
//! | invalid | `lower` | stays | halved |
//! | invalid | `keep` | stays | as it is |

use proto::labelset::{Label, Labelset, Mention, OnInvalid, Verdict};

use crate::ground::{Grounded, GroundedSpan, MatchKind, Reason, Ungrounded};

/// The trust in a value that a validator doubts.
const DOUBTED: f64 = 0.5;

/// What becomes of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// With its normal form, where it has one, and the factor of its confidence.
    Keep(Option<String>, f64),
    Drop,
}

/// The mentions of a page that are valid, each with the factor of its confidence; and all others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validated {
    /// In the order of the page, none overlapping another.
    pub spans: Vec<(GroundedSpan, f64)>,
    /// In the order of the mentions.
    pub ungrounded: Vec<Ungrounded>,
}

/// Sets the normal form of each span, and moves what its validator refuses, or no label of the labelset has, to the
/// ungrounded. A span found by likeness has the value of its mention: the page's reading is garbled.
pub fn validate(grounded: Grounded, mentions: &[Mention], labelset: &Labelset) -> Validated {
    let Grounded { spans, mut ungrounded } = grounded;
    let mut valid = Vec::with_capacity(spans.len());
    for span in spans {
        let reason = match labelset.label(&span.label) {
            None => Reason::UnknownLabel,
            Some(label) => match check(label, value(&span, mentions)) {
                Checked::Keep(norm_value, trust) => {
                    valid.push((GroundedSpan { norm_value, ..span }, trust));
                    continue;
                }
                Checked::Drop => Reason::Invalid,
            },
        };
        ungrounded.push(Ungrounded { mention: span.mention, reason });
    }
    ungrounded.sort_by_key(|ungrounded| ungrounded.mention);
    Validated { spans: valid, ungrounded }
}

/// What a label's validator makes of a value as it stands on the page.
pub fn check(label: &Label, value: &str) -> Checked {
    match label.check(value) {
        Verdict::Valid(norm_value) => Checked::Keep(Some(norm_value), 1.0),
        Verdict::Unchecked => Checked::Keep(None, 1.0),
        Verdict::Garbled => Checked::Keep(None, DOUBTED),
        Verdict::Invalid => match label.on_invalid {
            OnInvalid::Drop => Checked::Drop,
            OnInvalid::Lower => Checked::Keep(None, DOUBTED),
            OnInvalid::Keep => Checked::Keep(None, 1.0),
        },
    }
}

fn value<'a>(span: &'a GroundedSpan, mentions: &'a [Mention]) -> &'a str {
    match span.match_kind {
        MatchKind::Fuzzy => mentions.get(span.mention).map_or(&span.text, |mention| &mention.text),
        MatchKind::Exact | MatchKind::Normalized => &span.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::ground;

    #[test]
    fn values_are_normalised_and_the_impossible_is_dropped() {
        let text = "IMO 9O74729, IMO 9074728, flag of Panamá, flag of Atlantis, kept since 7 March 2024 by Jonas Inkwell";
        let mention = |label: &str, text: &str| Mention {
            label: label.to_owned(),
            text: text.to_owned(),
            before: None,
        };
        let mentions = [
            mention("IMO", "9074729"),
            mention("IMO", "9074728"),
            mention("FLAG", "Panamá"),
            mention("FLAG", "Atlantis"),
            mention("DATE", "7 March 2024"),
            mention("MASTER", "Jonas Inkwell"),
            mention("MOOD", "kept"),
        ];
        let labelset = Labelset::embedded();
        let checked = validate(ground(text, &mentions, &labelset), &mentions, &labelset);
        let values: Vec<_> =
            checked.spans.iter().map(|(span, _)| (span.text.as_str(), span.norm_value.as_deref())).collect();
        assert_eq!(
            values,
            [
                ("9O74729", Some("9074729")),
                ("Panamá", Some("PAN")),
                ("Atlantis", None),
                ("7 March 2024", Some("2024-03-07")),
                ("Jonas Inkwell", None),
            ]
        );
        let reasons: Vec<_> = checked.ungrounded.iter().map(|left| (left.mention, left.reason)).collect();
        assert_eq!(reasons, [(1, Reason::Invalid), (6, Reason::UnknownLabel)]);
    }

    #[test]
    fn what_is_invalid_is_dropped_lowered_or_kept() {
        let with = |on_invalid: &str| {
            let toml = Labelset::embedded().toml().replacen(
                "validator = \"imo\"\n",
                &format!("validator = \"imo\"\non_invalid = \"{on_invalid}\"\n"),
                1,
            );
            let labelset = Labelset::parse(&toml).expect("still a labelset");
            ["9074729", "9074728"].map(|number| check(labelset.label("IMO").expect("a label"), number))
        };
        let valid = Checked::Keep(Some("9074729".to_owned()), 1.0);
        assert_eq!(with("drop"), [valid.clone(), Checked::Drop]);
        assert_eq!(with("lower"), [valid.clone(), Checked::Keep(None, 0.5)]);
        assert_eq!(with("keep"), [valid, Checked::Keep(None, 1.0)]);
        let sign = Labelset::embedded();
        let garbled = check(sign.label("CALL_SIGN").expect("a label"), "3pxc7");
        assert_eq!(garbled, Checked::Keep(None, 0.5), "nobody can tell of which");
    }
}
