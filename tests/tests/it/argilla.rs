//! `control argilla` as a person runs it, against the Argilla stand-in as a process of its own.

use std::process::Command;

use e2e::{
    argilla_standin::{ANNOTATOR_KEY, OWNER_KEY},
    batch_files::{BatchFiles, PageFile},
    harness::{ArgillaStandIn, Control, Finished, Process, Shell, binary},
};
use proto::{parquet_io::read_all, rows::AnnotatedSpan};
use reqwest::{Client, Method};
use serde_json::{Value, json};

const ODD: &str = "r\u{f4}le d'\u{e9}/quipage %";

/// A root with one merged batch, Argilla beside it, and `control` for both.
struct Pilot {
    folder: tempfile::TempDir,
    argilla: ArgillaStandIn,
    control: Control,
    files: BatchFiles,
}

fn pages() -> Vec<PageFile> {
    vec![
        PageFile::new(
            "a",
            1,
            "F/V ASTRA\r\nIMO 9074729 <b>",
            &[("VESSEL_NAME", "ASTRA"), ("IMO", "9074729")],
        ),
        PageFile::new("a", 2, "nothing on this page", &[]),
        PageFile::new(ODD, 1, "\u{1f6a2} IMO 9074729 \u{202e}x\0", &[("IMO", "9074729")]),
    ]
}

impl Pilot {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let argilla = ArgillaStandIn::start(&folder.path().join("argilla")).unwrap();
        let root = folder.path().join("data");
        let root = root.to_str().unwrap();
        let control = Control::new(folder.path(), root).with_argilla(&argilla.url, OWNER_KEY);
        let files = BatchFiles::new(root, "p").unwrap();
        files.write(&pages()).await.unwrap();
        Self { folder, argilla, control, files }
    }

    fn json(&self, args: &[&str]) -> Value {
        self.control.json(args).unwrap()
    }

    fn fails(&self, args: &[&str], code: i32) -> String {
        failed(&self.control.run(args).unwrap(), code)
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Value) -> Value {
        let request = Client::new().request(method, format!("{}/api/v1{path}", self.argilla.url));
        let request = request.header("X-Argilla-Api-Key", key);
        let answer = if body.is_null() { request } else { request.json(&body) }.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What step 5 of the runbook asks for.
    fn log_rows(&self, batch: &str) -> Vec<Value> {
        let lake = self.folder.path().join("lake/md_annotated.duckdb");
        let attach = format!("ATTACH '{}' AS anndb (READ_ONLY);", lake.display());
        let query =
            format!("SELECT * FROM anndb.main.argilla_ingest_log WHERE dataset='vessels_ocr_{batch}'");
        Shell::find().unwrap().rows(&attach, &query).unwrap()
    }

    /// The records of the batch's dataset, by external id.
    async fn records(&self) -> Vec<Value> {
        let found = self.call(OWNER_KEY, Method::GET, "/me/datasets?name=vessels_ocr_p", Value::Null).await;
        let id = found["items"][0]["id"].as_str().unwrap();
        let path = format!("/datasets/{id}/records?include=responses&include=suggestions&limit=1000");
        let mut records = self.call(OWNER_KEY, Method::GET, &path, Value::Null).await["items"].take();
        let records = records.as_array_mut().unwrap();
        records.sort_by_key(|record| record["external_id"].as_str().unwrap().to_owned());
        records.clone()
    }

    /// Answers one record as an owner, with its suggestions.
    async fn answer(&self, external_id: &str, status: &str) {
        let records = self.records().await;
        let record = records.iter().find(|record| record["external_id"] == external_id).unwrap();
        let value = record["suggestions"].get(0).map_or(json!([]), |suggestion| suggestion["value"].clone());
        let body = json!({"values": {"entities": {"value": value}}, "status": status});
        let path = format!("/records/{}/responses", record["id"].as_str().unwrap());
        self.call(OWNER_KEY, Method::POST, &path, body).await;
    }
}

fn failed(done: &Finished, code: i32) -> String {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    done.stderr.clone()
}

