//! `argilla export`: people's answers as Parquet under `argilla/out`.
//!
//! An export counts from the moment its `schema.json` is there; interrupted before that, nothing refers to it.

use std::time::Instant;

use proto::keys::BatchKeys;

use super::{connect, found, named};
use crate::{
    argilla::export::{self, ExportReport},
    cli::ExportArgs,
    ctx::Ctx,
    failure::Failure,
    report::Report,
};

pub async fn export(ctx: &Ctx, args: &ExportArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let batch = &args.batch;
    let store = ctx.store()?;
    let work = async {
        let client = connect(ctx)?;
        let dataset = found(ctx, &client, batch).await?;
        if store.head_opt(&BatchKeys::new(batch).records()).await?.is_none() {
            return Err(Failure::data(format!(
                "batch {batch} is not merged under {}: its answers cannot be told apart from others'; is --root right?",
                store.root()
            )));
        }
        let progress = ctx.printer.progress("export", None);
        progress.message("reading the answers");
        Ok(export::export(&client, store, batch, &dataset, args.min_reviewed).await?)
    };
    let left = || format!("batch {batch}: interrupted; no export was completed");
    let exported = ctx.until_stopped(work, left).await?;
    if exported.set_aside > 0 {
        return Err(incomplete(&exported));
    }
    Ok(report(&exported).since(start))
}

/// The export is there, without answers that people gave.
fn incomplete(exported: &ExportReport) -> Failure {
    Failure::data(format!(
        "{}: {} reviewed records are not in the export: {}. The other {} are in {}. Delete these answers in Argilla, \
         run `control argilla sync` and have them reviewed on the text that the batch has now, then export again",
        exported.dataset,
        exported.set_aside,
        named(exported.told.iter(), exported.set_aside),
        exported.record_count,
        exported.uri
    ))
}

fn report(exported: &ExportReport) -> Report {
    let unanswered = exported.records.saturating_sub(exported.record_count);
    let report = Report::new("argilla export")
        .pages(exported.records, exported.record_count)
        .outcome("submitted", exported.submitted)
        .outcome("discarded", exported.discarded)
        .outcome("spans", exported.spans)
        .outcome_if_any("not_reviewed", unanswered)
        .artifact(&exported.uri)
        .already_done(!exported.written);
    if exported.written {
        report.note(format!("this is export {} of {}", exported.export_run_id, exported.dataset))
    } else {
        report
            .note(format!("export {} of {} says all this already", exported.export_run_id, exported.dataset))
    }
}
