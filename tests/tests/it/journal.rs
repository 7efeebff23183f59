//! What the model answered once is not asked again: by another batch, after a kill; and a journal that cannot be kept
//! is no reason to fail.

use std::{fs, path::Path, process::Command};

use e2e::{
    batch_dir::{BatchDir, page, parts},
    harness::{Finished, OllamaSim, Process, agent_run, binary},
    ollama_double::MODEL,
    ollama_sim::{
        ALWAYS,
        audit::Made,
        sheets::{sheet, sheets},
    },
};
use proto::rows::{BatchPage, Outcome};
use tempfile::TempDir;

struct Stage {
    folder: TempDir,
    simulator: OllamaSim,
    pages: Vec<BatchPage>,
}

impl Stage {
    async fn new(pages: usize, simulator: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulator = OllamaSim::start(&folder.path().join("sim"), simulator).unwrap();
        Self { simulator, pages: sheets(pages).await.unwrap(), folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> String {
        self.root().join("state").display().to_string()
    }

    async fn batch(&self, batch: &str) -> BatchDir {
        let batch = BatchDir::new(self.root(), batch).unwrap();
        batch.write_parts(&parts(&self.pages, 100)).await.unwrap();
        batch
    }

    fn args<'a>(&'a self, state: &'a str) -> [&'a str; 10] {
        let url = &self.simulator.url;
        let engine = ["--engine", "ollama", "--model", MODEL, "--ollama-url", url];
        let [a, b, c, d, e, f] = engine;
        [a, b, c, d, e, f, "--state-dir", state, "--concurrency", "4"]
    }

    fn run(&self, batch: &str) -> Finished {
        let done = agent_run(self.root(), batch, &self.args(&self.state())).unwrap();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done
    }

    async fn requests(&self) -> u64 {
        self.simulator.stats("").await.unwrap().now.requests
    }
}

/// Less what differs between two equal runs.
async fn made(batch: &BatchDir) -> Made {
    let mut made =
        Made { ledger: batch.ledger().await.unwrap(), suggestions: batch.suggestions().await.unwrap() };
    for row in &mut made.ledger {
        (row.attempts, row.latency_ms) = (0, 0);
    }
    for row in &mut made.suggestions {
        row.generated_at = chrono::DateTime::UNIX_EPOCH;
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn another_batch_of_the_same_pages_makes_no_request_but_for_those_that_failed() {
    let mut stage = Stage::new(60, &[]).await;
    let text = stage.pages[0].text.clone().unwrap();
    stage.pages.push(sheet(60, &text, &format!("{ALWAYS}garbage")));
    let first = stage.batch("first").await;
    stage.run("first");
    let asked = stage.requests().await;
    assert!(asked > 60, "{asked}");
    let rows = first.ledger().await.unwrap();
    let failed = rows.iter().filter(|row| row.outcome == Outcome::Failed).count();
    assert_eq!(failed, 1);
    let spent_on_failed: u64 = rows
        .iter()
        .filter(|row| row.outcome == Outcome::Failed)
        .map(|row| u64::from(row.attempts.unsigned_abs()))
        .sum();

    let second = stage.batch("second").await;
    stage.run("second");
    let again = stage.requests().await - asked;
    assert!(
        (1..=spent_on_failed + 1).contains(&again),
        "{again}: the failed page alone, and one to see that all is well"
    );
    let replayed = second.ledger().await.unwrap();
    assert!(replayed.iter().all(|row| row.attempts == 0 || row.outcome == Outcome::Failed));
    let (one, other) = (made(&first).await, made(&second).await);
    assert_eq!(one.suggestions, other.suggestions);
    let good =
        |made: Made| made.ledger.into_iter().filter(|row| row.outcome != Outcome::Failed).collect::<Vec<_>>();
    assert_eq!(good(one), good(other), "tokens included");

    // Without the failed page: no request at all.
    stage.pages.pop();
    stage.batch("third").await;
    let before = stage.requests().await;
    stage.run("third");
    assert_eq!(stage.requests().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_halved_or_saved_is_not_asked_again_either() {
    let mut stage = Stage::new(3, &[]).await;
    // Every answer about a piece with the mark is cut: it is halved to eighths, and of the last one saved what can be.
    let text = "IMO 9074729 and call sign H3RC, flag Panama. ".repeat(60);
    stage.pages.push(sheet(60, &text, &format!("{ALWAYS}cut-json")));
    let first = stage.batch("first").await;
    stage.run("first");
    let asked = stage.requests().await;
    assert!(asked > 3 + 6, "{asked}: it was halved");
    let rows = first.ledger().await.unwrap();
    assert!(rows.iter().all(|row| row.outcome == Outcome::Suggested), "{rows:?}");
    let second = stage.batch("second").await;
    stage.run("second");
    assert_eq!(stage.requests().await, asked, "nothing is asked again");
    let (one, other) = (made(&first).await, made(&second).await);
    assert_eq!((one.suggestions, one.ledger), (other.suggestions, other.ledger), "tokens included");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_alike_are_asked_about_once_also_at_once() {
    let stage = Stage::new(0, &["--slots", "4", "--service-ms", "50"]).await;
    let pages: Vec<BatchPage> =
        (0..40).map(|number| page("d", number + 1, &format!("{}: IMO 9074729", number % 3))).collect();
    let batch = BatchDir::new(stage.root(), "alike").unwrap();
    batch.write_parts(&parts(&pages, 15)).await.unwrap();
    stage.run("alike");
    assert_eq!(stage.requests().await, 3 + 1, "of each kind one, and one to see that all is well");
    let ledger = batch.ledger().await.unwrap();
    assert_eq!(ledger.iter().map(|row| row.attempts).sum::<i32>(), 3);
    assert!(ledger.iter().all(|row| row.spans == 1 && row.prompt_tokens > 0), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_repeats_what_was_in_flight_and_in_the_last_window() {
    let stage = Stage::new(300, &["--slots", "4", "--service-ms", "20"]).await;
    let batch = stage.batch("killed").await;
    let state = stage.state();
    let mut answered = 0;
    for kill in 1..=3u64 {
        let configure = |command: &mut Command| {
            command
                .args(["run", "--batch-id", "killed", "--root"])
                .arg(stage.root())
                .args(stage.args(&state));
        };
        let mut agent =
            Process::start("dgx-agent", configure, &stage.root().join(format!("killed-{kill}.log"))).unwrap();
        while answered < kill * 60 {
            assert!(agent.is_running().unwrap(), "{}", agent.log());
            answered = stage.simulator.stats("").await.unwrap().now.answers;
            tokio::task::yield_now().await;
        }
        agent.kill().unwrap();
    }
    stage.run("killed");
    let stats = stage.simulator.stats("").await.unwrap();
    let repeated = stats.now.requests - stage.pages.len() as u64;
    // A kill: the warm-up of the next run, 4 in flight, and what 4 slots answer while a commit is made.
    assert!(repeated <= 3 * (1 + 4 + 25) + 1, "{repeated} requests more than pages, after 3 kills");
    let undisturbed = Stage::new(300, &[]).await;
    let expected = undisturbed.batch("killed").await;
    undisturbed.run("killed");
    let (made, expected) = (made(&batch).await, made(&expected).await);
    assert_eq!(made.suggestions, expected.suggestions);
    assert_eq!(made.ledger, expected.ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_journal_and_no_page() {
    let stage = Stage::new(300, &[]).await;
    let batch = stage.batch("full").await;
    // No file may grow beyond so many blocks: the journal's does, soon.
    let script = "trap '' XFSZ; ulimit -f 256; exec \"$0\" \"$@\"";
    let (agent, state) = (binary("dgx-agent").unwrap(), stage.state());
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(agent).args(["run", "--json", "--batch-id", "full", "--root"]);
    command.arg(stage.root()).args(stage.args(&state));
    let mut agent = Process::spawn("dgx-agent", command, &stage.root().join("full.log")).unwrap();
    assert!(agent.wait().unwrap().success(), "{}", agent.log());
    assert_eq!(agent.log().matches("the journal is off").count(), 1, "{}", agent.log());
    assert_eq!(batch.ledger().await.unwrap().len(), stage.pages.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_journal_is_set_aside_and_made_again() {
    let stage = Stage::new(20, &[]).await;
    for batch in ["a", "b", "c"] {
        stage.batch(batch).await;
    }
    stage.run("a");
    let folder = stage.root().join("state/journal");
    for file in fs::read_dir(&folder).unwrap() {
        fs::write(file.unwrap().path(), "not what was written".repeat(1000)).unwrap();
    }
    let done = stage.run("b");
    assert!(done.stderr.contains("set aside"), "{}", done.stderr);
    assert!(folder.join("set-aside.redb").is_file());
    let asked = stage.requests().await;
    assert!(asked > 40, "{asked}");
    stage.run("c");
    assert_eq!(stage.requests().await, asked);
}