fn counts(report: &Value) -> [u64; 5] {
    ["created", "updated", "unchanged", "kept_reviewed", "set_aside"]
        .map(|name| report["outcomes"][name].as_u64().unwrap())
}

#[tokio::test]
async fn a_batch_is_pushed_once_and_a_second_run_does_nothing() {
    let pilot = Pilot::start().await;
    let first = pilot.json(&["argilla", "sync", "p"]);
    assert_eq!(counts(&first), [3, 0, 0, 0, 0]);
    assert_eq!(
        (&first["pages_in"], &first["pages_out"], &first["already_done"]),
        (&json!(3), &json!(3), &json!(false))
    );
    assert!(first["artifacts"][0].as_str().unwrap().starts_with(&pilot.argilla.url), "{first}");

    let records = pilot.records().await;
    let shown = |n: usize| records[n]["fields"]["text"].as_str().unwrap();
    assert_eq!(shown(0), "F/V ASTRA \nIMO 9074729 \u{2039}b>");
    assert_eq!(records[2]["metadata"]["doc_id"], ODD);
    let span = &records[2]["suggestions"][0]["value"][0];
    let (start, end) = (span["start"].as_u64().unwrap() as usize, span["end"].as_u64().unwrap() as usize);
    let words: String = shown(2).chars().skip(start).take(end - start).collect();
    assert_eq!(words, "9074729");

    let second = pilot.json(&["argilla", "sync", "p"]);
    assert_eq!((counts(&second), &second["already_done"]), ([0, 0, 3, 0, 0], &json!(true)));
    assert_eq!(pilot.records().await, records);
}

#[tokio::test]
async fn what_changed_is_updated_and_what_is_reviewed_is_kept() {
    let mut pilot = Pilot::start().await;
    pilot.json(&["argilla", "sync", "p"]);
    pilot.answer("a:1", "submitted").await;
    let changed = vec![
        PageFile::new("a", 1, "F/V ASTRA\r\nIMO 9074729 <b>", &[("IMO", "9074729")]),
        PageFile::new("a", 2, "the text is another: IMO 9074729", &[("IMO", "9074729")]),
        PageFile::new(ODD, 1, "\u{1f6a2} IMO 9074729 \u{202e}x\0", &[]),
        PageFile::new("b", 1, "one more", &[]),
    ];
    pilot.files.write(&changed).await.unwrap();
    // A restart keeps what is stored, and the second run begins on new connections.
    pilot.argilla.process.kill().unwrap();
    pilot.argilla = ArgillaStandIn::start(&pilot.folder.path().join("argilla")).unwrap();
    pilot.control = pilot.control.clone().with_argilla(&pilot.argilla.url, OWNER_KEY);

    let report = pilot.json(&["argilla", "sync", "p"]);
    assert_eq!(counts(&report), [1, 2, 0, 1, 0]);
    assert!(report["notes"][0].as_str().unwrap().contains("\"a:1\": reviewed, so left as it is"), "{report}");
    let records = pilot.records().await;
    let spans =
        |n: usize| records[n]["suggestions"].get(0).map_or(0, |s| s["value"].as_array().unwrap().len());
    assert_eq!([spans(0), spans(1), spans(2), spans(3)], [2, 1, 0, 0]);

    let again = pilot.json(&["argilla", "sync", "p"]);
    assert_eq!((counts(&again), &again["already_done"]), ([0, 0, 3, 1, 0], &json!(true)));
}

#[tokio::test]
async fn a_bad_record_is_set_aside_by_name_and_the_rest_is_pushed() {
    let pilot = Pilot::start().await;
    let mut bad = pages();
    bad[1].spans.push(("IMO".into(), 5, 5_000));
    // The suggestions beside it are not read by the push.
    pilot.files.merged(&bad).await.unwrap();
    let error = pilot.fails(&["argilla", "sync", "p"], 5);
    assert!(error.contains("1 of 3 records") && error.contains("\"a:2\""), "{error}");
    assert!(error.contains("2 created"), "{error}");
    assert!(!error.contains("nothing on this page"), "no page text: {error}");
    assert_eq!(pilot.records().await.len(), 2);

    pilot.files.merged(&pages()).await.unwrap();
    assert_eq!(counts(&pilot.json(&["argilla", "sync", "p"])), [1, 0, 2, 0, 0]);
}

