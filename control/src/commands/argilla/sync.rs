//! `argilla sync`: one batch's records into its dataset.
//!
//! A second run changes nothing; what somebody answered is never touched. Interrupted, it ends between two bulks:
//! every record is as it was or as it should be.

use std::time::Instant;

use proto::{parquet_io::TableFile, schema::Table};

use super::{
    batch::MergedBatch,
    connect,
    ingest_log::{FileKey, IngestLog},
    named, page_of,
};
use crate::{
    argilla::{
        client::Client,
        dataset::{self, ReadyDataset},
        push::{self, PushReport},
    },
    cli::SyncArgs,
    ctx::Ctx,
    failure::Failure,
    lake::Lake,
    report::Report,
};

/// Rows of argilla_records.parquet in memory at a time.
const READ_ROWS: usize = 64;
/// Notes on single records in a report; the counts tell of all.
const NOTES: usize = 20;

pub async fn sync(ctx: &Ctx, args: &SyncArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let client = connect(ctx)?;
    let batch = MergedBatch::open(ctx, &args.batch).await?;
    let pushed = Pushed::push(ctx, &client, &batch).await?;
    pushed.whole(&batch)?;
    let mut report = pushed.report(ctx, "argilla sync");
    if let Err(failure) = write_down(ctx, &batch, &pushed).await {
        report = report.note(format!("the ingest log does not show this push: {failure}"));
    }
    Ok(report.since(start))
}

/// In the ingest log, so that autoload leaves the batch alone and both ways can be told from one table. Who pushes
/// without a lake goes without.
async fn write_down(ctx: &Ctx, batch: &MergedBatch, pushed: &Pushed) -> Result<(), Failure> {
    let log = IngestLog::new(Lake::of(ctx)?, "sync".to_owned(), chrono::Utc::now);
    let file = FileKey::of(ctx.store()?, &batch.dataset.name, &batch.records);
    log.pushed(file, batch.records.bytes, &pushed.sentence()).await
}

/// What a push came to.
pub(super) struct Pushed {
    pub dataset: ReadyDataset,
    pub counts: PushReport,
}

impl Pushed {
    pub async fn push(ctx: &Ctx, client: &Client, batch: &MergedBatch) -> Result<Self, Failure> {
        let workspace = &ctx.settings.argilla.workspace;
        let left = || format!("batch {}: interrupted before a record was pushed", batch.id);
        let ensure = async { Ok(dataset::ensure(client, workspace, &batch.dataset).await?) };
        let dataset = ctx.until_stopped(ensure, left).await?;

        let file = TableFile::open(ctx.store()?, &batch.records, Table::ArgillaRecords).await?;
        let progress = ctx.printer.progress(&dataset.name, Some(file.rows()));
        let rows = file.read(READ_ROWS)?;
        let counts = push::push(client, &dataset, rows, async |so_far: &PushReport| {
            progress.at(so_far.records);
            progress.message(format!("{} new, {} as they were", so_far.created, so_far.unchanged));
            if ctx.shutdown.is_cancelled() {
                return Err(Failure::interrupted(format!(
                    "batch {}: interrupted after {} records; they are whole in Argilla, run the command again to go on",
                    batch.id, so_far.records
                )));
            }
            Ok(())
        })
        .await?;
        Ok(Self { dataset, counts })
    }

    /// Fails when a record was set aside, with the counts of all.
    pub fn whole(&self, batch: &MergedBatch) -> Result<(), Failure> {
        let counts = &self.counts;
        if counts.set_aside == 0 {
            return Ok(());
        }
        let refused = counts.told.iter().filter(|(_, what)| what.starts_with("set aside"));
        Err(Failure::data(format!(
            "batch {}: {} of {} records were set aside and are not in Argilla as they should be: {}. The others are \
             ({} created, {} updated, {} unchanged, {} kept as reviewed). Merge again, or mend these pages, then run \
             the command again",
            batch.id,
            counts.set_aside,
            counts.records,
            named(refused, counts.set_aside),
            counts.created,
            counts.updated,
            counts.unchanged,
            counts.kept_reviewed
        )))
    }

    /// For the ingest log.
    pub fn sentence(&self) -> String {
        let PushReport { records, created, updated, unchanged, kept_reviewed, .. } = &self.counts;
        format!(
            "{records} records: {created} created, {updated} updated, {unchanged} unchanged, {kept_reviewed} kept as \
             reviewed"
        )
    }

    pub fn report(&self, ctx: &Ctx, stage: &str) -> Report {
        let counts = &self.counts;
        let mut report = Report::new(stage)
            .pages(counts.records, counts.records - counts.set_aside)
            .outcome("created", counts.created)
            .outcome("updated", counts.updated)
            .outcome("unchanged", counts.unchanged)
            .outcome("kept_reviewed", counts.kept_reviewed)
            .outcome("set_aside", counts.set_aside)
            .outcome_if_any("answered_while_written", counts.raced)
            .artifact(page_of(ctx, &self.dataset))
            .already_done(counts.created + counts.updated + counts.set_aside == 0);
        for (id, what) in counts.told.iter().take(NOTES) {
            report = report.note(format!("record {id:?}: {what}"));
        }
        let untold = counts.kept_reviewed + counts.raced;
        if untold > NOTES as u64 {
            report = report.note(format!("and more like these: {untold} in all"));
        }
        report
    }
}
