//! The simulated SME, as a process, against the Argilla stand-in and the truth of the examples.

use std::{path::Path, process::Output};

use e2e::{
    argilla_standin::{App, OWNER_KEY, serve},
    sme::{Span, truth::Truth},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::process::Command;

const DATASET: &str = "vessels_ocr_p";
const TRUTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/truth.parquet");
/// A page of the examples that the truth knows.
const KNOWN: (&str, i64, i64) = ("transhipment-2024-05", 2, 1);

struct Server {
    url: String,
    dataset: String,
    question: String,
}

impl Server {
    /// With a published dataset whose question offers some of the labels: not DATE.
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, App::open(None).unwrap(), std::future::pending()));
        let mut server = Self { url, dataset: String::new(), question: String::new() };
        let workspace = server.call(Method::POST, "/workspaces", json!({"name": "vessels"})).await;
        let dataset = json!({"name": DATASET, "workspace_id": workspace["id"], "allow_extra_metadata": true,
                             "distribution": {"strategy": "overlap", "min_submitted": 1}});
        server.dataset = id(&server.call(Method::POST, "/datasets", dataset).await);
        let path = format!("/datasets/{}", server.dataset);
        let field = json!({"name": "text", "title": "Text", "required": true,
                           "settings": {"type": "text", "use_markdown": false}});
        server.call(Method::POST, &format!("{path}/fields"), field).await;
        let labels = [
            "VESSEL_NAME",
            "IMO",
            "CALL_SIGN",
            "FLAG",
            "MASTER",
            "OWNER",
            "OPERATOR",
            "LICENCE_NO",
            "PORT",
            "SPECIES",
            "RFMO",
        ];
        let options: Vec<_> = labels.iter().map(|label| json!({"value": label, "text": label})).collect();
        let question = json!({"name": "entities", "title": "Entities", "required": true, "settings":
            {"type": "span", "field": "text", "allow_overlapping": false, "options": options}});
        server.question = id(&server.call(Method::POST, &format!("{path}/questions"), question).await);
        server.call(Method::PUT, &format!("{path}/publish"), Value::Null).await;
        server
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = Client::new().request(method, format!("{}/api/v1{path}", self.url));
        let answer = request.header("X-Argilla-Api-Key", OWNER_KEY).json(&body).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A record of `characters` characters: the reviewer never reads the text itself.
    async fn put(&self, page: (&str, i64, i64), characters: usize, suggested: &[Span]) {
        let (doc_id, run_id, page_num) = page;
        let suggestion = json!({"question_id": self.question, "value": suggested, "type": "model"});
        let item = json!({"external_id": format!("{doc_id}:{page_num}"), "fields": {"text": "é".repeat(characters)},
            "metadata": {"doc_id": doc_id, "page_num": page_num, "run_id": run_id}, "suggestions": [suggestion]});
        let path = format!("/datasets/{}/records/bulk", self.dataset);
        self.call(Method::PUT, &path, json!({"items": [item]})).await;
    }

    /// The responses of every record, by external id.
    async fn responses(&self) -> Vec<(String, Value)> {
        let path = format!("/datasets/{}/records?include=responses&limit=1000", self.dataset);
        let listing = self.call(Method::GET, &path, Value::Null).await;
        let records = listing["items"].as_array().unwrap();
        records
            .iter()
            .map(|r| (r["external_id"].as_str().unwrap().to_owned(), r["responses"].clone()))
            .collect()
    }

    async fn review(&self, arguments: &[&str]) -> Output {
        simulated_sme(&self.url, &[&["--dataset", DATASET, "--truth", TRUTH, "--json"], arguments].concat())
            .await
    }
}

async fn simulated_sme(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulated-sme"));
    command.args(["--api-url", url, "--api-key", OWNER_KEY]).args(arguments).output().await.unwrap()
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

fn counts(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("SIMULATED SME").count(), 2, "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn offered_truth() -> Vec<Span> {
    let truth = Truth::read(Path::new(TRUTH)).unwrap();
    let spans = truth.page(KNOWN.0, KNOWN.1, KNOWN.2).unwrap();
    spans.iter().filter(|span| span.label != "DATE").cloned().collect()
}

#[tokio::test]
async fn it_accepts_corrects_drops_and_adds_and_does_nothing_twice() {
    let server = Server::start().await;
    let truth = offered_truth();
    let near = Span { end: truth[1].end - 1, ..truth[1].clone() };
    let wrong = Span { start: 4000, end: 4010, label: "PORT".into() };
    server.put(KNOWN, 5000, &[truth[0].clone(), near, wrong]).await;
    let unknown = Span { start: 0, end: 3, label: "IMO".into() };
    server.put(("unknown", 1, 1), 10, std::slice::from_ref(&unknown)).await;

    let first = counts(&server.review(&[]).await);
    let expected = json!({"records": 2, "already_reviewed": 0, "submitted": 2, "discarded": 0, "without_truth": 1,
        "accepted": 2, "corrected": 1, "dropped": 1, "added": truth.len() - 2});
    assert_eq!(first, expected);
    let stored = server.responses().await;
    for (record, responses) in &stored {
        let spans = if record.starts_with("unknown") { vec![unknown.clone()] } else { truth.clone() };
        assert_eq!(responses[0]["status"], "submitted");
        assert_eq!(responses[0]["values"], json!({"entities": {"value": spans}}));
    }

    let second = counts(&server.review(&[]).await);
    assert_eq!((&second["already_reviewed"], &second["submitted"]), (&json!(2), &json!(0)));
    assert_eq!(server.responses().await, stored);
}

#[tokio::test]
async fn discarded_records_carry_what_was_suggested() {
    let server = Server::start().await;
    let suggested = [Span { start: 1, end: 2, label: "IMO".into() }];
    for page in 1..=120 {
        server.put(("many", 1, page), 10, &suggested).await;
    }
    let counted = counts(&server.review(&["--seed", "7"]).await);
    let discarded = counted["discarded"].as_u64().unwrap();
    assert!((1..12).contains(&discarded), "{counted}");
    assert_eq!(counted["submitted"], 120 - discarded);
    for (_, responses) in server.responses().await {
        assert_eq!(responses[0]["values"], json!({"entities": {"value": suggested}}));
    }
}

#[tokio::test]
async fn exit_codes_tell_a_missing_server_from_bad_data() {
    let server = Server::start().await;
    let (dataset, truth) = (["--dataset", DATASET], ["--truth", TRUTH]);
    let code = |output: Output| output.status.code();
    let nowhere = simulated_sme("http://127.0.0.1:1", &[dataset, truth].concat()).await;
    assert_eq!(code(nowhere), Some(4));
    let other = simulated_sme(&server.url, &[["--dataset", "other"], truth].concat()).await;
    assert!(String::from_utf8_lossy(&other.stderr).contains("no dataset \"other\""));
    assert_eq!(code(other), Some(5));
    let no_truth = simulated_sme(&server.url, &[dataset, ["--truth", "/nonexistent"]].concat()).await;
    assert_eq!(code(no_truth), Some(5));
    server.put(KNOWN, 20, &[]).await;
    assert_eq!(code(server.review(&[]).await), Some(5));
}
