//! `lake`, `ocr` and `annotations`: what writes the two databases.

use clap::{Args, Subcommand};
use proto::ids::BatchId;

use super::DocumentArgs;

#[derive(Debug, Subcommand)]
pub enum LakeCommand {
    /// Make what is missing and migrate what is old; may be repeated
    #[command(after_help = "Example:\n  control lake init --lake ./lake")]
    Init(InitArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct InitArgs {}

#[derive(Debug, Subcommand)]
pub enum OcrCommand {
    /// Load documents and pages into md_raw_ocr; rows that are there are not loaded twice
    #[command(after_help = "Example:\n  control ocr load --root s3://bucket/prefix --doc-ids-file ids.txt")]
    Load(OcrArgs),
    /// Count what is loaded, and look for wrong hashes, double keys and missing pages
    #[command(after_help = "Example:\n  control ocr check --doc-id register-001 --doc-id licence-002")]
    Check(OcrArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct OcrArgs {
    /// Which documents; without any: all
    #[command(flatten)]
    pub documents: DocumentArgs,
}

#[derive(Debug, Subcommand)]
pub enum AnnotationsCommand {
    /// Load the newest export of a batch into md_annotated; may be repeated
    #[command(after_help = "Example:\n  control annotations load pilot-1")]
    Load(AnnotationsLoadArgs),
}

#[derive(Debug, Clone, Args)]
pub struct AnnotationsLoadArgs {
    pub batch: BatchId,
    /// An export other than the newest
    #[arg(long, value_name = "N")]
    pub export_run: Option<i64>,
}
