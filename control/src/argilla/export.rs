//! What people answered, out of Argilla into Parquet under `argilla/out/`.
//!
//! ```text
//! listing ─► answers by record ─┐
//! argilla_records.parquet ──────┴─► rows, in the batch's order ─► spool ─► same as the last export? ─► upload
//! ```
//! An export is complete once its `schema.json` is there, which is written last. Its number is claimed by creating
//! its first file, so two exporters cannot share one.

use std::{collections::BTreeMap, io};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use proto::{
    docs::FileRef,
    hash::{sha256_hex, sha256_of_fields},
    ids::BatchId,
    keys::{BatchKeys, ExportKeys, Key},
    parquet_io::{EncodeError, ParquetIoError, RowWriter, TableFile},
    rows::{AnnotatedPage, AnnotatedSpan, ArgillaRecord, Row},
    schema::Table,
    store::{Created, Store, StoreError},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    answers,
    client::Client,
    dataset::{QUESTION, ReadyDataset},
    scan::{self, ScanError},
};

/// Rows of one file.
const PART_ROWS: u64 = 50_000;
/// Rows of argilla_records.parquet in memory at a time.
const READ_ROWS: usize = 64;
/// Records told by id in a report; all are counted.
const TOLD: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Read(#[from] ParquetIoError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the rows cannot be kept for upload: {0}")]
    Spool(#[from] io::Error),
    #[error("{uri} is not an export's description: {source}")]
    Description { uri: String, source: serde_json::Error },
    #[error(
        "{reviewed} of {records} records of {dataset} are reviewed, and {wanted} are asked for: review on, or lower --min-reviewed"
    )]
    TooFew { dataset: String, records: u64, reviewed: u64, wanted: u64 },
}

/// `schema.json`: what an export is. `annotations load` fills annotations_exports from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportDoc {
    pub version: u32,
    pub batch_id: BatchId,
    pub argilla_dataset: String,
    pub export_run_id: i64,
    /// Distinct records with an answer.
    pub record_count: u64,
    /// Of the rows' content: equal for equal exports, however they are cut or compressed.
    pub checksum: String,
    pub started_at: DateTime<Utc>,
    pub completed_at: DateTime<Utc>,
    pub tool_version: String,
    pub pages: ExportedTable,
    pub spans: ExportedTable,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedTable {
    /// Name and type, in order.
    pub columns: Vec<(String, String)>,
    pub rows: u64,
    pub files: Vec<FileRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    pub dataset: String,
    /// Of this export, or of the last one when it is the same.
    pub export_run_id: i64,
    /// False when the last export already says all this.
    pub written: bool,
    pub uri: String,
    /// Records in Argilla, answered or not.
    pub records: u64,
    pub record_count: u64,
    pub pages: u64,
    pub spans: u64,
    pub submitted: u64,
    pub discarded: u64,
    pub checksum: String,
    /// Answered records that are not in the export.
    pub set_aside: u64,
    /// Record id to the reason; the first hundred.
    pub told: BTreeMap<String, String>,
}

