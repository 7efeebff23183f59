//! The agent and Argilla's export, played over a batch that `control` made: the files that they would leave, from a
//! planted truth. For tests of the lake's stages alone; nothing is inferred and nobody reviews.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use proto::{
    docs::{CommitRecord, CommitTags, Counts, FileRef, Manifest, ManifestPart, Provenance, VERSION},
    hash::sha256_hex,
    ids::{BatchId, CharSpan, DocId, PageKey},
    keys::{BatchKeys, Key, PartKind},
    parquet_io::{encode, read_all},
    rows::{AnnotatedPage, AnnotatedSpan, ArgillaRecord, BatchPage, LedgerRow, Outcome, Row, Suggestion},
    store::{Created, Env, Store},
};
use serde_json::json;

use crate::sme::truth::Truth;

/// Plays over one batch of one root.
#[derive(Debug, Clone)]
pub struct Played {
    pub store: Store,
    pub keys: BatchKeys,
    batch: BatchId,
}

impl Played {
    pub fn new(root: &str, batch: &str) -> Result<Self> {
        Self::over(Store::open(root, &Env::new())?, batch)
    }

    pub fn over(store: Store, batch: &str) -> Result<Self> {
        let batch: BatchId = batch.parse()?;
        Ok(Self { store, keys: BatchKeys::new(&batch), batch })
    }

    /// Suggests the true spans of every part and commits it; with the manifest, if asked for.
    pub async fn annotate(&self, truth: &Truth, parts: &[u32], manifest: bool) -> Result<()> {
        let mut done = Vec::new();
        let mut counts = Counts::default();
        for part in parts {
            let commit = self.part(truth, *part).await?;
            counts.add(&commit.counts);
            self.create(&self.keys.part(PartKind::Commits, *part), &commit).await?;
            let CommitRecord { part, pages, suggestions, ledger, .. } = commit;
            done.push(ManifestPart { part, pages, suggestions, ledger });
        }
        if manifest {
            let manifest = Manifest {
                version: VERSION,
                batch_id: self.batch.clone(),
                fingerprint: sha256_hex("played"),
                parts: done,
                counts,
                provenance: provenance(),
                completed_at: DateTime::UNIX_EPOCH,
            };
            self.create(&self.keys.manifest(), &manifest).await?;
        }
        Ok(())
    }

