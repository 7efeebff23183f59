//! `preannotate`: jobs of the agent.

use clap::{Args, Subcommand};
use proto::ids::BatchId;

use super::Engine;

#[derive(Debug, Subcommand)]
pub enum PreannotateCommand {
    /// Make a job of a batch; the same batch again finds its job
    #[command(after_help = "Examples:\n  control preannotate submit pilot-1\n  \
                            control preannotate submit pilot-1 --engine ollama --model qwen3:8b --watch\n  \
                            control preannotate submit all-2026 --shard 0/2 --agent http://127.0.0.1:50051\n  \
                            control preannotate submit all-2026 --shard 1/2 --agent http://127.0.0.1:50061")]
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
        after_help = "Examples:\n  control preannotate retry pilot-1 && control preannotate watch pilot-1\n  \
                      control preannotate retry pilot-1 --lost"
    )]
    Retry(RetryArgs),
    /// Stop a job until it is resumed; requests at the model server are waited for
    #[command(after_help = "Example:\n  control preannotate pause pilot-1")]
    Pause(WatchArgs),
    /// Go on with a paused job
    #[command(after_help = "Example:\n  control preannotate resume pilot-1")]
    Resume(WatchArgs),
    /// Set a job's share of the model server, in proportion to those of the others that run
    #[command(after_help = "Example:\n  control preannotate priority pilot-1 50")]
    Priority(PriorityArgs),
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
    /// Of the batch the parts whose number is I modulo N, I from 0 to N-1; the others are for other agents [default: all]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Then watch the job until it ends
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    pub batch: BatchId,
}

#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    pub batch: BatchId,
    /// Also where the batch is complete: files that got lost of its suggestions or ledger are made again as they were
    #[arg(long)]
    pub lost: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PriorityArgs {
    pub batch: BatchId,
    /// 1 to 100; a job that was given none has 10
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub weight: u32,
}

#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// One batch [default: all]
    pub batch: Option<BatchId>,
}
