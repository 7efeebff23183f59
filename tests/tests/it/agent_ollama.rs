//! `dgx-agent run` with a model, on the Ollama double.

use std::{collections::BTreeMap, path::Path};

use e2e::{
    agent_jobs::example_pages,
    batch_dir::{BatchDir, page, parts},
    harness::{Finished, OllamaDouble, agent_run},
};
use proto::rows::{LedgerRow, Outcome, Suggestion};
use tempfile::TempDir;

/// A batch with a double beside it.
struct Setup {
    root: TempDir,
    double: OllamaDouble,
    batch: BatchDir,
}

impl Setup {
    async fn start(pages: usize, faults: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let batch = BatchDir::new(root.path(), "model").unwrap();
        batch.write_parts(&parts(&example_pages().await.unwrap()[..pages], 6)).await.unwrap();
        Self { double: OllamaDouble::start(root.path(), faults).unwrap(), root, batch }
    }

    fn run(&self, args: &[&str]) -> Finished {
        run(self.root.path(), &self.double.url, args)
    }

    async fn ledger(&self) -> Vec<LedgerRow> {
        self.batch.ledger().await.unwrap()
    }
}

fn run(root: &Path, url: &str, args: &[&str]) -> Finished {
    let model = ["--engine", "ollama", "--model", "stand-in", "--ollama-url", url];
    agent_run(root, "model", &[&model[..], args].concat()).unwrap()
}

