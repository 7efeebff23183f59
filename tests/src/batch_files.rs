//! A batch's folder, written as `batch create`, the agent and `merge` would leave it: for tests of what comes after.
//!
//! Suggestions are made of spans that the test names by their text, so that every offset is right by construction.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use proto::{
    docs::{
        BatchSpec, Counts, FileRef, LabelsetDoc, Manifest, ManifestPart, PartSpec, Provenance, Selection,
        VERSION,
    },
    hash::sha256_hex,
    ids::{BatchId, CharSpan, DocId, PageKey},
    keys::{BatchKeys, Key, PartKind},
    labelset::Labelset,
    parquet_io::encode,
    rows::{ArgillaRecord, BatchPage, Entity, LedgerRow, Outcome, Row, Suggestion},
    store::{Env, Store},
};
use serde_json::json;

/// A page with its outcome and spans.
#[derive(Debug, Clone)]
pub struct PageFile {
    pub doc_id: String,
    pub page_num: i32,
    pub text: String,
    pub outcome: Outcome,
    pub reason: Option<String>,
    /// Label, start, end: code points.
    pub spans: Vec<(String, u32, u32)>,
    /// Of each of them.
    pub confidence: Option<f64>,
}

impl PageFile {
    /// A page with a span at the first place of each of these words.
    pub fn new(doc_id: &str, page_num: i32, text: &str, words: &[(&str, &str)]) -> Self {
        let place = |word: &str| {
            let start = text.find(word).map(|byte| text[..byte].chars().count()).unwrap_or_default() as u32;
            (start, start + word.chars().count() as u32)
        };
        let span = |(label, word): &(&str, &str)| {
            let (start, end) = place(word);
            ((*label).to_owned(), start, end)
        };
        let mut spans: Vec<_> = words.iter().map(span).collect();
        spans.sort_by_key(|(_, start, _)| *start);
        let (outcome, reason) = match words {
            [] => (Outcome::Empty, Some("no_mentions".to_owned())),
            _ => (Outcome::Suggested, None),
        };
        Self { doc_id: doc_id.into(), page_num, text: text.into(), outcome, reason, spans, confidence: None }
    }

    #[must_use]
    pub fn ended(mut self, outcome: Outcome, reason: &str) -> Self {
        (self.outcome, self.reason) = (outcome, Some(reason.to_owned()));
        self
    }

    fn key(&self) -> Result<PageKey> {
        Ok(PageKey::new(DocId::new(&self.doc_id)?, self.page_num))
    }

    fn page(&self) -> BatchPage {
        BatchPage {
            doc_id: Some(self.doc_id.clone()),
            page_num: Some(self.page_num),
            text: Some(self.text.clone()),
            text_sha256: Some(sha256_hex(&self.text)),
            run_id: Some(1),
            ocr_confidence: Some(0.9),
            source_uri: Some("uploads/document.pdf".into()),
        }
    }

    fn suggestions(&self) -> Result<Vec<Suggestion>> {
        let key = self.key()?;
        let row = |(label, start, end): &(String, u32, u32)| {
            let span = CharSpan::new(*start, *end).context("a span is not empty")?;
            let text = span.slice(&self.text).unwrap_or_default().to_owned();
            Ok(Suggestion {
                doc_id: self.doc_id.clone().into(),
                page_num: self.page_num,
                span_id: key.span_id(label, span).into(),
                label: label.clone().into(),
                start: i32::try_from(*start)?,
                end: i32::try_from(*end)?,
                text_sha256: sha256_hex(&text).into(),
                norm_value: Some(text.to_uppercase().into()),
                text: text.into(),
                confidence: self.confidence,
                model: "rules".into(),
                model_version: sha256_hex("rules").into(),
                generated_at: DateTime::UNIX_EPOCH,
                match_kind: "exact".into(),
                similarity: 1.0,
                page_sha256: sha256_hex(&self.text).into(),
                prompt_sha256: sha256_hex("prompt").into(),
                source: "rules".into(),
                run_id: Some(1),
            })
        };
        self.spans.iter().map(row).collect()
    }

    fn ledger(&self) -> LedgerRow {
        LedgerRow {
            doc_id: self.doc_id.clone(),
            page_num: self.page_num,
            page_sha256: Some(sha256_hex(&self.text)),
            outcome: self.outcome,
            reason: self.reason.clone(),
            spans: self.spans.len() as i32,
            ungrounded: 0,
            chunks: 1,
            attempts: 0,
            prompt_tokens: 0,
            output_tokens: 0,
            latency_ms: 1,
            run_id: Some(1),
        }
    }

