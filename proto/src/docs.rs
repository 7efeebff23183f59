//! The JSON documents that lie beside a batch's Parquet files. Each carries `version`, so that a reader of an
//! older one can say so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{hash::sha256_of_json, ids::BatchId, rows::Outcome};

/// The version of every document in this module.
pub const VERSION: u32 = 1;

/// `_batch.json`: what a batch is. Written once by `control batch create`, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchSpec {
    pub version: u32,
    pub batch_id: BatchId,
    pub created_at: DateTime<Utc>,
    pub tool_version: String,
    pub labelset: LabelsetDoc,
    /// What the batch asks for; the agent's default where it is silent.
    pub engine: Option<String>,
    pub model: Option<String>,
    pub selection: Selection,
    pub documents: u64,
    /// Distinct keys.
    pub pages: u64,
    pub parts: Vec<PartSpec>,
    pub parent: Option<BatchId>,
    /// It has the pages that failed in the parent, and no others: they are merged with the parent's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    /// The signed pilot that allows a batch of more than 1,000 pages. The agent refuses to run it otherwise.
    pub pilot: Option<PilotPin>,
    /// Why there is none.
    pub no_pilot: Option<String>,
}

impl BatchSpec {
    /// The hash of all that makes the batch what it is: not when and by which version it was made.
    pub fn content_sha256(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("created_at");
            object.remove("tool_version");
        }
        sha256_of_json(&value)
    }
}

/// `_retry.json` of a batch: who has the pages that failed in it. Create-only, so that they are retried once at a time:
/// what fails again is retried by a batch whose parent is that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPin {
    pub version: u32,
    pub batch_id: BatchId,
}

/// The labelset of a batch, whole, so that the agent and Argilla cannot differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsetDoc {
    pub name: String,
    pub version: String,
    /// Of `toml`, byte for byte.
    pub sha256: String,
    pub toml: String,
}

/// How the pages of a batch were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Every document of the lake; `doc_ids` then lists what that was.
    pub all: bool,
    pub doc_ids: Vec<String>,
}

/// A part: one file of pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpec {
    pub number: u32,
    /// Relative to the root.
    pub key: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// What a signed pilot vouched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PilotPin {
    pub batch_id: BatchId,
    pub labelset_sha256: String,
    pub prompt_sha256: String,
    pub model: String,
    pub model_digest: String,
}

/// Where suggestions come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// `rules`, `ollama` or `hybrid`.
    pub engine: String,
    pub model: String,
    pub model_digest: String,
    pub prompt_sha256: String,
    pub labelset_sha256: String,
    /// Of the inference options; empty for the rules engine.
    pub options: BTreeMap<String, serde_json::Value>,
    pub agent_version: String,
}

/// Pages by how they ended, and spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub pages: u64,
    pub suggested: u64,
    pub empty: u64,
    pub failed: u64,
    pub skipped: u64,
    pub spans: u64,
    pub ungrounded: u64,
    /// Pages that failed or were skipped, by reason.
    pub reasons: BTreeMap<String, u64>,
}

impl Counts {
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Suggested => self.suggested,
            Outcome::Empty => self.empty,
            Outcome::Failed => self.failed,
            Outcome::Skipped => self.skipped,
        }
    }

    pub fn add_page(&mut self, outcome: Outcome, reason: Option<&str>, spans: u64, ungrounded: u64) {
        self.pages += 1;
        self.spans += spans;
        self.ungrounded += ungrounded;
        *match outcome {
            Outcome::Suggested => &mut self.suggested,
            Outcome::Empty => &mut self.empty,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
        } += 1;
        if let Some(reason) = reason.filter(|_| matches!(outcome, Outcome::Failed | Outcome::Skipped)) {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.suggested += other.suggested;
        self.empty += other.empty;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.spans += other.spans;
        self.ungrounded += other.ungrounded;
        for (reason, pages) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += pages;
        }
    }
}

/// A file that a commit vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Relative to the root.
    pub key: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// `commits/part-N.json`: the part is done. Create-only: the first one stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    pub version: u32,
    pub batch_id: BatchId,
    pub part: u32,
    /// Of the batch: pages, labelset, prompt, model digest, options.
    pub fingerprint: String,
    pub pages: FileRef,
    pub suggestions: FileRef,
    pub ledger: FileRef,
    pub counts: Counts,
    pub provenance: Provenance,
    pub committed_at: DateTime<Utc>,
    /// Of the files as they were written: a listing that shows them vouches for the hashes without reading.
    #[serde(default)]
    pub etags: CommitTags,
}

/// None where the store gave none, or the file was written later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTags {
    pub suggestions: Option<String>,
    pub ledger: Option<String>,
}

/// `_manifest.json`: the batch is complete. Create-only, by whoever finds every commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub batch_id: BatchId,
    pub fingerprint: String,
    pub parts: Vec<ManifestPart>,
    pub counts: Counts,
    pub provenance: Provenance,
    pub completed_at: DateTime<Utc>,
}

/// The files of a part, as its commit record gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    pub part: u32,
    pub pages: FileRef,
    pub suggestions: FileRef,
    pub ledger: FileRef,
}

