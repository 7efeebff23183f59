//! Operating jobs as a person does it, one `control` process a command: what each state allows, what it says otherwise,
//! and with which exit code.

use std::{path::PathBuf, time::Duration};

use e2e::{
    batch_dir::{BatchDir, page, parts},
    harness::{Agent, Control, OllamaSim},
    ollama_double::MODEL,
};
use proto::{keys::PartKind, rows::BatchPage};
use serde_json::Value;
use tempfile::TempDir;

struct Stage {
    folder: TempDir,
    simulator: OllamaSim,
    agent: Agent,
    control: Control,
}

impl Stage {
    fn new(simulator: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(&root).unwrap();
        let root = root.display().to_string();
        let simulator = OllamaSim::start(&folder.path().join("sim"), simulator).unwrap();
        let args =
            ["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url, "--concurrency", "4"];
        let agent = Agent::start(&root, &folder.path().join("work"), &args, &[]).unwrap();
        let control = Control::new(folder.path(), &root).with_agent(&agent.url);
        Self { folder, simulator, agent, control }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    async fn batch(&self, batch: &str, count: i32) -> BatchDir {
        let directory = BatchDir::new(&self.root(), batch).unwrap();
        let pages: Vec<BatchPage> =
            (1..=count).map(|number| page(batch, number, &format!("{number}: IMO 9074729"))).collect();
        directory.write_parts(&parts(&pages, 50)).await.unwrap();
        directory
    }

    async fn answers(&self, more_than: u64) {
        for _ in 0..6000 {
            if self.simulator.stats("").await.unwrap().now.answers > more_than {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the simulator did not get there");
    }

    /// The state that a command leaves a job in.
    fn state(&self, args: &[&str]) -> String {
        let job = self.control.json(&[&["preannotate"], args].concat()).unwrap();
        job["state"].as_str().unwrap().to_owned()
    }

    /// Refused with this exit code, in words and as JSON alike.
    fn refused(&self, args: &[&str], code: i32, says: &str) {
        let told = self.control.run(args).unwrap();
        assert_eq!((told.code, told.stdout.as_str()), (Some(code), ""), "{args:?}: {}", told.stderr);
        assert!(told.stderr.contains(says), "{args:?}: {says:?} in {}", told.stderr);
        // What clap refuses it says itself.
        if code != 2 {
            let told = self.control.run(&[args, &["--json"]].concat()).unwrap();
            let document: Value = serde_json::from_str(&told.stderr).unwrap();
            assert_eq!(document["exit_code"], code);
            assert!(document["message"].as_str().unwrap().contains(says), "{document}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_allows_what_it_allows_and_says_what_to_do_instead() {
    let mut stage = Stage::new(&["--slots", "4", "--service-ms", "25"]);
    let batch = stage.batch("a", 600).await;
    assert!(["queued", "running"].contains(&stage.state(&["submit", "a"]).as_str()));
    stage.answers(10).await;
    stage.refused(&["batch", "delete", "a"], 1, "batch a is running: cancel it first");

    for _ in 0..2 {
        assert_eq!(stage.state(&["pause", "a"]), "paused");
    }
    stage.refused(&["batch", "delete", "a"], 1, "batch a is paused: cancel it first");
    stage.refused(&["preannotate", "retry", "a"], 1, "batch a is paused: resume it");
    let weighed = stage.control.json(&["preannotate", "priority", "a", "50"]).unwrap();
    assert_eq!((&weighed["weight"], &weighed["state"]), (&50.into(), &"paused".into()));
    for wrong in ["0", "101", "x"] {
        stage.refused(&["preannotate", "priority", "a", wrong], 2, "invalid value");
    }
    let told = stage.control.run(&["preannotate", "status", "a"]).unwrap();
    assert!(
        told.stdout.contains("state       paused") && told.stdout.contains("priority    50"),
        "{}",
        told.stdout
    );

    for _ in 0..2 {
        assert!(["queued", "running"].contains(&stage.state(&["resume", "a"]).as_str()));
    }
    for _ in 0..2 {
        assert_eq!(stage.state(&["cancel", "a"]), "cancelled");
    }
    for other in [&["pause", "a"][..], &["resume", "a"], &["priority", "a", "7"]] {
        stage.refused(&[&["preannotate"], other].concat(), 1, "batch a is cancelled: retry it");
    }
    let watched = stage.control.run(&["preannotate", "watch", "a"]).unwrap();
    assert_eq!(watched.code, Some(1), "{}", watched.stderr);
    assert!(
        watched.stderr.contains("`control preannotate retry a` goes on where it was"),
        "{}",
        watched.stderr
    );

    assert!(["queued", "running"].contains(&stage.state(&["retry", "a"]).as_str()));
    assert_eq!(stage.state(&["watch", "a"]), "complete");
    assert_eq!(batch.ledger().await.unwrap().len(), 600);
    stage.refused(&["preannotate", "cancel", "a"], 1, "there is nothing to cancel");
    stage.refused(&["preannotate", "retry", "a"], 1, "none of its pages failed");
    for other in [&["pause", "a"][..], &["resume", "a"], &["priority", "a", "7"]] {
        stage.refused(&[&["preannotate"], other].concat(), 1, "there is nothing left to do");
    }

    for other in ["pause", "resume", "cancel", "retry", "watch"] {
        stage.refused(&["preannotate", other, "nobody"], 5, "there is no job for batch nobody");
        stage.refused(&["preannotate", other, "No-Body"], 2, "invalid value 'No-Body'");
    }
    stage.refused(&["preannotate", "priority", "nobody", "7"], 5, "there is no job for batch nobody");

    stage.agent.process.terminate().unwrap();
    assert!(stage.agent.process.wait().unwrap().success());
    for other in [
        &["preannotate", "pause", "a"][..],
        &["preannotate", "priority", "a", "7"],
        &["batch", "delete", "a"],
    ] {
        stage.refused(other, 4, "start `dgx-agent serve` there");
    }
    assert!(
        batch.is_complete().await.unwrap(),
        "nothing is deleted while nobody knows whether a job works on it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_got_lost_of_a_complete_batch_are_made_again_as_they_were() {
    let stage = Stage::new(&["--slots", "4"]);
    stage.batch("a", 60).await;
    assert_eq!(stage.state(&["submit", "a", "--watch"]), "complete");
    stage.control.json(&["merge", "a"]).unwrap();
    let asked = stage.simulator.stats("").await.unwrap().now.requests;
    let batch = BatchDir::new(&stage.root(), "a").unwrap();
    let of = |kind| batch.keys.part(kind, 1);
    let (suggestions, ledger, record) =
        (of(PartKind::Suggestions), of(PartKind::Ledger), of(PartKind::Commits));
    let made = batch.store.get(&suggestions).await.unwrap();

    batch.store.delete(&suggestions).await.unwrap();
    stage.refused(&["merge", "a"], 5, "suggestions/part-00001.parquet is not there");
    stage.refused(&["merge", "a"], 5, "`control preannotate retry BATCH --lost`");
    stage.refused(&["preannotate", "retry", "a"], 1, "none of its pages failed");
    let restore = || {
        assert_eq!(stage.state(&["retry", "a", "--lost"]), "queued");
        assert_eq!(stage.state(&["watch", "a"]), "complete");
        assert_eq!(stage.control.json(&["merge", "a"]).unwrap()["already_done"], true);
    };
    restore();
    assert_eq!(batch.store.get(&suggestions).await.unwrap(), made, "to the byte");

    // Of what is there and wrong the way out is the same.
    batch.store.put(&ledger, "not what was committed").await.unwrap();
    stage.refused(&["merge", "a"], 5, "is not what was committed: restore it; or delete it");
    batch.store.delete(&ledger).await.unwrap();
    // What a page took the first time is not known again: the part is committed anew.
    stage.control.json(&["preannotate", "retry", "a", "--lost"]).unwrap();
    let failed = stage.control.run(&["preannotate", "watch", "a"]).unwrap();
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    for says in ["commits/part-00001.json says", "delete that record and", "/_manifest.json, and run"] {
        assert!(failed.stderr.contains(says), "{says:?} in {}", failed.stderr);
    }
    for key in [&record, &batch.keys.manifest()] {
        batch.store.delete(key).await.unwrap();
    }
    restore();
    batch.store.put(&record, "no record").await.unwrap();
    batch.store.delete(&batch.keys.manifest()).await.unwrap();
    stage.refused(&["merge", "a", "--partial"], 5, "commits/part-00001.json cannot be understood");
    batch.store.delete(&record).await.unwrap();
    restore();
    assert_eq!(stage.simulator.stats("").await.unwrap().now.requests, asked, "the journal has the answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_deleted_is_gone_with_its_job_and_no_other_is() {
    let stage = Stage::new(&["--slots", "4", "--service-ms", "5"]);
    for batch in ["a", "a-2"] {
        stage.batch(batch, 60).await;
        assert_eq!(stage.state(&["submit", batch, "--watch"]), "complete");
    }
    let deleted = stage.control.json(&["batch", "delete", "a"]).unwrap();
    assert_eq!(deleted["outcomes"]["jobs"], 1);
    // Two parts: pages, suggestions, ledger, commits; and the manifest, and which calibration there is.
    assert!(deleted["outcomes"]["objects"].as_u64().unwrap() >= 9, "{deleted}");
    assert!(!stage.root().join("argilla/in/vessels_ocr_a").exists() || files(&stage, "a") == 0);
    stage.refused(&["batch", "delete", "a"], 5, "there is no batch a under");
    stage.refused(&["batch", "show", "a"], 5, "there is no batch a under");
    stage.refused(&["preannotate", "status", "a"], 5, "there is no job for batch a");
    // Its neighbour's name begins like its own.
    assert_eq!(stage.state(&["status", "a-2"]), "complete");
    assert_eq!(stage.control.json(&["batch", "show", "a-2"]).unwrap()["state"], "preannotated");

    // A signed batch is what others rest on.
    let signed = BatchDir::new(&stage.root(), "a-2").unwrap();
    signed.store.put(&signed.keys.signoff(), "{}").await.unwrap();
    stage.refused(&["batch", "delete", "a-2"], 1, "batch a-2 is signed off");
    assert_eq!(stage.control.json(&["batch", "delete", "a-2", "--signed"]).unwrap()["outcomes"]["jobs"], 1);
    // The ids are free.
    stage.batch("a", 10).await;
    assert_eq!(stage.state(&["submit", "a", "--watch"]), "complete");
}

fn files(stage: &Stage, batch: &str) -> usize {
    let mut open = vec![stage.root().join(format!("argilla/in/vessels_ocr_{batch}"))];
    let mut files = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files += 1 }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_another_agent_works_on_is_not_deleted_and_neither_is_another_roots_job() {
    // It answers for thirty pages and holds all others.
    let stage = Stage::new(&["--slots", "4", "--service-ms", "1", "--then", "30:0"]);
    let batch = stage.batch("a", 150).await;
    stage.state(&["submit", "a"]);
    stage.answers(20).await;

    // An agent of another root, which has a batch of that name behind it.
    let there = stage.folder.path().join("there");
    let namesake = BatchDir::new(&there, "a").unwrap();
    namesake.write_parts(&parts(&[page("a", 1, "IMO 9074729")], 50)).await.unwrap();
    let other =
        Agent::start(&there.display().to_string(), &stage.folder.path().join("other"), &[], &[]).unwrap();
    let theirs = Control::new(&there, &there.display().to_string()).with_agent(&other.url);
    let job = theirs.json(&["preannotate", "submit", "a", "--watch"]).unwrap();
    assert_eq!(job["state"], "complete");

    let here = Control::new(stage.folder.path(), &stage.root().display().to_string()).with_agent(&other.url);
    let refused = here.run(&["batch", "delete", "a"]).unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("batch a is worked on by process "), "{}", refused.stderr);
    assert!(batch.store.head_opt(&batch.keys.part(PartKind::Pages, 0)).await.unwrap().is_some());

    stage.state(&["cancel", "a"]);
    // Its leases are given back when its run has ended.
    let deleted = loop {
        let deleted = here.run(&["batch", "delete", "a", "--json"]).unwrap();
        if deleted.code == Some(0) {
            break deleted;
        }
        assert!(deleted.stderr.contains("is worked on by process"), "{}", deleted.stderr);
    };
    let deleted: Value = serde_json::from_str(&deleted.stdout).unwrap();
    assert_eq!(deleted["outcomes"]["jobs"], 0);
    assert_eq!(batch.store.list_sorted(batch.keys.folder()).await.unwrap().len(), 0);
    assert_eq!(theirs.json(&["preannotate", "status", "a"]).unwrap()["state"], "complete", "theirs is there");
}
