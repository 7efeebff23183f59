//! `dgx-agent run`: one batch or one shard of it, without a daemon.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::{
    docs::{Counts, Provenance},
    ids::BatchId,
    rows::Outcome,
    store::{Env, Store},
};
use serde::Serialize;
use tokio::sync::watch;

use super::shutdown;
use crate::{
    batch::{AgentId, BatchError, Done, Pipeline, Plan, Progress, Stop},
    config::RunConfig,
    error::Failure,
    journal::Journal,
};

/// As `--json` prints it.
#[derive(Serialize)]
struct Summary<'a> {
    batch_id: &'a BatchId,
    /// Of all shards: the manifest is there.
    complete: bool,
    fingerprint: &'a str,
    provenance: &'a Provenance,
    /// Done by now: of the batch when it is complete, else of the shard.
    parts: u32,
    /// Parts that other shards have yet to do.
    parts_missing: u32,
    counts: &'a Counts,
    /// How often answers of the model had to be mended, in this run, by what was wrong with them.
    repairs: BTreeMap<&'static str, u64>,
}

pub async fn run(config: RunConfig, env: &Env) -> Result<(), Failure> {
    let stop = shutdown::stop()?;
    let store = Store::open(&config.root, env)?;
    let pipeline = Pipeline::new(store, config.engine.labelset()?, config.engine.clone());
    let pipeline = pipeline.with_patience(config.patience);
    let journal = match &config.state_dir {
        Some(state) => Journal::of(state, config.engine.journal_keep).await,
        None => None,
    };
    let pipeline = journal.iter().cloned().fold(pipeline, Pipeline::with_journal);
    let identity = config.state_dir.as_deref().map(AgentId::of);
    let pipeline = identity.into_iter().fold(pipeline, Pipeline::with_identity);
    let planned = pipeline.plan(&config.batch, config.asked_engine, config.asked_model.as_deref());
    let plan = tokio::select! {
        plan = planned => plan?,
        () = stop.told() => return Err(BatchError::Cancelled.into()),
    };
    tokio::spawn(drain(stop.clone(), config.drain_timeout));
    let (progress, watched) = watch::channel(Progress::default());
    let live = !config.json && io::stderr().is_terminal();
    let shown = live.then(|| tokio::spawn(show(watched)));
    let done = pipeline.run(&plan, config.shard, &progress, stop).await;
    let repairs =
        progress.borrow().model.repairs.iter().map(|(repair, times)| (repair.as_str(), *times)).collect();
    drop(progress);
    if let Some(journal) = journal {
        journal.close().await;
    }
    if let Some(shown) = shown {
        // It ends with the channel; if it did not, nothing is lost.
        let _ = shown.await;
    }
    print(&plan, &done?, repairs, config.json);
    Ok(())
}

/// Says what a drain is, and ends one that takes too long.
async fn drain(stop: Stop, timeout: Duration) {
    stop.drain.cancelled().await;
    tracing::warn!(
        seconds = timeout.as_secs(),
        "stopping: what is at the model server is waited for; interrupt again to drop it"
    );
    tokio::time::sleep(timeout).await;
    stop.now.cancel();
}

fn print(plan: &Plan, done: &Done, repairs: BTreeMap<&'static str, u64>, json: bool) {
    let (parts, parts_missing, counts) = match done {
        Done::Complete { parts, counts } => (*parts, 0, counts),
        Done::Shard { parts, counts, missing } => (*parts, *missing, counts),
    };
    let summary = Summary {
        batch_id: &plan.batch,
        complete: parts_missing == 0,
        fingerprint: &plan.fingerprint,
        provenance: &plan.provenance,
        parts,
        parts_missing,
        counts,
        repairs,
    };
    let document = json.then(|| serde_json::to_string_pretty(&summary));
    let text = match document {
        Some(Ok(document)) => document,
        _ => text(&summary),
    };
    // Nobody may be there to read it.
    let _ = writeln!(io::stdout(), "{text}");
}

fn text(summary: &Summary<'_>) -> String {
    let Summary { batch_id, parts, parts_missing, counts, provenance, .. } = summary;
    let outcomes = Outcome::ALL.map(|outcome| format!("{} {outcome}", counts.of(outcome))).join(", ");
    let state = match parts_missing {
        0 => format!("batch {batch_id} is complete ({} with {})", provenance.engine, provenance.model),
        missing => format!("this shard of batch {batch_id} is done, {missing} parts of others are not"),
    };
    let reasons: String =
        counts.reasons.iter().map(|(reason, pages)| format!("\n  {reason}: {pages}")).collect();
    let mended: Vec<_> = summary.repairs.iter().map(|(what, times)| format!("{what} {times}")).collect();
    let mended = if mended.is_empty() { String::new() } else { format!("\n  mended: {}", mended.join(", ")) };
    format!(
        "{state}: {parts} parts, {} pages: {outcomes}; {} spans{reasons}{mended}",
        counts.pages, counts.spans
    )
}

/// A bar on stderr, where somebody looks; gone at the end.
async fn show(mut watched: watch::Receiver<Progress>) {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} pages {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    // More often nobody sees it, and a page may take less than a millisecond.
    while watched.changed().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = watched.borrow_and_update().clone();
        bar.set_length(now.pages);
        bar.set_position(now.pages_done);
        bar.set_prefix(format!("part {}/{}", now.parts_committed, now.parts));
        bar.set_message(if now.waiting_since.is_some() {
            now.waiting_for
        } else {
            format!("{} spans", now.spans)
        });
    }
    bar.finish_and_clear();
}
