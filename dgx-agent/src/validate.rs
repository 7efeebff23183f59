//! What the labelset's validators make of spans: a normal form, or a refusal.

use proto::labelset::{Label, Labelset, Mention, OnInvalid, Verdict};

use crate::ground::{Grounded, GroundedSpan, MatchKind, Reason, Ungrounded};

/// What becomes of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// With its normal form, where it has one.
    Keep(Option<String>),
    Drop,
}

/// Sets the normal form of each span, and moves what its validator refuses, or no label of the labelset has, to the
/// ungrounded. A span found by likeness has the value of its mention: the page's reading is garbled.
pub fn validate(grounded: Grounded, mentions: &[Mention], labelset: &Labelset) -> Grounded {
    let Grounded { spans, mut ungrounded } = grounded;
    let mut valid = Vec::with_capacity(spans.len());
    for span in spans {
        let reason = match labelset.label(&span.label) {
            None => Reason::UnknownLabel,
            Some(label) => match check(label, value(&span, mentions)) {
                Checked::Keep(norm_value) => {
                    valid.push(GroundedSpan { norm_value, ..span });
                    continue;
                }
                Checked::Drop => Reason::Invalid,
            },
        };
        ungrounded.push(Ungrounded { mention: span.mention, reason });
    }
    ungrounded.sort_by_key(|ungrounded| ungrounded.mention);
    Grounded { spans: valid, ungrounded }
}

/// What a label's validator makes of a value as it stands on the page.
pub fn check(label: &Label, value: &str) -> Checked {
    match label.check(value) {
        Verdict::Valid(norm_value) => Checked::Keep(Some(norm_value)),
        Verdict::Unchecked | Verdict::Garbled => Checked::Keep(None),
        Verdict::Invalid if label.on_invalid == OnInvalid::Keep => Checked::Keep(None),
        Verdict::Invalid => Checked::Drop,
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
            checked.spans.iter().map(|span| (span.text.as_str(), span.norm_value.as_deref())).collect();
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
}
