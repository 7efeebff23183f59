//! `control doctor` with everything up, and with each service down in turn. The shared services are left alone: what
//! is down is an address where nobody, somebody silent, or somebody else answers.

use std::{fmt::Write as _, net::TcpListener, path::Path};

use e2e::harness::{Agent, Control, foreign};
use serde_json::{Value, json};

use crate::services::{env, store_env};

const CHECKS: [&str; 8] = ["store", "lake", "motherduck", "agent", "model", "argilla", "disk", "clock"];

/// Where no service is.
struct Nowhere {
    closed: String,
    silent: String,
    redirect: String,
    page: String,
    _silent: TcpListener,
}

impl Nowhere {
    fn new() -> Self {
        let url = |address: std::net::SocketAddr| format!("http://{address}");
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            closed: url(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()),
            silent: url(silent.local_addr().unwrap()),
            redirect: url(foreign::redirect().unwrap()),
            page: url(foreign::page().unwrap()),
            _silent: silent,
        }
    }

    /// With the status that doctor gives it.
    fn each(&self) -> [(&'static str, &str, &'static str); 4] {
        [
            ("a free port", &self.closed, "unreachable"),
            ("accepts, says nothing", &self.silent, "unreachable"),
            ("302 to a login", &self.redirect, "problem"),
            ("200, a login page", &self.page, "problem"),
        ]
    }
}

fn agent(folder: &Path, name: &str, ollama: &str, model: &str) -> Agent {
    let root = format!("s3://{}", env("LIVE_S3_BUCKET"));
    let args = ["--engine", "ollama", "--ollama-url", ollama, "--model", model];
    Agent::start(&root, &folder.join(name), &args, &[]).unwrap()
}

fn control(folder: &Path, agent: &Agent) -> Control {
    let root = format!("s3://{}/doctor", env("LIVE_S3_BUCKET"));
    let control = Control::new(folder, &root)
        .with("PREANNOTATE_CACHE", &folder.join("cache").display().to_string())
        .with("MOTHERDUCK_TOKEN", "a-motherduck-token")
        .with("OLLAMA_HOST", &env("OLLAMA_HOST"))
        .with("OLLAMA_MODEL", &env("LIVE_OLLAMA_MODEL"))
        .with_argilla(&env("ARGILLA_API_URL"), &env("ARGILLA_API_KEY"))
        .with_agent(&agent.url);
    store_env().iter().fold(control, |control, (name, value)| control.with(name, value))
}

/// Exit code and report; no secret is in what is printed.
fn doctor(control: &Control) -> (i32, Value) {
    let done = control.run(&["doctor", "--json"]).unwrap();
    let said = format!("{}{}", done.stdout, done.stderr);
    let secret = |name: &str| ["KEY", "SECRET", "TOKEN"].iter().any(|word| name.contains(word));
    for (name, value) in control.env.iter().filter(|(name, _)| secret(name) && !name.ends_with("_ID")) {
        assert!(value.is_empty() || !said.contains(value), "{name} is printed: {said}");
    }
    let report = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stderr));
    (done.code.unwrap(), report)
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

fn statuses(report: &Value) -> Vec<&str> {
    CHECKS.iter().map(|name| check(report, name)["status"].as_str().unwrap()).collect()
}

/// Loads the model, so that there is something to tell about where it runs.
fn load_model() {
    let body = json!({"model": env("LIVE_OLLAMA_MODEL"), "stream": false, "options": {"num_predict": 1},
        "messages": [{"role": "user", "content": "hi"}]});
    let chat = async {
        let url = format!("{}/api/chat", env("OLLAMA_HOST"));
        reqwest::Client::new().post(url).json(&body).send().await?.error_for_status().map(drop)
    };
    tokio::runtime::Runtime::new().unwrap().block_on(chat).unwrap();
}