#[tokio::test]
async fn a_model_that_answers_like_the_rules_gives_their_spans() {
    let setup = Setup::start(12, &[]).await;
    let done = setup.run(&["--json"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let found = setup.batch.suggestions().await.unwrap();
    assert!(found.iter().all(|span| span.source == "ollama" && span.model == "stand-in"));
    assert!(
        found.iter().all(|span| span.model_version.len() == 64 && span.model_version != span.prompt_sha256)
    );
    let ledger = setup.ledger().await;
    let asked = ledger.iter().filter(|row| row.reason.as_deref() != Some("blank_text"));
    for row in asked {
        assert!(row.attempts >= row.chunks && row.chunks >= 1 && row.prompt_tokens > 0, "{row:?}");
    }

    let rules = BatchDir::new(setup.root.path(), "rules").unwrap();
    rules.write_parts(&parts(&example_pages().await.unwrap()[..12], 6)).await.unwrap();
    assert_eq!(agent_run(setup.root.path(), "rules", &[]).unwrap().code, Some(0));
    let pages = |spans: &[Suggestion]| {
        let mut pages: BTreeMap<_, u32> = BTreeMap::new();
        spans.iter().for_each(|span| *pages.entry((span.doc_id.clone(), span.page_num)).or_default() += 1);
        pages
    };
    let by_rules = rules.suggestions().await.unwrap();
    assert_eq!(pages(&found).keys().collect::<Vec<_>>(), pages(&by_rules).keys().collect::<Vec<_>>());
    let share = found.len() as f64 / by_rules.len() as f64;
    assert!((0.9..=1.1).contains(&share), "{} of {}", found.len(), by_rules.len());
}

#[tokio::test]
async fn hybrid_merges_both() {
    let setup = Setup::start(6, &[]).await;
    let args = ["--engine", "hybrid", "--model", "stand-in", "--ollama-url", &setup.double.url, "--json"];
    let done = agent_run(setup.root.path(), "model", &args).unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let summary: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(summary["provenance"]["engine"], "hybrid");
    assert!(summary["provenance"]["options"]["rules_digest"].is_string());
    let spans = setup.batch.suggestions().await.unwrap();
    for pair in spans.windows(2) {
        let same = (&pair[0].doc_id, pair[0].page_num) == (&pair[1].doc_id, pair[1].page_num);
        assert!(!same || pair[0].end <= pair[1].start, "no overlap");
    }
    // The double answers as the rules do: they agree, and that raises what the model alone would have.
    let agreed = |span: &&Suggestion| span.source == "ollama+rules";
    assert!(spans.iter().filter(agreed).count() * 10 > spans.len() * 8, "{}", spans.len());
    for span in spans.iter().filter(agreed) {
        assert!(
            span.model == "stand-in" && span.confidence.is_none_or(|confidence| confidence >= 0.5),
            "{span:?}"
        );
    }
    assert!(
        spans.iter().filter(|span| span.source.starts_with("rules")).all(|span| span.confidence.is_none())
    );
}

#[tokio::test]
async fn a_page_that_the_model_fails_on_fails_in_the_hybrid_too() {
    let setup = Setup::start(2, &["--silent-end"]).await;
    let args = ["--engine", "hybrid", "--model", "stand-in", "--ollama-url", &setup.double.url];
    assert_eq!(agent_run(setup.root.path(), "model", &args).unwrap().code, Some(0));
    for row in setup.ledger().await {
        assert_eq!((row.outcome, row.reason.as_deref()), (Outcome::Failed, Some("model_output_unfinished")));
    }
    assert!(setup.batch.suggestions().await.unwrap().is_empty(), "the rules alone would pass for both");
}

#[tokio::test]
async fn failures_of_the_server_are_tried_again() {
    // The warm-up meets the first of each kind; the one that the server fails on is repeated until it does not.
    for (faults, of_pages) in [(["--fail-first", "2"], 0), (["--silent-end", "2"], 1)] {
        let setup = Setup::start(4, &faults).await;
        let done = setup.run(&["--concurrency", "1"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let ledger = setup.ledger().await;
        assert!(ledger.iter().all(|row| row.outcome != Outcome::Failed), "{faults:?}");
        let extra: i32 = ledger.iter().map(|row| row.attempts - row.chunks).sum();
        assert_eq!(extra, of_pages, "{faults:?}");
    }
}

#[tokio::test]
async fn a_server_that_always_fails_costs_pages_with_a_reason() {
    let setup = Setup::start(2, &["--silent-end"]).await;
    assert_eq!(setup.run(&[]).code, Some(0));
    for row in setup.ledger().await {
        assert_eq!((row.outcome, row.reason.as_deref()), (Outcome::Failed, Some("model_output_unfinished")));
        assert!(row.spans == 0 && (2..=4).contains(&row.attempts), "another seed, then a half: {row:?}");
    }
    assert!(setup.batch.suggestions().await.unwrap().is_empty());
    assert!(setup.batch.is_complete().await.unwrap());
}

#[tokio::test]
async fn what_was_cut_is_asked_in_halves_and_then_saved() {
    let once = Setup::start(3, &["--cut", "2"]).await;
    assert_eq!(once.run(&["--concurrency", "1"]).code, Some(0));
    let ledger = once.ledger().await;
    assert!(ledger.iter().all(|row| row.outcome != Outcome::Failed));
    let halved = ledger.iter().find(|row| row.attempts > 1).expect("a page in halves");
    assert_eq!(halved.attempts - halved.chunks, 1, "its pieces, and the one that was cut");

    let always = Setup::start(0, &["--cut"]).await;
    let dense = "Flag State: France\n".repeat(200);
    always
        .batch
        .write_parts(&[vec![page("dense", 1, &dense), page("short", 1, "IMO: 4522460")]])
        .await
        .unwrap();
    assert_eq!(always.run(&[]).code, Some(0));
    let [dense, short] = &always.ledger().await[..] else { panic!("two pages") };
    assert_eq!((dense.outcome, dense.attempts), (Outcome::Suggested, 15));
    assert!((60..200).contains(&dense.spans), "the whole mentions of cut answers are kept: {}", dense.spans);
    assert!(dense.ungrounded > 0, "what was cut is counted");
    assert_eq!((short.outcome, short.reason.as_deref()), (Outcome::Failed, Some("output_truncated")));
}

#[tokio::test]
async fn a_list_that_the_schema_ended_is_asked_for_in_halves() {
    let setup = Setup::start(0, &[]).await;
    let rows = "Flag State: France\n".repeat(150);
    setup.batch.write_parts(&[vec![page("register", 1, &rows)]]).await.unwrap();
    assert_eq!(setup.run(&[]).code, Some(0));
    let [row] = &setup.ledger().await[..] else { panic!("one page") };
    assert_eq!((row.spans, row.ungrounded, row.attempts, row.chunks), (150, 0, 3, 2));
}

#[tokio::test]
async fn what_can_be_mended_is_mended_once_and_told() {
    let setup = Setup::start(4, &["--untidy"]).await;
    let done = setup.run(&["--json"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let summary: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let ledger = setup.ledger().await;
    let asked: i32 = ledger.iter().map(|row| row.chunks).sum();
    assert_eq!(ledger.iter().map(|row| row.attempts).sum::<i32>(), asked, "nothing is asked twice");
    assert!(asked > 0 && ledger.iter().all(|row| row.outcome != Outcome::Failed));
    assert_eq!(summary["repairs"]["trailing_comma"], asked, "{summary}");
}

#[tokio::test]
async fn an_overflow_is_split_and_has_an_end() {
    let once = Setup::start(2, &["--context-overflow", "2"]).await;
    assert_eq!(once.run(&["--concurrency", "1"]).code, Some(0));
    assert!(once.ledger().await.iter().all(|row| row.outcome != Outcome::Failed));

    let always = Setup::start(1, &["--context-overflow"]).await;
    assert_eq!(always.run(&[]).code, Some(0));
    let [row] = &always.ledger().await[..] else { panic!("one page") };
    assert_eq!((row.outcome, row.reason.as_deref()), (Outcome::Failed, Some("prompt_too_long")));
    assert!(row.attempts <= 15, "{}", row.attempts);
}

#[tokio::test]
async fn a_long_page_goes_in_pieces_and_its_spans_stand_where_they_are() {
    let setup = Setup::start(0, &[]).await;
    let text = "Registro de pesca, página llena de texto sin nombres.\n".repeat(400) + "IMO No.: 4522460";
    setup.batch.write_parts(&[vec![page("long", 1, &text)]]).await.unwrap();
    assert_eq!(setup.run(&[]).code, Some(0));
    assert!(setup.ledger().await[0].chunks > 2);
    let spans = setup.batch.suggestions().await.unwrap();
    let span = spans.iter().find(|span| span.label == "IMO").expect("found in the last piece");
    assert_eq!(span.end as usize, text.chars().count());
}

#[tokio::test]
async fn what_no_page_can_survive_ends_the_run_and_says_why() {
    for (fault, says) in [
        ("--missing-model", "run `ollama pull stand-in`"),
        ("--login-page", "set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET"),
    ] {
        let setup = Setup::start(2, &[fault]).await;
        let done = setup.run(&[]);
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        assert!(done.stderr.contains(says), "{}", done.stderr);
        assert!(setup.ledger().await.is_empty(), "nothing is written");
    }
    let setup = Setup::start(2, &["--pull-again-after", "1"]).await;
    let done = setup.run(&[]);
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert!(done.stderr.contains("changed during the batch"), "{}", done.stderr);
    assert!(setup.ledger().await.is_empty(), "no part with two models");
}

#[tokio::test]
async fn no_server_and_no_model_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "model").unwrap();
    batch.write_parts(&[vec![page("d", 1, "x")]]).await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = run(root.path(), &format!("http://127.0.0.1:{port}"), &[]);
    assert_eq!(done.code, Some(4), "{}", done.stderr);
    assert!(done.stderr.contains("cannot reach Ollama"), "{}", done.stderr);
    let done = agent_run(root.path(), "model", &["--engine", "ollama"]).unwrap();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("OLLAMA_MODEL"), "{}", done.stderr);
}
