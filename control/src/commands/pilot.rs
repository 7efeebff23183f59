//! `pilot run`: the runbook in one command. Every stage is the command of its name, and finds what it did before, so
//! that running again goes on.
//!
//! ```text
//! doctor ─► lake init ─► ocr load ─► ocr check ─► batch create ─► preannotate ─► merge ─► argilla sync
//!           ─► review (people) ─► argilla export ─► annotations load ─► check ─► signoff ─► preview
//! ```

use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use proto::ids::BatchId;
use serde::Serialize;

use super::{
    annotations, argilla, batch, check, doctor, lake, merge, ocr, preannotate, preview,
    signoff::{self, log_folder},
};
use crate::{
    cli::{
        AnnotationsLoadArgs, CheckArgs, CreateArgs, DoctorArgs, DocumentArgs, ExportArgs, InitArgs,
        MergeArgs, OcrArgs, PilotRunArgs, Prerequisite, PreviewArgs, SignoffArgs, Stage, SyncArgs,
    },
    ctx::Ctx,
    failure::Failure,
    printer::Answer,
    report::{Report, stage_table},
};

/// Between two looks at a review that is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The stages that ran, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Pilot {
    pub batch: BatchId,
    pub stages: Vec<Report>,
    /// What people have to do before it can go on.
    pub waits_for: Option<String>,
}

impl Answer for Pilot {
    fn text(&self) -> String {
        let mut text = stage_table(&self.stages);
        for report in &self.stages {
            for note in &report.notes {
                text.push_str(&format!("note: {}: {note}\n", report.stage));
            }
        }
        for report in &self.stages {
            for artifact in &report.artifacts {
                text.push_str(&format!("{}: {artifact}\n", report.stage));
            }
        }
        if let Some(wait) = &self.waits_for {
            text.push_str(&format!("{wait}\n"));
        }
        text
    }
}

pub async fn run(ctx: &Ctx, args: &PilotRunArgs) -> Result<Pilot, Failure> {
    let mut pilot = Pilot { batch: args.batch.clone(), stages: Vec::new(), waits_for: None };
    let until = args.until.unwrap_or(Stage::Preview);
    for stage in Stage::value_variants().iter().copied().filter(|stage| *stage <= until) {
        let start = Instant::now();
        let done =
            Box::pin(one(ctx, args, stage, until)).await.map_err(|failure| failure.context(name(stage)))?;
        let report = match done {
            Done::Stage(report) => report,
            Done::Waits { report, wait } => {
                pilot.stages.push(report.since(start));
                pilot.waits_for = Some(wait);
                return Ok(pilot);
            }
        };
        ctx.printer.note(&format!("{:<14}{:.2} s", report.stage, start.elapsed().as_secs_f64()));
        pilot.stages.push(report.since(start));
    }
    Ok(pilot)
}

enum Done {
    Stage(Report),
    Waits { report: Report, wait: String },
}

