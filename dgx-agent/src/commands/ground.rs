//! `dgx-agent ground`: stdin to stdout.

use std::io;

use crate::{cli::GroundArgs, error::Failure, ground_cmd};

pub async fn run(args: &GroundArgs) -> Result<(), Failure> {
    let labelset = args.labelset()?;
    let work = move || ground_cmd::run(io::stdin().lock(), io::stdout().lock(), &labelset);
    let done = tokio::task::spawn_blocking(work).await;
    match done.map_err(|error| Failure::Job(format!("the grounding ended early: {error}")))? {
        Ok(summary) if summary.bad == 0 => Ok(()),
        Ok(summary) => Err(Failure::Data(format!(
            "{} of {} lines were bad: each has {{id, error}} in its place",
            summary.bad, summary.lines
        ))),
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Config(format!("cannot read stdin or write stdout: {error}"))),
    }
}
