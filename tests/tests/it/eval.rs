//! `control eval` as a person runs it: its numbers against an independent count, its answers, its comparison of two
//! runs, and the fit that it stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use e2e::{
    batch_files::{BatchFiles, PageFile},
    corpus::{copy_examples, examples},
    harness::{Agent, ArgillaStandIn, Control, OllamaDouble, agent_run_json, binary},
    sme::truth::Truth,
};
use proto::{
    docs::Calibration,
    keys::{self, PartKind},
    parquet_io::{encode, read_all},
    rows::{AnnotatedPage, AnnotatedSpan, LedgerRow, Outcome, Suggestion, TruthSpan},
};
use serde_json::Value;

type Span = (String, i64, String, u32, u32);

struct Place {
    folder: tempfile::TempDir,
    root: String,
    control: Control,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data").display().to_string();
        let control = Control::new(folder.path(), &root);
        Self { folder, root, control }
    }

    fn files(&self, batch: &str) -> BatchFiles {
        BatchFiles::new(&self.root, batch).unwrap()
    }

    async fn write(&self, batch: &str, pages: &[PageFile]) {
        self.files(batch).annotated(pages).await.unwrap();
    }

    fn truth(&self, rows: &[TruthSpan]) -> String {
        let path = self.folder.path().join("truth.parquet");
        fs::write(&path, encode(rows).unwrap()).unwrap();
        path.display().to_string()
    }

    /// The report as printed, which is the one in report.json; and the HTML.
    fn eval(&self, args: &[&str]) -> (Value, String) {
        let printed = self.control.json(&[&["eval"], args].concat()).unwrap();
        let folder = self.folder.path().join(format!("eval-{}", args[0]));
        let written: Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
        assert_eq!(printed, written);
        (printed, fs::read_to_string(folder.join("report.html")).unwrap())
    }

    fn refused(&self, args: &[&str], code: i32) -> String {
        let done = self.control.run(&[&["eval"], args].concat()).unwrap();
        assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
        done.stderr
    }
}

/// A true span at the first place of a word.
fn planted(page: &PageFile, label: &str, word: &str) -> TruthSpan {
    let (_, start, end) = PageFile::new("", 1, &page.text, &[(label, word)]).spans.remove(0);
    TruthSpan {
        doc_id: Some(page.doc_id.clone()),
        page_num: Some(page.page_num),
        label: Some(label.into()),
        start: Some(start as i32),
        end: Some(end as i32),
        run_id: Some(1),
    }
}

fn f1(right: usize, suggested: usize, truth: usize) -> f64 {
    2.0 * right as f64 / (suggested + truth) as f64
}

fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("no number: {found}"));
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

