//! `preannotate`: jobs of the agent.

use clap::{Args, Subcommand};
use proto::ids::BatchId;

use super::Engine;

#[derive(Debug, Subcommand)]
pub enum PreannotateCommand {
    /// Make a job of a batch; the same batch again finds its job
    #[command(after_help = "Examples:\n  control preannotate submit pilot-1\n  \
                            control preannotate submit pilot-1 --engine ollama --model qwen3:8b --watch")]
    Submit(SubmitArgs),
    /// Show a job's progress until it ends; Ctrl-C leaves the job running
    #[command(after_help = "Example:\n  control preannotate watch pilot-1\n\n\
                            Exit code 0: the batch is complete (pages that failed are counted in its outcomes); \
                            1: the job failed or was cancelled; 130: interrupted, the job goes on.")]
    Watch(WatchArgs),
    /// The jobs that the agent knows, or one of them
    #[command(
        after_help = "Examples:\n  control preannotate status\n  control preannotate status pilot-1 --json"
    )]
    Status(StatusArgs),
    /// Stop a job; what is committed stays
    #[command(after_help = "Example:\n  control preannotate cancel pilot-1")]
    Cancel(WatchArgs),
    /// Queue a failed or cancelled job again; what is committed is not repeated
    #[command(
        after_help = "Example:\n  control preannotate retry pilot-1 && control preannotate watch pilot-1"
    )]
    Retry(WatchArgs),
}

#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    pub batch: BatchId,
    /// Over what the batch says
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Over what the batch says
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Then watch the job until it ends
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    pub batch: BatchId,
}

#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// One batch [default: all]
    pub batch: Option<BatchId>,
}