#[tokio::test]
async fn each_way_to_fail_has_its_exit_code_and_names_the_way_out() {
    let pilot = Pilot::start().await;
    let unset = Control { env: pilot.control.env[..2].to_vec(), ..pilot.control.clone() };
    let error = failed(&unset.run(&["argilla", "sync", "p"]).unwrap(), 3);
    assert!(error.contains("ARGILLA_API_URL and ARGILLA_API_KEY are not set"), "{error}");

    let wrong = unset.clone().with_argilla(&pilot.argilla.url, "s3cret.key");
    let error = failed(&wrong.run(&["argilla", "sync", "p"]).unwrap(), 3);
    assert!(error.contains("check ARGILLA_API_KEY") && !error.contains("s3cret"), "{error}");

    let nowhere = unset.clone().with_argilla("http://127.0.0.1:1", OWNER_KEY);
    for args in [["argilla", "sync", "p"], ["argilla", "status", "p"], ["argilla", "export", "p"]] {
        let error = failed(&nowhere.run(&args).unwrap(), 4);
        assert!(error.contains("is ARGILLA_API_URL right"), "{error}");
    }

    let annotator = unset.clone().with_argilla(&pilot.argilla.url, ANNOTATOR_KEY);
    let error = failed(&annotator.run(&["argilla", "sync", "p"]).unwrap(), 3);
    assert!(error.contains("ask an owner"), "{error}");

    let error = pilot.fails(&["argilla", "sync", "other"], 5);
    assert!(error.contains("there is no batch other"), "{error}");
    pilot.files.store.delete(&pilot.files.keys.records()).await.unwrap();
    let error = pilot.fails(&["argilla", "sync", "p"], 5);
    assert!(error.contains("control merge p"), "{error}");
    for command in ["status", "export"] {
        let error = pilot.fails(&["argilla", command, "p"], 5);
        assert!(error.contains("control argilla sync p"), "{error}");
    }
}

#[tokio::test]
async fn a_foreign_batch_needs_the_labelset_that_it_was_made_with() {
    let pilot = Pilot::start().await;
    let (store, keys) = (&pilot.files.store, &pilot.files.keys);
    store.delete(&keys.spec()).await.unwrap();
    assert_eq!(counts(&pilot.json(&["argilla", "sync", "p"])), [3, 0, 0, 0, 0]);
    store.delete(&keys.manifest()).await.unwrap();
    let error = pilot.fails(&["argilla", "sync", "p"], 5);
    assert!(error.contains("_batch.json"), "{error}");
}

