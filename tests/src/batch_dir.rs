//! A batch below a folder as tests of `dgx-agent run` see it: its pages files, right or wrong, and what came of them.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use bytes::Bytes;
use chrono::DateTime;
use proto::{
    docs::{self, BatchSpec, LabelsetDoc, PartSpec, Selection},
    hash::sha256_hex,
    ids::BatchId,
    keys::{BatchKeys, Key, PartKind},
    labelset::Labelset,
    parquet_io::{encode, read_all},
    rows::{BatchPage, LedgerRow, Row, Suggestion},
    store::{Env, Store},
};

/// A batch below a folder.
pub struct BatchDir {
    pub store: Store,
    pub batch: BatchId,
    pub keys: BatchKeys,
}

impl BatchDir {
    pub fn new(root: &Path, batch: &str) -> Result<Self> {
        let batch: BatchId = batch.parse()?;
        let store = Store::open(&root.display().to_string(), &Env::new())?;
        Ok(Self { store, keys: BatchKeys::new(&batch), batch })
    }

    /// Writes parts as a foreign producer does: pages alone.
    pub async fn write_parts(&self, parts: &[Vec<BatchPage>]) -> Result<()> {
        for (number, pages) in (0..).zip(parts) {
            self.store.put(&self.keys.part(PartKind::Pages, number), encode(pages)?).await?;
        }
        Ok(())
    }

    /// Writes a pages file of any bytes.
    pub async fn write_file(&self, part: u32, bytes: impl Into<Bytes>) -> Result<()> {
        Ok(self.store.put(&self.keys.part(PartKind::Pages, part), bytes).await?)
    }

    /// `_batch.json` over the pages files that are there, as `control batch create` writes it.
    pub async fn spec(&self) -> Result<BatchSpec> {
        let labelset = Labelset::embedded();
        let mut parts = Vec::new();
        for object in self.store.list_sorted(&self.keys.parts(PartKind::Pages)).await? {
            let bytes = self.store.get(&object.key).await?;
            parts.push(PartSpec {
                number: self.keys.part_number(PartKind::Pages, &object.key).unwrap_or_default(),
                rows: read_all::<BatchPage>(&self.store, &object.key).await?.len() as u64,
                bytes: object.bytes,
                sha256: sha256_hex(&bytes),
                key: object.key.as_str().to_owned(),
            });
        }
        Ok(BatchSpec {
            version: docs::VERSION,
            batch_id: self.batch.clone(),
            created_at: DateTime::UNIX_EPOCH,
            tool_version: "test".into(),
            labelset: LabelsetDoc {
                name: labelset.name.clone(),
                version: labelset.version.clone(),
                sha256: labelset.sha256().to_owned(),
                toml: labelset.toml().to_owned(),
            },
            engine: None,
            model: None,
            selection: Selection { all: true, doc_ids: Vec::new() },
            documents: 1,
            pages: parts.iter().map(|part| part.rows).sum(),
            parts,
            parent: None,
            retry: false,
            pilot: None,
            no_pilot: None,
        })
    }

    pub async fn write_spec(&self, spec: &BatchSpec) -> Result<()> {
        Ok(self.store.put(&self.keys.spec(), serde_json::to_vec(spec)?).await?)
    }

    /// All rows of one kind, part after part.
    pub async fn rows<R: Row>(&self, kind: PartKind) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        for object in self.store.list_sorted(&self.keys.parts(kind)).await? {
            rows.extend(read_all::<R>(&self.store, &object.key).await?);
        }
        Ok(rows)
    }

    pub async fn ledger(&self) -> Result<Vec<LedgerRow>> {
        self.rows(PartKind::Ledger).await
    }

    pub async fn suggestions(&self) -> Result<Vec<Suggestion>> {
        self.rows(PartKind::Suggestions).await
    }

    /// Outcome and reason by page, as `suggested` or `skipped null_text`.
    pub async fn outcomes(&self) -> Result<BTreeMap<(String, i32), String>> {
        let told = |row: LedgerRow| {
            let outcome = [Some(row.outcome.to_string()), row.reason];
            ((row.doc_id, row.page_num), outcome.into_iter().flatten().collect::<Vec<_>>().join(" "))
        };
        Ok(self.ledger().await?.into_iter().map(told).collect())
    }

    pub async fn has(&self, key: &Key) -> Result<bool> {
        Ok(self.store.head_opt(key).await?.is_some())
    }

    pub async fn is_complete(&self) -> Result<bool> {
        self.has(&self.keys.manifest()).await
    }
}

/// A page whose hash is right.
pub fn page(doc_id: &str, page_num: i32, text: &str) -> BatchPage {
    BatchPage {
        doc_id: Some(doc_id.to_owned()),
        page_num: Some(page_num),
        text: Some(text.to_owned()),
        text_sha256: Some(sha256_hex(text)),
        run_id: Some(1),
        ocr_confidence: Some(0.9),
        source_uri: None,
    }
}

/// Parts of `rows` pages each.
pub fn parts(pages: &[BatchPage], rows: usize) -> Vec<Vec<BatchPage>> {
    pages.chunks(rows).map(<[BatchPage]>::to_vec).collect()
}
