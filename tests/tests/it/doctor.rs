//! `control doctor` as a person runs it: one line a prerequisite, and an exit code that tells what kind is missing.

use std::{fs, net::TcpListener};

use e2e::{
    argilla_standin::{ANNOTATOR_KEY, OWNER_KEY},
    harness::{Agent, ArgillaStandIn, Control, OllamaDouble, foreign},
    ollama_double::MODEL,
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

fn fix<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()["fix"].as_str().unwrap_or_default()
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
    assert_eq!(line(&report, "lake").0, "warning", "{report:#}");
    assert!(line(&report, "motherduck").1.contains("not needed"), "{report:#}");
    assert!(line(&report, "model").1.contains("works by rules"), "{report:#}");
    assert!(line(&report, "store").1.contains("no OCR output yet"), "{report:#}");
    assert!(line(&report, "lake").1.contains("there is no lake yet"), "{report:#}");
    assert!(line(&report, "agent").1.contains(&format!("serves {root}")), "{report:#}");
    assert!(line(&report, "argilla").1.contains("workspace \"vessels\" will be made"), "{report:#}");
    assert!(line(&report, "clock").1.contains("the agent's, Argilla's"), "{report:#}");
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
    assert!(line(&report, "lake").1.contains("schema version 1"), "{report:#}");

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
    assert!(fix(&report, "agent").contains("start `dgx-agent serve`"), "{report:#}");
    assert!(stderr.contains("argilla, agent"), "{stderr}");

    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla"]);
    assert_eq!((code, line(&report, "argilla").0), (4, "skipped"), "{report:#}");
    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla", "--skip", "agent"]);
    assert_eq!(code, 0, "{report:#}");

    fs::remove_dir(place.folder.path().join("data")).unwrap();
    let (code, report, _) = Place::doctor(&control, &["--skip", "argilla", "--skip", "agent"]);
    assert_eq!((code, line(&report, "store").0), (3, "problem"), "{report:#}");
    assert!(fix(&report, "store").contains("give --root"), "{report:#}");
}

#[test]
fn argilla_is_asked_who_we_are() {
    let place = Place::new();
    let argilla = ArgillaStandIn::start(&place.folder.path().join("argilla")).unwrap();
    for (key, says) in
        [("s3cret", "set ARGILLA_API_KEY"), (ANNOTATOR_KEY, "ARGILLA_API_KEY to the key of an owner")]
    {
        let control = place.control.clone().with_argilla(&argilla.url, key);
        let (code, report, stderr) = Place::doctor(&control, &["--skip", "agent"]);
        assert_eq!((code, line(&report, "argilla").0), (3, "problem"), "{report:#}");
        assert!(fix(&report, "argilla").contains(says), "{report:#}");
        assert!(!stderr.contains("s3cret") && !report.to_string().contains("s3cret"));
    }
    let people = place.control.run(&["doctor", "--skip", "agent", "--skip", "argilla"]).unwrap();
    assert_eq!(people.code, Some(0), "{}", people.stderr);
    assert!(people.stdout.contains("versions: control 0.1.0, duckdb 1.5."), "{}", people.stdout);
}

#[test]
fn the_model_is_told_by_the_agent_or_by_ollama_itself() {
    let place = Place::new();
    let root = place.folder.path().join("data").display().to_string();
    let ollama = OllamaDouble::start(&place.folder.path().join("ollama"), &[]).unwrap();
    let serve = |model: &str| {
        let args = ["--engine", "ollama", "--ollama-url", &ollama.url, "--model", model];
        Agent::start(&root, &place.folder.path().join(model), &args, &[]).unwrap()
    };
    let skip = ["--skip", "argilla"];
    let agent = serve(MODEL);
    let (code, report, _) = Place::doctor(&place.control.clone().with_agent(&agent.url), &skip);
    assert_eq!(code, 0, "{report:#}");
    assert!(line(&report, "model").1.starts_with(&format!("{MODEL}, digest ")), "{report:#}");
    let told = line(&report, "model").1.to_owned();

    let agent = serve("nobody");
    let (code, report, _) = Place::doctor(&place.control.clone().with_agent(&agent.url), &skip);
    assert_eq!(
        (code, line(&report, "agent").0, line(&report, "model").0),
        (3, "ok", "problem"),
        "{report:#}"
    );
    assert!(line(&report, "model").1.contains("run `ollama pull nobody`"), "{report:#}");

    let alone = place.control.clone().with_agent("http://127.0.0.1:1").with("OLLAMA_HOST", &ollama.url);
    let (code, report, _) = Place::doctor(&alone.clone().with("OLLAMA_MODEL", MODEL), &skip);
    assert_eq!((code, line(&report, "model").1), (4, told.as_str()), "{report:#}");
    let (code, report, _) = Place::doctor(&alone.with("OLLAMA_MODEL", "nobody"), &skip);
    assert_eq!((code, line(&report, "model").0), (3, "problem"), "{report:#}");

    drop(ollama);
    let (code, report, _) = Place::doctor(&place.control.clone().with_agent(&agent.url), &skip);
    assert_eq!((code, line(&report, "agent").0), (4, "ok"), "{report:#}");
    assert_eq!(line(&report, "model").0, "unreachable", "{report:#}");
}

#[test]
fn what_answers_but_is_none_of_them_is_a_problem_and_silence_is_not() {
    let place = Place::new();
    let everywhere = |address: &str| {
        let url = format!("http://anna:hunter2-pass@{address}");
        let control = place.control.clone().with_agent(&url).with_argilla(&url, "hunter2-key");
        let store =
            [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_ALLOW_HTTP", "true")];
        let store = store.into_iter().chain([("AWS_SECRET_ACCESS_KEY", "hunter2-aws")]);
        let control = store.fold(control, |control, (name, value)| control.with(name, value));
        control.with("OLLAMA_HOST", &url).with("PREANNOTATE_ROOT", "s3://bucket/x")
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (redirect, page) = (foreign::redirect().unwrap(), foreign::page().unwrap());
    for (address, code, status) in [
        (free.to_string(), 4, "unreachable"),
        (silent.local_addr().unwrap().to_string(), 4, "unreachable"),
        (redirect.to_string(), 3, "problem"),
        (page.to_string(), 3, "problem"),
    ] {
        let (ended, report, stderr) = Place::doctor(&everywhere(&address), &[]);
        assert_eq!(ended, code, "{report:#}");
        for name in ["store", "agent", "model", "argilla"] {
            assert_eq!(line(&report, name).0, status, "{name}: {report:#}");
            assert!(!fix(&report, name).is_empty(), "{name}: {report:#}");
        }
        assert_eq!((line(&report, "lake").0, line(&report, "disk").0), ("warning", "ok"), "{report:#}");
        assert!(!format!("{report}{stderr}").contains("hunter2"), "{report:#}{stderr}");
    }
}
