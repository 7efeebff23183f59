//! `control`: every stage of the pipeline but inference, one command each.
//!
//! ```text
//! cli (as typed) ─► settings (flags, environment, file) ─► ctx ─► commands ─► printer (answer | failure) ─► exit code
//!                                                                   │
//!                       lake, sql, staging, batch, argilla ◄────────┴──► report
//! ```

pub mod agent;
pub mod argilla;
pub mod batch;
pub mod cli;
pub mod commands;
pub mod ctx;
pub mod documents;
pub mod env;
pub mod evaluation;
pub mod failure;
pub mod lake;
pub mod pilot_log;
pub mod printer;
pub mod redact;
pub mod report;
pub mod settings;
mod shutdown;
pub mod sql;
pub mod staging;
pub mod telemetry;

use proto::store::Env;

use crate::{cli::Cli, ctx::Ctx, failure::Failure, printer::Printer, settings::Settings, shutdown::Shutdown};

/// Runs a command to its end or its interruption, prints what it comes to, and gives the exit code.
pub async fn run(cli: Cli, env: Env) -> u8 {
    let printer = Printer::std(cli.global.json);
    let ctx = match Settings::resolve(&cli.global, &env) {
        Ok(settings) => Ctx::new(settings, env, printer, tokio_util::sync::CancellationToken::new()),
        Err(failure) => {
            printer.failure(&failure);
            return failure.exit_code();
        }
    };
    let signals = match Shutdown::listen(ctx.shutdown.clone()) {
        Ok(signals) => signals,
        Err(error) => return end(&ctx, &Failure::config(format!("cannot listen to signals: {error}"))),
    };
    let done = tokio::select! {
        done = commands::dispatch(&ctx, &cli.command) => done,
        () = signals.lost_patience() => Err(Failure::interrupted("interrupted; run the command again to go on")),
    };
    done.map_or_else(|failure| end(&ctx, &failure), |()| 0)
}

fn end(ctx: &Ctx, failure: &Failure) -> u8 {
    ctx.printer.failure(failure);
    failure.exit_code()
}
