//! Pages that failed, tried again: by batches of them alone, to the end of the pipeline. The parent's records take what
//! became of them, so that each page is reviewed once, and the ten checks pass.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use e2e::{
    batch_dir::BatchDir,
    corpus::{RawDocument, RawPage, examples, write_document},
    harness::{Agent, ArgillaStandIn, Control, Finished, OllamaDouble, OllamaSim, Shell, binary},
    ollama_double::MODEL,
};
use proto::{
    keys::PartKind,
    parquet_io::{encode, read_all},
    rows::{ArgillaRecord, BatchPage, Outcome, TruthSpan},
};
use serde_json::Value;
use tempfile::TempDir;

/// Pages of a document; those that the simulator never answers well.
const PAGES: i32 = 12;
const BROKEN: [i32; 3] = [2, 7, 8];

struct Stage {
    folder: TempDir,
    simulator: OllamaSim,
    double: OllamaDouble,
    argilla: ArgillaStandIn,
    control: Control,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root").display().to_string();
        let page = |number: i32| {
            let broken = if BROKEN.contains(&number) { "sim-always-garbage" } else { "whole" };
            let text = format!("Sheet {number} {broken}\nIMO 9074729\nFlag: Panama");
            RawPage::new("a/b", 3, number, &text)
        };
        let pages: Vec<_> = (1..=PAGES).map(page).collect();
        write_document(&root, &RawDocument::new("a/b", 3), &pages).await.unwrap();
        let argilla = ArgillaStandIn::start(&folder.path().join("argilla")).unwrap();
        let control =
            Control::new(folder.path(), &root).with_argilla(&argilla.url, ArgillaStandIn::OWNER_KEY);
        let simulator = OllamaSim::start(&folder.path().join("sim"), &[]).unwrap();
        let double = OllamaDouble::start(&folder.path().join("double"), &[]).unwrap();
        Self { folder, simulator, double, argilla, control }
    }

    fn root(&self) -> String {
        self.folder.path().join("root").display().to_string()
    }

    /// The same agent, state and journal included, before one model server or the other.
    fn agent(&self, ollama_url: &str) -> (Agent, Control) {
        let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", ollama_url];
        let agent = Agent::start(&self.root(), &self.folder.path().join("work"), &args, &[]).unwrap();
        let control = self.control.clone().with_agent(&agent.url);
        (agent, control)
    }

    fn batch(&self, batch: &str) -> BatchDir {
        BatchDir::new(Path::new(&self.root()), batch).unwrap()
    }

    /// What `preview` and `eval` of the parent say of it: so many pages of each outcome, and so many spans; the notes.
    fn shown(&self, control: &Control, suggested: u64, failed: u64) -> String {
        let preview = control.json(&["preview", "p"]).unwrap();
        let told = outcomes(&preview);
        let of = |outcome: &str| told.get(outcome).copied().unwrap_or_default();
        assert_eq!((of("suggested"), of("failed"), of("pending")), (suggested, failed, 0), "{preview}");
        let html = fs::read_to_string(preview["artifacts"][0].as_str().unwrap()).unwrap();
        let sections = html.split("<section ").skip(1);
        let is_failed = |section: &&str| section.contains("data-outcome=\"failed\"");
        assert_eq!(sections.filter(is_failed).count() as u64, failed);
        assert_eq!(html.matches(">9074729</mark>").count() as u64, suggested, "on their words");

        let eval = control.json(&["eval", "p", "--truth", &self.truth()]).unwrap();
        let pages = &eval["run"]["pages"];
        assert_eq!((&pages["batch"], &pages["pending"]), (&PAGES.into(), &0.into()), "{eval}");
        assert_eq!((&pages["suggested"], &pages["failed"]), (&suggested.into(), &failed.into()), "{eval}");
        let imo = eval["run"]["scores"]["labels"].as_array().unwrap().iter();
        let imo = imo.clone().find(|label| label["name"] == "IMO").unwrap_or_else(|| panic!("{eval}"));
        assert_eq!(imo["exact"]["right"], suggested, "{eval}");
        format!("{}{}", preview["notes"], eval["notes"])
    }

    /// The number on each page.
    fn truth(&self) -> String {
        let span = |page_num: i32| {
            let broken = if BROKEN.contains(&page_num) { "sim-always-garbage" } else { "whole" };
            let start = i32::try_from(format!("Sheet {page_num} {broken}\nIMO ").len()).unwrap();
            TruthSpan {
                doc_id: Some("a/b".into()),
                page_num: Some(page_num),
                label: Some("IMO".into()),
                start: Some(start),
                end: Some(start + 7),
                run_id: Some(3),
            }
        };
        let path = self.folder.path().join("truth.parquet");
        fs::write(&path, encode(&(1..=PAGES).map(span).collect::<Vec<_>>()).unwrap()).unwrap();
        path.display().to_string()
    }

    /// Merges the parent and those that tried its pages again in the DuckDB shell, as the script's head says.
    fn merged_by_hand(&self) {
        let (root, shell) = (self.root(), Shell::find().unwrap());
        let of = |batch: &str, files: &str| format!("{root}/argilla/in/vessels_ocr_{batch}/{files}");
        let by_hand = self.folder.path().join("by-hand.parquet").display().to_string();
        let suggestions = ["p", "c", "c-2"].map(|batch| format!("'{}'", of(batch, "suggestions/*.parquet")));
        let script = format!(
            "CREATE OR REPLACE TEMP TABLE _params AS SELECT '{}' AS pages_glob, [{}] AS suggestions_glob, \
             '{by_hand}' AS output_uri;\n.read sql/motherduck/merge_suggestions_for_argilla.sql\n",
            of("p", "pages/*.parquet"),
            suggestions.join(", "),
        );
        shell.run(&script).unwrap();
        let [control, hand] = [of("p", "argilla_records.parquet"), by_hand]
            .map(|file| format!("SELECT * FROM read_parquet('{file}')"));
        shell.same(&control, &hand, "argilla_records").unwrap();
    }

    async fn records(&self) -> BTreeMap<i32, ArgillaRecord> {
        let batch = self.batch("p");
        let records: Vec<ArgillaRecord> = read_all(&batch.store, &batch.keys.records()).await.unwrap();
        let count = records.len();
        let by_page: BTreeMap<_, _> = records.into_iter().map(|record| (record.page_num, record)).collect();
        assert_eq!(by_page.len(), count, "one record a page");
        by_page
    }
}