async fn one(ctx: &Ctx, args: &PilotRunArgs, stage: Stage, until: Stage) -> Result<Done, Failure> {
    let batch = &args.batch;
    let documents = || DocumentArgs {
        doc_ids: args.documents.doc_ids.clone(),
        doc_ids_file: args.documents.doc_ids_file.clone(),
    };
    let report = match stage {
        Stage::Doctor => doctor::stage(ctx, &DoctorArgs { skip: not_needed(until) }).await?,
        Stage::LakeInit => lake::init(ctx, &InitArgs::default()).await?,
        Stage::OcrLoad => ocr::load(ctx, &OcrArgs { documents: documents() }).await?,
        Stage::OcrCheck => ocr::check(ctx, &OcrArgs { documents: documents() }).await?,
        Stage::BatchCreate => batch::create(ctx, &creation(args)).await?,
        Stage::Preannotate => preannotate::annotate(ctx, batch).await?,
        Stage::Merge => merge::run(ctx, &MergeArgs { batch: batch.clone(), partial: false }).await?,
        Stage::Argilla => argilla::sync(ctx, &SyncArgs { batch: batch.clone() }).await?,
        Stage::Review => return review(ctx, args).await,
        Stage::Export => {
            argilla::export(
                ctx,
                &ExportArgs { batch: batch.clone(), min_reviewed: args.min_reviewed.unwrap_or(1) },
            )
            .await?
        }
        Stage::Annotations => {
            annotations::load(ctx, &AnnotationsLoadArgs { batch: batch.clone(), export_run: None }).await?
        }
        Stage::Check => {
            let checked = check::run(
                ctx,
                &CheckArgs { batch: Some(batch.clone()), documents: DocumentArgs::default() },
            )
            .await?;
            // What can be accepted is judged by the sign-off, which knows the reasons.
            if let Some(gate) = checked.gate().filter(|_| args.investigated.is_empty()) {
                ctx.printer.note(checked.text().trim_end());
                return Err(Failure::gate(gate));
            }
            checked.report
        }
        Stage::Signoff => {
            let args = SignoffArgs {
                batch: batch.clone(),
                investigated: args.investigated.clone(),
                by: args.by.clone(),
                output: args.output.clone(),
            };
            signoff::run(ctx, &args).await?
        }
        Stage::Preview => {
            let folder = log_folder(args.output.as_deref(), batch);
            let output = Some(folder.join("preview.html"));
            preview::run(ctx, &PreviewArgs { batch: batch.clone(), output, max_pages: MAX_PAGES }).await?
        }
    };
    Ok(Done::Stage(report))
}

/// As many pages as a pilot may have.
const MAX_PAGES: usize = 1000;

/// What the stages up to `until` do without.
fn not_needed(until: Stage) -> Vec<Prerequisite> {
    let needs = [
        (Prerequisite::Agent, Stage::Preannotate),
        (Prerequisite::Model, Stage::Preannotate),
        (Prerequisite::Argilla, Stage::Argilla),
    ];
    needs.into_iter().filter(|(_, stage)| until < *stage).map(|(prerequisite, _)| prerequisite).collect()
}

fn creation(args: &PilotRunArgs) -> CreateArgs {
    CreateArgs {
        batch: args.batch.clone(),
        documents: args.documents.clone(),
        all: args.all,
        how: args.how.clone(),
        part_pages: PART_PAGES,
        parent: None,
        failed: false,
        no_pilot: None,
    }
}

/// As `batch create` has it by default.
const PART_PAGES: std::num::NonZeroU32 = std::num::NonZeroU32::new(1000).expect("1000 is not 0");

/// Looks how far people are; waits for them as long as asked.
async fn review(ctx: &Ctx, args: &PilotRunArgs) -> Result<Done, Failure> {
    let batch = &args.batch;
    let give_up = Instant::now() + Duration::from_secs(args.review_timeout);
    loop {
        let review = argilla::review(ctx, batch).await?;
        let wanted = args.min_reviewed.unwrap_or(review.records).min(review.records);
        let report = Report::new("review")
            .pages(review.records, review.reviewed)
            .outcome("submitted", review.submitted)
            .outcome_if_any("discarded", review.reviewed - review.submitted);
        if review.reviewed >= wanted {
            return Ok(Done::Stage(report));
        }
        if Instant::now() >= give_up {
            let url = ctx.settings.argilla.url.as_deref().unwrap_or_default();
            let wait = format!(
                "{} of {wanted} records are reviewed: review {} at {url}, then run the same command again",
                review.reviewed,
                batch.dataset()
            );
            return Ok(Done::Waits { report, wait });
        }
        let pause = async {
            tokio::time::sleep(LOOK_AGAIN).await;
            Ok(())
        };
        ctx.until_stopped(pause, || "interrupted while people review; run the command again".to_owned())
            .await?;
    }
}

fn name(stage: Stage) -> String {
    stage.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', " "))
}
