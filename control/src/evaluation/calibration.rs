//! What confidences are worth: how often suggestions of a confidence are right, and curves fitted to that.
//!
//! A suggestion is right as far as its answers say so: by all of them 1, by half of them 0.5. Right means the exact
//! place. Confidences outside 0 to 1 are none.

use std::collections::BTreeMap;

use proto::docs::LabelFit;
use serde::Serialize;

use super::{Page, scores::judge};

/// Fewer judged suggestions with a confidence say nothing of a label.
pub const MIN_SPANS: u64 = 200;
const BINS: usize = 10;

/// A judged suggestion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// 0 to 1.
    pub raw: f64,
    /// 0 to 1: the share of the answers by which it is right.
    pub right: f64,
}

/// Suggestions by confidence, against how many of them are right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Suggestions with a confidence.
    pub spans: u64,
    /// The mean distance of confidence and share, each bin weighed by its spans.
    pub calibration_error: f64,
    /// Tenths of the confidence; those without a suggestion are left out.
    pub bins: Vec<Bin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub spans: u64,
    /// The mean.
    pub confidence: f64,
    /// The share that is right.
    pub right: f64,
}

/// By label, every suggestion that has a confidence.
pub fn observed<'a>(pages: impl IntoIterator<Item = &'a Page>) -> BTreeMap<String, Vec<Observed>> {
    let mut found: BTreeMap<String, Vec<Observed>> = BTreeMap::new();
    for page in pages {
        let spans = page.spans();
        let judged: Vec<_> = page.answers.iter().map(|answer| judge(&spans, answer).exact).collect();
        for (at, suggested) in page.suggested.iter().enumerate() {
            let Some(raw) = suggested.confidence.filter(|raw| (0.0..=1.0).contains(raw)) else { continue };
            let by = judged.iter().filter(|right| right[at]).count();
            let right = count(by) / count(judged.len().max(1));
            found.entry(suggested.span.label.clone()).or_default().push(Observed { raw, right });
        }
    }
    found
}

/// None where no suggestion has a confidence.
pub fn reliability(observed: &BTreeMap<String, Vec<Observed>>) -> Option<Reliability> {
    let mut bins: [Vec<Observed>; BINS] = Default::default();
    for one in observed.values().flatten() {
        let bin = (0..BINS - 1).find(|bin| one.raw < edge(bin + 1)).unwrap_or(BINS - 1);
        bins[bin].push(*one);
    }
    let bins: Vec<Bin> = bins
        .iter()
        .enumerate()
        .filter(|(_, found)| !found.is_empty())
        .map(|(bin, found)| Bin {
            from: edge(bin),
            to: edge(bin + 1),
            spans: found.len() as u64,
            confidence: mean(found.iter().map(|one| one.raw)),
            right: mean(found.iter().map(|one| one.right)),
        })
        .collect();
    let spans: u64 = bins.iter().map(|bin| bin.spans).sum();
    #[allow(clippy::cast_precision_loss, reason = "counts of spans are far below 2^52")]
    let weigh = |bin: &Bin| (bin.confidence - bin.right).abs() * bin.spans as f64 / spans as f64;
    (spans > 0).then(|| Reliability { spans, calibration_error: bins.iter().map(weigh).sum(), bins })
}

/// The curves of the labels with enough suggestions, and the counts of the others.
pub fn fit(
    observed: &BTreeMap<String, Vec<Observed>>,
) -> (BTreeMap<String, LabelFit>, BTreeMap<String, u64>) {
    let (mut fitted, mut too_few) = (BTreeMap::new(), BTreeMap::new());
    for (label, found) in observed {
        let n = found.len() as u64;
        if n < MIN_SPANS {
            too_few.insert(label.clone(), n);
        } else {
            fitted.insert(label.clone(), LabelFit { n, points: isotonic(found) });
        }
    }
    (fitted, too_few)
}

/// Suggestions of neighbouring confidences that share one worth.
struct Block {
    from: f64,
    to: f64,
    weight: f64,
    right: f64,
}

