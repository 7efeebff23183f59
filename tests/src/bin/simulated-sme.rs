//! The SIMULATED SME as a process: reviews a dataset of any Argilla server from a corpus's planted truth.

use std::{
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use e2e::sme::{
    NAME,
    argilla::{Argilla, ReviewError, Summary, Task},
    truth::Truth,
};

/// SIMULATED SME: a scripted reviewer that knows the truth. No person reviews here.
///
/// Exit codes: 0 reviewed, 2 usage, 4 Argilla is unreachable or failing, 5 the truth or the dataset is not as needed.
///
/// Example: simulated-sme --api-url http://127.0.0.1:6900 --api-key argilla.apikey
/// --dataset vessels_ocr_demo --truth examples/truth.parquet
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where Argilla listens.
    #[arg(long, env = "ARGILLA_API_URL")]
    api_url: String,
    /// Whose answers they will be: an annotator's of the workspace, an admin's or the owner's.
    #[arg(long, env = "ARGILLA_API_KEY", hide_env_values = true)]
    api_key: String,
    #[arg(long, env = "ARGILLA_WORKSPACE", default_value = "vessels")]
    workspace: String,
    /// The dataset's name, vessels_ocr_<batch id>.
    #[arg(long)]
    dataset: String,
    /// Parquet with doc_id, run_id, page_num, label, start, end.
    #[arg(long)]
    truth: PathBuf,
    /// Chooses the few records that are discarded.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Prints the counts as one JSON object, and what is for people on stderr.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    say(&arguments, &format!("{NAME} starts on {}: a script, not a person", arguments.dataset))?;
    match review(&arguments).await {
        Ok(summary) => {
            if arguments.json {
                writeln!(stdout(), "{}", serde_json::to_string(&summary)?)?;
            }
            say(&arguments, &format!("{NAME} is done: {}", sentence(&summary)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(stderr(), "{NAME} stops: {error:#}")?;
            Ok(ExitCode::from(exit_code(&error)))
        }
    }
}

async fn review(arguments: &Arguments) -> anyhow::Result<Summary> {
    let truth = Truth::read(&arguments.truth)
        .map_err(|error| error.context(format!("the truth {} cannot be used", arguments.truth.display())))?;
    let task = Task {
        workspace: &arguments.workspace,
        dataset: &arguments.dataset,
        truth: &truth,
        seed: arguments.seed,
    };
    Ok(Argilla::new(&arguments.api_url, &arguments.api_key)?.review(&task).await?)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(ReviewError::Unreachable(_) | ReviewError::Failing { .. }) => 4,
        _ => 5,
    }
}

fn say(arguments: &Arguments, line: &str) -> std::io::Result<()> {
    if arguments.json { writeln!(stderr(), "{line}") } else { writeln!(stdout(), "{line}") }
}

fn sentence(summary: &Summary) -> String {
    let tally = summary.tally;
    format!(
        "{} records, {} submitted ({} without truth), {} discarded, {} already reviewed; \
         spans: {} accepted, {} corrected, {} dropped, {} added",
        summary.records,
        summary.submitted,
        summary.without_truth,
        summary.discarded,
        summary.already_reviewed,
        tally.accepted,
        tally.corrected,
        tally.dropped,
        tally.added,
    )
}
