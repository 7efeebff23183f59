//! The whole pilot against the real services: MinIO, Ollama with SmolLM2, Argilla; the real binaries in between.
//!
//! ```text
//! examples ─► ocr load ─► batch create ─► agent + SmolLM2 ─► merge ─► autoload ─► Argilla ─► an annotator reviews
//!             sign-off ◄─ ten checks ◄─ annotations load ◄─ export ◄──────────────────────────┘
//! ```
//! Each stage's counts are held against what the stage before left, and against the files and Argilla themselves.
//! The model is small and invents freely: how much of it was refused stands in the ledger, and is printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Instant,
};

use e2e::{
    corpus::{RawDocument, RawPage, examples, put_document, put_examples},
    demo::{Stage, table},
    harness::{Agent, Control, binary},
    sme,
};
use proto::{
    keys::{BatchKeys, PartKind},
    parquet_io::read_all,
    rows::{AnnotatedPage, AnnotatedSpan, ArgillaRecord, LedgerRow, Outcome, Suggestion},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{place::Place, services::env};

/// Of `examples/`: four languages, odd ids, two runs of one, two blank pages.
const DOCUMENTS: [&str; 5] =
    ["rôle-d'équipage", "crew-lists.ocean", "déclaration-transbordement", "transhipment-2024-05", "00123"];
/// Rows in their files, and pages of their newest runs.
const EXAMPLE_ROWS: u64 = 28;
const EXAMPLE_PAGES: u64 = 23;
const BLANK: u64 = 2;
/// One of the test's own: a page and a null one, which is skipped.
const OWN: &str = "null page";
const OWN_PAGES: u64 = 2;
const PAGES: u64 = EXAMPLE_PAGES + OWN_PAGES;

/// One part: small model, short answers, so that it takes seconds a page on two cores.
const ENGINE: [&str; 8] =
    ["--engine", "ollama", "--num-ctx", "4096", "--num-predict", "384", "--concurrency", "2"];

struct Pilot {
    place: Place,
    control: Control,
    keys: BatchKeys,
    batch: String,
    dataset: String,
    workspace: String,
    stages: Vec<Stage>,
}

/// What an export has to say again.
struct Reviewed {
    /// The user's id.
    annotator: String,
    submitted: u64,
    discarded: u64,
    /// In submitted answers.
    spans: u64,
}

impl Pilot {
    fn new() -> Self {
        let place = Place::new("pilot");
        let batch = format!("pilot-{}", place.token);
        let workspace = format!("vessels-{}", place.token);
        let control = place
            .control()
            .with_argilla(&env("ARGILLA_API_URL"), &env("ARGILLA_API_KEY"))
            .with("ARGILLA_WORKSPACE", &workspace);
        let id = batch.parse().unwrap();
        let (keys, dataset) = (BatchKeys::new(&id), id.dataset());
        Self { place, control, keys, batch, dataset, workspace, stages: Vec::new() }
    }

    /// A command that answers with a report.
    fn stage(&mut self, args: &[&str]) -> Stage {
        let stage: Stage = serde_json::from_value(self.control.json(args).unwrap()).unwrap();
        self.stages.push(stage.clone());
        stage
    }

    /// A stage whose command answers otherwise.
    fn noted(&mut self, stage: &str, pages: (u64, u64), outcomes: BTreeMap<String, u64>, start: Instant) {
        self.stages.push(Stage {
            stage: stage.to_owned(),
            pages_in: Some(pages.0),
            pages_out: Some(pages.1),
            outcomes,
            seconds: start.elapsed().as_secs_f64(),
            artifacts: Vec::new(),
            already_done: false,
            notes: Vec::new(),
        });
    }

    async fn part<R: proto::rows::Row>(&self, kind: PartKind) -> Vec<R> {
        read_all(&self.place.store, &self.keys.part(kind, 0)).await.unwrap()
    }

    /// As the OCR job leaves them in the bucket.
    async fn upload(&self) {
        put_examples(&self.place.store, Some(&DOCUMENTS)).await.unwrap();
        let mut null = RawPage::new(OWN, 1, 2, "");
        (null.text, null.text_sha256) = (None, None);
        let first =
            RawPage::new(OWN, 1, 1, "Vessel name: MARBLE HERRING\nIMO number: 9074729\nFlag: Spain\n");
        put_document(&self.place.store, &RawDocument::new(OWN, 1), &[first, null]).await.unwrap();
    }

    fn load_and_create(&mut self, model: &str) {
        self.stage(&["lake", "init"]);
        let loaded = self.stage(&["ocr", "load"]);
        let rows = EXAMPLE_ROWS + OWN_PAGES;
        assert_eq!((loaded.pages_in, loaded.pages_out), (Some(rows), Some(rows)));
        assert_eq!(loaded.outcomes["pages_loaded"], rows);
        let batch = self.batch.clone();
        let made = self.stage(&["batch", "create", &batch, "--all", "--engine", "ollama", "--model", model]);
        assert_eq!((made.pages_in, made.pages_out), (Some(PAGES), Some(PAGES)));
        assert_eq!(made.outcomes["documents"], DOCUMENTS.len() as u64 + 1);
    }

    /// The ledger has every page once, and the job, the ledger and the suggestions say the same.
    async fn annotate(&mut self, model: &str) -> Vec<LedgerRow> {
        let (root, work) = (self.place.root.clone(), self.place.folder.path().join("agent"));
        let ollama = env("OLLAMA_HOST");
        let args = [&ENGINE[..], &["--model", model, "--ollama-url", &ollama]].concat();
        let aws: Vec<_> =
            self.place.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let agent = Agent::start(&root, &work, &args, &aws).unwrap();
        let start = Instant::now();
        let control = self.control.clone().with_agent(&agent.url);
        let job = control.json(&["preannotate", "submit", &self.batch, "--watch"]).unwrap();

        let ledger: Vec<LedgerRow> = self.part(PartKind::Ledger).await;
        let suggestions: Vec<Suggestion> = self.part(PartKind::Suggestions).await;
        assert_eq!((&job["state"], &job["pages"]), (&json!("complete"), &json!(PAGES)), "{job}");
        let pages: BTreeSet<_> = ledger.iter().map(|row| (row.doc_id.as_str(), row.page_num)).collect();
        assert_eq!((pages.len() as u64, ledger.len() as u64), (PAGES, PAGES));
        let mut outcomes = BTreeMap::new();
        for outcome in Outcome::ALL {
            let count = ledger.iter().filter(|row| row.outcome == outcome).count() as u64;
            assert_eq!(job["outcomes"][outcome.as_str()].as_u64().unwrap_or(0), count, "{outcome}: {job}");
            outcomes.insert(outcome.to_string(), count);
        }
        assert_eq!(outcomes.values().sum::<u64>(), PAGES);
        assert_eq!((outcomes["skipped"], count_reason(&ledger, "null_text")), (1, 1));
        assert_eq!(count_reason(&ledger, "blank_text"), BLANK);
        assert!(ledger.iter().all(|row| row.reason.is_some() != (row.outcome == Outcome::Suggested)));
        let (spans, refused) = (sum(&ledger, |row| row.spans), sum(&ledger, |row| row.ungrounded));
        assert_eq!((suggestions.len() as u64, &job["spans"]), (spans, &json!(spans)));
        assert_eq!(job["ungrounded"], json!(refused));
        assert!(refused > 0, "a model of this size invents");
        assert!(suggestions.iter().all(|span| span.model == model && span.source == "ollama"));
        outcomes.extend([("spans".to_owned(), spans), ("ungrounded".to_owned(), refused)]);
        self.noted("preannotate", (PAGES, job["pages_done"].as_u64().unwrap()), outcomes, start);
        ledger
    }

    async fn merge(&mut self, ledger: &[LedgerRow]) -> Vec<ArgillaRecord> {
        let batch = self.batch.clone();
        let merged = self.stage(&["merge", &batch]);
        let records: Vec<ArgillaRecord> = read_all(&self.place.store, &self.keys.records()).await.unwrap();
        assert_eq!(merged.pages_in, Some(PAGES));
        assert_eq!(merged.pages_out, Some(records.len() as u64));
        let count = |name: &str| merged.outcomes.get(name).copied().unwrap_or(0);
        assert_eq!((count("skipped"), count("blank"), count("unaccounted")), (1, BLANK, 0));
        assert_eq!(records.len() as u64 + count("skipped") + count("blank"), PAGES);
        for outcome in [Outcome::Suggested, Outcome::Empty, Outcome::Failed] {
            let in_ledger = ledger.iter().filter(|row| row.outcome == outcome).count() as u64;
            let blank = if outcome == Outcome::Empty { BLANK } else { 0 };
            assert_eq!(count(outcome.as_str()) + blank, in_ledger, "{outcome}");
        }
        let spans: usize = records.iter().map(|record| record.suggestions_entities.len()).sum();
        assert_eq!((spans as u64, count("spans")), (sum(ledger, |row| row.spans), spans as u64));
        records
    }

    /// Autoload finds the batch by itself; what Argilla then has is what was merged.
    async fn autoload(&mut self, records: &[ArgillaRecord]) {
        let start = Instant::now();
        let look = self.control.json(&["argilla", "autoload", "--once"]).unwrap();
        let [found] = &look["batches"].as_array().unwrap()[..] else { panic!("one batch: {look}") };
        assert_eq!((&found["outcome"], &found["batch"]), (&json!("ingested"), &json!(self.batch)), "{look}");
        let listed = self.listed("include=suggestions").await;
        let in_argilla: BTreeMap<_, _> = listed
            .iter()
            .map(|record| (record["external_id"].as_str().unwrap(), &record["suggestions"]))
            .collect();
        assert_eq!((listed.len(), in_argilla.len()), (records.len(), records.len()));
        for record in records {
            let spans = in_argilla[record.id.as_str()].pointer("/0/value").cloned().unwrap_or(json!([]));
            let merged: Vec<_> = record
                .suggestions_entities
                .iter()
                .map(|span| json!({"start": span.start, "end": span.end, "label": span.label}))
                .collect();
            assert_eq!(spans, json!(merged), "{}", record.id);
        }
        let pages = records.len() as u64;
        self.noted("argilla autoload", (pages, pages), BTreeMap::from([("ingested".into(), 1)]), start);
        let again = self.control.json(&["argilla", "autoload", "--once"]).unwrap();
        assert_eq!(again["batches"][0]["outcome"], "already_ingested", "{again}");
    }

    /// A user with the role annotator answers every record, as the web page would.
    async fn review(&mut self, records: u64) -> Reviewed {
        let start = Instant::now();
        let username = format!("annotator-{}", self.place.token);
        let user = json!({"username": username, "first_name": "Live", "role": "annotator",
                          "password": hex::encode(rand::random::<[u8; 16]>())});
        let user = argilla(Method::POST, "/users", Some(user)).await;
        let mine = argilla(Method::GET, "/me/workspaces", None).await;
        let workspace =
            mine["items"].as_array().unwrap().iter().find(|w| w["name"] == self.workspace.as_str());
        let members = format!("/workspaces/{}/users", workspace.unwrap()["id"].as_str().unwrap());
        argilla(Method::POST, &members, Some(json!({"user_id": user["id"]}))).await;

        let done = Command::new(binary("simulated-sme").unwrap())
            .args(["--json", "--workspace", &self.workspace, "--dataset", &self.dataset])
            .args(["--api-url", &env("ARGILLA_API_URL")])
            .env("ARGILLA_API_KEY", user["api_key"].as_str().unwrap())
            .arg("--truth")
            .arg(examples().join("truth.parquet"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let summary: BTreeMap<String, u64> = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((summary["records"], summary["already_reviewed"]), (records, 0), "{summary:?}");
        assert_eq!(summary["submitted"] + summary["discarded"], records, "{summary:?}");
        let spans = summary["accepted"] + summary["corrected"] + summary["added"];
        let answers = self.listed("include=responses").await;
        for record in &answers {
            let [answer] = &record["responses"].as_array().unwrap()[..] else {
                panic!("one answer: {record}")
            };
            assert_eq!(answer["user_id"], user["id"]);
        }
        let pages = (records, answers.len() as u64);
        let told = ["submitted", "discarded", "accepted", "corrected", "dropped", "added"];
        let told = told.map(|name| (name.to_owned(), summary[name]));
        self.noted("review (annotator)", pages, told.into(), start);
        let (submitted, discarded) = (summary["submitted"], summary["discarded"]);
        Reviewed { annotator: user["id"].as_str().unwrap().to_owned(), submitted, discarded, spans }
    }

    async fn export_and_load(&mut self, records: u64, reviewed: &Reviewed) {
        let batch = self.batch.clone();
        let exported = self.stage(&["argilla", "export", &batch]);
        assert_eq!((exported.pages_in, exported.pages_out), (Some(records), Some(records)));
        let at = self.keys.export(1);
        let pages: Vec<AnnotatedPage> = read_all(&self.place.store, &at.pages(0)).await.unwrap();
        let spans: Vec<AnnotatedSpan> = read_all(&self.place.store, &at.spans(0)).await.unwrap();
        assert_eq!(pages.len() as u64, records);
        let discarded = pages.iter().filter(|page| page.status == "discarded").count() as u64;
        assert_eq!(discarded, reviewed.discarded);
        assert_eq!(exported.outcomes["submitted"], reviewed.submitted);
        assert_eq!((exported.outcomes["spans"], spans.len() as u64), (reviewed.spans, reviewed.spans));
        assert!(
            pages.iter().all(|page| page.annotator_id == reviewed.annotator),
            "{}",
            pages[0].annotator_id
        );

        let loaded = self.stage(&["annotations", "load", &batch]);
        assert_eq!((loaded.pages_in, loaded.pages_out), (Some(records), Some(records)));
        assert_eq!(
            (loaded.outcomes["answers_loaded"], loaded.outcomes["spans_loaded"]),
            (records, reviewed.spans)
        );
    }

    async fn check_and_sign(&mut self) {
        let batch = self.batch.clone();
        let checked = self.control.json(&["check", &batch]).unwrap();
        let checks = checks_of(&checked);
        assert_eq!(checks, (1..=10).map(|number| (number, "PASS")).collect::<Vec<_>>(), "{checked}");
        self.stages.push(serde_json::from_value(checked).unwrap());
        let signed = self.stage(&["signoff", &batch, "--by", sme::NAME]);
        assert_eq!(signed.outcomes["PASS"], 10);
        assert!(self.place.store.head_opt(&self.keys.signoff()).await.unwrap().is_some());
    }

    /// Every record of the dataset, as the owner sees it.
    async fn listed(&self, include: &str) -> Vec<Value> {
        let found = argilla(Method::GET, &format!("/me/datasets?name={}", self.dataset), None).await;
        let id = found["items"][0]["id"].as_str().unwrap().to_owned();
        let listed =
            argilla(Method::GET, &format!("/datasets/{id}/records?limit=1000&{include}"), None).await;
        listed["items"].as_array().unwrap().clone()
    }
}

/// A call as the owner.
async fn argilla(method: Method, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}/api/v1{path}", env("ARGILLA_API_URL"));
    let request = Client::new().request(method, url).header("X-Argilla-Api-Key", env("ARGILLA_API_KEY"));
    let request = if let Some(body) = &body { request.json(body) } else { request };
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.unwrap()
}

fn sum(ledger: &[LedgerRow], of: impl Fn(&LedgerRow) -> i32) -> u64 {
    ledger.iter().map(|row| u64::try_from(of(row)).unwrap()).sum()
}

fn count_reason(ledger: &[LedgerRow], reason: &str) -> u64 {
    ledger.iter().filter(|row| row.reason.as_deref() == Some(reason)).count() as u64
}

fn checks_of(checked: &Value) -> Vec<(u64, &str)> {
    let checks = checked["checks"].as_array().unwrap();
    checks
        .iter()
        .map(|check| (check["number"].as_u64().unwrap(), check["status"].as_str().unwrap()))
        .collect()
}

/// What the ledger tells of the model.
fn told_of_the_model(model: &str, ledger: &[LedgerRow]) -> String {
    let (kept, refused) = (sum(ledger, |row| row.spans), sum(ledger, |row| row.ungrounded));
    let share = 100.0 * refused as f64 / (kept + refused).max(1) as f64;
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in ledger.iter().filter_map(|row| row.reason.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    format!(
        "{model}: {} requests, {} output tokens; of {} mentions {refused} ({share:.0} %) were refused as not on \
         their page, {kept} became spans; pages without spans: {reasons:?}",
        sum(ledger, |row| row.attempts),
        ledger.iter().map(|row| row.output_tokens).sum::<i64>(),
        kept + refused,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_pilot() {
    let model = env("LIVE_OLLAMA_MODEL");
    let mut pilot = Pilot::new();
    pilot.upload().await;
    pilot.load_and_create(&model);
    let ledger = pilot.annotate(&model).await;
    let records = pilot.merge(&ledger).await;
    pilot.autoload(&records).await;
    let count = records.len() as u64;
    let reviewed = pilot.review(count).await;
    pilot.export_and_load(count, &reviewed).await;
    pilot.check_and_sign().await;
    // In one write: other tests print beside it.
    print!("\n{}\n{}\n", table::stages(&pilot.stages), told_of_the_model(&model, &ledger));
}
