//! `batch create`, `list` and `show`.
//!
//! ```text
//! lake ─► one sorted file (one short transaction) ─► parts, cut by key ─► pages/*.parquet ─► _batch.json, last
//! ```
//! - `_batch.json` makes the batch, and is never changed. Until it is there, a create can be repeated or go wrong
//!   without harm; after that, it answers whether it would make the same.
//! - Pages with a wrong hash or a double key stay in: the agent gives them the outcome `skipped`.

mod cut;
mod delete;
mod failed;
mod pilot;
mod shown;

use std::{collections::HashSet, fs, path::Path, time::Instant};

use futures::{StreamExt, TryStreamExt};
use proto::{
    docs::{self, BatchSpec, LabelsetDoc, PartSpec, Selection},
    ids::BatchId,
    keys::{BatchKeys, Key, PartKind},
    labelset::Labelset,
    store::Created,
};

use crate::{
    batch,
    cli::CreateArgs,
    ctx::Ctx,
    documents,
    failure::Failure,
    lake::{Database, Lake, Session},
    report::Report,
    staging::Staging,
};
use cut::LocalPart;
pub use delete::delete;
use failed::Parent;
pub use shown::{list, show};

/// Parts on their way at a time.
const AT_ONCE: usize = 8;
/// Documents that a message names.
const TOLD: usize = 20;

