//! `control` as a person runs it: one process a command.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process::binary;

/// Where `control` works, and what it talks to.
#[derive(Debug, Clone)]
pub struct Control {
    /// Its working folder; the lake and the pilot log lie in it.
    pub folder: PathBuf,
    /// The environment besides PATH and HOME; nothing else is inherited.
    pub env: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Control {
    pub fn new(folder: &Path, root: &str) -> Self {
        let lake = folder.join("lake").display().to_string();
        let env = [("PREANNOTATE_ROOT", root), ("PREANNOTATE_LAKE", &lake)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { folder: folder.to_owned(), env: env.into() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn with_agent(self, url: &str) -> Self {
        self.with("DGX_AGENT_URL", url)
    }

    #[must_use]
    pub fn with_argilla(self, url: &str, key: &str) -> Self {
        self.with("ARGILLA_API_URL", url).with("ARGILLA_API_KEY", key)
    }

    /// The command, ready to be started in another way.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("control")?);
        command.current_dir(&self.folder).args(args).env_clear();
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        let output = self.command(args)?.output().context("control does not start")?;
        Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs with `--json` and expects exit code 0 and one document.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let done = self.run(&[args, &["--json"]].concat())?;
        ensure!(
            done.code == Some(0),
            "control {args:?} ended with {:?}:\n{}{}",
            done.code,
            done.stdout,
            done.stderr
        );
        serde_json::from_str(&done.stdout)
            .with_context(|| format!("control {args:?} printed no JSON: {}", done.stdout))
    }
}
