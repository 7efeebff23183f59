//! A campaign: a fifth of all requests meets a fault, of nine kinds, and the batch accounts for every page.

use std::path::Path;

use dgx_agent::{
    infer::{Client, Endpoint, InferError, ModelParams, RequestTemplate, Timeouts},
    prompt::Prompt,
};
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
use proto::{
    labelset::Labelset,
    rows::{BatchPage, Outcome},
};
use reqwest::header::CONTENT_TYPE;

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

/// What a raw client sees of a fault: status, kind of content, and the last line or the whole body; None when the
/// connection is closed without a word.
async fn raw(url: &str, body: Vec<u8>) -> Option<(u16, String, String)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut answer = client.post(format!("{url}/api/chat")).body(body).send().await.ok()?;
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let (status, mut text) = (answer.status().as_u16(), String::new());
    // A broken body is read as far as it goes.
    while let Ok(Some(chunk)) = answer.chunk().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap_or_default());
    }
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default().to_owned();
    Some((status, kind, last))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_fault_looks_as_the_contract_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let sim = OllamaSim::start(folder.path(), &["--service-ms", "1", "--hang-ms", "50"]).unwrap();
    let client = Client::new(Endpoint::parse(&sim.url, None).unwrap(), Timeouts::default()).unwrap();
    let prompt = Prompt::new(&Labelset::embedded());
    let params = ModelParams { model: MODEL.into(), num_ctx: 8192, num_predict: 256 };
    let template = RequestTemplate::new(params.clone(), prompt.system.clone(), &prompt.schema);
    let (json, stream) = ("application/json", "application/x-ndjson");
    // The texts of 500 and 503 are the real server's, as the conformance suite and its sources have them.
    let cases = [
        ("500", 500, json, "model runner has unexpectedly stopped"),
        ("503", 503, json, "server busy, please try again"),
        ("cut-json", 200, stream, "\"done_reason\":\"length\""),
        ("garbage", 200, stream, "\"done\":true"),
        ("mid-stream", 200, stream, "{\"error\":\""),
        ("no-done", 200, stream, "\"done\":false"),
        ("whitespace", 200, stream, "\"done_reason\":\"length\""),
        ("html", 502, "text/html", "<!doctype html>"),
    ];
    for (fault, status, kind, last) in cases {
        let user = prompt.user(&format!("{ALWAYS}{fault} Flag State: France, IMO No.: 9074729"));
        let told = raw(&sim.url, template.body(&user, 1)).await.unwrap();
        assert_eq!(told.0, status, "{fault}: {told:?}");
        assert!(told.1.starts_with(kind) && told.2.contains(last), "{fault}: {told:?}");
        let error = client.chat(template.body(&user, 1), &params).await;
        let as_read = match (fault, &error) {
            ("500", Err(InferError::Server { status: 500, .. }))
            | ("503", Err(InferError::Busy { status: 503, .. }))
            | ("cut-json", Err(InferError::AnswerCut { .. }))
            | ("mid-stream", Err(InferError::MidStream { .. }))
            | ("no-done", Err(InferError::NoDone))
            | ("whitespace", Err(InferError::Runaway { .. }))
            | ("html", Err(InferError::Busy { status: 502, .. })) => true,
            // Finished as HTTP has it; that it is no JSON shows when it is read.
            ("garbage", Ok(completion)) => {
                serde_json::from_str::<serde_json::Value>(&completion.content).is_err()
            }
            _ => false,
        };
        assert!(as_read, "{fault}: {error:?}");
    }
    // Silence, until somebody loses patience: here the simulator, which is told to.
    let user = prompt.user(&format!("{ALWAYS}hang Flag State: France"));
    assert!(raw(&sim.url, template.body(&user, 1)).await.is_none_or(|(.., last)| last.is_empty()));
    let error = client.chat(template.body(&user, 1), &params).await;
    assert!(matches!(error, Err(InferError::Broken { .. })), "{error:?}");
}