    async fn part(&self, truth: &Truth, part: u32) -> Result<CommitRecord> {
        let key = self.keys.part(PartKind::Pages, part);
        let mut pages: BTreeMap<(String, i32), Vec<BatchPage>> = BTreeMap::new();
        for page in read_all::<BatchPage>(&self.store, &key).await? {
            let id = (page.doc_id.clone().context("a doc_id")?, page.page_num.context("a page_num")?);
            pages.entry(id).or_default().push(page);
        }
        let (mut suggestions, mut ledger, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        for ((doc_id, page_num), rows) in pages {
            let page = PageKey::new(DocId::new(doc_id)?, page_num);
            let (outcome, reason, spans) = judge(&page, &rows, truth)?;
            counts.add_page(outcome, reason, spans.len() as u64, 0);
            ledger.push(LedgerRow {
                doc_id: page.doc_id.to_string(),
                page_num,
                page_sha256: rows[0].text_sha256.clone(),
                outcome,
                reason: reason.map(str::to_owned),
                spans: i32::try_from(spans.len())?,
                ungrounded: 0,
                chunks: 1,
                attempts: 0,
                prompt_tokens: 0,
                output_tokens: 0,
                latency_ms: 1,
                run_id: rows[0].run_id,
            });
            suggestions.extend(spans);
        }
        let bytes = self.store.get(&key).await?;
        Ok(CommitRecord {
            version: VERSION,
            batch_id: self.batch.clone(),
            part,
            fingerprint: sha256_hex("played"),
            pages: file(&key, ledger.len(), &bytes),
            suggestions: self.put(&self.keys.part(PartKind::Suggestions, part), &suggestions).await?,
            ledger: self.put(&self.keys.part(PartKind::Ledger, part), &ledger).await?,
            counts,
            provenance: provenance(),
            committed_at: DateTime::UNIX_EPOCH,
            etags: CommitTags::default(),
        })
    }

    /// Exports the answers of two annotators, who both take every suggestion over.
    pub async fn export(&self, run: i64) -> Result<()> {
        let (at, mut pages, mut spans) = (self.keys.export(run), Vec::new(), Vec::new());
        let records = read_all::<ArgillaRecord>(&self.store, &self.keys.records()).await?;
        for record in &records {
            let page = PageKey::new(DocId::new(&record.doc_id)?, record.page_num);
            for annotator in ["ada", "bob"] {
                pages.push(AnnotatedPage {
                    argilla_record_id: record.id.clone(),
                    doc_id: record.doc_id.clone(),
                    page_num: record.page_num,
                    status: "submitted".into(),
                    annotator_id: annotator.into(),
                    reviewer_id: None,
                    record_sha256: sha256_hex(&record.id),
                    record_json: json!({"id": record.id}).to_string(),
                    run_id: record.run_id,
                    page_sha256: record.text_sha256.clone(),
                });
                for entity in &record.suggestions_entities {
                    let place = CharSpan::new(u32::try_from(entity.start)?, u32::try_from(entity.end)?);
                    let place = place.context("a span is not empty")?;
                    let text = place.slice(&record.text).context("a span is on its page")?;
                    spans.push(AnnotatedSpan {
                        argilla_record_id: record.id.clone(),
                        span_id: page.span_id(&entity.label, place),
                        doc_id: record.doc_id.clone(),
                        page_num: record.page_num,
                        label: entity.label.clone(),
                        start: entity.start,
                        end: entity.end,
                        text: text.to_owned(),
                        text_sha256: sha256_hex(text),
                        norm_value: None,
                        annotator_id: annotator.into(),
                        run_id: record.run_id,
                        page_sha256: record.text_sha256.clone(),
                    });
                }
            }
        }
        let pages_file = self.put(&at.pages(0), &pages).await?;
        let spans_file = self.put(&at.spans(0), &spans).await?;
        let table = |rows: u64, file: FileRef| json!({"columns": [], "rows": rows, "files": [file]});
        let now: DateTime<Utc> = DateTime::UNIX_EPOCH;
        let schema = json!({
            "version": VERSION, "batch_id": self.batch, "argilla_dataset": self.batch.dataset(),
            "export_run_id": run, "record_count": records.len(), "checksum": sha256_hex("played"),
            "started_at": now, "completed_at": now, "tool_version": "played",
            "pages": table(pages.len() as u64, pages_file), "spans": table(spans.len() as u64, spans_file),
        });
        Ok(self.store.put(&at.schema(), serde_json::to_vec(&schema)?).await?)
    }

    async fn put<R: Row>(&self, key: &Key, rows: &[R]) -> Result<FileRef> {
        let bytes = encode(rows)?;
        self.store.put(key, bytes.clone()).await?;
        Ok(file(key, rows.len(), &bytes))
    }

    async fn create(&self, key: &Key, document: &impl serde::Serialize) -> Result<()> {
        let created = self.store.put_create(key, serde_json::to_vec(document)?).await?;
        anyhow::ensure!(created == Created::New, "{key} is there already");
        Ok(())
    }
}

type Judged = (Outcome, Option<&'static str>, Vec<Suggestion>);

/// As the agent must: a page that is not what it says is skipped, a blank one is empty.
fn judge(page: &PageKey, rows: &[BatchPage], truth: &Truth) -> Result<Judged> {
    let row = &rows[0];
    let skipped = |reason| Ok((Outcome::Skipped, Some(reason), Vec::new()));
    let Some(text) = &row.text else { return skipped("null_text") };
    if rows.iter().any(|other| other.text != row.text) {
        return skipped("duplicate_key");
    }
    if row.text_sha256.as_deref() != Some(sha256_hex(text).as_str()) {
        return skipped("hash_mismatch");
    }
    if text.trim().is_empty() {
        return Ok((Outcome::Empty, Some("blank_text"), Vec::new()));
    }
    let true_spans = truth.page(page.doc_id.as_str(), row.run_id.unwrap_or(1), page.page_num.into());
    let suggestions = true_spans.unwrap_or_default().iter().map(|span| {
        let place = CharSpan::new(span.start, span.end).context("a span is not empty")?;
        let words = place.slice(text).context("a span is on its page")?;
        Ok(Suggestion {
            doc_id: page.doc_id.to_string().into(),
            page_num: page.page_num,
            span_id: page.span_id(&span.label, place).into(),
            label: span.label.clone().into(),
            start: i32::try_from(span.start)?,
            end: i32::try_from(span.end)?,
            text: words.to_owned().into(),
            text_sha256: sha256_hex(words).into(),
            confidence: Some(0.5),
            model: "played".into(),
            model_version: sha256_hex("played").into(),
            generated_at: DateTime::UNIX_EPOCH,
            match_kind: "exact".into(),
            similarity: 1.0,
            page_sha256: sha256_hex(text).into(),
            prompt_sha256: sha256_hex("played").into(),
            source: "rules".into(),
            norm_value: None,
            run_id: row.run_id,
        })
    });
    let suggestions: Vec<_> = suggestions.collect::<Result<_>>()?;
    Ok(match suggestions.is_empty() {
        true => (Outcome::Empty, Some("no_mentions"), suggestions),
        false => (Outcome::Suggested, None, suggestions),
    })
}

fn file(key: &Key, rows: usize, bytes: &[u8]) -> FileRef {
    FileRef {
        key: key.as_str().to_owned(),
        rows: rows as u64,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    }
}

fn provenance() -> Provenance {
    Provenance {
        engine: "rules".into(),
        model: "played".into(),
        model_digest: sha256_hex("played"),
        prompt_sha256: sha256_hex("played"),
        labelset_sha256: proto::labelset::Labelset::embedded().sha256().to_owned(),
        options: BTreeMap::new(),
        agent_version: "0.0.0".into(),
    }
}
