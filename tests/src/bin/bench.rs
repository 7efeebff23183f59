//! `make bench`.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use e2e::bench::{Lab, Options, PEERS, groups};

/// What the agent reaches over a simulated Ollama, beside simple clients and wrk in the same run.
///
/// Example: bench --only zero --quick
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Exit with 1 when a bound is missed.
    #[arg(long)]
    strict: bool,
    /// A fifth of the pages.
    #[arg(long)]
    quick: bool,
    /// These groups of rows: slots, zero, change, slowing, faults, daemon; peers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// For the agent's --concurrency.
    #[arg(long)]
    concurrency: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(misses) if misses > 0 && arguments.strict => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many bounds were missed, with groups that could not be measured.
async fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    let mut out = std::io::stdout();
    let lab =
        Lab::open(Options { quick: arguments.quick, concurrency: arguments.concurrency.clone() }).await?;
    let named = |name: &str| arguments.only.iter().any(|only| only == name);
    let asked = |name: &str| named(name) || (arguments.only.is_empty() && name != PEERS);
    let mut misses = 0;
    for group in groups().into_iter().filter(|group| asked(group.name)) {
        match (group.run)(&lab).await {
            Ok(rows) => {
                for row in rows {
                    misses += usize::from(row.ok == Some(false));
                    writeln!(out, "{row}")?;
                }
            }
            Err(error) => {
                misses += 1;
                writeln!(out, "{}: not measured: {error:#}", group.name)?;
            }
        }
    }
    writeln!(out, "{misses} missed")?;
    Ok(misses)
}
