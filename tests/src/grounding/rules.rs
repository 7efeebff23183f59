//! What the rules engine finds of `examples/`, and how fast, document by document.

use std::collections::BTreeMap;

use dgx_agent::{ground::GroundedSpan, rules::Rules};

use super::{Place, core, real::Page};

/// The labels that the rules alone must find.
pub const LABELS: [&str; 4] = ["IMO", "MMSI", "CALL_SIGN", "DATE"];

/// Spans of one label: found where a person would mark one, found elsewhere, not found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    pub right: usize,
    pub wrong: usize,
    pub missed: usize,
}

impl Found {
    pub fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (2 * self.right + self.wrong + self.missed).max(1) as f64
    }
}

/// By label. A value of which OCR left nothing has no place, and cannot be missed.
pub fn score(pages: &[&Page], rules: &Rules) -> BTreeMap<String, Found> {
    let mut scores: BTreeMap<String, Found> = BTreeMap::new();
    for page in pages {
        let chars: Vec<char> = page.text.chars().collect();
        let mut truth: Vec<(&str, Place)> = page
            .mentions
            .iter()
            .filter_map(|truth| Some((truth.label.as_str(), core(&chars, truth.start.zip(truth.end)?))))
            .collect();
        for GroundedSpan { label, start, end, .. } in rules.annotate(&page.text) {
            let place = core(&chars, (start, end));
            let same = truth.iter().position(|(name, there)| *name == label && *there == place);
            let score = scores.entry(label).or_default();
            match same {
                Some(n) => {
                    truth.swap_remove(n);
                    score.right += 1;
                }
                None => score.wrong += 1,
            }
        }
        for (label, _) in truth {
            scores.entry(label.to_owned()).or_default().missed += 1;
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use proto::labelset::Labelset;

    use super::*;
    use crate::{corpus, grounding::real};

    #[test]
    fn identifiers_and_dates_of_the_held_back_half() {
        let pages = real::examples(&corpus::examples()).expect("the examples can be read");
        let held: Vec<&Page> = pages.iter().filter(|page| real::Half::Held.has(&page.doc)).collect();
        let scores = score(&held, &Rules::new(&Labelset::embedded()).expect("it compiles"));
        for label in LABELS {
            let found = scores.get(label).copied().unwrap_or_default();
            assert!(found.right > 10 && found.f1() >= 0.90, "{label}: {found:?}");
        }
    }
}
