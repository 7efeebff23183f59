//! `batch create --failed`: a batch of the pages that failed in another one, to be tried again.
//!
//! - The parent stays as it is: its ledger says that they failed. Merging it takes what became of them in the child, so
//!   that a page has one record, and reviewers see it once.
//! - A batch is retried by one other at a time (`_retry.json` beside it, create-only); what fails again is retried by a
//!   child of the child.
//! - Nothing is to differ but the luck: the child has the parent's labelset, engine and model.

use std::{collections::HashSet, path::Path};

use proto::{
    docs::{self, BatchSpec, FileRef, Manifest, Provenance, RetryPin},
    ids::BatchId,
    keys::BatchKeys,
    store::Created,
};

use super::Selected;
use crate::{
    batch,
    cli::HowArgs,
    ctx::Ctx,
    failure::Failure,
    lake::{Lake, Session},
    sql,
    staging::{Staging, paths},
};

/// A complete batch of which pages failed.
pub(super) struct Parent {
    pub spec: BatchSpec,
    manifest: Manifest,
}

impl Parent {
    pub async fn of(ctx: &Ctx, spec: BatchSpec) -> Result<Self, Failure> {
        let parent = &spec.batch_id;
        let manifest = batch::manifest(ctx, parent).await?.ok_or_else(|| {
            Failure::gate(format!(
                "batch {parent} is not complete, so it is not known which of its pages fail: wait for `control preannotate \
                 watch {parent}`, or `control preannotate retry {parent}` if its job failed"
            ))
        })?;
        match manifest.counts.failed {
            0 => Err(Failure::gate(format!(
                "of the {} pages of batch {parent} none failed: there is nothing to retry",
                manifest.counts.pages
            ))),
            _ => Ok(Self { spec, manifest }),
        }
    }

    /// How they were annotated, whoever chose it.
    pub fn how(&self) -> (Option<String>, Option<String>) {
        let Provenance { engine, model, .. } = &self.manifest.provenance;
        let has_model = engine != "rules";
        (Some(engine.clone()), has_model.then(|| model.clone()))
    }

    /// Writes every row of the pages that failed into one file, sorted by page key.
    pub async fn select(&self, ctx: &Ctx, to: &str) -> Result<Selected, Failure> {
        let parts = &self.manifest.parts;
        let ledgers: Vec<FileRef> = parts.iter().map(|part| part.ledger.clone()).collect();
        let staging = Staging::of(ctx)?;
        let redo = "it is not what was committed: restore it; or delete it, and `control preannotate retry BATCH --lost` \
                    for its batch makes it again";
        let ledgers = paths(&staging.stage_verified(&ledgers, redo).await?);
        let redo = "it changed after its part was committed; annotate the batch again under another id";
        let (of, read) = (list(&ledgers), ledgers.clone());
        let lake = Lake::of(ctx)?;
        let found = lake.scratch(move |session| {
            let sql = format!(
                "CREATE TEMP TABLE _failed AS SELECT filename, doc_id, page_num
                 FROM read_parquet({of}, hive_partitioning = false, union_by_name = true, filename = true)
                 WHERE outcome = 'failed'"
            );
            session.execute(&sql, [])?;
            session.query("SELECT DISTINCT filename FROM _failed", [], |row| row.get::<_, String>(0))
        });
        let found: HashSet<String> = found.await?.into_iter().collect();
        let (mut pages, mut ledgers) = (Vec::new(), Vec::new());
        for (part, ledger) in parts.iter().zip(read).filter(|(_, ledger)| found.contains(ledger)) {
            pages.push(part.pages.clone());
            ledgers.push(ledger);
        }
        let pages = list(&paths(&staging.stage_verified(&pages, redo).await?));
        let (ledgers, to) = (list(&ledgers), to.to_owned());
        let copy = move |session: &Session| {
            session.execute(
                &format!(
                    "COPY (
                        SELECT page.doc_id, page.page_num, page.text, page.text_sha256, page.run_id,
                            page.ocr_confidence, page.source_uri
                        FROM read_parquet({pages}, hive_partitioning = false, union_by_name = true) AS page
                        SEMI JOIN (
                            SELECT doc_id, page_num
                            FROM read_parquet({ledgers}, hive_partitioning = false, union_by_name = true)
                            WHERE outcome = 'failed'
                        ) AS failed ON failed.doc_id = page.doc_id AND failed.page_num = page.page_num
                        ORDER BY page.doc_id, page.page_num, page.text_sha256, sha256(page.text)
                    ) TO {to} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)"
                ),
                [],
            )?;
            let ids = format!("SELECT DISTINCT doc_id FROM read_parquet({to}) ORDER BY doc_id");
            session.query(&ids, [], |row| row.get(0))
        };
        Ok(Selected { doc_ids: lake.scratch(copy).await?, withdrawn: Vec::new() })
    }

    /// The child must have what the ledger says, no more and no less.
    pub fn accounts_for(&self, pages: u64) -> Result<(), Failure> {
        let failed = self.manifest.counts.failed;
        if pages == failed {
            return Ok(());
        }
        Err(Failure::data(format!(
            "batch {} has {failed} failed pages by its manifest and {pages} by its files: restore them, or annotate the \
             batch again under another id",
            self.spec.batch_id
        )))
    }

    /// Takes the failed pages for this batch alone.
    pub async fn claim(&self, ctx: &Ctx, child: &BatchId) -> Result<(), Failure> {
        let parent = &self.spec.batch_id;
        let key = BatchKeys::new(parent).retry();
        let pin = RetryPin { version: docs::VERSION, batch_id: child.clone() };
        let json = serde_json::to_vec_pretty(&pin)
            .map_err(|error| Failure::data(format!("{key} cannot be written as JSON: {error}")))?;
        if ctx.store()?.put_create(&key, json).await? == Created::New {
            return Ok(());
        }
        match batch::retried_by(ctx, parent).await? {
            Some(other) if other != *child => Err(Failure::gate(format!(
                "the pages that failed in batch {parent} are with batch {other}: retry what fails there with --parent \
                 {other}; if {other} was never finished, create or delete that first"
            ))),
            _ => Ok(()),
        }
    }
}

/// What is said beside `--failed` is the parent's to say.
pub(super) fn how(args: &HowArgs, parent: Option<&Parent>) -> (Option<String>, Option<String>) {
    match parent {
        Some(parent) => parent.how(),
        None => (args.engine.map(|engine| engine.as_str().to_owned()), args.model.clone()),
    }
}

/// Files as a list in SQL: a table function takes no parameters.
fn list(paths: &[String]) -> String {
    let quoted: Vec<_> = paths.iter().map(|path| sql::text(&sql::file(path))).collect();
    format!("[{}]", quoted.join(", "))
}

/// As SQL takes it.
pub(super) fn place(path: &Path) -> Result<String, Failure> {
    path.to_str().map(sql::text).ok_or_else(|| Failure::config("the cache's path is not UTF-8"))
}
