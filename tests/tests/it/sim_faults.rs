//! A campaign: a fifth of all requests meets a fault, of nine kinds, and the batch accounts for every page.

use std::path::Path;

use e2e::{
    batch_dir::{BatchDir, parts},
    harness::{OllamaSim, agent_run},
    ollama_double::MODEL,
    ollama_sim::{
        ALWAYS,
        audit::{Made, audit},
        sheets::{sheet, sheets},
    },
};
use proto::rows::{BatchPage, Outcome};

const PAGES: usize = 200;

/// These never heal, wherever else the server is well.
const DOOMED: [(&str, &str); 4] = [
    ("500", "service_error"),
    ("garbage", "model_output_invalid"),
    ("no-done", "model_output_unfinished"),
    ("whitespace", "model_output_runaway"),
];

async fn run(root: &Path, batch: &str, pages: &[BatchPage], simulator: &OllamaSim) -> Made {
    let batch_dir = BatchDir::new(root, batch).unwrap();
    batch_dir.write_parts(&parts(pages, 50)).await.unwrap();
    let done =
        agent_run(root, batch, &["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url]);
    let done = done.unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(batch_dir.is_complete().await.unwrap());
    Made { ledger: batch_dir.ledger().await.unwrap(), suggestions: batch_dir.suggestions().await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_the_requests_fails_and_every_page_has_the_outcome_that_was_injected() {
    let root = tempfile::tempdir().unwrap();
    let mut pages = sheets(PAGES).await.unwrap();
    let text = pages[0].text.clone().unwrap();
    pages.extend(
        (PAGES..).zip(DOOMED).map(|(number, (fault, _))| sheet(number, &text, &format!("{ALWAYS}{fault}"))),
    );

    let well = OllamaSim::start(&root.path().join("well"), &["--slots", "8"]).unwrap();
    let clean = run(root.path(), "clean", &pages[..PAGES], &well).await;
    assert!(clean.ledger.iter().all(|row| row.outcome != Outcome::Failed));
    drop(well);

    // What hangs is cut off after a while, so that the campaign has an end: the agent's own patience is longer.
    let ill = ["--slots", "8", "--service-ms", "2", "--faults", "0.2", "--hang-ms", "300", "--seed", "7"];
    let ill = OllamaSim::start(&root.path().join("ill"), &ill).unwrap();
    let made = run(root.path(), "faulty", &pages, &ill).await;
    let stats = ill.stats("?pages").await.unwrap();
    let found = audit(&pages, &clean, &made, &stats);
    assert!(found.wrong.is_empty(), "{found:#?}");
    assert_eq!(found.pages, PAGES + DOOMED.len());
    assert_eq!(found.faults.len(), 9, "all kinds: {:?}", found.faults);
    assert_eq!(stats.in_flight, 0);
    for (number, (fault, reason)) in (PAGES..).zip(DOOMED) {
        let page = &pages[number];
        let row = made
            .ledger
            .iter()
            .find(|row| (Some(&row.doc_id), Some(row.page_num)) == (page.doc_id.as_ref(), page.page_num));
        let row = row.expect("accounted for");
        assert_eq!((row.outcome, row.reason.as_deref()), (Outcome::Failed, Some(reason)), "{fault}");
    }
}
