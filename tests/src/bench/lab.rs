//! What every measurement needs: pages, a folder with batches of them, simulators, and the agent as a process.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use proto::rows::BatchPage;
use tempfile::TempDir;

use crate::{
    agent_jobs::AgentJobs,
    batch_dir::{BatchDir, parts},
    harness::{Agent, OllamaSim, agent_run},
    ollama_double::MODEL,
    ollama_sim::{Moment, audit::Made, sheets::sheets},
};

/// Pages of a part, as `control batch create` cuts them.
const PART_PAGES: usize = 1000;

/// Above what any job here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to measure.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A fifth of the pages, for a look.
    pub quick: bool,
    /// For the agent's `--concurrency`; without it, what the agent does by itself.
    pub concurrency: Option<String>,
}

pub struct Lab {
    folder: TempDir,
    options: Options,
    pages: Vec<BatchPage>,
    started: AtomicU32,
    /// With its server, which knows every body that the agent sends.
    pub zero: OllamaSim,
    /// As the agent sends them, a line each.
    pub bodies_file: PathBuf,
    pub bodies: Vec<Bytes>,
}

/// A run of the agent to its manifest: of a daemon's job, or from before the process starts to after it has ended.
pub struct Run {
    pub took: Duration,
    pub submitted: Moment,
    pub done: Moment,
    pub batch: BatchDir,
}

impl Lab {
    /// Runs the agent once over all pages, so that nothing of what is measured happens for the first time.
    pub async fn open(options: Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pages = sheets(if options.quick { 2000 } else { 10_000 }).await?;
        let bodies_file = folder.path().join("bodies");
        let keep = bodies_file.display().to_string();
        // A write of its own for twenty tokens: with one for each, or for ten, what is measured is the server's writes.
        let zero = OllamaSim::start(&folder.path().join("zero"), &["--delta", "80", "--keep-bodies", &keep])?;
        let mut lab = Self {
            folder,
            options,
            pages,
            started: AtomicU32::new(0),
            zero,
            bodies_file,
            bodies: Vec::new(),
        };
        lab.run(lab.pages.len(), &lab.zero).await.context("the agent over a server that takes no time")?;
        let kept = fs::read_to_string(&lab.bodies_file)?;
        lab.bodies = kept.lines().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
        ensure!(!lab.bodies.is_empty(), "the agent asked nothing");
        Ok(lab)
    }

    /// `count`: of a whole measurement.
    pub fn pages(&self, count: usize) -> &[BatchPage] {
        let count = if self.options.quick { count / 5 } else { count };
        &self.pages[..count.min(self.pages.len())]
    }

    pub fn is_quick(&self) -> bool {
        self.options.quick
    }

    fn next(&self) -> u32 {
        self.started.fetch_add(1, Ordering::Relaxed)
    }

    pub fn simulator(&self, args: &[&str]) -> Result<OllamaSim> {
        OllamaSim::start(&self.folder.path().join(format!("sim-{}", self.next())), args)
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    /// A folder for a daemon.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join(format!("work-{}", self.next()))
    }

    pub async fn batch(&self, pages: &[BatchPage]) -> Result<BatchDir> {
        fs::create_dir_all(self.root())?;
        let batch = BatchDir::new(&self.root(), &format!("bench-{}", self.next()))?;
        batch.write_parts(&parts(pages, PART_PAGES)).await?;
        Ok(batch)
    }

    /// The flags that tell the agent of a simulator.
    pub fn agent_args<'a>(&'a self, url: &'a str) -> Vec<&'a str> {
        let mut args = vec!["--engine", "ollama", "--model", MODEL, "--ollama-url", url];
        if let Some(concurrency) = &self.options.concurrency {
            args.extend(["--concurrency", concurrency]);
        }
        args
    }

    /// A job of a daemon over the first pages (`count` of a whole measurement), from before it is submitted to when its
    /// manifest is there.
    pub async fn job(&self, count: usize, simulator: &OllamaSim) -> Result<Run> {
        let batch = self.batch(self.pages(count)).await?;
        let root = self.root().display().to_string();
        let agent = Agent::start(&root, &self.work(), &self.agent_args(&simulator.url), &[])?;
        let mut jobs = AgentJobs::connect(&agent.url).await?;
        let submitted = simulator.mark("submitted").await?;
        let begun = Instant::now();
        jobs.submit(batch.batch.as_str()).await?;
        while !batch.is_complete().await? {
            ensure!(
                begun.elapsed() < PATIENCE,
                "the job is not complete: {:?}",
                jobs.get(batch.batch.as_str()).await?
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = begun.elapsed();
        let done = simulator.mark("done").await?;
        Ok(Run { took, submitted, done, batch })
    }

    /// `dgx-agent run` over the first pages (`count` of a whole measurement).
    pub async fn run(&self, count: usize, simulator: &OllamaSim) -> Result<Run> {
        let batch = self.batch(self.pages(count)).await?;
        let args: Vec<String> = self.agent_args(&simulator.url).iter().map(ToString::to_string).collect();
        let (root, id) = (self.root(), batch.batch.as_str().to_owned());
        let submitted = simulator.mark("submitted").await?;
        let begun = Instant::now();
        let ended = tokio::task::spawn_blocking(move || {
            agent_run(&root, &id, &args.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let ended = ended.await??;
        let took = begun.elapsed();
        let done = simulator.mark("done").await?;
        ensure!(ended.code == Some(0), "dgx-agent ended with {:?}: {}", ended.code, ended.stderr);
        ensure!(batch.is_complete().await?, "there is no manifest");
        Ok(Run { took, submitted, done, batch })
    }
}

impl Run {
    pub async fn made(&self) -> Result<Made> {
        Ok(Made { ledger: self.batch.ledger().await?, suggestions: self.batch.suggestions().await? })
    }
}
