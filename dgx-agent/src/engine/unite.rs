//! The spans of a page from pieces that overlap, and from both engines, as one list. Pure.
//!
//! The rule, in this order:
//! 1. The same place with the same label is one span. Found by both engines its source is `ollama+rules`, it is the
//!    model's (whose words and match it has), and its confidence rises, where it has one.
//! 2. Of spans that overlap otherwise one stays, by [`overlap::resolve`]: the labelset's order, then the longer one,
//!    then the more similar one, then the rules'. Where one of the other engine gave way to it, its source says so:
//!    `rules>ollama` or `ollama>rules`.

use std::collections::BTreeMap;

use proto::labelset::Labelset;

use super::{PageSpan, Source};
use crate::{confidence, overlap};

pub(super) fn unite(mut spans: Vec<PageSpan>, labelset: &Labelset) -> Vec<PageSpan> {
    if spans.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start) {
        return spans;
    }
    // Whoever comes first wins among equals.
    spans.sort_by_key(|found| found.source != Source::Rules);
    let mut places: BTreeMap<(usize, usize, &str), PageSpan> = BTreeMap::new();
    for found in &spans {
        let key = (found.span.start, found.span.end, found.span.label.as_str());
        places.entry(key).and_modify(|known| known.join(found)).or_insert_with(|| found.clone());
    }
    let places: Vec<PageSpan> = places.into_values().collect();
    let mut all = places.clone();
    all.sort_by_key(|found| found.source != Source::Rules);
    let mut kept = overlap::resolve(all, |found| &found.span, labelset);
    mark(&mut kept, &places);
    for found in kept.iter_mut().filter(|found| found.source == Source::Both) {
        found.confidence = confidence::agreed(found.confidence);
    }
    kept
}

impl PageSpan {
    /// Takes in the same span, found again.
    fn join(&mut self, other: &Self) {
        // The rules come first.
        let agreed = self.source == Source::Rules && other.source == Source::Ollama;
        let confidence = match (self.confidence, other.confidence) {
            (Some(one), Some(other)) => Some(f64::max(one, other)),
            (one, other) => one.or(other),
        };
        let norm_value = self.span.norm_value.take().or_else(|| other.span.norm_value.clone());
        if agreed {
            *self = other.clone();
            self.source = Source::Both;
        }
        self.span.norm_value = norm_value;
        self.confidence = confidence;
    }
}

/// Says of the spans that stay, which do not overlap, where one of the other engine gave way to them.
fn mark(kept: &mut [PageSpan], all: &[PageSpan]) {
    for other in all {
        let first = kept.partition_point(|found| found.span.end <= other.span.start);
        for found in kept[first..].iter_mut().take_while(|found| found.span.start < other.span.end) {
            found.source = match (found.source, other.source) {
                (Source::Rules, Source::Ollama | Source::Both) => Source::RulesOverOllama,
                (Source::Ollama, Source::Rules | Source::Both) => Source::OllamaOverRules,
                (source, _) => source,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ground::{GroundedSpan, MatchKind};

    fn span(source: Source, label: &str, start: usize, end: usize, confidence: Option<f64>) -> PageSpan {
        let span = GroundedSpan {
            mention: 0,
            label: label.to_owned(),
            start,
            end,
            text: "x".repeat(end - start),
            match_kind: MatchKind::Exact,
            similarity: 1.0,
            norm_value: (source == Source::Rules).then(|| "n".to_owned()),
        };
        PageSpan { span, source, confidence }
    }

    fn united(spans: Vec<PageSpan>) -> Vec<(&'static str, String, usize, usize, Option<f64>)> {
        let kept = unite(spans, &Labelset::embedded()).into_iter();
        kept.map(|f| (f.source.as_str(), f.span.label, f.span.start, f.span.end, f.confidence)).collect()
    }

    #[test]
    fn agreement_is_one_span_and_raises_what_is_known() {
        use Source::{Ollama, Rules};
        let both =
            |confidence| united(vec![span(Ollama, "IMO", 0, 7, confidence), span(Rules, "IMO", 0, 7, None)]);
        assert_eq!(both(Some(0.6)), [("ollama+rules", "IMO".into(), 0, 7, Some(0.8))]);
        assert_eq!(both(None), [("ollama+rules", "IMO".into(), 0, 7, None)], "never made up");
        let kept = unite(
            vec![span(Ollama, "FLAG", 0, 7, Some(0.5)), span(Rules, "FLAG", 0, 7, None)],
            &Labelset::embedded(),
        );
        assert_eq!(kept[0].span.norm_value.as_deref(), Some("n"), "whoever has one");
    }

    #[test]
    fn a_conflict_goes_by_the_order_and_is_marked() {
        use Source::{Ollama, Rules};
        assert_eq!(
            united(vec![
                span(Rules, "OWNER", 0, 9, None),
                span(Ollama, "VESSEL_NAME", 3, 12, Some(0.9)),
                span(Rules, "PORT", 20, 24, None),
                span(Ollama, "PORT", 20, 30, Some(0.4)),
                span(Ollama, "DATE", 40, 50, Some(0.3)),
                span(Rules, "RFMO", 60, 65, None),
            ]),
            [
                ("rules>ollama", "OWNER".into(), 0, 9, None),
                ("ollama>rules", "PORT".into(), 20, 30, Some(0.4)),
                ("ollama", "DATE".into(), 40, 50, Some(0.3)),
                ("rules", "RFMO".into(), 60, 65, None),
            ]
        );
    }

    #[test]
    fn what_two_pieces_found_is_one_span_of_the_surer() {
        use Source::Ollama;
        let twice = vec![span(Ollama, "DATE", 4, 9, Some(0.2)), span(Ollama, "DATE", 4, 9, Some(0.7))];
        assert_eq!(united(twice), [("ollama", "DATE".into(), 4, 9, Some(0.7))]);
        let cut = vec![span(Ollama, "DATE", 4, 6, Some(0.9)), span(Ollama, "DATE", 4, 9, None)];
        assert_eq!(united(cut), [("ollama", "DATE".into(), 4, 9, None)]);
    }

    proptest! {
        #[test]
        fn the_order_of_the_spans_does_not_matter(
            spans in proptest::collection::vec((0usize..3, 0usize..30, 1usize..9, any::<bool>()), 0..16),
        ) {
            let labels = ["OWNER", "VESSEL_NAME", "PORT"];
            let spans: Vec<_> = spans.into_iter().map(|(label, start, length, by_rules)| {
                let source = if by_rules { Source::Rules } else { Source::Ollama };
                span(source, labels[label], start, start + length, (!by_rules).then_some(0.5))
            }).collect();
            let turned: Vec<_> = spans.iter().rev().cloned().collect();
            let kept = unite(spans.clone(), &Labelset::embedded());
            prop_assert_eq!(&kept, &unite(turned, &Labelset::embedded()));
            prop_assert!(kept.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
            for given in spans {
                let touches = |k: &PageSpan| k.span.start < given.span.end && given.span.start < k.span.end;
                prop_assert!(kept.iter().any(touches), "nothing goes but what something else stands in the way of");
            }
        }
    }
}
