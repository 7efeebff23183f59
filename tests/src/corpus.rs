//! Pages to run on: the committed corpus, and small ones that a test writes as the OCR job would.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDate, Utc};
use proto::{
    hash::sha256_hex,
    ids::DocId,
    keys::{self, Key},
    parquet_io::encode,
    rows::Row,
    schema::Table,
    store::{Env, Store},
};
use serde::{Deserialize, Serialize};

/// `examples/` of the checkout.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Copies the committed corpus into a root, as the OCR job would have left it there.
pub fn copy_examples(root: &Path) -> Result<()> {
    copy_tree(&examples().join("md_raw_ocr"), &root.join("md_raw_ocr"))
}

/// The same as objects of any store: only these documents, or all.
pub async fn put_examples(store: &Store, doc_ids: Option<&[&str]>) -> Result<()> {
    let folders = doc_ids
        .map(|ids| ids.iter().map(|id| Ok(keys::doc_folder(&DocId::new(*id)?))).collect::<Result<Vec<_>>>());
    let folders = folders.transpose()?;
    let from = examples();
    let mut open = vec![from.join("md_raw_ocr")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let key = path.strip_prefix(&from)?.to_str().context("the corpus has names in UTF-8")?;
            let wanted = |folders: &Vec<String>| key.split('/').any(|name| folders.iter().any(|f| f == name));
            if folders.as_ref().is_none_or(wanted) {
                store.put(&Key::from_listing(key), fs::read(&path)?).await?;
            }
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if !target.exists() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A row of `raw_documents`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawDocument {
    pub doc_id: String,
    pub run_id: i64,
    pub ingest_ts: DateTime<Utc>,
    pub filename: String,
    pub r2_key: String,
    pub content_type: String,
    pub size_bytes: i64,
    pub doc_sha256: String,
    pub uploader: String,
    pub source_meta_json: String,
    pub hf_space_commit: String,
    pub ocr_model: String,
    pub ocr_image_digest: String,
    pub ocr_params_json: String,
}

impl Row for RawDocument {
    const TABLE: Table = Table::RawDocuments;
}

/// A row of `raw_pages`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RawPage {
    pub doc_id: String,
    pub run_id: i64,
    pub page_num: i32,
    pub page_width: i32,
    pub page_height: i32,
    pub text: Option<String>,
    pub text_sha256: Option<String>,
    pub page_image_sha256: String,
    pub ocr_confidence: Option<f64>,
    pub blocks_json: String,
    pub lines_json: String,
    pub tables_json: String,
    pub figures_json: String,
    pub ocr_runtime_ms: i64,
    pub created_at: DateTime<Utc>,
}

impl Row for RawPage {
    const TABLE: Table = Table::RawPages;
}

impl RawDocument {
    pub fn new(doc_id: &str, run_id: i64) -> Self {
        Self {
            doc_id: doc_id.into(),
            run_id,
            ingest_ts: DateTime::UNIX_EPOCH,
            filename: "document.pdf".into(),
            r2_key: "uploads/document.pdf".into(),
            content_type: "application/pdf".into(),
            size_bytes: 1,
            doc_sha256: sha256_hex(doc_id),
            uploader: "test".into(),
            source_meta_json: "{}".into(),
            hf_space_commit: "0".into(),
            ocr_model: "test".into(),
            ocr_image_digest: "sha256:0".into(),
            ocr_params_json: "{}".into(),
        }
    }
}

impl RawPage {
    /// A page whose hash is right.
    pub fn new(doc_id: &str, run_id: i64, page_num: i32, text: &str) -> Self {
        Self {
            doc_id: doc_id.into(),
            run_id,
            page_num,
            page_width: 1000,
            page_height: 1400,
            text: Some(text.into()),
            text_sha256: Some(sha256_hex(text)),
            page_image_sha256: sha256_hex("image"),
            ocr_confidence: Some(0.9),
            blocks_json: "[]".into(),
            lines_json: "[]".into(),
            tables_json: "[]".into(),
            figures_json: "[]".into(),
            ocr_runtime_ms: 1,
            created_at: DateTime::UNIX_EPOCH,
        }
    }
}

/// Writes one document and its pages under a root, in the layout of the OCR job.
pub async fn write_document(root: &str, document: &RawDocument, pages: &[RawPage]) -> Result<()> {
    put_document(&Store::open(root, &Env::new())?, document, pages).await
}

/// The same into any store.
pub async fn put_document(store: &Store, document: &RawDocument, pages: &[RawPage]) -> Result<()> {
    let doc_id = DocId::new(&document.doc_id)?;
    let date = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap_or_default();
    let documents = encode(std::slice::from_ref(document))?;
    store.put(&keys::raw_documents(date, &doc_id, document.run_id), documents).await?;
    store.put(&keys::raw_pages(&doc_id, document.run_id), encode(pages)?).await?;
    Ok(())
}
