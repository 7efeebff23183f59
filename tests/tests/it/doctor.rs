//! `control doctor` as a person runs it: one line a prerequisite, and an exit code that tells what kind is missing.

use std::fs;

use e2e::{
    argilla_standin::{ANNOTATOR_KEY, OWNER_KEY},
    harness::{Agent, ArgillaStandIn, Control},
};
use serde_json::Value;

struct Place {
    folder: tempfile::TempDir,
    control: Control,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let control = Control::new(folder.path(), folder.path().join("data").to_str().unwrap());
        let cache = folder.path().join("cache").display().to_string();
        Self { control: control.with("PREANNOTATE_CACHE", &cache), folder }
    }

    /// Exit code, report and what stderr says.
    fn doctor(control: &Control, args: &[&str]) -> (i32, Value, String) {
        let done = control.run(&[&["doctor", "--json"], args].concat()).unwrap();
        let report = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stderr));
        (done.code.unwrap(), report, done.stderr)
    }
}

fn line<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    (check["status"].as_str().unwrap(), check["found"].as_str().unwrap())
}

#[test]
fn everything_is_there() {
    let place = Place::new();
    let root = place.folder.path().join("data").display().to_string();
    let argilla = ArgillaStandIn::start(&place.folder.path().join("argilla")).unwrap();
    let agent = Agent::start(&root, &place.folder.path().join("agent"), &["--engine", "rules"], &[]).unwrap();
    let control = place.control.clone().with_argilla(&argilla.url, OWNER_KEY).with_agent(&agent.url);
    let (code, report, stderr) = Place::doctor(&control, &[]);
    assert_eq!(code, 0, "{report:#}{stderr}");
    assert!(line(&report, "store").1.contains("no OCR output yet"), "{report:#}");
    assert!(line(&report, "lake").1.contains("not made yet"), "{report:#}");
    assert!(line(&report, "agent").1.contains("serves the rules engine"), "{report:#}");
    assert!(line(&report, "argilla").1.contains("workspace \"vessels\" will be made"), "{report:#}");
    assert!(line(&report, "clock").1.contains("agrees with the agent's"), "{report:#}");
    for tool in ["control", "duckdb", "dgx-agent", "argilla"] {
        assert!(
            report["versions"][tool].as_str().is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())),
            "{report:#}"
        );
    }
    let left: Vec<_> = fs::read_dir(&root).unwrap().collect();
    assert!(left.is_empty(), "the probe is gone: {left:?}");

    control.json(&["lake", "init"]).unwrap();
    let (code, report, _) = Place::doctor(&control, &[]);
    assert_eq!((code, line(&report, "lake").0), (0, "ok"), "{report:#}");
    assert!(line(&report, "lake").1.contains("both databases open"), "{report:#}");

    let other = tempfile::tempdir().unwrap();
    let elsewhere = control.clone().with("PREANNOTATE_ROOT", other.path().to_str().unwrap());
    let (code, report, _) = Place::doctor(&elsewhere, &[]);
    assert_eq!((code, line(&report, "agent").0), (3, "problem"), "{report:#}");
}

#[test]
fn what_is_missing_is_told_with_the_way_out() {
    let place = Place::new();
    let control = place.control.clone().with_agent("http://127.0.0.1:1");
    let (code, report, stderr) = Place::doctor(&control, &[]);
    assert_eq!(code, 3, "{report:#}");
    assert!(
        line(&report, "argilla").1.contains("ARGILLA_API_URL and ARGILLA_API_KEY are not set"),
        "{report:#}"
    );
    assert_eq!(line(&report, "agent").0, "unreachable");
    assert!(line(&report, "agent").1.contains("start `dgx-agent serve`"), "{report:#}");
    assert!(stderr.contains("argilla, agent"), "{stderr}");

    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla"]);
    assert_eq!((code, line(&report, "argilla").0), (4, "skipped"), "{report:#}");
    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla", "--skip", "agent"]);
    assert_eq!(code, 0, "{report:#}");

    fs::remove_dir(place.folder.path().join("data")).unwrap();
    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla", "--skip", "agent"]);
    assert_eq!((code, line(&report, "store").0), (3, "problem"), "{report:#}");
    assert!(line(&report, "store").1.contains("give --root"), "{report:#}");
}

#[test]
fn argilla_is_asked_who_we_are() {
    let place = Place::new();
    let argilla = ArgillaStandIn::start(&place.folder.path().join("argilla")).unwrap();
    for (key, says) in [("s3cret", "check ARGILLA_API_KEY"), (ANNOTATOR_KEY, "is an annotator")] {
        let control = place.control.clone().with_argilla(&argilla.url, key);
        let (code, report, stderr) = Place::doctor(&control, &["--skip", "agent"]);
        assert_eq!((code, line(&report, "argilla").0), (3, "problem"), "{report:#}");
        assert!(line(&report, "argilla").1.contains(says), "{report:#}");
        assert!(!stderr.contains("s3cret") && !report.to_string().contains("s3cret"));
    }
    let people = place.control.run(&["doctor", "--skip", "agent", "--skip", "argilla"]).unwrap();
    assert_eq!(people.code, Some(0), "{}", people.stderr);
    assert!(people.stdout.contains("versions: control 0.1.0, duckdb 1.5."), "{}", people.stdout);
}
