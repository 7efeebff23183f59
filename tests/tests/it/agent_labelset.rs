//! A labelset file that changes under running jobs changes nothing for them, whether the agent goes on or starts again:
//! neither for a batch that carries its labelset nor for one that has the agent's.

use std::{fs, path::PathBuf};

use e2e::{
    agent_jobs::{AgentJobs, Made},
    batch_dir::{BatchDir, page, parts},
    harness::{Agent, agent_run_json},
};
use proto::{
    docs::LabelsetDoc,
    grpc::{Batch, BatchState},
    hash::sha256_hex,
    rows::BatchPage,
};
use tempfile::TempDir;

struct Stage {
    folder: TempDir,
}

/// Of three labels, less one.
fn labelset(without: &str) -> String {
    let labels = [("CALL_SIGN", "H3RC"), ("FLAG", "Panama"), ("IMO", "9074729")];
    let labels: Vec<_> = labels.into_iter().filter(|(name, _)| *name != without).collect();
    let names: Vec<_> = labels.iter().map(|(name, _)| format!("{name:?}")).collect();
    let mut toml = format!(
        "name = 'two'\nversion = '1'\nguidelines = ''\noverlap_order = [{}]\n[fragments]\ngap = '[: ]{{1,2}}'\n",
        names.join(", ")
    );
    for (name, value) in labels {
        toml += &format!(
            "[[labels]]\nname = {name:?}\ntitle = 't'\ndescription = 'd'\nexamples = ['{value}', '{value}', '{value}']\n\
             [[labels.rules]]\nvalue = '{value}'\n"
        );
    }
    toml
}

impl Stage {
    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn labels(&self) -> String {
        self.folder.path().join("labels.toml").display().to_string()
    }

    fn agent(&self, env: &[(&str, &str)]) -> Agent {
        let args = ["--labels", &self.labels(), "--jobs", "1"];
        Agent::start(self.root().to_str().unwrap(), &self.folder.path().join("work"), &args, env).unwrap()
    }

    /// Three parts; `carries`: what `_batch.json` says.
    async fn batch(&self, batch: &str, carries: Option<&str>) {
        let dir = BatchDir::new(&self.root(), batch).unwrap();
        let text = |number: i32| format!("{number}: IMO 9074729, call sign: H3RC, flag: Panama");
        let pages: Vec<BatchPage> = (1..=9).map(|number| page("d", number, &text(number))).collect();
        dir.write_parts(&parts(&pages, 3)).await.unwrap();
        if let Some(toml) = carries {
            let mut spec = dir.spec().await.unwrap();
            let toml = toml.to_owned();
            spec.labelset = LabelsetDoc { sha256: sha256_hex(&toml), toml, ..spec.labelset };
            dir.write_spec(&spec).await.unwrap();
        }
    }

    async fn made(&self, batch: &str) -> Made {
        Made::read(self.root().to_str().unwrap(), batch).await.unwrap()
    }

    async fn labels_of(&self, batch: &str) -> Vec<String> {
        let mut labels: Vec<_> =
            self.made(batch).await.suggestions.into_iter().map(|row| row.label.into_owned()).collect();
        labels.sort();
        labels.dedup();
        labels
    }
}

fn sha256(job: &Batch) -> String {
    job.provenance.as_ref().unwrap().labelset_sha256.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labelset_that_changes_under_running_jobs_changes_nothing_for_them() {
    let stage = Stage { folder: tempfile::tempdir().unwrap() };
    let (of_file, changed, of_batch) = (labelset("CALL_SIGN"), labelset("IMO"), labelset("FLAG"));
    fs::write(stage.labels(), &of_file).unwrap();
    // What an undisturbed run makes of the same pages.
    for (batch, carries) in [("lent-whole", None), ("own-whole", Some(&of_batch))] {
        stage.batch(batch, carries.map(String::as_str)).await;
        agent_run_json(&stage.root(), batch, &["--labels", &stage.labels()]).unwrap();
    }
    for (batch, carries) in [("lent", None), ("own", Some(&of_batch)), ("later", None)] {
        stage.batch(batch, carries.map(String::as_str)).await;
    }

    // The first part of one is committed, the other waits; then the file changes, and the agent starts again.
    let mut agent = stage.agent(&[("DGX_AGENT_PAUSE_AT", "ledger:1")]);
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    let (lent, _) = jobs.submit("lent").await.unwrap();
    let (own, _) = jobs.submit("own").await.unwrap();
    assert_eq!((sha256(&lent), sha256(&own)), (sha256_hex(&of_file), sha256_hex(&of_batch)));
    let log = stage.folder.path().join("work/dgx-agent.log");
    let paused = || fs::read_to_string(&log).ok()?.contains("paused at ledger of part 1").then_some(());
    agent.process.until("pause", paused).unwrap();
    fs::write(stage.labels(), &changed).unwrap();
    let (again, created) = jobs.submit("lent").await.unwrap();
    assert!(!created && sha256(&again) == sha256(&lent), "the agent that runs has not read it");
    agent.process.kill().unwrap();
    drop(agent);

    let _agent = stage.agent(&[]);
    let mut jobs = AgentJobs::connect(&_agent.url).await.unwrap();
    for (batch, before) in [("lent", &lent), ("own", &own)] {
        let done = jobs.complete(batch).await.unwrap();
        assert_eq!((sha256(&done), &done.fingerprint), (sha256(before), &before.fingerprint));
        let (made, whole) = (stage.made(batch).await, stage.made(&format!("{batch}-whole")).await);
        assert_eq!((made.suggestions, made.ledger), (whole.suggestions, whole.ledger), "{batch}");
    }
    assert_eq!(stage.labels_of("lent").await, ["FLAG", "IMO"]);
    assert_eq!(stage.labels_of("own").await, ["CALL_SIGN", "IMO"]);

    // The file is read: a batch that comes now has it, and the old one is not taken for it.
    let (later, _) = jobs.submit("later").await.unwrap();
    assert_eq!(sha256(&later), sha256_hex(&changed));
    assert_eq!(jobs.complete("later").await.unwrap().state(), BatchState::Complete);
    assert_eq!(stage.labels_of("later").await, ["CALL_SIGN", "FLAG"]);
    let differs = jobs.submit("lent").await.unwrap_err();
    assert!(differs.message().contains("the labelset"), "{differs}");
}
