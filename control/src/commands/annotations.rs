//! `annotations load`: an export into `md_annotated`, whole and once.
//!
//! An export is complete once its `schema.json` is there; its files are read with the hashes that it says.

use std::time::Instant;

use proto::{ids::BatchId, keys::BatchKeys};

use crate::{
    argilla::export::{self, ExportDoc},
    batch,
    cli::AnnotationsLoadArgs,
    ctx::Ctx,
    failure::Failure,
    lake::{Database, Lake},
    report::Report,
    sql::{Params, Script},
    staging::{Staging, paths},
};

pub async fn load(ctx: &Ctx, args: &AnnotationsLoadArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let export = find(ctx, &args.batch, args.export_run).await?;
    let staging = Staging::of(ctx)?;
    let redo = "it changed after the export; run `control argilla export` again";
    let pages = paths(&staging.stage_verified(&export.pages.files, redo).await?);
    let spans = paths(&staging.stage_verified(&export.spans.files, redo).await?);
    let record_count = i64::try_from(export.record_count).map_err(|_| {
        Failure::data(format!("export {}: its record_count is no count", export.export_run_id))
    })?;
    let params = Params::default()
        .text("argilla_dataset", Some(&export.argilla_dataset))
        .files("pages_glob", &pages)
        .files("spans_glob", &spans)
        .number("export_run_id", Some(export.export_run_id))
        .number("record_count", Some(record_count))
        .time("started_at", export.started_at)
        .time("completed_at", export.completed_at)
        .time("loaded_at", ctx.now())
        .text("tool_version", Some(&export.tool_version));
    let lake = Lake::of(ctx)?;
    let counts = lake
        .write(Database::Annotated, move |session| {
            session.run(Script::LoadAnnotated, &params)?;
            session.report("_annotations_report")
        })
        .await?;
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    let loaded = count("pages_loaded");
    let uri = ctx.store()?.uri_of(&BatchKeys::new(&args.batch).export(export.export_run_id).schema());
    Ok(Report::new("annotations load")
        .pages(export.record_count, count("record_count"))
        .outcome("export_run_id", count("export_run_id"))
        .outcome("answers", count("pages_in_files"))
        .outcome("answers_loaded", loaded)
        .outcome("spans", count("spans_in_files"))
        .outcome("spans_loaded", count("spans_loaded"))
        .artifact(uri)
        .artifact(lake.uri(Database::Annotated))
        .already_done(loaded == 0)
        .since(start))
}

/// The export asked for; the newest complete one without.
pub(super) async fn find(ctx: &Ctx, batch: &BatchId, asked: Option<i64>) -> Result<ExportDoc, Failure> {
    let (store, keys) = (ctx.store()?, BatchKeys::new(batch));
    let Some(run) = asked else {
        return export::last(store, &keys).await?.ok_or_else(|| {
            Failure::data(format!(
                "batch {batch} has no complete export below {}/{}: run `control argilla export {batch}`",
                store.root(),
                keys.exports()
            ))
        });
    };
    let key = keys.export(run).schema();
    let export: ExportDoc = batch::document(ctx, &key).await?.ok_or_else(|| {
        Failure::data(format!(
            "{} is not there: batch {batch} has no complete export {run}",
            store.uri_of(&key)
        ))
    })?;
    if export.export_run_id != run || export.argilla_dataset != batch.dataset() {
        return Err(Failure::data(format!(
            "{} is of export {} of {}: it lies in the wrong folder",
            store.uri_of(&key),
            export.export_run_id,
            export.argilla_dataset
        )));
    }
    Ok(export)
}
