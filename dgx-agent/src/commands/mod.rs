//! From a command line to an exit code.

mod ground;
mod health;
mod run;
mod shutdown;

use std::io::Write as _;

use proto::store::Env;

use crate::{
    cli::{Cli, Command},
    config::{RunConfig, ServeConfig},
    error::Failure,
    serve,
};

/// Runs a command to its end or its interruption, prints what it comes to, and gives the exit code.
pub async fn dispatch(cli: Cli, env: Env) -> u8 {
    let json = matches!(&cli.command, Command::Run(args) if args.json);
    let done = match cli.command {
        Command::Serve(args) => {
            match ServeConfig::resolve(args, &env).and_then(|c| Ok((c, shutdown::stop()?))) {
                Ok((config, stop)) => Box::pin(serve::run(config, env, stop)).await,
                Err(failure) => Err(failure),
            }
        }
        Command::Run(args) => match RunConfig::resolve(args, &env) {
            Ok(config) => run::run(config, &env).await,
            Err(failure) => Err(failure),
        },
        Command::Ground(args) => ground::run(&args).await,
        Command::Health(args) => return health::run(&args, &env).await,
    };
    done.map_or_else(|failure| tell(&failure, json), |()| 0)
}

/// Prints a failure on stderr: a line, or with `--json` a document.
pub fn tell(failure: &Failure, json: bool) -> u8 {
    let text = match json.then(|| serde_json::to_string_pretty(&failure.doc())) {
        Some(Ok(document)) => document,
        _ => format!("error: {failure}"),
    };
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "{text}");
    failure.exit_code()
}