#[test]
fn everything_up_and_each_service_down_in_turn() {
    let (folder, nowhere) = (tempfile::tempdir().unwrap(), Nowhere::new());
    let folder = folder.path();
    load_model();
    let well = agent(folder, "well", &env("OLLAMA_HOST"), &env("LIVE_OLLAMA_MODEL"));
    let up = control(folder, &well);
    up.json(&["lake", "init"]).unwrap();

    let shown = up.run(&["doctor"]).unwrap();
    assert_eq!(shown.code, Some(0), "{}{}", shown.stdout, shown.stderr);
    let (code, report) = doctor(&up);
    // On a GPU the model is no warning.
    let model = check(&report, "model")["status"].as_str().unwrap();
    assert!(["ok", "warning"].contains(&model), "{report:#}");
    let all_well = ["ok", "ok", "skipped", "ok", model, "ok", "ok", "ok"];
    assert_eq!((code, statuses(&report)), (0, all_well.to_vec()), "{report:#}");
    for (name, says) in [
        ("store", "create-only writes hold"),
        ("lake", "schema version 1"),
        ("motherduck", "Not verified: that MotherDuck takes the token"),
        ("agent", "dgx-agent"),
        ("model", ", digest "),
        ("argilla", "(owner)"),
        ("clock", "the object store's, the agent's, Argilla's"),
    ] {
        assert!(check(&report, name)["found"].as_str().unwrap().contains(says), "{name}: {report:#}");
    }

    let mut text = format!("doctor, everything up:\n{}doctor, one thing down:\n", shown.stdout);
    for (what, name, status, fix, control) in down(&up, &nowhere) {
        judge(&mut text, &all_well, what, name, status, fix, &control);
    }
    let ways = ["start it", "look whether Ollama answers", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_ID"];
    for ((what, url, status), fix) in nowhere.each().into_iter().zip(ways) {
        let down = agent(folder, what, url, &env("LIVE_OLLAMA_MODEL"));
        judge(&mut text, &all_well, what, "model", status, fix, &up.clone().with_agent(&down.url));
    }
    let other = agent(folder, "other", &env("OLLAMA_HOST"), "nobody:1b");
    let (what, fix) = ("a model that is not there", "ollama pull nobody:1b");
    judge(&mut text, &all_well, what, "model", "problem", fix, &up.clone().with_agent(&other.url));
    print!("{text}");
}

type Down<'a> = (&'a str, &'a str, &'a str, &'a str, Control);

/// What is down, whose line tells of it, its status, what its fix names, and how to get there.
fn down<'a>(up: &Control, nowhere: &'a Nowhere) -> Vec<Down<'a>> {
    let mut all = Vec::new();
    for (what, url, status) in nowhere.each() {
        all.push((what, "store", status, "AWS_ENDPOINT_URL", up.clone().with("AWS_ENDPOINT_URL", url)));
        all.push((what, "agent", status, "DGX_AGENT_URL", up.clone().with_agent(url)));
        all.push((what, "argilla", status, "ARGILLA_API_URL", up.clone().with("ARGILLA_API_URL", url)));
    }
    for (what, name, fix, variable, value) in [
        ("a wrong secret", "store", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "wrong-secret"),
        ("an unknown key", "store", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "nobody"),
        ("no such bucket", "store", "make the bucket", "PREANNOTATE_ROOT", "s3://no-such-bucket/x"),
        ("a wrong key", "argilla", "ARGILLA_API_KEY", "ARGILLA_API_KEY", "wrong-key"),
        ("no such workspace", "argilla", "", "ARGILLA_WORKSPACE", "not-made-yet"),
    ] {
        let status = if fix.is_empty() { "ok" } else { "problem" };
        all.push((what, name, status, fix, up.clone().with(variable, value)));
    }
    let key = env("LIVE_ARGILLA_ANNOTATOR_KEY");
    let annotator = up.clone().with("ARGILLA_API_KEY", &key);
    all.push(("an annotator's key", "argilla", "problem", "owner or admin", annotator));
    let lake = up.clone().with("PREANNOTATE_LAKE", &up.folder.join("none").display().to_string());
    all.push(("no lake", "lake", "warning", "control lake init", lake));
    let md = up.clone().with("PREANNOTATE_LAKE", "md:").with("MOTHERDUCK_TOKEN", "");
    all.push(("md: without a token", "motherduck", "problem", "MOTHERDUCK_TOKEN", md));
    all
}

/// What is down is told with the way out and the exit code of its kind, and hides nothing else.
fn judge(
    text: &mut String,
    all_well: &[&str],
    what: &str,
    name: &str,
    status: &str,
    fix: &str,
    control: &Control,
) {
    let (code, report) = doctor(control);
    let line = check(&report, name);
    let expected = match status {
        "problem" => 3,
        "unreachable" => 4,
        _ => 0,
    };
    assert_eq!((code, line["status"].as_str().unwrap()), (expected, status), "{name}, {what}: {report:#}");
    // The agent's word about its model server holds the way out.
    let (found, took) = (line["found"].as_str().unwrap(), &report["seconds"]);
    let told = line["fix"].as_str().unwrap_or(found);
    assert!(told.contains(fix), "{name}, {what}: {report:#}");
    for ((other, is), was) in CHECKS.iter().zip(statuses(&report)).zip(all_well) {
        // Other clocks are left; a root elsewhere is not the agent's; without a token there is no lake to look at.
        let depends = what == "no such bucket" && *other == "agent";
        let depends = depends || (what.starts_with("md:") && *other == "lake");
        // Another suite may unload the model meanwhile: then nothing is known of where it runs.
        let depends = depends || (*other == "model" && ["ok", "warning"].contains(&is));
        assert!(*other == name || depends || is == *was, "{name}, {what}: {other} changed: {report:#}");
    }
    writeln!(text, "{name:<10} {what:<26} exit {code} {took:>6} s  {status}: {found}").unwrap();
}