#[tokio::test]
async fn answers_come_out_once_and_not_before_enough_are_there() {
    let pilot = Pilot::start().await;
    pilot.json(&["argilla", "sync", "p"]);
    let status = pilot.json(&["argilla", "status", "p"]);
    assert_eq!(
        (&status["records"], &status["completed"], &status["pending"]),
        (&json!(3), &json!(0), &json!(3))
    );
    let error = pilot.fails(&["argilla", "export", "p"], 1);
    assert!(error.contains("0 of 3 records of vessels_ocr_p are reviewed, and 1 are asked for"), "{error}");

    pilot.answer("a:2", "discarded").await;
    let status = pilot.json(&["argilla", "status", "p"]);
    assert_eq!((&status["completed"], &status["discarded"]), (&json!(0), &json!(1)));
    let truth = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/truth.parquet");
    let sme = Command::new(binary("simulated-sme").unwrap())
        .args(["--api-url", &pilot.argilla.url, "--api-key", ANNOTATOR_KEY, "--dataset", "vessels_ocr_p"])
        .args(["--truth", truth])
        .output();
    // An annotator may not list every record; the owner's answers are counted beside it.
    assert_ne!(sme.unwrap().status.code(), Some(0));
    let sme = Command::new(binary("simulated-sme").unwrap())
        .args(["--api-url", &pilot.argilla.url, "--api-key", OWNER_KEY, "--dataset", "vessels_ocr_p"])
        .args(["--truth", truth])
        .output()
        .unwrap();
    assert!(sme.status.success(), "{}", String::from_utf8_lossy(&sme.stderr));

    let status = pilot.json(&["argilla", "status", "p"]);
    assert_eq!((&status["completed"], &status["pending"]), (&json!(2), &json!(1)));
    assert_eq!(
        status["users"],
        json!([{"username": "argilla", "submitted": 2, "discarded": 1, "drafts": 0}])
    );
    let error = pilot.fails(&["argilla", "export", "p", "--min-reviewed", "4"], 1);
    assert!(error.contains("3 of 3"), "{error}");

    let first = pilot.json(&["argilla", "export", "p", "--min-reviewed", "3"]);
    assert_eq!((&first["pages_out"], &first["outcomes"]["submitted"]), (&json!(3), &json!(2)));
    assert_eq!((&first["outcomes"]["discarded"], &first["already_done"]), (&json!(1), &json!(false)));
    let at = pilot.files.keys.export(1);
    let spans: Vec<AnnotatedSpan> = read_all(&pilot.files.store, &at.spans(0)).await.unwrap();
    let told: Vec<_> = spans.iter().map(|s| (s.argilla_record_id.as_str(), s.text.as_str())).collect();
    assert_eq!(told, [("a:1", "ASTRA"), ("a:1", "9074729"), (format!("{ODD}:1").as_str(), "9074729")]);

    let second = pilot.json(&["argilla", "export", "p"]);
    assert_eq!((&second["already_done"], &second["artifacts"]), (&json!(true), &first["artifacts"]));
    assert!(!pilot.files.store.list_sorted(pilot.files.keys.exports()).await.unwrap().is_empty());
    assert!(pilot.files.store.head_opt(&pilot.files.keys.export(2).schema()).await.unwrap().is_none());
}