fn refused(done: &Finished, code: i32, says: &str) {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains(says), "{says:?} in {}", done.stderr);
}

fn outcomes(report: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(report["outcomes"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_pages_are_tried_again_and_each_page_is_reviewed_once() {
    let stage = Stage::new().await;
    let (broken, control) = stage.agent(&stage.simulator.url);
    let json = |args: &[&str]| control.json(args).unwrap();
    json(&["lake", "init"]);
    json(&["ocr", "load", "--doc-id", "a/b"]);
    json(&["batch", "create", "p", "--doc-id", "a/b", "--part-pages", "5"]);
    refused(
        &control.run(&["batch", "create", "c", "--parent", "p", "--failed"]).unwrap(),
        1,
        "batch p is not complete",
    );
    let job = json(&["preannotate", "submit", "p", "--watch"]);
    assert_eq!((&job["outcomes"]["failed"], &job["outcomes"]["suggested"]), (&3.into(), &9.into()));
    // What is there is merged, and people may begin.
    let merged = json(&["merge", "p"]);
    assert_eq!((&merged["pages_in"], &merged["pages_out"]), (&12.into(), &12.into()));
    assert_eq!(outcomes(&merged)["failed"], 3);
    json(&["argilla", "sync", "p"]);

    // The way out is told; no other is open.
    let told = control.run(&["preannotate", "retry", "p"]).unwrap();
    refused(&told, 1, "3 of its pages failed: `control batch create NEW --parent p --failed`");
    for wrong in [&["--failed"][..], &["--parent", "p", "--failed", "--all"]] {
        let done = control.run(&[&["batch", "create", "c"], wrong].concat()).unwrap();
        assert_eq!(done.code, Some(2), "{}", done.stderr);
    }
    refused(
        &control.run(&["batch", "create", "c", "--parent", "q", "--failed"]).unwrap(),
        5,
        "there is no batch q",
    );

    let create = ["batch", "create", "c", "--parent", "p", "--failed", "--part-pages", "2"];
    let created = json(&create);
    assert_eq!((&created["pages_out"], &created["outcomes"]["parts"]), (&3.into(), &2.into()));
    assert_eq!(json(&create)["already_done"], true);
    refused(
        &control.run(&["batch", "create", "d", "--parent", "p", "--failed"]).unwrap(),
        1,
        "are with batch c",
    );
    let of = async |batch: &str| stage.batch(batch).rows::<BatchPage>(PartKind::Pages).await.unwrap();
    let parent = of("p").await;
    let wanted: Vec<_> = parent.iter().filter(|page| BROKEN.contains(&page.page_num.unwrap())).collect();
    assert_eq!(of("c").await.iter().collect::<Vec<_>>(), wanted, "keys, texts, hashes and runs");
    let note = json(&["merge", "p"])["notes"].to_string();
    assert!(note.contains("are with batch c, which is not complete"), "{note}");

    let note = stage.shown(&control, 9, 3);
    assert_eq!(note.matches("are with batch c, which is not complete").count(), 2, "{note}");

    // The server has not changed: they are asked for again, not taken from the journal, and fail again.
    let asked = stage.simulator.stats("").await.unwrap().now.requests;
    let job = json(&["preannotate", "submit", "c", "--watch"]);
    assert_eq!(job["outcomes"]["failed"], 3);
    assert_eq!((&job["model"], &job["replayed"]), (&MODEL.into(), &0.into()));
    assert!(stage.simulator.stats("").await.unwrap().now.requests >= asked + 6);
    refused(&control.run(&["merge", "c"]).unwrap(), 1, "run `control merge p`");
    assert_eq!(json(&["merge", "p"])["outcomes"]["failed"], 3);
    drop(broken);

    // Another day: a batch of what failed again.
    let (_agent, control) = stage.agent(&stage.double.url);
    let json = |args: &[&str]| control.json(args).unwrap();
    json(&["batch", "create", "c-2", "--parent", "c", "--failed"]);
    let job = json(&["preannotate", "submit", "c-2", "--watch"]);
    assert_eq!((&job["pages"], &job["outcomes"]["suggested"]), (&3.into(), &3.into()));
    refused(&control.run(&["preannotate", "retry", "c-2"]).unwrap(), 1, "none of its pages failed");
    refused(
        &control.run(&["batch", "create", "c-3", "--parent", "c-2", "--failed"]).unwrap(),
        1,
        "none failed: there is nothing to retry",
    );
    refused(&control.run(&["merge", "c-2"]).unwrap(), 1, "run `control merge p`");
    let merged = json(&["merge", "p"]);
    assert_eq!((&merged["pages_in"], &merged["pages_out"]), (&12.into(), &12.into()));
    let told = outcomes(&merged);
    assert_eq!((told["retried"], told["suggested"], told.get("failed")), (3, 12, None));
    assert_eq!(json(&["merge", "p"])["already_done"], true);
    let records = stage.records().await;
    assert_eq!(records.len(), PAGES as usize);
    for record in records.values() {
        assert_eq!((record.outcome, record.run_id), (Outcome::Suggested, Some(3)));
        assert!(!record.suggestions_entities.is_empty());
    }
    stage.merged_by_hand();
    assert!(!stage.shown(&control, 12, 0).contains("batch c"));
    // The ledger of the parent says what it said.
    let ledger = stage.batch("p").ledger().await.unwrap();
    assert_eq!(ledger.iter().filter(|row| row.outcome == Outcome::Failed).count(), 3);
    refused(&control.run(&["batch", "delete", "c"]).unwrap(), 1, "are with batch c-2: delete that first");

    // One dataset, one record a page; then to the end.
    let synced = json(&["argilla", "sync", "p"]);
    assert_eq!(outcomes(&synced)["updated"], 3, "{synced}");
    review(&stage.argilla);
    let exported = json(&["argilla", "export", "p"]);
    assert_eq!(exported["pages_out"], 12);
    json(&["annotations", "load", "p"]);
    let checked = json(&["check", "p"]);
    assert!(checked["checks"].as_array().unwrap().iter().all(|check| check["status"] == "PASS"), "{checked}");
    json(&["signoff", "p", "--by", "Ada"]);
    let log = fs::read_to_string(stage.folder.path().join("pilot-log/p/pilot-log.json")).unwrap();
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["counts"]["3 preannotate"]["retried"], 3, "{log}");
}

fn review(argilla: &ArgillaStandIn) {
    let mut sme = Command::new(binary("simulated-sme").unwrap());
    sme.args(["--api-url", &argilla.url, "--api-key", ArgillaStandIn::OWNER_KEY]);
    sme.args(["--dataset", "vessels_ocr_p", "--truth"]).arg(examples().join("truth.parquet"));
    let done = sme.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_deleted_gives_the_pages_back() {
    let stage = Stage::new().await;
    let (_agent, control) = stage.agent(&stage.simulator.url);
    let json = |args: &[&str]| control.json(args).unwrap();
    json(&["lake", "init"]);
    json(&["ocr", "load", "--doc-id", "a/b"]);
    json(&["batch", "create", "p", "--doc-id", "a/b"]);
    json(&["preannotate", "submit", "p", "--watch"]);
    json(&["batch", "create", "c", "--parent", "p", "--failed"]);
    refused(&control.run(&["batch", "delete", "p"]).unwrap(), 1, "are with batch c: delete that first");
    // With another engine it would be another batch's pages.
    json(&["preannotate", "submit", "c", "--engine", "rules", "--watch"]);
    refused(&control.run(&["merge", "p"]).unwrap(), 1, "was made with another engine");
    let note = stage.shown(&control, 9, 3);
    assert_eq!(note.matches("batch c, which was made with another engine").count(), 2, "{note}");
    json(&["batch", "delete", "c"]);
    assert_eq!(outcomes(&json(&["merge", "p"]))["failed"], 3);
    json(&["batch", "create", "d", "--parent", "p", "--failed"]);
    let shown = json(&["batch", "show", "d"]);
    assert_eq!((&shown["parent"], &shown["retry"], &shown["pages"]), (&"p".into(), &true.into(), &3.into()));
    assert_eq!(json(&["batch", "show", "p"])["retried_by"], "d");
}