/// The least-squares curve that never falls (pool adjacent violators): the ends of its level pieces.
pub fn isotonic(observed: &[Observed]) -> Vec<(f64, f64)> {
    let mut sorted = observed.to_vec();
    sorted.sort_by(|a, b| a.raw.total_cmp(&b.raw));
    // Equal confidences are one point, whatever became of them: they are averaged before any is compared.
    let mut blocks: Vec<Block> = Vec::new();
    for same in sorted.chunk_by(|a, b| a.raw == b.raw) {
        let raw = same[0].raw;
        let right = mean(same.iter().map(|one| one.right));
        let mut new = Block { from: raw, to: raw, weight: count(same.len()), right };
        while let Some(last) = blocks.pop_if(|last| last.right >= new.right) {
            let weight = last.weight + new.weight;
            let right = (last.right * last.weight + new.right * new.weight) / weight;
            new = Block { from: last.from, to: new.to, weight, right };
        }
        blocks.push(new);
    }
    let ends = |block: &Block| {
        let (from, to) = ((block.from, block.right), (block.to, block.right));
        [Some(from), (block.from < block.to).then_some(to)]
    };
    blocks.iter().flat_map(ends).flatten().collect()
}

#[allow(clippy::cast_precision_loss, reason = "bins and counts of spans are far below 2^52")]
fn count(of: usize) -> f64 {
    of as f64
}

fn edge(bin: usize) -> f64 {
    count(bin) / count(BINS)
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let all = count(numbers.len());
    numbers.sum::<f64>() / all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observed(points: &[(f64, f64)]) -> Vec<Observed> {
        points.iter().map(|(raw, right)| Observed { raw: *raw, right: *right }).collect()
    }

    #[test]
    fn violators_are_pooled() {
        let points = isotonic(&observed(&[(0.1, 0.0), (0.3, 1.0), (0.5, 0.0), (0.9, 1.0)]));
        assert_eq!(points, [(0.1, 0.0), (0.3, 0.5), (0.5, 0.5), (0.9, 1.0)]);
        let level = isotonic(&observed(&[(0.2, 1.0), (0.4, 0.0)]));
        assert_eq!(level, [(0.2, 0.5), (0.4, 0.5)]);
        assert_eq!(isotonic(&observed(&[(0.5, 1.0), (0.5, 0.0), (0.5, 0.0), (0.5, 1.0)])), [(0.5, 0.5)]);
        let ties = isotonic(&observed(&[(0.3, 0.4), (0.5, 0.0), (0.5, 1.0)]));
        assert_eq!(ties, [(0.3, 0.4), (0.5, 0.5)], "the tie is averaged first");
    }

    #[test]
    fn labels_with_few_spans_are_left_out_with_their_count() {
        let many = observed(&[(0.5, 1.0)]).repeat(200);
        let all = BTreeMap::from([("A".to_owned(), many.clone()), ("B".to_owned(), many[..199].to_vec())]);
        let (fitted, too_few) = fit(&all);
        assert_eq!(fitted["A"], LabelFit { n: 200, points: vec![(0.5, 1.0)] });
        assert_eq!(too_few, BTreeMap::from([("B".to_owned(), 199)]));
    }

    #[test]
    fn bins_tell_confidence_from_worth() {
        let all = BTreeMap::from([("A".to_owned(), observed(&[(0.95, 1.0), (1.0, 0.0), (0.1, 0.0)]))]);
        let found = reliability(&all).expect("some");
        assert_eq!(found.bins.iter().map(|b| (b.from, b.spans)).collect::<Vec<_>>(), [(0.1, 1), (0.9, 2)]);
        assert!((found.bins[1].right - 0.5).abs() < 1e-12);
        assert!((found.calibration_error - (0.1 + 2.0 * 0.475) / 3.0).abs() < 1e-12);
        assert_eq!(reliability(&BTreeMap::new()), None);
    }

    proptest! {
        #[test]
        fn a_fit_never_falls_stays_in_bounds_and_keeps_the_mean(
            points in proptest::collection::vec((0u32..=50, prop::bool::ANY), 1..80)
        ) {
            let found: Vec<_> = points
                .iter()
                .map(|(raw, right)| Observed { raw: f64::from(*raw) / 50.0, right: f64::from(u8::from(*right)) })
                .collect();
            let curve = isotonic(&found);
            for pair in curve.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0, "{curve:?}");
                prop_assert!(pair[0].1 <= pair[1].1 + 1e-12, "{curve:?}");
            }
            prop_assert!(curve.iter().all(|(x, y)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y)));
            let worth = |raw: f64| curve.iter().rev().find(|(x, _)| *x <= raw).map_or(0.0, |(_, y)| *y);
            let (fitted, seen): (f64, f64) = (
                found.iter().map(|one| worth(one.raw)).sum(),
                found.iter().map(|one| one.right).sum(),
            );
            prop_assert!((fitted - seen).abs() < 1e-6, "{fitted} {seen} {curve:?}");
        }
    }
}