    fn record(&self) -> Result<ArgillaRecord> {
        let entity = |(label, start, end): &(String, u32, u32)| {
            Ok(Entity { start: i32::try_from(*start)?, end: i32::try_from(*end)?, label: label.clone() })
        };
        let entities: Vec<Entity> = self.spans.iter().map(entity).collect::<Result<_>>()?;
        let json = match entities[..] {
            [] => json!([]),
            _ => json!([{"value": entities, "score": null, "agent": "rules", "type": "model"}]),
        };
        Ok(ArgillaRecord {
            id: self.key()?.record_id(),
            text: self.text.clone(),
            doc_id: self.doc_id.clone(),
            page_num: self.page_num,
            text_sha256: sha256_hex(&self.text),
            suggestions_entities: entities,
            suggestions_score: None,
            suggestions_agent: Some("rules".into()),
            suggestions_type: Some("model".into()),
            suggestions_json: Some(json.to_string()),
            outcome: self.outcome,
            run_id: Some(1),
            source_uri: None,
        })
    }
}

/// Writes batches under one root.
#[derive(Debug, Clone)]
pub struct BatchFiles {
    pub batch: BatchId,
    pub keys: BatchKeys,
    pub store: Store,
}

impl BatchFiles {
    pub fn new(root: &str, batch: &str) -> Result<Self> {
        let batch: BatchId = batch.parse()?;
        Ok(Self { keys: BatchKeys::new(&batch), batch, store: Store::open(root, &Env::new())? })
    }

    /// Everything from `_batch.json` to `argilla_records.parquet`, in one part. Writing again overwrites.
    pub async fn write(&self, pages: &[PageFile]) -> Result<()> {
        self.annotated(pages).await?;
        self.merged(pages).await
    }

    /// Up to `_manifest.json`.
    pub async fn annotated(&self, pages: &[PageFile]) -> Result<()> {
        let labelset = Labelset::embedded();
        let rows: Vec<_> = pages.iter().map(PageFile::page).collect();
        let page_file = self.put(&self.keys.part(PartKind::Pages, 0), &rows).await?;
        let spans: Vec<Vec<_>> = pages.iter().map(PageFile::suggestions).collect::<Result<_>>()?;
        let suggestions = self.put(&self.keys.part(PartKind::Suggestions, 0), &spans.concat()).await?;
        let rows: Vec<_> = pages.iter().map(PageFile::ledger).collect();
        let ledger = self.put(&self.keys.part(PartKind::Ledger, 0), &rows).await?;
        let mut counts = Counts::default();
        for page in pages {
            counts.add_page(page.outcome, page.reason.as_deref(), page.spans.len() as u64, 0);
        }
        let provenance = Provenance {
            engine: "rules".into(),
            model: "rules".into(),
            model_digest: sha256_hex("rules"),
            prompt_sha256: sha256_hex("prompt"),
            labelset_sha256: labelset.sha256().to_owned(),
            options: BTreeMap::new(),
            agent_version: "0.0.0".into(),
        };
        self.json(&self.keys.spec(), &self.spec(pages, &labelset, &page_file)).await?;
        let part = ManifestPart { part: 0, pages: page_file, suggestions, ledger };
        let manifest = Manifest {
            version: VERSION,
            batch_id: self.batch.clone(),
            fingerprint: sha256_hex(self.batch.as_str()),
            parts: vec![part],
            counts,
            provenance,
            completed_at: DateTime::<Utc>::UNIX_EPOCH,
        };
        self.json(&self.keys.manifest(), &manifest).await
    }

    /// `argilla_records.parquet` alone.
    pub async fn merged(&self, pages: &[PageFile]) -> Result<()> {
        let kept = pages.iter().filter(|page| page.outcome != Outcome::Skipped);
        let records: Vec<_> = kept.map(PageFile::record).collect::<Result<_>>()?;
        self.put(&self.keys.records(), &records).await.map(drop)
    }

    fn spec(&self, pages: &[PageFile], labelset: &Labelset, file: &FileRef) -> BatchSpec {
        let mut doc_ids: Vec<_> = pages.iter().map(|page| page.doc_id.clone()).collect();
        doc_ids.dedup();
        let FileRef { key, rows, bytes, sha256 } = file.clone();
        BatchSpec {
            version: VERSION,
            batch_id: self.batch.clone(),
            created_at: DateTime::UNIX_EPOCH,
            tool_version: "tests".into(),
            labelset: LabelsetDoc {
                name: labelset.name.clone(),
                version: labelset.version.clone(),
                sha256: labelset.sha256().to_owned(),
                toml: labelset.toml().to_owned(),
            },
            engine: None,
            model: None,
            documents: doc_ids.len() as u64,
            selection: Selection { all: false, doc_ids },
            pages: pages.len() as u64,
            parts: vec![PartSpec { number: 0, key, rows, bytes, sha256 }],
            parent: None,
            retry: false,
            pilot: None,
            no_pilot: None,
        }
    }

    async fn put<R: Row>(&self, key: &Key, rows: &[R]) -> Result<FileRef> {
        let bytes = encode(rows)?;
        let file = FileRef {
            key: key.as_str().to_owned(),
            rows: rows.len() as u64,
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
        };
        self.store.put(key, bytes).await?;
        Ok(file)
    }

    async fn json(&self, key: &Key, document: &impl serde::Serialize) -> Result<()> {
        Ok(self.store.put(key, serde_json::to_vec_pretty(document)?).await?)
    }
}