/// `_signoff.json`: who signed what. Keyed by labelset, prompt and model digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signoff {
    pub version: u32,
    pub batch_id: BatchId,
    pub signed_at: DateTime<Utc>,
    pub signed_by: String,
    pub labelset_name: String,
    pub labelset_version: String,
    pub provenance: Provenance,
    pub doc_ids: Vec<String>,
    /// Counts by stage, then by name.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    pub checks: Vec<CheckResult>,
    /// Check number to why its findings were accepted.
    pub investigated: BTreeMap<u32, String>,
    /// Tool to version.
    pub tool_versions: BTreeMap<String, String>,
}

/// One of the ten integrity checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// 1 to 10.
    pub number: u32,
    pub name: String,
    pub status: CheckStatus,
    pub expected: String,
    pub found: String,
    /// Up to 20 keys.
    pub offenders: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckStatus {
    #[serde(rename = "PASS")]
    Pass,
    #[serde(rename = "FAIL")]
    Fail,
    #[serde(rename = "NOT RUN")]
    NotRun,
}

/// `argilla/calibration/…json`: what a confidence is worth, by label. Made by `control eval --fit` alone, for one
/// labelset, prompt and model digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub version: u32,
    pub created_at: DateTime<Utc>,
    pub tool_version: String,
    /// Whose suggestions were judged.
    pub batch_id: BatchId,
    /// What they were judged by: a file, or the description of an export.
    pub truth: String,
    /// Of these suggestions.
    pub provenance: Provenance,
    pub labels: BTreeMap<String, LabelFit>,
}

/// `_calibration.json` of a batch: the calibration that its confidences have, chosen when it first ran. Create-only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPin {
    pub version: u32,
    /// None: they are raw.
    pub calibration: Option<Calibration>,
}

/// The curve of one label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelFit {
    /// Judged suggestions with a confidence.
    pub n: u64,
    /// Raw confidence to the share that was right: the first rises strictly, the second never falls; all in 0 to 1.
    pub points: Vec<(f64, f64)>,
}

impl Calibration {
    /// Under this name `Provenance::options` holds the hash of the calibration that an agent applied: such
    /// confidences are not raw, and none is fitted from them.
    pub const OPTION: &'static str = "calibration_sha256";

    /// The share that is right at this raw confidence; None for a label that was not fitted, and for no number.
    pub fn calibrated(&self, label: &str, raw: f64) -> Option<f64> {
        let points = &self.labels.get(label)?.points;
        let after = points.partition_point(|(x, _)| *x <= raw);
        let worth = match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
            _ if raw.is_nan() => return None,
            (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (raw - x0) / (x1 - x0),
            (Some((_, end)), None) | (None, Some((_, end))) => *end,
            (None, None) => return None,
        };
        Some(worth.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(points: &[(f64, f64)]) -> Calibration {
        let provenance = Provenance {
            engine: "ollama".into(),
            model: "m".into(),
            model_digest: "d".into(),
            prompt_sha256: "p".into(),
            labelset_sha256: "l".into(),
            options: BTreeMap::new(),
            agent_version: "0".into(),
        };
        Calibration {
            version: VERSION,
            created_at: DateTime::UNIX_EPOCH,
            tool_version: "test".into(),
            batch_id: "b".parse().expect("an id"),
            truth: "truth.parquet".into(),
            provenance,
            labels: BTreeMap::from([("IMO".into(), LabelFit { n: 200, points: points.to_vec() })]),
        }
    }

    #[test]
    fn a_confidence_lies_on_the_line_between_its_points() {
        let fit = calibration(&[(0.2, 0.1), (0.4, 0.5), (0.8, 0.9)]);
        for (raw, worth) in
            [(0.0, 0.1), (0.2, 0.1), (0.3, 0.3), (0.4, 0.5), (0.6, 0.7), (0.8, 0.9), (1.0, 0.9)]
        {
            let found = fit.calibrated("IMO", raw).expect("fitted");
            assert!((found - worth).abs() < 1e-12, "{raw}: {found}");
        }
        assert_eq!(fit.calibrated("MMSI", 0.5), None, "not fitted");
        assert_eq!(fit.calibrated("IMO", f64::NAN), None);
        assert_eq!(calibration(&[]).calibrated("IMO", 0.5), None);
        assert_eq!(calibration(&[(0.5, 0.7)]).calibrated("IMO", 0.1), Some(0.7));
    }

    #[test]
    fn a_calibration_comes_back_as_it_went() {
        let fit = calibration(&[(0.1, 0.25), (0.9, 1.0)]);
        let json = serde_json::to_string(&fit).expect("written");
        assert_eq!(serde_json::from_str::<Calibration>(&json).expect("read"), fit);
    }

    #[test]
    fn counts_add_up() {
        let mut part = Counts::default();
        part.add_page(Outcome::Suggested, None, 3, 1);
        part.add_page(Outcome::Empty, Some("blank_text"), 0, 0);
        part.add_page(Outcome::Skipped, Some("hash_mismatch"), 0, 0);
        let mut batch = part.clone();
        batch.add(&part);
        assert_eq!(batch.pages, 6);
        assert_eq!(Outcome::ALL.into_iter().map(|outcome| batch.of(outcome)).sum::<u64>(), batch.pages);
        assert_eq!(batch.reasons, BTreeMap::from([("hash_mismatch".to_owned(), 2)]));
    }
}
