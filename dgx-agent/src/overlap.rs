//! Spans that overlap: Argilla takes none, so the labelset's order says which stays.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proto::labelset::Labelset;

use crate::ground::GroundedSpan;

/// Of spans that overlap, keeps the one whose label comes first in the labelset's order, then the longer, then the
/// one that reads most like its mention, then the first. What stays is in the order of the page.
pub fn resolve<T>(mut items: Vec<T>, span: impl Fn(&T) -> &GroundedSpan, labelset: &Labelset) -> Vec<T> {
    // Equals keep their order: the sort is stable.
    items.sort_by_cached_key(|item| {
        let span = span(item);
        // Numbers that are not negative have the order of their bits.
        let similar = span.similarity.max(0.0).to_bits();
        (labelset.rank(&span.label), Reverse(span.end - span.start), Reverse(similar), span.start)
    });
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    items.retain(|item| {
        let span = span(item);
        let free = taken.range(..span.end).next_back().is_none_or(|(_, end)| *end <= span.start);
        if free {
            taken.insert(span.start, span.end);
        }
        free
    });
    items.sort_by_key(|item| span(item).start);
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ground::MatchKind;

    fn span(label: &str, start: usize, end: usize) -> GroundedSpan {
        GroundedSpan {
            mention: 0,
            label: label.to_owned(),
            start,
            end,
            text: "x".repeat(end - start),
            match_kind: MatchKind::Exact,
            similarity: 1.0,
            norm_value: None,
        }
    }

    fn resolved(spans: Vec<GroundedSpan>) -> Vec<(String, usize, usize)> {
        let kept = resolve(spans, |span| span, &Labelset::embedded());
        kept.into_iter().map(|span| (span.label, span.start, span.end)).collect()
    }

    #[test]
    fn order_of_labels_then_length() {
        let kept = resolved(vec![span("VESSEL_NAME", 0, 5), span("OWNER", 3, 9), span("PORT", 9, 12)]);
        assert_eq!(kept, [("OWNER".to_owned(), 3, 9), ("PORT".to_owned(), 9, 12)]);
        let kept = resolved(vec![span("DATE", 0, 4), span("DATE", 0, 9), span("OTHER", 8, 10)]);
        assert_eq!(kept, [("DATE".to_owned(), 0, 9)]);
    }

    proptest! {
        #[test]
        fn what_stays_does_not_overlap_and_what_goes_does(
            spans in proptest::collection::vec((0usize..3, 0usize..40, 1usize..9), 0..20),
        ) {
            let labels = ["OWNER", "VESSEL_NAME", "OTHER"];
            let spans: Vec<_> =
                spans.into_iter().map(|(label, start, length)| span(labels[label], start, start + length)).collect();
            let kept = resolved(spans.clone());
            prop_assert!(kept.windows(2).all(|pair| pair[0].2 <= pair[1].1));
            for span in spans {
                prop_assert!(kept.iter().any(|(_, start, end)| *start < span.end && span.start < *end));
            }
        }
    }
}