pub async fn create(ctx: &Ctx, args: &CreateArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let batch = &args.batch;
    let mut asked: Vec<String> =
        documents::asked(&args.documents)?.into_iter().map(|id| id.as_str().to_owned()).collect();
    asked.sort();
    let parent = parent(ctx, args).await?;
    let labelset = match &parent {
        Some(parent) => parent.spec.labelset.clone(),
        None => labelset(args.how.labels.as_deref())?,
    };
    let there = batch::spec(ctx, batch).await?;

    let work = tempfile::Builder::new()
        .prefix("batch-")
        .tempdir_in(cache(ctx)?)
        .map_err(|error| Failure::file("make a folder in", &ctx.settings.cache, &error))?;
    let sorted = work.path().join("pages.parquet");
    let to = failed::place(&sorted)?;
    let selected = match &parent {
        Some(parent) => parent.select(ctx, &to).await?,
        None => select(ctx, (!args.all).then_some(asked), to).await?,
    };
    let keys = BatchKeys::new(batch);
    let pages_per_part = args.part_pages.get().into();
    let folder = work.path().to_owned();
    let parts = tokio::task::spawn_blocking(move || cut::parts(&sorted, &folder, pages_per_part));
    let (parts, pages) = ctx
        .until_stopped(
            async {
                parts.await.map_err(|error| Failure::data(format!("the parts cannot be cut: {error}")))?
            },
            || format!("interrupted; batch {batch} was not made"),
        )
        .await?;
    if let Some(parent) = &parent {
        parent.accounts_for(pages)?;
    }
    let (engine, model) = failed::how(&args.how, parent.as_ref());
    let mut spec = BatchSpec {
        version: docs::VERSION,
        batch_id: batch.clone(),
        created_at: ctx.now(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        labelset,
        engine,
        model,
        documents: selected.doc_ids.len() as u64,
        selection: Selection { all: args.all, doc_ids: selected.doc_ids },
        pages,
        parts: (0..).zip(&parts).map(|(number, part)| part.spec(&keys, number)).collect(),
        parent: args.parent.clone(),
        retry: args.failed,
        pilot: None,
        no_pilot: args.no_pilot.clone().or(parent.as_ref().and_then(|parent| parent.spec.no_pilot.clone())),
    };
    let report = Report::new("batch create")
        .pages(pages, pages)
        .outcome("documents", spec.documents)
        .outcome("parts", spec.parts.len() as u64)
        .outcome_if_any("double_rows", spec.parts.iter().map(|part| part.rows).sum::<u64>() - pages)
        .artifact(ctx.store()?.uri_of(&keys.spec()));
    let report = match selected.withdrawn.as_slice() {
        [] => report,
        ids => report.note(format!("left out, as they are withdrawn: {}", named(ids))),
    };
    if let Some(there) = there {
        same(&spec, &there)?;
        return Ok(report.already_done(true).since(start));
    }
    spec.pilot = pilot::pin(ctx, &spec).await?;
    if let Some(parent) = &parent {
        parent.claim(ctx, batch).await?;
    }
    write(ctx, &keys, &spec, &parts).await?;
    Ok(report.since(start))
}

/// The batch whose failed pages are asked for; otherwise a parent is a name that must be right.
async fn parent(ctx: &Ctx, args: &CreateArgs) -> Result<Option<Parent>, Failure> {
    let Some(parent) = &args.parent else { return Ok(None) };
    match batch::spec(ctx, parent).await?.filter(|_| *parent != args.batch) {
        None => Err(batch::unknown(ctx, parent).context("--parent")),
        Some(spec) if args.failed => Ok(Some(Parent::of(ctx, spec).await?)),
        Some(_) => Ok(None),
    }
}

fn cache(ctx: &Ctx) -> Result<&Path, Failure> {
    let cache = &ctx.settings.cache;
    fs::create_dir_all(cache).map_err(|error| Failure::file("make", cache, &error))?;
    Ok(cache)
}

/// The labelset of the file; the embedded one without.
pub fn labelset(file: Option<&Path>) -> Result<LabelsetDoc, Failure> {
    let labelset = match file {
        None => Labelset::embedded(),
        Some(path) => {
            let toml = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
            Labelset::parse(&toml).map_err(|error| Failure::from(error).context(path.display()))?
        }
    };
    Ok(LabelsetDoc {
        sha256: labelset.sha256().to_owned(),
        toml: labelset.toml().to_owned(),
        name: labelset.name,
        version: labelset.version,
    })
}

struct Selected {
    /// Those whose pages are in the batch, sorted.
    doc_ids: Vec<String>,
    withdrawn: Vec<String>,
}

/// Writes the newest run of the documents (None: of all) into one file, sorted by page key.
async fn select(ctx: &Ctx, asked: Option<Vec<String>>, to: String) -> Result<Selected, Failure> {
    let work = move |session: &Session| {
        let asked = asked.map(|ids| serde_json::json!(ids).to_string());
        let all = "CREATE TEMP TABLE _asked AS SELECT DISTINCT doc_id FROM rawdb.main.raw_pages";
        match &asked {
            None => session.execute(all, [])?,
            Some(ids) => session
                .execute("CREATE TEMP TABLE _asked AS SELECT unnest(?::JSON::VARCHAR[]) AS doc_id", [ids])?,
        };
        let ids = |sql: &str| session.query(sql, [], |row| row.get::<_, String>(0));
        let unknown = ids("FROM _asked ANTI JOIN rawdb.main.raw_pages USING (doc_id) ORDER BY doc_id")?;
        if !unknown.is_empty() {
            return Err(Failure::data(format!(
                "the lake has no pages of {}: run `control ocr load`, or mend the list",
                named(&unknown)
            )));
        }
        let doc_ids = ids("FROM _asked ANTI JOIN rawdb.main.tombstones USING (doc_id) ORDER BY doc_id")?;
        let withdrawn = ids("FROM _asked SEMI JOIN rawdb.main.tombstones USING (doc_id) ORDER BY doc_id")?;
        if doc_ids.is_empty() {
            return Err(Failure::data(
                "no document is left to make a batch of: all are withdrawn, or the lake is empty",
            ));
        }
        session.execute(
            &format!(
                "COPY (
                    WITH chosen AS (FROM _asked ANTI JOIN rawdb.main.tombstones USING (doc_id)),
                    newest AS (
                        SELECT doc_id, max(run_id) AS run_id
                        FROM rawdb.main.raw_pages SEMI JOIN chosen USING (doc_id) GROUP BY doc_id
                    ), source AS (
                        SELECT doc_id, run_id, min(r2_key) AS source_uri
                        FROM rawdb.main.raw_documents SEMI JOIN newest USING (doc_id, run_id) GROUP BY doc_id, run_id
                    )
                    SELECT page.doc_id, page.page_num, page.text, page.text_sha256, page.run_id, page.ocr_confidence,
                        source.source_uri
                    FROM rawdb.main.raw_pages AS page
                    SEMI JOIN newest ON newest.doc_id = page.doc_id AND newest.run_id = page.run_id
                    LEFT JOIN source ON source.doc_id = page.doc_id AND source.run_id = page.run_id
                    ORDER BY page.doc_id, page.page_num, page.text_sha256, sha256(page.text)
                ) TO {to} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)"
            ),
            [],
        )?;
        Ok(Selected { doc_ids, withdrawn })
    };
    Lake::of(ctx)?.read(&[Database::Raw], work).await
}

