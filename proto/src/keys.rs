//! Every object key, relative to the root. No other module formats or parses one.

use std::fmt;

use chrono::NaiveDate;

use crate::ids::{BatchId, DocId, key_segment};

/// Where `raw_documents` files lie.
pub const RAW_DOCUMENTS: &str = "md_raw_ocr/documents/";
/// Where `raw_pages` files lie.
pub const RAW_PAGES: &str = "md_raw_ocr/pages/";
/// Where batches lie.
pub const ARGILLA_IN: &str = "argilla/in/";
/// Where exports lie.
pub const ARGILLA_OUT: &str = "argilla/out/";
/// Where calibrations lie.
pub const CALIBRATION: &str = "argilla/calibration/";

const DATASET_PREFIX: &str = "vessels_ocr_";
const RECORDS: &str = "argilla_records.parquet";
const SPEC: &str = "_batch.json";
const MANIFEST: &str = "_manifest.json";
const SIGNOFF: &str = "_signoff.json";
const CALIBRATION_PIN: &str = "_calibration.json";
const RETRY: &str = "_retry.json";

/// The key of an object below the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A key as a listing or a document gives it.
    pub fn from_listing(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `md_raw_ocr/documents/date=YYYY-MM-DD/doc_id=…/run_id=…/part-000.parquet`
pub fn raw_documents(date: NaiveDate, doc_id: &DocId, run_id: i64) -> Key {
    Key(format!("{RAW_DOCUMENTS}date={date}/doc_id={}/run_id={run_id}/part-000.parquet", doc_id.encoded()))
}

/// `md_raw_ocr/pages/doc_id=…/run_id=…/part-000.parquet`
pub fn raw_pages(doc_id: &DocId, run_id: i64) -> Key {
    Key(format!("{RAW_PAGES}doc_id={}/run_id={run_id}/part-000.parquet", doc_id.encoded()))
}

/// The prefix of every run's pages of a document.
pub fn raw_pages_of(doc_id: &DocId) -> String {
    format!("{RAW_PAGES}{}/", doc_folder(doc_id))
}

/// The part of a raw key that stands for a document, to find it in a listing. An id is never read out of one.
pub fn doc_folder(doc_id: &DocId) -> String {
    format!("doc_id={}", doc_id.encoded())
}

/// `argilla/calibration/<labelset>/<prompt>/<model digest>.json`
pub fn calibration(labelset_sha256: &str, prompt_sha256: &str, model_digest: &str) -> Key {
    let [labelset, prompt, model] = [labelset_sha256, prompt_sha256, model_digest].map(key_segment);
    Key(format!("{CALIBRATION}{labelset}/{prompt}/{model}.json"))
}

/// What a part has one file of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    Pages,
    Suggestions,
    Ledger,
    Commits,
}

impl PartKind {
    fn folder(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Suggestions => "suggestions",
            Self::Ledger => "ledger",
            Self::Commits => "commits",
        }
    }

    fn extension(self) -> &'static str {
        if self == Self::Commits { "json" } else { "parquet" }
    }
}

/// The keys of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchKeys {
    folder: String,
    out: String,
}

impl BatchKeys {
    pub fn new(batch: &BatchId) -> Self {
        let dataset = batch.dataset();
        Self { folder: format!("{ARGILLA_IN}{dataset}/"), out: format!("{ARGILLA_OUT}{dataset}/") }
    }

    /// The prefix of everything the batch has under `argilla/in`.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    pub fn spec(&self) -> Key {
        Key(format!("{}{SPEC}", self.folder))
    }

    pub fn manifest(&self) -> Key {
        Key(format!("{}{MANIFEST}", self.folder))
    }

    pub fn records(&self) -> Key {
        Key(format!("{}{RECORDS}", self.folder))
    }

    pub fn signoff(&self) -> Key {
        Key(format!("{}{SIGNOFF}", self.folder))
    }

    /// Which calibration the batch's confidences have.
    pub fn calibration(&self) -> Key {
        Key(format!("{}{CALIBRATION_PIN}", self.folder))
    }

    /// Which batch has the pages that failed in this one.
    pub fn retry(&self) -> Key {
        Key(format!("{}{RETRY}", self.folder))
    }

    /// The prefix of one kind of part, to list them.
    pub fn parts(&self, kind: PartKind) -> String {
        format!("{}{}/", self.folder, kind.folder())
    }

    pub fn part(&self, kind: PartKind, number: u32) -> Key {
        Key(format!("{}part-{number:05}.{}", self.parts(kind), kind.extension()))
    }

    /// The prefix of what says who works on which part. None is there once the batch is complete.
    pub fn leases(&self) -> String {
        format!("{}leases/", self.folder)
    }

    /// `leases/part-00000.json`
    pub fn lease(&self, part: u32) -> Key {
        Key(format!("{}part-{part:05}.json", self.leases()))
    }

    /// The prefix of files that wait for the commit of their part. None is there once the batch is complete.
    pub fn staged_folder(&self) -> String {
        format!("{}staged/", self.folder)
    }

    /// `staged/part-00000.<sha256>`: by its content, so that who writes it again changes nothing.
    pub fn staged(&self, number: u32, sha256: &str) -> Key {
        Key(format!("{}part-{number:05}.{sha256}", self.staged_folder()))
    }

    /// The part that a staged file is of; None for any other key.
    pub fn staged_part(&self, key: &Key) -> Option<u32> {
        let name = key.as_str().strip_prefix(&self.staged_folder())?.strip_prefix("part-")?;
        name.split_once('.')?.0.parse().ok()
    }

    /// The number of a part of this kind; None for any other key.
    pub fn part_number(&self, kind: PartKind, key: &Key) -> Option<u32> {
        let digits = key
            .as_str()
            .strip_prefix(&self.parts(kind))?
            .strip_prefix("part-")?
            .strip_suffix(kind.extension())?
            .strip_suffix('.')?;
        let number = (digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())??;
        (self.part(kind, number) == *key).then_some(number)
    }

    /// The prefix of every export of the batch.
    pub fn exports(&self) -> &str {
        &self.out
    }

    pub fn export(&self, run: i64) -> ExportKeys {
        ExportKeys { folder: format!("{}export_run_id={run}/", self.out) }
    }

    /// The export that a key belongs to; None for any other key.
    pub fn export_run(&self, key: &Key) -> Option<i64> {
        let (run, _) =
            key.as_str().strip_prefix(&self.out)?.strip_prefix("export_run_id=")?.split_once('/')?;
        run.parse().ok()
    }
}