fn label<'a>(report: &'a Value, name: &str) -> &'a Value {
    let labels = report["run"]["scores"]["labels"].as_array().unwrap();
    labels.iter().find(|label| label["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

/// The examples as a batch of the rules engine.
fn rules_over_the_examples(place: &Place) {
    copy_examples(Path::new(&place.root)).unwrap();
    place.control.json(&["lake", "init"]).unwrap();
    place.control.json(&["ocr", "load"]).unwrap();
    place.control.json(&["batch", "create", "p", "--all"]).unwrap();
    agent_run_json(Path::new(&place.root), "p", &["--engine", "rules"]).unwrap();
}

#[tokio::test]
async fn the_rules_over_the_examples_score_as_an_independent_count_says() {
    let place = Place::new();
    rules_over_the_examples(&place);
    let path = examples().join("truth.parquet");
    let (report, html) = place.eval(&["p", "--truth", path.to_str().unwrap()]);

    // The count: sets of spans by page, of the pages that the truth knows.
    let truth = Truth::read(&path).unwrap();
    let files = place.files("p");
    let (mut planted, mut pages) = (BTreeSet::<Span>::new(), 0);
    for object in files.store.list_sorted(&files.keys.parts(PartKind::Ledger)).await.unwrap() {
        for row in read_all::<LedgerRow>(&files.store, &object.key).await.unwrap() {
            let Some(spans) = truth.page(&row.doc_id, row.run_id.unwrap(), row.page_num.into()) else {
                continue;
            };
            pages += 1;
            planted.extend(
                spans
                    .iter()
                    .map(|s| (row.doc_id.clone(), row.page_num.into(), s.label.clone(), s.start, s.end)),
            );
        }
    }
    let known: BTreeSet<_> = planted.iter().map(|span| (span.0.clone(), span.1)).collect();
    let mut suggested = BTreeSet::<Span>::new();
    for object in files.store.list_sorted(&files.keys.parts(PartKind::Suggestions)).await.unwrap() {
        for row in read_all::<Suggestion>(&files.store, &object.key).await.unwrap() {
            let page = (row.doc_id.into_owned(), i64::from(row.page_num));
            if known.contains(&page) {
                suggested.insert((page.0, page.1, row.label.into_owned(), row.start as u32, row.end as u32));
            }
        }
    }
    assert!(suggested.len() > 500, "{}", suggested.len());
    let labels: BTreeSet<&str> = planted.iter().chain(&suggested).map(|span| span.2.as_str()).collect();
    for name in labels {
        let of =
            |spans: &BTreeSet<Span>| spans.iter().filter(|s| s.2 == name).cloned().collect::<BTreeSet<_>>();
        let (planted, suggested) = (of(&planted), of(&suggested));
        let right = planted.intersection(&suggested).count();
        let exact = &label(&report, name)["exact"];
        let counted = [planted.len(), suggested.len(), right].map(Value::from);
        assert_eq!(["truth", "suggested", "right"].map(|key| exact[key].clone()), counted, "{name}");
        close(&exact["f1"], f1(right, suggested.len(), planted.len()));
        // Spans of a page do not overlap on either side, so those that touch can be counted one by one.
        let touched = suggested
            .iter()
            .filter(|s| planted.iter().any(|p| p.0 == s.0 && p.1 == s.1 && p.3 < s.4 && s.3 < p.4));
        let overlapping = label(&report, name)["overlapping"]["right"].as_u64().unwrap() as usize;
        assert!(right <= overlapping && overlapping <= touched.count(), "{name}");
    }
    let all = &report["run"]["scores"]["micro"]["exact"];
    assert_eq!(all["right"], planted.intersection(&suggested).count());
    close(&all["precision"], planted.intersection(&suggested).count() as f64 / suggested.len() as f64);

    let counts = &report["run"]["pages"];
    assert_eq!((&counts["batch"], &counts["not_in_truth"]), (&73.into(), &(73 - pages).into()), "{counts}");
    assert!(report["truth"]["lost"].as_u64().unwrap() > 100, "{}", report["truth"]);
    assert_eq!(report["run"]["provenance"]["model"], "rules");
    assert!(report["reliability"].is_null() && report["comparison"].is_null() && report["fit"].is_null());
    for request in ["http://", "https://", " src=", "@import", "url(", "<script"] {
        assert!(!html.contains(request), "{request}");
    }
    assert!(html.contains("default-src 'none'"));
    let told = place.control.run(&["eval", "p", "--truth", path.to_str().unwrap()]).unwrap();
    println!("{}", told.stdout);
    for name in ["IMO", "all", "mean of the labels", "match exact", "source rules"] {
        assert!(
            told.stdout.lines().any(|line| line.trim_start().starts_with(name)),
            "{name}: {}",
            told.stdout
        );
    }
    // Nothing has a confidence: nothing is fitted, and that is said.
    let why = place.refused(&["p", "--truth", path.to_str().unwrap(), "--fit"], 1);
    assert!(
        why.contains("nothing is fitted") && why.contains("no scored suggestion has a confidence"),
        "{why}"
    );
    assert!(files.store.list_sorted(keys::CALIBRATION).await.unwrap().is_empty());
}

#[tokio::test]
async fn reviewed_answers_are_the_truth_of_a_pilot() {
    let place = Place::new();
    copy_examples(Path::new(&place.root)).unwrap();
    let _agent =
        Agent::start(&place.root, &place.folder.path().join("agent"), &["--engine", "rules"], &[]).unwrap();
    let argilla = ArgillaStandIn::start(&place.folder.path().join("argilla")).unwrap();
    let control = place.control.clone().with_agent(&_agent.url);
    let control = control.with_argilla(&argilla.url, ArgillaStandIn::OWNER_KEY);
    let documents = ["--doc-id", "00123", "--doc-id", "rôle-d'équipage"];
    let run = |until: &str| {
        control.json(&[&["pilot", "run", "p", "--until", until][..], &documents].concat()).unwrap()
    };
    run("review");
    let refused = place.refused(&["p"], 5);
    assert!(
        refused.contains("control argilla export p") && refused.contains("--truth FILE.parquet"),
        "{refused}"
    );
    let reviewed = Command::new(binary("simulated-sme").unwrap())
        .args(["--api-url", &argilla.url, "--api-key", ArgillaStandIn::OWNER_KEY])
        .args(["--dataset", "vessels_ocr_p", "--truth"])
        .arg(examples().join("truth.parquet"))
        .output()
        .unwrap();
    assert!(reviewed.status.success(), "{}", String::from_utf8_lossy(&reviewed.stderr));
    run("export");

    let (report, html) = place.eval(&["p"]);
    let files = place.files("p");
    let at = files.keys.export(1);
    let pages: Vec<AnnotatedPage> = read_all(&files.store, &at.pages(0)).await.unwrap();
    let spans: Vec<AnnotatedSpan> = read_all(&files.store, &at.spans(0)).await.unwrap();
    let submitted = pages.iter().filter(|page| page.status == "submitted").count();
    assert!(submitted > 3);
    assert_eq!(report["truth"]["kind"], "answers");
    assert_eq!(report["truth"]["answers"], submitted);
    assert_eq!(report["truth"]["discarded"], pages.len() - submitted);
    assert_eq!(report["run"]["scores"]["micro"]["exact"]["truth"], spans.len());
    let suggested: Vec<Suggestion> =
        read_all(&files.store, &files.keys.part(PartKind::Suggestions, 0)).await.unwrap();
    let key = |doc: &str, page: i32, label: &str, start: i32| format!("{doc}\0{page}\0{label}\0{start}");
    let answered: BTreeMap<_, i32> =
        spans.iter().map(|s| (key(&s.doc_id, s.page_num, &s.label, s.start), s.end)).collect();
    let right = suggested
        .iter()
        .filter(|s| answered.get(&key(&s.doc_id, s.page_num, &s.label, s.start)) == Some(&s.end))
        .count();
    assert!(right > 20, "{right}");
    assert_eq!(report["run"]["scores"]["micro"]["exact"]["right"], right);
    assert!(html.contains("Answers"));

    let annotator = pages[0].annotator_id.as_str();
    let (one, _) = place.eval(&["p", "--annotator", annotator, "--export-run", "1"]);
    assert_eq!(one["truth"]["annotators"], Value::from(vec![annotator]));
    let unknown = place.refused(&["p", "--annotator", "nobody"], 2);
    assert!(unknown.contains(annotator), "{unknown}");
    assert!(place.refused(&["p", "--export-run", "7"], 5).contains("no complete export 7"));
    assert!(place.refused(&["nothing", "--compare", "p"], 5).contains("no batch nothing"));
}

#[tokio::test]
async fn two_runs_are_compared_page_by_page() {
    let place = Place::new();
    let text = "<script>alert(1)</script> \u{202e} IMO 9074729 and 1234567 of PORTO\0";
    let page = |doc: &str, n: i32, words: &[(&str, &str)]| PageFile::new(doc, n, text, words);
    let (imo, wrong) = (("IMO", "9074729"), ("IMO", "1234567"));
    let first = [
        page("a", 1, &[imo]),
        page("a", 2, &[wrong]),
        page("<b>", 1, &[imo, wrong]),
        page("only", 1, &[imo]),
        page("f", 1, &[]).ended(Outcome::Failed, "page_too_large"),
        page("s", 1, &[]).ended(Outcome::Skipped, "hash_mismatch"),
    ];
    let second = [
        page("a", 1, &[imo]),
        page("a", 2, &[imo]),
        page("<b>", 1, &[("PORT", "PORTO")]),
        PageFile::new("only", 1, "another text 9074729", &[imo]),
        page("f", 1, &[imo]),
        page("s", 1, &[imo]),
    ];
    place.write("new", &first).await;
    place.write("old", &second).await;
    let mut rows: Vec<_> = first.iter().map(|page| planted(page, "IMO", "9074729")).collect();
    rows.push(planted(&first[0], "PORT", "PORTO"));
    let truth = place.truth(&rows);
    let (report, html) = place.eval(&["new", "--truth", &truth, "--compare", "old"]);
    let comparison = &report["comparison"];
    let counts = |of: &Value| {
        ["gained_right", "lost_right", "gained_wrong", "lost_wrong"].map(|key| of[key].as_u64().unwrap())
    };
    assert_eq!(counts(comparison), [1, 2, 2, 1], "{comparison}");
    let pages = comparison["pages"].as_array().unwrap();
    let ids: Vec<_> = pages.iter().map(|page| (page["doc_id"].as_str().unwrap(), counts(page))).collect();
    assert_eq!(ids, [("a", [0, 1, 1, 0]), ("f", [0, 1, 0, 0]), ("<b>", [1, 0, 1, 1])]);
    assert_eq!(report["run"]["pages"]["not_in_both"], 1, "only: the texts differ");
    assert_eq!(report["run"]["pages"]["skipped"], 1);
    assert_eq!(comparison["other"]["pages"]["not_in_both"], 2);
    let all = &comparison["differences"][0];
    assert_eq!(all["name"], "all");
    close(&all["f1"], f1(2, 4, 5) - f1(3, 4, 5));

    assert!(html.contains("<a href=\"#c0\">") && html.contains("<section id=\"c0\">"));
    assert!(
        html.contains("&lt;script&gt;alert(1)&lt;/script&gt; <i title=\"U+202E\">\u{25af}</i> IMO "),
        "{html}"
    );
    assert!(!html.contains(['\0', '\u{202e}', '\r']) && !html.contains("<script"));
    assert!(html.contains("<bdi>&lt;b&gt;</bdi>"));
    let same = place.refused(&["new", "--compare", "new", "--truth", &truth], 2);
    assert!(same.contains("with itself"), "{same}");
    let stranger = planted(&page("z", 1, &[]), "IMO", "9074729");
    let nothing = place.refused(&["new", "--truth", &place.truth(&[stranger])], 5);
    assert!(nothing.contains("no page of batch new can be scored"), "{nothing}");
    assert!(nothing.contains("5 are not in it"), "{nothing}");
}

#[tokio::test]
async fn a_fit_is_stored_where_the_agent_looks_and_few_spans_are_refused() {
    let place = Place::new();
    let pages: Vec<_> = (1..=250)
        .map(|n| {
            let number = if n <= 200 { [("IMO", "9074729")] } else { [("PORT", "PORTO")] };
            let page = PageFile::new("d", n, "IMO 9074729 of PORTO", &number);
            PageFile { confidence: Some(f64::from(n % 10) / 10.0), ..page }
        })
        .collect();
    place.write("p", &pages).await;
    // Right where the confidence is at least a half; else the page is known, and has no such span.
    let none = |page: &PageFile| TruthSpan {
        label: None,
        start: None,
        end: None,
        ..planted(page, "IMO", "9074729")
    };
    let truth = |page: &PageFile| match page.spans[0].0.as_str() {
        "IMO" if page.confidence >= Some(0.5) => planted(page, "IMO", "9074729"),
        _ => none(page),
    };
    let path = place.truth(&pages.iter().map(truth).collect::<Vec<_>>());
    let (before, _) = place.eval(&["p", "--truth", &path]);
    let files = place.files("p");
    assert!(before["fit"].is_null() && files.store.list_sorted(keys::CALIBRATION).await.unwrap().is_empty());

    let (report, html) = place.eval(&["p", "--truth", &path, "--fit"]);
    assert_eq!(report["fit"]["labels"]["IMO"]["n"], 200);
    assert_eq!(report["fit"]["too_few"]["PORT"], 50);
    assert_eq!(report["fit"]["replaced"], false);
    assert_eq!(report["reliability"]["spans"], 250);
    assert!(html.contains("<polyline") && html.contains("not fitted: 50 spans"));
    let stored = files.store.list_sorted(keys::CALIBRATION).await.unwrap();
    assert_eq!(stored.len(), 1);
    let fit: Calibration = serde_json::from_slice(&files.store.get(&stored[0].key).await.unwrap()).unwrap();
    let p = &fit.provenance;
    assert_eq!(stored[0].key, keys::calibration(&p.labelset_sha256, &p.prompt_sha256, &p.model_digest));
    assert_eq!((fit.calibrated("IMO", 0.2), fit.calibrated("IMO", 0.7)), (Some(0.0), Some(1.0)));
    assert_eq!(fit.calibrated("PORT", 0.7), None);
    let (again, _) = place.eval(&["p", "--truth", &path, "--fit"]);
    assert_eq!(again["fit"]["replaced"], true);

    place.write("few", &pages[..199]).await;
    let why = place.refused(&["few", "--truth", &path, "--fit"], 1);
    assert!(why.contains("IMO, has 199"), "{why}");
}

#[tokio::test]
async fn a_fit_reaches_the_next_batch_and_leaves_the_one_before() {
    let place = Place::new();
    copy_examples(Path::new(&place.root)).unwrap();
    place.control.json(&["lake", "init"]).unwrap();
    place.control.json(&["ocr", "load"]).unwrap();
    let double = OllamaDouble::start(place.folder.path(), &[]).unwrap();
    let run = |batch: &str| {
        let args = ["--engine", "ollama", "--model", "stand-in", "--ollama-url", &double.url];
        agent_run_json(Path::new(&place.root), batch, &args).unwrap()
    };
    let confidences = async |batch: &str| {
        let files = place.files(batch);
        let mut found = BTreeMap::new();
        for object in files.store.list_sorted(&files.keys.parts(PartKind::Suggestions)).await.unwrap() {
            for row in read_all::<Suggestion>(&files.store, &object.key).await.unwrap() {
                found.insert(row.span_id, (row.label, row.confidence));
            }
        }
        found
    };
    place.control.json(&["batch", "create", "raw", "--all"]).unwrap();
    let summary = run("raw");
    let raw = confidences("raw").await;
    let known = raw.values().filter_map(|(_, confidence)| *confidence).collect::<Vec<_>>();
    assert!(known.len() * 20 > raw.len() * 19, "{} of {}", known.len(), raw.len());
    assert!(known.iter().all(|confidence| (0.0..=1.0).contains(confidence)));
    assert!(summary["provenance"]["options"].get(Calibration::OPTION).is_none());

    let truth = examples().join("truth.parquet");
    let (report, _) = place.eval(&["raw", "--truth", truth.to_str().unwrap(), "--fit"]);
    let files = place.files("raw");
    let stored = files.store.list_sorted(keys::CALIBRATION).await.unwrap();
    let fit: Calibration = serde_json::from_slice(&files.store.get(&stored[0].key).await.unwrap()).unwrap();
    assert!(!fit.labels.is_empty() && report["fit"]["too_few"].as_object().unwrap().len() > 3, "{report}");

    place.control.json(&["batch", "create", "calibrated", "--all"]).unwrap();
    let summary = run("calibrated");
    let option = summary["provenance"]["options"][Calibration::OPTION].as_str().unwrap_or_default();
    assert_eq!(option.len(), 64, "{summary}");
    let calibrated = confidences("calibrated").await;
    assert_eq!(calibrated.len(), raw.len());
    for (span, (label, confidence)) in &calibrated {
        let expected = raw[span].1.and_then(|raw| fit.calibrated(label, raw));
        assert_eq!(*confidence, expected, "{label}: null for a label that was not fitted");
    }
    assert!(calibrated.values().any(|(_, confidence)| confidence.is_some()));
    let why = place.refused(&["calibrated", "--truth", truth.to_str().unwrap(), "--fit"], 1);
    assert!(why.contains("only raw ones can be fitted"), "{why}");

    // What began raw stays raw, a part that is done again too: the choice is pinned.
    for gone in [files.keys.part(PartKind::Commits, 0), files.keys.manifest()] {
        fs::remove_file(Path::new(&place.root).join(gone.as_str())).unwrap();
    }
    run("raw");
    assert_eq!(confidences("raw").await, raw);
}
