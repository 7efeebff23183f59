//! A batch of very many small pages through the real agent, killed in the middle: how much memory it has, all along, and
//! how soon it is going again.
//!
//! Constraint: the pages are made and looked at part by part, so that the test needs no more memory than the agent.

use std::{
    fmt, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use proto::{
    docs::Manifest,
    keys::PartKind,
    parquet_io::{encode, read_all},
    rows::LedgerRow,
};

use crate::{
    batch_dir::BatchDir,
    harness::{OllamaSim, Process},
    ollama_double::MODEL,
    ollama_sim::sheets::slip,
};

const BATCH: &str = "long";
const SAMPLE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// Looks without a new commit after which something is broken. Not a time: a machine may hold all processes for a while.
const STUCK: usize = 10_000;
/// Lines of the curve as it is shown.
const LINES: usize = 24;

/// How long it is.
#[derive(Debug, Clone, Copy)]
pub struct LongRun {
    pub pages: usize,
    pub part_pages: usize,
    /// Through the simulator at zero service time; else by the rules.
    pub model: bool,
}

/// The agent's memory at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub at: Duration,
    pub committed: usize,
    pub rss_kib: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub run: LongRun,
    pub samples: Vec<Sample>,
    pub took: Duration,
    /// From the start after the kill to the first part that is committed then.
    pub going_again: Duration,
}

impl Report {
    pub fn max_kib(&self) -> u64 {
        self.samples.iter().map(|sample| sample.rss_kib).max().unwrap_or_default()
    }

    /// Medians of the second fifth of the samples and of the last one: flat if they are about the same.
    pub fn early_and_late_kib(&self) -> (u64, u64) {
        let fifth = self.samples.len() / 5;
        let median = |from: usize| {
            let mut sizes: Vec<_> = self.samples[from..from + fifth].iter().map(|one| one.rss_kib).collect();
            sizes.sort_unstable();
            sizes.get(fifth / 2).copied().unwrap_or_default()
        };
        (median(fifth), median(self.samples.len() - fifth))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LongRun { pages, part_pages, model } = self.run;
        let engine = if model { "a simulated model server" } else { "the rules" };
        writeln!(f, "{pages} pages in parts of {part_pages}, by {engine}")?;
        writeln!(f, "{:>8} {:>10} {:>9}", "seconds", "pages", "RSS MB")?;
        for sample in self.samples.iter().step_by(self.samples.len().div_ceil(LINES).max(1)) {
            let (at, done) = (sample.at.as_secs(), sample.committed * part_pages);
            writeln!(f, "{at:>8} {done:>10} {:>9.1}", mb(sample.rss_kib))?;
        }
        let (early, late) = self.early_and_late_kib();
        writeln!(f, "largest: {:.1} MB; early {:.1}, late {:.1}", mb(self.max_kib()), mb(early), mb(late))?;
        writeln!(
            f,
            "{:.0} pages a second, over {:.0} s with a kill in the middle; going again {:.2} s after the start",
            pages as f64 / self.took.as_secs_f64(),
            self.took.as_secs_f64(),
            self.going_again.as_secs_f64()
        )
    }
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

async fn write(batch: &BatchDir, run: LongRun) -> Result<usize> {
    let mut parts = 0;
    for first in (0..run.pages).step_by(run.part_pages) {
        let rows: Vec<_> = (first..run.pages.min(first + run.part_pages)).map(slip).collect();
        let key = batch.keys.part(PartKind::Pages, u32::try_from(parts)?);
        batch.store.put(&key, encode(&rows)?).await?;
        parts += 1;
    }
    let mut spec = batch.spec().await?;
    spec.no_pilot = Some("a long run".into());
    batch.write_spec(&spec).await?;
    Ok(parts)
}

fn rss_kib(process: &Process) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// Runs it in a folder.
pub async fn long_run(root: &Path, run: LongRun) -> Result<Report> {
    let batch = BatchDir::new(root, BATCH)?;
    let parts = write(&batch, run).await?;
    let simulator = run.model.then(|| OllamaSim::start(&root.join("sim"), &[])).transpose()?;
    let start = || {
        let configure = |command: &mut Command| {
            command.args(["run", "--batch-id", BATCH, "--root"]).arg(root);
            command.arg("--state-dir").arg(root.join("state"));
            match &simulator {
                Some(simulator) => {
                    command.args(["--engine", "ollama", "--model", MODEL, "--ollama-url"]).arg(&simulator.url)
                }
                None => command.args(["--engine", "rules"]),
            };
        };
        Process::start("dgx-agent", configure, &root.join("agent.log"))
    };
    let folder = batch.store.local_path(&batch.keys.part(PartKind::Commits, 0)).context("a folder")?;
    let folder = folder.parent().context("a folder")?;
    let committed = || fs::read_dir(folder).map_or(0, Iterator::count);
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut agent = start()?;
    let mut killed = None;
    let mut going_again = None;
    let mut news = (0, 0);
    while agent.is_running()? {
        let now = committed();
        news = if now == news.0 { (now, news.1 + 1) } else { (now, 0) };
        ensure!(news.1 < STUCK, "no part is committed any more: {}", agent.log());
        match killed {
            None if now >= parts / 2 => {
                agent.kill()?;
                killed = Some((Instant::now(), committed()));
                agent = start()?;
            }
            Some((again, before)) if now > before && going_again.is_none() => {
                going_again = Some(again.elapsed())
            }
            _ => {}
        }
        let due = samples.len() as u32 * SAMPLE;
        if began.elapsed() >= due
            && let Some(rss_kib) = rss_kib(&agent)
        {
            samples.push(Sample { at: began.elapsed(), committed: now, rss_kib });
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed();
    ensure!(agent.wait()?.success(), "the agent failed: {}", agent.log());
    let manifest: Manifest = serde_json::from_slice(&batch.store.get(&batch.keys.manifest()).await?)?;
    ensure!(manifest.counts.pages == run.pages as u64, "the manifest counts {} pages", manifest.counts.pages);
    let mut rows = 0;
    for part in 0..parts {
        let key = batch.keys.part(PartKind::Ledger, u32::try_from(part)?);
        let ledger: Vec<LedgerRow> = read_all(&batch.store, &key).await?;
        rows += ledger.len();
    }
    ensure!(rows == run.pages, "{rows} rows for {} pages", run.pages);
    let going_again = going_again.context("it ended before it was killed")?;
    Ok(Report { run, samples, took, going_again })
}
