//! Raw confidences to what they are worth. Pure.

use proto::{docs::Calibration, hash::sha256_of_json};

use super::PageSpan;

/// A calibration that applies to a batch.
#[derive(Debug)]
pub(super) struct Calibrate {
    pub calibration: Calibration,
    pub sha256: String,
}

impl Calibrate {
    pub fn new(calibration: Calibration) -> Self {
        let sha256 = sha256_of_json(&serde_json::to_value(&calibration).unwrap_or_default());
        Self { calibration, sha256 }
    }

    /// A label that was not fitted has no confidence then: beside calibrated ones a raw one would mislead.
    pub fn apply(&self, spans: &mut [PageSpan]) {
        for found in spans {
            let worth = |raw| self.calibration.calibrated(&found.span.label, raw);
            found.confidence = found.confidence.and_then(worth);
        }
    }
}
