//! `pilot run`: the runbook in one command.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use proto::ids::BatchId;

use super::{DocumentArgs, Investigated, batch::HowArgs};

#[derive(Debug, Subcommand)]
pub enum PilotCommand {
    /// All stages in order; run again, it goes on where it was
    #[command(
        after_help = "Examples:\n  control pilot run pilot-1 --doc-id register-001 --doc-id licence-002\n  \
                            control pilot run pilot-1 --all --until check\n\n\
                            It stops with exit code 0 where people review. Run it again when they are done."
    )]
    Run(Box<PilotRunArgs>),
}

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("selection").args(["doc_ids", "doc_ids_file", "all"]).required(true).multiple(true))]
pub struct PilotRunArgs {
    /// 1 to 63 of a-z, 0-9, '_' and '-'
    pub batch: BatchId,
    #[command(flatten)]
    pub documents: DocumentArgs,
    /// Every document of the lake
    #[arg(long, conflicts_with_all = ["doc_ids", "doc_ids_file"])]
    pub all: bool,
    #[command(flatten)]
    pub how: HowArgs,
    /// The last stage to run
    #[arg(long, value_enum, value_name = "STAGE")]
    pub until: Option<Stage>,
    /// Wait this long for the review instead of stopping there
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub review_timeout: u64,
    /// Records that must be reviewed before the export [default: all]
    #[arg(long, value_name = "N")]
    pub min_reviewed: Option<u64>,
    /// A failing check that was looked into, and why it is accepted
    #[arg(long, value_name = "CHECK=WHY")]
    pub investigated: Vec<Investigated>,
    /// Who signs [env: USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Where the pilot log and the preview go [default: ./pilot-log/<batch>]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// The stages, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    Doctor,
    LakeInit,
    OcrLoad,
    OcrCheck,
    BatchCreate,
    Preannotate,
    Merge,
    Argilla,
    Review,
    Export,
    Annotations,
    Check,
    Signoff,
    Preview,
}
