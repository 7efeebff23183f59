//! `dgx-agent` as a person or a Kubernetes Job runs it: one process, to its end.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Finished, process::binary};

/// A command of `dgx-agent`, with nothing of this process's environment.
pub fn agent_command(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("dgx-agent")?);
    command.args(args).env_clear();
    Ok(command)
}

/// `dgx-agent run` over a folder.
pub fn agent_run(root: &Path, batch: &str, args: &[&str]) -> Result<Finished> {
    let output = agent_command(&["run", "--batch-id", batch, "--root"])?.arg(root).args(args).output();
    finished(output.context("dgx-agent does not start")?)
}

/// The same with `--json`: expects exit code 0 and one document.
pub fn agent_run_json(root: &Path, batch: &str, args: &[&str]) -> Result<Value> {
    let done = agent_run(root, batch, &[args, &["--json"]].concat())?;
    ensure!(done.code == Some(0), "dgx-agent run ended with {:?}: {}", done.code, done.stderr);
    Ok(serde_json::from_str(&done.stdout)?)
}

/// `dgx-agent` with something on its stdin.
pub fn agent_with_input(args: &[&str], input: &[u8]) -> Result<Finished> {
    let mut command = agent_command(args)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input)?;
    finished(child.wait_with_output()?)
}

fn finished(output: std::process::Output) -> Result<Finished> {
    Ok(Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
