//! `eval`: what suggestions are worth.

use std::path::PathBuf;

use clap::Args;
use proto::ids::BatchId;

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  control eval pilot-1\n  \
                        control eval pilot-1 --truth truth.parquet --output scores\n  \
                        control eval pilot-2 --compare pilot-1\n  control eval pilot-1 --fit\n\n\
                        A truth has the columns doc_id, page_num, label, start, end (code points, end exclusive) and \
                        may have run_id. A row without start and end is a value that OCR lost; one without a label \
                        as well says that the page was looked at. Pages without a row are not scored.\n\n\
                        Exit code 1: --fit found no label with 200 reviewed spans that have a confidence.")]
pub struct EvalArgs {
    pub batch: BatchId,
    /// What is true, as Parquet [default: the batch's newest export of answers]
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// The answers of one person [default: each answer is a truth of its page]
    #[arg(long, value_name = "ID", conflicts_with = "truth")]
    pub annotator: Option<String>,
    /// An export other than the newest
    #[arg(long, value_name = "N", conflicts_with = "truth")]
    pub export_run: Option<i64>,
    /// Another run over the same pages: what the batch gained and lost over it. Its answers are taken where the
    /// batch has none of its own
    #[arg(long, value_name = "BATCH2")]
    pub compare: Option<BatchId>,
    /// Fit confidences to what was right, and store that for the agent
    #[arg(long)]
    pub fit: bool,
    /// Where report.html and report.json go [default: ./eval-<batch>]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