fn named(ids: &[String]) -> String {
    let first: Vec<_> = ids.iter().take(TOLD).map(|id| format!("{id:?}")).collect();
    match ids.len().saturating_sub(TOLD) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Says in what a batch that is there differs from the one asked for.
fn same(asked: &BatchSpec, there: &BatchSpec) -> Result<(), Failure> {
    // The pin is of the day on which the batch was made.
    let mut asked = asked.clone();
    asked.pilot.clone_from(&there.pilot);
    if asked.content_sha256() == there.content_sha256() {
        return Ok(());
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let id = |value: &Option<BatchId>| value.as_ref().map_or("none".to_owned(), ToString::to_string);
    let versioned = |spec: &BatchSpec| {
        let labelset = &spec.labelset;
        format!("{} {} ({})", labelset.name, labelset.version, labelset.sha256.get(..12).unwrap_or_default())
    };
    let number = |value: u64| value.to_string();
    let mut differs: Vec<String> = [
        ("labelset", versioned(there), versioned(&asked)),
        ("engine", text(&there.engine), text(&asked.engine)),
        ("model", text(&there.model), text(&asked.model)),
        ("documents", number(there.documents), number(asked.documents)),
        ("pages", number(there.pages), number(asked.pages)),
        ("parts", number(there.parts.len() as u64), number(asked.parts.len() as u64)),
        ("parent", id(&there.parent), id(&asked.parent)),
        ("--failed", there.retry.to_string(), asked.retry.to_string()),
        ("--no-pilot", text(&there.no_pilot), text(&asked.no_pilot)),
    ]
    .into_iter()
    .filter(|(_, there, asked)| there != asked)
    .map(|(what, there, asked)| format!("{what}: there {there}, asked for {asked}"))
    .collect();
    if there.selection.doc_ids != asked.selection.doc_ids {
        let ids = |spec: &BatchSpec| spec.selection.doc_ids.iter().cloned().collect::<HashSet<_>>();
        let mut odd: Vec<_> = ids(there).symmetric_difference(&ids(&asked)).cloned().collect();
        odd.sort();
        differs.push(format!("documents only in one of them: {}", named(&odd)));
    } else if there.pages == asked.pages && there.parts != asked.parts {
        differs.push("the pages' content: the lake has changed since".to_owned());
    }
    if there.selection.all != asked.selection.all && differs.is_empty() {
        differs.push("--all".to_owned());
    }
    Err(Failure::data(format!(
        "batch {} is there already with other content ({}): a batch is never changed, choose another id",
        there.batch_id,
        differs.join("; ")
    )))
}

/// The parts, then the document that makes them a batch.
async fn write(ctx: &Ctx, keys: &BatchKeys, spec: &BatchSpec, parts: &[LocalPart]) -> Result<(), Failure> {
    let (store, staging, batch) = (ctx.store()?, Staging::of(ctx)?, &spec.batch_id);
    for object in store.list_sorted(keys.folder()).await? {
        if keys.part_number(PartKind::Pages, &object.key).is_none() {
            return Err(Failure::data(format!(
                "{} is not of `control batch create`: another producer uses batch {batch}, choose another id",
                store.uri_of(&object.key)
            )));
        }
        // Left by a create that did not end, and longer than this one.
        if !spec.parts.iter().any(|part| part.key == object.key.as_str()) {
            store.delete(&object.key).await?;
        }
    }
    let progress = ctx.printer.progress("batch create", Some(parts.len() as u64));
    let uploads = parts.iter().zip(&spec.parts).map(|(part, PartSpec { key, .. })| {
        let (staging, key) = (&staging, Key::from_listing(key));
        async move { staging.upload(&part.path, &key).await }
    });
    let mut uploads = futures::stream::iter(uploads).buffer_unordered(AT_ONCE);
    let mut done = 0;
    while let Some(()) = uploads.try_next().await? {
        done += 1;
        progress.at(done);
    }
    let json = serde_json::to_vec_pretty(spec)
        .map_err(|error| Failure::data(format!("batch {batch} cannot be written as JSON: {error}")))?;
    if store.put_create(&keys.spec(), json).await? == Created::Exists {
        // Our own, retried, or that of somebody who was faster.
        let there = batch::spec(ctx, batch).await?.ok_or_else(|| batch::unknown(ctx, batch))?;
        same(spec, &there)?;
    }
    Ok(())
}
