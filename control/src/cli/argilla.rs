//! `argilla`: records in, answers out.

use clap::{Args, Subcommand};
use proto::ids::BatchId;

#[derive(Debug, Subcommand)]
pub enum ArgillaCommand {
    /// Find merged batches under the root and push each once, as the CronJob does
    #[command(
        after_help = "Examples:\n  control argilla autoload --once\n  control argilla autoload --interval 300\n\n\
                            Needs ARGILLA_API_URL and ARGILLA_API_KEY."
    )]
    Autoload(AutoloadArgs),
    /// Push one batch's records; what is reviewed stays as it is
    #[command(after_help = "Example:\n  control argilla sync pilot-1")]
    Sync(SyncArgs),
    /// How far the review of a batch is
    #[command(after_help = "Example:\n  control argilla status pilot-1 --json")]
    Status(StatusArgs),
    /// Write the answers to Parquet under argilla/out; equal answers are not written twice
    #[command(after_help = "Example:\n  control argilla export pilot-1 --min-reviewed 50")]
    Export(ExportArgs),
}

#[derive(Debug, Clone, Args)]
pub struct AutoloadArgs {
    /// Look once and end
    #[arg(long, conflicts_with = "interval")]
    pub once: bool,
    /// Between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub interval: u64,
    /// Only this batch
    #[arg(long, value_name = "BATCH")]
    pub batch: Option<BatchId>,
}

#[derive(Debug, Clone, Args)]
pub struct SyncArgs {
    pub batch: BatchId,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    pub batch: BatchId,
}

#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    pub batch: BatchId,
    /// Refuse while fewer records are reviewed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_reviewed: u64,
}
