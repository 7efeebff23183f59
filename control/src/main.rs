//! `control`: parses, starts the log, runs the command, gives its exit code.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;
use control::{cli::Cli, failure::Failure, printer::Printer, telemetry};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    telemetry::init(&env);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::config(format!("cannot start: {error}"));
            Printer::std(cli.global.json).failure(&failure);
            return failure.exit_code().into();
        }
    };
    let code = runtime.block_on(control::run(cli, env));
    // A query that was told to stop may still be ending; nothing waits for it.
    runtime.shutdown_background();
    code.into()
}

/// Help and version go to stdout; a usage error is a failure like any other.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !std::env::args_os().any(|arg| arg == "--json") {
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(2).into();
    }
    let message = error.render().to_string();
    let failure = Failure::usage(message.trim_start_matches("error: ").trim_end());
    Printer::std(true).failure(&failure);
    failure.exit_code().into()
}