fn loaded(report: &Value) -> Vec<(&str, &str)> {
    let batches = report["batches"].as_array().unwrap();
    batches.iter().map(|b| (b["batch"].as_str().unwrap(), b["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn autoload_finds_each_content_once() {
    let pilot = Pilot::start().await;
    let error = pilot.fails(&["argilla", "autoload", "--once"], 3);
    assert!(error.contains("control lake init"), "{error}");
    pilot.json(&["lake", "init"]);
    assert_eq!(pilot.log_rows("p"), [] as [Value; 0]);
    let second = BatchFiles::new(&pilot.control.env[0].1, "q").unwrap();
    second.write(&pages()[..1]).await.unwrap();
    let unmerged = BatchFiles::new(&pilot.control.env[0].1, "r").unwrap();
    unmerged.annotated(&pages()[..1]).await.unwrap();

    let only = pilot.json(&["argilla", "autoload", "--once", "--batch", "q"]);
    assert_eq!(loaded(&only), [("q", "ingested")]);
    let first = pilot.json(&["argilla", "autoload", "--once"]);
    assert_eq!(loaded(&first), [("p", "ingested"), ("q", "already_ingested")]);
    assert!(first["batches"][0]["message"].as_str().unwrap().contains("3 created"), "{first}");
    assert_eq!(pilot.records().await.len(), 3);
    let [row] = &pilot.log_rows("p")[..] else { panic!("one row") };
    assert_eq!((&row["status"], &row["epoch"], &row["owner"]), (&json!("ingested"), &json!(1), &Value::Null));
    assert!(row["object_uri"].as_str().unwrap().ends_with("vessels_ocr_p/argilla_records.parquet"), "{row}");
    assert!(row["ingested_at"].as_str().unwrap() >= row["discovered_at"].as_str().unwrap(), "{row}");
    let again = pilot.json(&["argilla", "autoload", "--once"]);
    assert_eq!(loaded(&again), [("p", "already_ingested"), ("q", "already_ingested")]);

    let more = [pages(), vec![PageFile::new("b", 1, "one more", &[])]].concat();
    pilot.files.write(&more).await.unwrap();
    let merged_again = pilot.json(&["argilla", "autoload", "--once"]);
    assert_eq!(loaded(&merged_again), [("p", "ingested"), ("q", "already_ingested")]);
    assert!(merged_again["batches"][0]["message"].as_str().unwrap().contains("1 created"), "{merged_again}");
    assert_eq!(pilot.json(&["argilla", "autoload", "--once", "--batch", "r"])["batches"], json!([]));
    pilot.fails(&["argilla", "autoload", "--once", "--batch", "none"], 5);
}

#[tokio::test]
async fn what_failed_is_told_and_healed_by_a_later_look() {
    let mut pilot = Pilot::start().await;
    pilot.json(&["lake", "init"]);
    let other = BatchFiles::new(&pilot.control.env[0].1, "q").unwrap();
    other.write(&pages()[..1]).await.unwrap();
    let mut bad = pages();
    bad[1].spans.push(("IMO".into(), 5, 5_000));
    pilot.files.merged(&bad).await.unwrap();
    let done = pilot.control.run(&["argilla", "autoload", "--once", "--json"]).unwrap();
    assert!(failed(&done, 5).contains("were set aside"), "{}", done.stderr);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(loaded(&report), [("p", "failed"), ("q", "ingested")], "a bad batch keeps no other");

    // The same file is tried again, and Argilla is away; then another file lies there, and Argilla is back.
    pilot.argilla.process.kill().unwrap();
    pilot.fails(&["argilla", "autoload", "--once"], 4);
    pilot.argilla = ArgillaStandIn::start(&pilot.folder.path().join("argilla")).unwrap();
    pilot.control = pilot.control.clone().with_argilla(&pilot.argilla.url, OWNER_KEY);
    pilot.files.merged(&pages()).await.unwrap();
    let healed = pilot.json(&["argilla", "autoload", "--once"]);
    assert_eq!(loaded(&healed), [("p", "ingested"), ("q", "already_ingested")]);
    assert_eq!(pilot.records().await.len(), 3);
}

#[tokio::test]
async fn what_sync_pushed_is_known_to_autoload() {
    let pilot = Pilot::start().await;
    let without = pilot.json(&["argilla", "sync", "p"]);
    assert!(without["notes"][0].as_str().unwrap().contains("the ingest log does not show this"), "{without}");
    pilot.json(&["lake", "init"]);
    assert_eq!(pilot.json(&["argilla", "sync", "p"])["notes"], json!([]));
    let [row] = &pilot.log_rows("p")[..] else { panic!("one row") };
    assert_eq!(row["status"], "ingested");
    assert_eq!(loaded(&pilot.json(&["argilla", "autoload", "--once"])), [("p", "already_ingested")]);
    assert_eq!(pilot.log_rows("p").len(), 1);
}

#[tokio::test]
async fn autoload_goes_on_looking_until_it_is_stopped() {
    let pilot = Pilot::start().await;
    pilot.json(&["lake", "init"]);
    let command = pilot.control.command(&["argilla", "autoload", "--interval", "1"]).unwrap();
    let log = pilot.folder.path().join("autoload.log");
    let mut autoload = Process::start(
        "control",
        |started| {
            started.args(command.get_args()).env_clear().current_dir(&pilot.control.folder);
            started.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        },
        &log,
    )
    .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    autoload
        .until("ingest the first batch", || read().contains("vessels_ocr_p: ingested").then_some(()))
        .unwrap();
    let second = BatchFiles::new(&pilot.control.env[0].1, "q").unwrap();
    second.write(&pages()[..1]).await.unwrap();
    autoload.until("ingest the second", || read().contains("vessels_ocr_q: ingested").then_some(())).unwrap();
    autoload.terminate().unwrap();
    assert_eq!(autoload.wait().unwrap().code(), Some(130), "{}", read());
    assert_eq!(read().matches(": ingested").count(), 2, "{}", read());
}
