//! The demo: the whole pilot over `examples/`, with every service as a process of its own.
//!
//! ```text
//! examples ─► .demo/root ─► agent, Argilla stand-in ─► control pilot run (to the review)
//!                                 ─► SIMULATED SME ─► control pilot run (to the sign-off)
//! ```
//! Everything it makes lies in one folder, and a second run goes on from what it finds there.

pub mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    corpus,
    harness::{Agent, ArgillaStandIn, Control, binary},
    sme,
};

const OLLAMA: &str = "http://127.0.0.1:11434";

/// What the demo is to run on.
#[derive(Debug)]
pub struct Demo {
    pub folder: PathBuf,
    /// A model of the Ollama server at `ollama_url`; None: the rules engine.
    pub model: Option<String>,
    pub ollama_url: Option<String>,
    /// A real Argilla; None: the stand-in and its simulated reviewer.
    pub argilla: Option<RealArgilla>,
}

#[derive(Debug)]
pub struct RealArgilla {
    pub url: String,
    pub api_key: String,
    pub workspace: Option<String>,
}

/// A stage, as `control pilot run --json` tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Stage {
    pub stage: String,
    pub pages_in: Option<u64>,
    pub pages_out: Option<u64>,
    pub outcomes: std::collections::BTreeMap<String, u64>,
    pub seconds: f64,
    pub artifacts: Vec<String>,
    pub already_done: bool,
    pub notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Pilot {
    stages: Vec<Stage>,
    waits_for: Option<String>,
}

impl Demo {
    pub fn run(&self, say: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let folder = std::path::absolute(&self.folder)?;
        let root = folder.join("root");
        corpus::copy_examples(&root).context("the sample pages cannot be copied")?;
        say(&format!("demo: everything lies in {}", folder.display()))?;

        let agent = self.agent(&root, &folder.join("agent"))?;
        say(&format!("demo: dgx-agent ({}) at {}", self.engine(), agent.url))?;
        let control = Control::new(&folder, &root.display().to_string()).with_agent(&agent.url);
        let batch = self.batch();
        let until_review = ["pilot", "run", &batch, "--all", "--until", "review"];
        let to_the_end = ["pilot", "run", &batch, "--all", "--by", sme::NAME];

        if let Some(argilla) = &self.argilla {
            say(&format!("demo: Argilla at {}", argilla.url))?;
            let mut control = control.with_argilla(&argilla.url, &argilla.api_key);
            if let Some(workspace) = &argilla.workspace {
                control = control.with("ARGILLA_WORKSPACE", workspace);
            }
            let mut pilot = pilot(&control, &until_review)?;
            if pilot.waits_for.is_none() {
                pilot = self::pilot(&control, &["pilot", "run", &batch, "--all", "--by", "demo"])?;
            }
            say(&table::stages(&pilot.stages))?;
            say(&table::paths(&pilot.stages))?;
            return pilot.waits_for.map_or(Ok(()), |wait| say(&wait));
        }

        let argilla = ArgillaStandIn::start(&folder.join("argilla"))?;
        say(&format!("demo: STAND-IN for Argilla at {}", argilla.url))?;
        let control = control.with_argilla(&argilla.url, ArgillaStandIn::OWNER_KEY);
        let before = pilot(&control, &until_review)?;
        self.review(&argilla, &batch, say)?;
        let after = pilot(&control, &to_the_end)?;
        ensure!(after.waits_for.is_none(), "the review did not end: {}", after.waits_for.unwrap_or_default());

        let stages = together(&before.stages, &after.stages);
        say("")?;
        say(&table::stages(&stages))?;
        say(&table::paths(&stages))?;
        say(&format!("demo: done in {:.1} s; `make clean` removes it", start.elapsed().as_secs_f64()))
    }

    fn engine(&self) -> String {
        self.model.as_ref().map_or_else(|| "rules".to_owned(), |model| format!("ollama, {model}"))
    }

    /// One batch an engine and model: a batch never changes what made it.
    fn batch(&self) -> String {
        let Some(model) = &self.model else { return "demo".to_owned() };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        format!("demo-{}", model.chars().map(plain).take(50).collect::<String>())
    }

    fn agent(&self, root: &Path, work: &Path) -> Result<Agent> {
        let root = root.display().to_string();
        match &self.model {
            None => Agent::start(&root, work, &["--engine", "rules"], &[]),
            Some(model) => {
                let url = self.ollama_url.as_deref().unwrap_or(OLLAMA);
                Agent::start(&root, work, &["--engine", "ollama", "--model", model, "--ollama-url", url], &[])
            }
        }
    }

    fn review(
        &self,
        argilla: &ArgillaStandIn,
        batch: &str,
        say: &mut impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let mut reviewer = Command::new(binary("simulated-sme")?);
        reviewer.args(["--api-url", &argilla.url, "--api-key", ArgillaStandIn::OWNER_KEY]);
        reviewer.args(["--dataset", &format!("vessels_ocr_{batch}"), "--truth"]);
        reviewer.arg(corpus::examples().join("truth.parquet"));
        let done = reviewer.output().context("simulated-sme does not start")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        say(String::from_utf8_lossy(&done.stdout).trim_end())
    }
}

fn pilot(control: &Control, args: &[&str]) -> Result<Pilot> {
    fs::create_dir_all(&control.folder)?;
    let answer: Value = control.json(args)?;
    Ok(serde_json::from_value(answer)?)
}

/// The stages of two runs of one pilot: each as it was when it did something.
fn together(before: &[Stage], after: &[Stage]) -> Vec<Stage> {
    let fresh = |stage: &Stage| {
        before.iter().find(|first| first.stage == stage.stage && stage.stage != "review").cloned()
    };
    after.iter().map(|stage| fresh(stage).unwrap_or_else(|| stage.clone())).collect()
}