/// The keys of one export from Argilla.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportKeys {
    folder: String,
}

impl ExportKeys {
    pub fn folder(&self) -> &str {
        &self.folder
    }

    pub fn pages(&self, part: u32) -> Key {
        Key(format!("{}pages/part-{part:03}.parquet", self.folder))
    }

    pub fn spans(&self, part: u32) -> Key {
        Key(format!("{}spans/part-{part:03}.parquet", self.folder))
    }

    /// Written last: an export without it is not complete.
    pub fn schema(&self) -> Key {
        Key(format!("{}schema.json", self.folder))
    }
}

/// The batch whose document, records or sign-off a key is; how batches are found under a root.
pub fn batch_of(key: &Key, file: BatchFile) -> Option<BatchId> {
    let (dataset, rest) = key.as_str().strip_prefix(ARGILLA_IN)?.split_once('/')?;
    let name = match file {
        BatchFile::Spec => SPEC,
        BatchFile::Manifest => MANIFEST,
        BatchFile::Records => RECORDS,
        BatchFile::Signoff => SIGNOFF,
    };
    if rest != name {
        return None;
    }
    dataset.strip_prefix(DATASET_PREFIX)?.parse().ok()
}

/// The single files of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFile {
    Spec,
    Manifest,
    Records,
    Signoff,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BatchKeys {
        BatchKeys::new(&"pilot-1".parse().expect("a batch id"))
    }

    #[test]
    fn keys_are_as_the_design_lays_them_out() {
        let doc = DocId::new("a/b").expect("not empty");
        let date = NaiveDate::from_ymd_opt(2026, 11, 24).expect("a date");
        assert_eq!(
            raw_documents(date, &doc, 7).as_str(),
            "md_raw_ocr/documents/date=2026-11-24/doc_id=a%2Fb/run_id=7/part-000.parquet"
        );
        assert_eq!(raw_pages(&doc, 7).as_str(), "md_raw_ocr/pages/doc_id=a%2Fb/run_id=7/part-000.parquet");
        assert_eq!(
            keys().part(PartKind::Commits, 3).as_str(),
            "argilla/in/vessels_ocr_pilot-1/commits/part-00003.json"
        );
        assert_eq!(
            keys().export(2).spans(0).as_str(),
            "argilla/out/vessels_ocr_pilot-1/export_run_id=2/spans/part-000.parquet"
        );
        assert_eq!(calibration("ab", "cd", "sha256:e").as_str(), "argilla/calibration/ab/cd/sha256%3Ae.json");
    }

    #[test]
    fn part_numbers_come_back() {
        for kind in [PartKind::Pages, PartKind::Suggestions, PartKind::Ledger, PartKind::Commits] {
            for number in [0, 42, 99_999, 123_456] {
                assert_eq!(keys().part_number(kind, &keys().part(kind, number)), Some(number));
            }
        }
        for other in
            ["pages/part-1.parquet", "pages/part-00001.parquet.tmp", "pages/x.parquet", "_batch.json"]
        {
            let key = Key::from_listing(format!("{}{other}", keys().folder()));
            assert_eq!(keys().part_number(PartKind::Pages, &key), None, "{other}");
        }
    }

    #[test]
    fn batches_and_exports_are_found_in_listings() {
        assert_eq!(batch_of(&keys().records(), BatchFile::Records), "pilot-1".parse().ok());
        assert_eq!(batch_of(&keys().records(), BatchFile::Spec), None);
        assert_eq!(keys().export_run(&keys().export(12).schema()), Some(12));
    }
}