/// Exports the answers to a batch's records; refuses while fewer than `min_reviewed` records are answered.
pub async fn export(
    client: &Client,
    store: &Store,
    batch: &BatchId,
    dataset: &ReadyDataset,
    min_reviewed: u64,
) -> Result<ExportReport, ExportError> {
    let started_at = Utc::now();
    let keys = BatchKeys::new(batch);
    let found = scan::answers(client, &dataset.id).await?;
    let reviewed = found.answered.len() as u64;
    if reviewed < min_reviewed {
        let dataset = dataset.name.clone();
        return Err(ExportError::TooFew { dataset, records: found.records, reviewed, wanted: min_reviewed });
    }
    let rows = Rows::collect(store, &keys.records(), found).await?;
    let checksum = sha256_of_fields([rows.pages.checksum().as_str(), rows.spans.checksum().as_str()]);
    let mut report = ExportReport {
        dataset: dataset.name.clone(),
        export_run_id: 0,
        written: false,
        uri: String::new(),
        records: rows.records,
        record_count: rows.record_count,
        pages: rows.pages.rows,
        spans: rows.spans.rows,
        submitted: rows.submitted,
        discarded: rows.pages.rows - rows.submitted,
        checksum: checksum.clone(),
        set_aside: rows.set_aside,
        told: rows.told.clone(),
    };
    if let Some(last) = last(store, &keys).await?.filter(|last| last.checksum == checksum) {
        report.export_run_id = last.export_run_id;
        report.uri = store.uri_of(&keys.export(last.export_run_id).schema());
        return Ok(report);
    }
    let (export_run_id, at) = claim(store, &keys, &rows.pages).await?;
    let doc = ExportDoc {
        version: proto::docs::VERSION,
        batch_id: batch.clone(),
        argilla_dataset: dataset.name.clone(),
        export_run_id,
        record_count: rows.record_count,
        checksum,
        started_at,
        pages: rows.pages.upload(store, |part| at.pages(part)).await?,
        spans: rows.spans.upload(store, |part| at.spans(part)).await?,
        completed_at: Utc::now(),
        tool_version: concat!("control ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let uri = store.uri_of(&at.schema());
    let json = serde_json::to_vec_pretty(&doc)
        .map_err(|source| ExportError::Description { uri: uri.clone(), source })?;
    store.put(&at.schema(), json).await?;
    Ok(ExportReport { export_run_id, written: true, uri, ..report })
}

/// The newest complete export of a batch.
pub async fn last(store: &Store, keys: &BatchKeys) -> Result<Option<ExportDoc>, ExportError> {
    let objects = store.list_sorted(keys.exports()).await?;
    let complete = objects.iter().filter_map(|object| {
        let run = keys.export_run(&object.key)?;
        (keys.export(run).schema() == object.key).then_some(run)
    });
    match complete.max() {
        None => Ok(None),
        Some(run) => {
            let key = keys.export(run).schema();
            let bytes = store.get(&key).await?;
            let parsed = serde_json::from_slice(&bytes);
            parsed.map(Some).map_err(|source| ExportError::Description { uri: store.uri_of(&key), source })
        }
    }
}

/// Takes the next free number by creating its first file of pages.
async fn claim(
    store: &Store,
    keys: &BatchKeys,
    pages: &Spool<AnnotatedPage>,
) -> Result<(i64, ExportKeys), ExportError> {
    let objects = store.list_sorted(keys.exports()).await?;
    let taken = objects.iter().filter_map(|object| keys.export_run(&object.key)).max();
    let mut run = taken.unwrap_or(0) + 1;
    let first = pages.read(0)?;
    loop {
        let at = keys.export(run);
        if store.put_create(&at.pages(0), first.clone()).await? == Created::New {
            return Ok((run, at));
        }
        run += 1;
    }
}

/// The rows of an export, in the order of the batch's records.
struct Rows {
    pages: Spool<AnnotatedPage>,
    spans: Spool<AnnotatedSpan>,
    records: u64,
    record_count: u64,
    submitted: u64,
    set_aside: u64,
    told: BTreeMap<String, String>,
}

impl Rows {
    async fn collect(store: &Store, records: &Key, mut found: scan::Answers) -> Result<Self, ExportError> {
        let mut rows = Self {
            pages: Spool::new()?,
            spans: Spool::new()?,
            records: found.records,
            record_count: 0,
            submitted: 0,
            set_aside: 0,
            told: BTreeMap::new(),
        };
        let file = TableFile::open(store, &store.head(records).await?, Table::ArgillaRecords).await?;
        let mut chunks = file.read::<ArgillaRecord>(READ_ROWS)?;
        while let Some(chunk) = chunks.try_next().await? {
            for page in chunk {
                let Some(answered) = found.answered.remove(&page.id) else { continue };
                match answers::rows(&page, &answered, QUESTION) {
                    Ok((pages, spans)) => rows.add(&pages, &spans)?,
                    Err(reason) => rows.set_aside(page.id, reason),
                }
            }
        }
        for (external_id, _) in found.answered {
            rows.set_aside(external_id, "it is not a record of this batch".to_owned());
        }
        rows.pages.close()?;
        rows.spans.close()?;
        Ok(rows)
    }

    fn add(&mut self, pages: &[AnnotatedPage], spans: &[AnnotatedSpan]) -> Result<(), ExportError> {
        self.record_count += 1;
        self.submitted += pages.iter().filter(|page| page.status == "submitted").count() as u64;
        self.pages.push(pages)?;
        self.spans.push(spans)
    }

    fn set_aside(&mut self, external_id: String, reason: String) {
        self.set_aside += 1;
        if self.told.len() < TOLD {
            self.told.insert(external_id, reason);
        }
    }
}

/// One table's files on the local disk until they are uploaded or found to be nothing new.
struct Spool<R: Row> {
    folder: TempDir,
    writer: Option<RowWriter<R>>,
    parts: Vec<u64>,
    rows: u64,
    content: Sha256,
}

impl<R: Row> Spool<R> {
    fn new() -> Result<Self, ExportError> {
        let writer = Some(RowWriter::new()?);
        Ok(Self { folder: TempDir::new()?, writer, parts: Vec::new(), rows: 0, content: Sha256::new() })
    }

    fn push(&mut self, rows: &[R]) -> Result<(), ExportError> {
        for row in rows {
            serde_json::to_writer(&mut self.content, row).map_err(io::Error::from)?;
            self.content.update(b"\n");
        }
        self.rows += rows.len() as u64;
        if self.writer.as_ref().is_some_and(|writer| writer.rows() >= PART_ROWS) {
            self.close()?;
        }
        match &mut self.writer {
            Some(writer) => writer.push(rows)?,
            None => self.writer.insert(RowWriter::new()?).push(rows)?,
        }
        Ok(())
    }

    /// Ends the open part; a table without rows has one file all the same.
    fn close(&mut self) -> Result<(), ExportError> {
        if let Some(writer) = self.writer.take() {
            let rows = writer.rows();
            std::fs::write(self.file(self.parts.len()), writer.finish()?)?;
            self.parts.push(rows);
        }
        Ok(())
    }

    fn checksum(&self) -> String {
        hex::encode(self.content.clone().finalize())
    }

    fn file(&self, part: usize) -> std::path::PathBuf {
        self.folder.path().join(part.to_string())
    }

    fn read(&self, part: usize) -> Result<bytes::Bytes, ExportError> {
        Ok(std::fs::read(self.file(part))?.into())
    }

    async fn upload(&self, store: &Store, key: impl Fn(u32) -> Key) -> Result<ExportedTable, ExportError> {
        let mut files = Vec::new();
        for (number, (part, &rows)) in (0..).zip(self.parts.iter().enumerate()) {
            let (bytes, key) = (self.read(part)?, key(number));
            files.push(FileRef {
                key: key.as_str().to_owned(),
                rows,
                bytes: bytes.len() as u64,
                sha256: sha256_hex(&bytes),
            });
            store.put(&key, bytes).await?;
        }
        let columns = R::TABLE.schema();
        let columns =
            columns.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect();
        Ok(ExportedTable { columns, rows: self.rows, files })
    }
}
