//! One file a command. Each takes what it needs from `ctx` and answers with what it did, so that `pilot run` can
//! call the others.

pub mod annotations;
pub mod argilla;
pub mod batch;
pub mod check;
pub mod doctor;
pub mod eval;
mod html;
pub mod lake;
pub mod merge;
pub mod ocr;
pub mod pilot;
pub mod preannotate;
pub mod preview;
pub mod signoff;

use crate::{
    cli::{
        AnnotationsCommand, ArgillaCommand, BatchCommand, Command, LakeCommand, OcrCommand, PilotCommand,
        PreannotateCommand,
    },
    ctx::Ctx,
    failure::Failure,
    printer::Answer,
};

/// Runs a command and prints its answer.
pub async fn dispatch(ctx: &Ctx, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Doctor(args) => show(ctx, doctor::run(ctx, args)).await,
        Command::Lake(LakeCommand::Init(args)) => show(ctx, lake::init(ctx, args)).await,
        Command::Ocr(OcrCommand::Load(args)) => show(ctx, ocr::load(ctx, args)).await,
        Command::Ocr(OcrCommand::Check(args)) => show(ctx, ocr::check(ctx, args)).await,
        Command::Batch(BatchCommand::Create(args)) => show(ctx, batch::create(ctx, args)).await,
        Command::Batch(BatchCommand::List(args)) => show(ctx, batch::list(ctx, args)).await,
        Command::Batch(BatchCommand::Show(args)) => show(ctx, batch::show(ctx, args)).await,
        Command::Batch(BatchCommand::Delete(args)) => show(ctx, batch::delete(ctx, args)).await,
        Command::Preannotate(PreannotateCommand::Submit(args)) => {
            show(ctx, preannotate::submit(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Watch(args)) => {
            show(ctx, preannotate::watch(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Status(args)) => {
            show(ctx, preannotate::status(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Cancel(args)) => {
            show(ctx, preannotate::cancel(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Retry(args)) => {
            show(ctx, preannotate::retry(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Pause(args)) => {
            show(ctx, preannotate::pause(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Resume(args)) => {
            show(ctx, preannotate::resume(ctx, args)).await
        }
        Command::Preannotate(PreannotateCommand::Priority(args)) => {
            show(ctx, preannotate::priority(ctx, args)).await
        }
        Command::Merge(args) => show(ctx, merge::run(ctx, args)).await,
        Command::Argilla(ArgillaCommand::Sync(args)) => show(ctx, argilla::sync(ctx, args)).await,
        Command::Argilla(ArgillaCommand::Autoload(args)) => show(ctx, argilla::autoload(ctx, args)).await,
        Command::Argilla(ArgillaCommand::Status(args)) => show(ctx, argilla::status(ctx, args)).await,
        Command::Argilla(ArgillaCommand::Export(args)) => show(ctx, argilla::export(ctx, args)).await,
        Command::Annotations(AnnotationsCommand::Load(args)) => show(ctx, annotations::load(ctx, args)).await,
        Command::Check(args) => show(ctx, check::run(ctx, args)).await,
        Command::Signoff(args) => show(ctx, signoff::run(ctx, args)).await,
        Command::Preview(args) => show(ctx, preview::run(ctx, args)).await,
        Command::Eval(args) => show(ctx, eval::run(ctx, args)).await,
        Command::Pilot(PilotCommand::Run(args)) => show(ctx, pilot::run(ctx, args)).await,
    }
}

async fn show<A: Answer>(
    ctx: &Ctx,
    command: impl Future<Output = Result<A, Failure>>,
) -> Result<(), Failure> {
    let answer = Box::pin(command).await?;
    ctx.printer.answer(&answer);
    answer.failure().map_or(Ok(()), Err)
}
