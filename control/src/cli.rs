//! Arguments as they are typed. What they come to, with environment and file, is the business of `settings`.

mod argilla;
mod batch;
mod eval;
mod gates;
mod lake;
mod pilot;
mod preannotate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use argilla::{ArgillaCommand, AutoloadArgs, ExportArgs, StatusArgs as ArgillaStatusArgs, SyncArgs};
pub use batch::{BatchCommand, CreateArgs, DeleteArgs, HowArgs, ListArgs, MergeArgs, PreviewArgs, ShowArgs};
pub use eval::EvalArgs;
pub use gates::{CAN_BE_INVESTIGATED, CheckArgs, DoctorArgs, Investigated, Prerequisite, SignoffArgs};
pub use lake::{AnnotationsCommand, AnnotationsLoadArgs, InitArgs, LakeCommand, OcrArgs, OcrCommand};
pub use pilot::{PilotCommand, PilotRunArgs, Stage};
pub use preannotate::{PreannotateCommand, PriorityArgs, RetryArgs, StatusArgs, SubmitArgs, WatchArgs};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a gate failed, 2 usage, 3 configuration, 4 a service is \
                          unreachable, 5 data is bad, 130 interrupted.";

const EXAMPLE: &str = "Example:\n  control pilot run pilot-1 --doc-ids-file ids.txt";

#[derive(Debug, Parser)]
#[command(
    name = "control",
    version,
    about = "Every stage of the pre-annotation pipeline but inference",
    after_help = format!("{EXAMPLE}\n\n{EXIT_CODES}")
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Flags of every command; they win over the environment, and that over control.toml.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArgs {
    /// Where objects lie: a folder, s3://bucket/prefix, gs:// or az:// [env: PREANNOTATE_ROOT] [default: ./data]
    #[arg(long, global = true, value_name = "URI")]
    pub root: Option<String>,
    /// The lake: a folder of DuckDB files, or md: for MotherDuck [env: PREANNOTATE_LAKE] [default: ./lake]
    #[arg(long, global = true, value_name = "DIR|md:")]
    pub lake: Option<String>,
    /// The agent [env: DGX_AGENT_URL] [default: http://127.0.0.1:50051]
    #[arg(long, global = true, value_name = "URL")]
    pub agent: Option<String>,
    /// How long to wait for a lake that another process has open [default: 30]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub lock_timeout: Option<u64>,
    /// Settings in a file [default: ./control.toml, if there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout, and errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at every prerequisite, and say what to do about what is missing
    Doctor(DoctorArgs),
    /// Make and migrate the tables of the lake
    #[command(subcommand)]
    Lake(LakeCommand),
    /// Load what the OCR job wrote, and look at it
    #[command(subcommand)]
    Ocr(OcrCommand),
    /// Choose pages and cut them into the parts that the agent works on
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Have the agent suggest spans
    #[command(subcommand)]
    Preannotate(PreannotateCommand),
    /// Join pages and suggestions into the records for Argilla
    Merge(MergeArgs),
    /// Records into Argilla, answers out of it
    #[command(subcommand)]
    Argilla(ArgillaCommand),
    /// Load what people annotated
    #[command(subcommand)]
    Annotations(AnnotationsCommand),
    /// Run the ten integrity checks
    Check(CheckArgs),
    /// Sign a pilot off and write its log
    Signoff(SignoffArgs),
    /// Write one HTML file that shows the suggestions on their pages
    Preview(PreviewArgs),
    /// Score suggestions against a truth or against what people answered
    Eval(EvalArgs),
    /// The whole pilot, stage by stage
    #[command(subcommand)]
    Pilot(PilotCommand),
}

/// Who makes the suggestions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Patterns and validators of the labelset, no model
    Rules,
    /// A model on the agent's Ollama server
    Ollama,
    /// Both, merged
    Hybrid,
}

impl Engine {
    /// As `_batch.json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Ollama => "ollama",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Which documents.
#[derive(Debug, Clone, Default, Args)]
pub struct DocumentArgs {
    /// A document; may be repeated
    #[arg(long = "doc-id", value_name = "ID")]
    pub doc_ids: Vec<String>,
    /// Documents, one id a line
    #[arg(long, value_name = "FILE")]
    pub doc_ids_file: Option<PathBuf>,
}

impl DocumentArgs {
    /// None asked for: the caller decides whether that means all.
    pub fn is_empty(&self) -> bool {
        self.doc_ids.is_empty() && self.doc_ids_file.is_none()
    }
}

#[cfg(test)]
mod tests;
