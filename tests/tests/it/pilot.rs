//! The whole pilot: the demo as a person runs it, twice; and a pilot with a page that needs an explanation.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use e2e::{
    corpus::{RawDocument, RawPage, write_document},
    harness::{Agent, ArgillaStandIn, Control, binary},
};
use proto::hash::sha256_hex;
use serde_json::Value;

fn demo(folder: &Path) -> String {
    let mut demo = Command::new(binary("demo").unwrap());
    for name in ["ARGILLA_API_URL", "ARGILLA_API_KEY", "OLLAMA_HOST"] {
        demo.env_remove(name);
    }
    let done = demo.arg("--folder").arg(folder).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}{stderr}");
    stdout
}

/// Every object and database below the folder with its hash, but what services and caches keep for themselves.
fn objects(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.join("root")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), sha256_hex(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// The lines of the stages that write something.
fn writing<'a>(table: &'a str, stages: &[&str]) -> Vec<&'a str> {
    stages
        .iter()
        .map(|stage| {
            table.lines().find(|line| line.starts_with(stage)).unwrap_or_else(|| panic!("{stage}\n{table}"))
        })
        .collect()
}

const WRITING: [&str; 8] = [
    "lake init",
    "ocr load",
    "batch create",
    "preannotate",
    "merge",
    "argilla sync",
    "argilla export",
    "annotations load",
];

#[test]
fn the_demo_runs_through_and_a_second_time_does_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = demo(folder.path());
    assert!(first.contains("STAND-IN") && first.contains("SIMULATED SME"), "{first}");
    assert!(first.contains("PASS 10"), "{first}");
    for line in writing(&first, &WRITING) {
        assert!(!line.contains("already done"), "{line}");
    }
    let made = objects(folder.path());
    let log = fs::read_to_string(folder.path().join("pilot-log/demo/pilot-log.md")).unwrap();
    assert!(log.contains("Signed by **SIMULATED SME**"), "{log}");
    assert!(folder.path().join("pilot-log/demo/preview.html").is_file());

    let second = demo(folder.path());
    for line in writing(&second, &WRITING) {
        assert!(line.contains("already done"), "{line}");
    }
    assert!(second.contains("0 submitted"), "{second}");
    assert_eq!(objects(folder.path()), made);
}

/// Runs the pilot to the review, has every record reviewed, runs it again.
struct Pilot {
    control: Control,
    argilla: ArgillaStandIn,
    _agent: Agent,
}

impl Pilot {
    fn start(folder: &Path, root: &str) -> Self {
        let agent = Agent::start(root, &folder.join("agent"), &["--engine", "rules"], &[]).unwrap();
        let argilla = ArgillaStandIn::start(&folder.join("argilla")).unwrap();
        let control = Control::new(folder, root)
            .with_agent(&agent.url)
            .with_argilla(&argilla.url, ArgillaStandIn::OWNER_KEY);
        Self { control, argilla, _agent: agent }
    }

    fn review(&self, batch: &str) {
        let truth = e2e::corpus::examples().join("truth.parquet");
        let done = Command::new(binary("simulated-sme").unwrap())
            .args(["--api-url", &self.argilla.url, "--api-key", ArgillaStandIn::OWNER_KEY])
            .args(["--dataset", &format!("vessels_ocr_{batch}"), "--truth"])
            .arg(truth)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

fn stage<'a>(pilot: &'a Value, name: &str) -> &'a Value {
    let stages = pilot["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("{name} in {pilot}"))
}

#[tokio::test]
async fn a_wrong_hash_stops_the_sign_off_until_it_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root").display().to_string();
    let text = "Vessel name: MARBLE HERRING\nIMO number: 9074729\nFlag: Spain";
    let mut wrong = RawPage::new("licence 1/2", 1, 2, text);
    wrong.text_sha256 = Some(sha256_hex("another text"));
    let pages = [RawPage::new("licence 1/2", 1, 1, text), wrong, RawPage::new("licence 1/2", 1, 3, " \n")];
    write_document(&root, &RawDocument::new("licence 1/2", 1), &pages).await.unwrap();

    let pilot = Pilot::start(folder.path(), &root);
    let run = ["pilot", "run", "p", "--doc-id", "licence 1/2", "--by", "Ada"];
    let waiting = pilot.control.json(&run).unwrap();
    assert!(waiting["waits_for"].as_str().unwrap().contains("0 of 1 records are reviewed"), "{waiting}");
    let annotated = stage(&waiting, "preannotate");
    assert_eq!((&annotated["pages_in"], &annotated["pages_out"]), (&3.into(), &3.into()));
    assert_eq!(annotated["outcomes"]["skipped"], 1);
    assert_eq!(annotated["outcomes"]["empty"], 1);
    let merged = stage(&waiting, "merge");
    assert_eq!((&merged["pages_in"], &merged["pages_out"]), (&3.into(), &1.into()));

    pilot.review("p");
    let refused = pilot.control.run(&run).unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("licence 1/2:2 (run 1)"), "{}", refused.stderr);
    let signoff = pilot.control.run(&["signoff", "p", "--by", "Ada"]).unwrap();
    assert_eq!(signoff.code, Some(1), "{}", signoff.stderr);
    assert!(signoff.stderr.contains("nothing is signed"), "{}", signoff.stderr);
    assert!(!folder.path().join("pilot-log").exists());

    let other = pilot.control.run(&["signoff", "p", "--investigated", "8=because"]).unwrap();
    assert_eq!(other.code, Some(2), "{}", other.stderr);

    let explained =
        pilot.control.json(&[&run[..], &["--investigated", "3=page 2 was typed by hand"]].concat()).unwrap();
    assert_eq!(stage(&explained, "signoff")["outcomes"]["PASS"], 9);
    let log = fs::read_to_string(folder.path().join("pilot-log/p/pilot-log.json")).unwrap();
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["investigated"]["3"], "page 2 was typed by hand");
    assert_eq!((&log["signed_by"], &log["doc_ids"]), (&"Ada".into(), &vec!["licence 1/2"].into()));
    assert_eq!(log["checks"].as_array().unwrap().len(), 10);
    assert_eq!(log["provenance"]["model"], "rules");
}

#[test]
fn a_pilot_needs_its_documents() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    let control = Control::new(folder.path(), &root.display().to_string());
    let none = control.run(&["pilot", "run", "p"]).unwrap();
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    let unknown = control.run(&["pilot", "run", "p", "--doc-id", "x", "--until", "ocr-load"]).unwrap();
    assert_eq!(unknown.code, Some(5), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("ocr load: document \"x\" has no pages"), "{}", unknown.stderr);
}
