//! `batch`, `merge` and `preview`: what lies in a batch's folder.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use proto::ids::BatchId;

use super::{DocumentArgs, Engine};

#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Choose documents and cut their pages into parts
    #[command(after_help = "Examples:\n  control batch create pilot-1 --doc-ids-file ids.txt\n  \
                            control batch create all-2026 --all --engine ollama --model qwen3:8b\n  \
                            control batch create pilot-1b --parent pilot-1 --failed\n\n\
                            More than 1,000 pages want a signed pilot of the same labelset and model under the \
                            root, or --no-pilot \"why\".")]
    Create(CreateArgs),
    /// The batches under the root, and how far each is
    #[command(after_help = "Example:\n  control batch list --json")]
    List(ListArgs),
    /// One batch: what it is made of and how far it is
    #[command(after_help = "Example:\n  control batch show pilot-1")]
    Show(ShowArgs),
    /// Delete a batch and all that was made of it; refused while any agent works on it
    #[command(after_help = "Example:\n  control batch delete pilot-1")]
    Delete(DeleteArgs),
}

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("selection").args(["doc_ids", "doc_ids_file", "all", "failed"]).required(true).multiple(true))]
pub struct CreateArgs {
    /// 1 to 63 of a-z, 0-9, '_' and '-'
    pub batch: BatchId,
    #[command(flatten)]
    pub documents: DocumentArgs,
    /// Every document of the lake
    #[arg(long, conflicts_with_all = ["doc_ids", "doc_ids_file"])]
    pub all: bool,
    #[command(flatten)]
    pub how: HowArgs,
    /// Pages of a part
    #[arg(long, value_name = "N", default_value = "1000")]
    pub part_pages: NonZeroU32,
    /// The batch that this one annotates again
    #[arg(long, value_name = "BATCH")]
    pub parent: Option<BatchId>,
    /// The pages that failed in the parent, with its labelset, engine and model; merging the parent takes what becomes
    /// of them
    #[arg(long, requires = "parent", conflicts_with_all = ["doc_ids", "doc_ids_file", "all", "labels", "engine", "model"])]
    pub failed: bool,
    /// Why a large batch goes without a signed pilot
    #[arg(long, value_name = "WHY")]
    pub no_pilot: Option<String>,
}

/// How a batch is to be annotated; it is stored in the batch.
#[derive(Debug, Clone, Default, Args)]
pub struct HowArgs {
    /// The labelset [default: the embedded one]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Who makes the suggestions [default: the agent's]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// The model [default: the agent's]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {}

#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    pub batch: BatchId,
    /// Also where it is signed off
    #[arg(long)]
    pub signed: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    pub batch: BatchId,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  control merge pilot-1")]
pub struct MergeArgs {
    pub batch: BatchId,
    /// Merge the parts that are committed, though the batch is not complete
    #[arg(long)]
    pub partial: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  control preview pilot-1 --output pilot-1.html")]
pub struct PreviewArgs {
    pub batch: BatchId,
    /// The file to write [default: ./preview-<batch>.html]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show no more pages than this
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub max_pages: usize,
}
