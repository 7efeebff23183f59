//! `make demo`: the whole pilot on one machine, over really OCRed pages.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::Parser;
use e2e::demo::{Demo, RealArgilla};

/// Runs the whole pilot over the sample pages: agent, Argilla (a STAND-IN), a SIMULATED reviewer, sign-off.
///
/// Example: demo --model qwen3:8b
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Everything that it makes goes here; run again, it goes on from what is there.
    #[arg(long, default_value = ".demo")]
    folder: PathBuf,
    /// A model of the Ollama server instead of the rules engine.
    #[arg(long)]
    model: Option<String>,
    /// Where Ollama is.
    #[arg(long, env = "OLLAMA_HOST")]
    ollama_url: Option<String>,
    /// A real Argilla instead of the stand-in; the demo then stops where people review.
    #[arg(long, env = "ARGILLA_API_URL", requires = "api_key")]
    api_url: Option<String>,
    #[arg(long, env = "ARGILLA_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[arg(long, env = "ARGILLA_WORKSPACE")]
    workspace: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes, and no backtrace: what went wrong is in a service or in the surroundings.
            let _ = writeln!(std::io::stderr(), "demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let demo = Demo {
        folder: arguments.folder,
        model: arguments.model.filter(|model| !model.is_empty()),
        ollama_url: arguments.ollama_url.filter(|url| !url.is_empty()),
        argilla: arguments.api_url.zip(arguments.api_key).map(|(url, api_key)| RealArgilla {
            url,
            api_key,
            workspace: arguments.workspace,
        }),
    };
    demo.run(&mut |line| Ok(writeln!(std::io::stdout(), "{line}")?))
}
