//! `dgx-agent`: parses, starts the log, runs the command, gives its exit code.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;
use dgx_agent::{
    cli::{Cli, Command},
    commands,
    error::Failure,
    memory, telemetry,
};

fn main() -> ExitCode {
    memory::bound();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2).into();
        }
    };
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let quiet = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    telemetry::init(&env, quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return commands::tell(&Failure::config(format!("cannot start: {error}")), false).into();
        }
    };
    let code = runtime.block_on(commands::dispatch(cli, env));
    // Work that was told to stop may still be ending; nothing waits for it.
    runtime.shutdown_background();
    code.into()
}
