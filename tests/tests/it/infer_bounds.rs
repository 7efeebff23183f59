//! What the agent never does to a model server, by the server's own count: more in flight than it may, the same request
//! again where that is pointless, retries without an end.

use std::{collections::BTreeSet, path::Path};

use e2e::{
    agent_jobs::AgentJobs,
    batch_dir::{BatchDir, page, parts},
    harness::{Agent, OllamaSim, agent_run_json},
    ollama_double::MODEL,
    ollama_sim::{
        ALWAYS,
        sheets::{sheet, sheets},
    },
};
use proto::rows::{BatchPage, Outcome};
use serde_json::Value;

const BATCH: &str = "bounds";

/// Runs a batch over a simulator of its own, which is given back with what it saw.
async fn run(folder: &Path, pages: &[BatchPage], sim: &[&str], agent: &[&str]) -> (OllamaSim, BatchDir) {
    let batch = BatchDir::new(folder, BATCH).unwrap();
    batch.write_parts(&parts(pages, 50)).await.unwrap();
    let sim = OllamaSim::start(folder, sim).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &sim.url];
    agent_run_json(folder, BATCH, &[&args[..], agent].concat()).unwrap();
    (sim, batch)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_in_flight_than_asked_for() {
    let pages = sheets(80).await.unwrap();
    // Of the faults those that the agent does not cut off: the server sees the end of those later than the agent.
    let faults = ["--faults", "0.2", "--fault-kinds", "500,503,garbage,mid-stream,no-done,cut-json,html"];
    for (concurrency, faults) in [("1", &[][..]), ("3", &[]), ("8", &[]), ("3", &faults)] {
        let folder = tempfile::tempdir().unwrap();
        let sim = [&["--slots", "4", "--service-ms", "5"], faults].concat();
        let (sim, _) = run(folder.path(), &pages, &sim, &["--concurrency", concurrency]).await;
        let most: u32 = concurrency.parse().unwrap();
        assert_eq!(sim.stats("").await.unwrap().max_in_flight, most, "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_stays_below_its_cap_whatever_the_server_takes() {
    let folder = tempfile::tempdir().unwrap();
    let pages = sheets(400).await.unwrap();
    let sim = ["--slots", "200", "--service-ms", "100"];
    let (sim, _) = run(folder.path(), &pages, &sim, &["--concurrency", "auto"]).await;
    let stats = sim.stats("").await.unwrap();
    assert!((8..=64).contains(&stats.max_in_flight), "{}", stats.max_in_flight);
}

/// A body without its seed, and the seed.
fn without_seed(body: &str) -> (Value, i64) {
    let mut body: Value = serde_json::from_str(body).unwrap();
    let seed = body["options"]["seed"].take();
    (body, seed.as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_is_asked_for_with_another_seed_and_then_in_halves() {
    let folder = tempfile::tempdir().unwrap();
    let text = sheets(1).await.unwrap()[0].text.clone().unwrap();
    let page = sheet(0, &text, &format!("{ALWAYS}garbage"));
    let bodies = folder.path().join("bodies.ndjson");
    let keep = ["--keep-bodies", bodies.to_str().unwrap()];
    let (sim, batch) = run(folder.path(), &[page], &keep, &["--concurrency", "1"]).await;
    let kept = std::fs::read_to_string(bodies).unwrap();
    let asked: Vec<_> = kept.lines().skip(1).map(without_seed).collect();
    let seeds: Vec<i64> = asked.iter().map(|(_, seed)| *seed).collect();
    assert_eq!(seeds, [0, 1, 0, 1], "after the warm-up: the page twice, then its first half twice");
    assert_eq!((asked[0].0 == asked[1].0, asked[2].0 == asked[3].0), (true, true), "nothing else changes");
    let words = |body: &Value| body["messages"][1]["content"].as_str().unwrap().len();
    assert!(words(&asked[2].0) < words(&asked[0].0) * 2 / 3);
    let sent = sim.stats("").await.unwrap().now.requests;
    assert_eq!(sent, kept.lines().count() as u64, "no body is sent twice");
    let ledger = batch.ledger().await.unwrap();
    assert_eq!((ledger[0].outcome, ledger[0].attempts), (Outcome::Failed, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_on_everything_uses_the_budget_up() {
    let folder = tempfile::tempdir().unwrap();
    let pages = sheets(300).await.unwrap();
    let sim = ["--faults", "1", "--fault-kinds", "no-done"];
    let (sim, batch) = run(folder.path(), &pages, &sim, &["--concurrency", "8"]).await;
    let asked = sim.stats("?pages").await.unwrap().pages;
    let retries: usize = asked.iter().map(|piece| piece.faults.len() - 1).sum();
    assert!(retries <= 100 + asked.len() / 2, "{retries} for {} pieces", asked.len());
    assert!(retries < asked.len(), "without a budget each piece is asked about twice");
    let ledger = batch.ledger().await.unwrap();
    assert_eq!(ledger.len(), 300);
    assert!(ledger.iter().all(|row| row.reason.as_deref() == Some("model_output_unfinished")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_runs_away_is_cut_off_and_its_slot_freed() {
    let folder = tempfile::tempdir().unwrap();
    let text = sheets(1).await.unwrap()[0].text.clone().unwrap();
    let pages = [sheet(0, &text, &format!("{ALWAYS}whitespace")), sheet(1, &text, "")];
    // With one slot, and blanks for half a minute, the other page is only reached if the first is given up.
    let (sim, batch) = run(folder.path(), &pages, &["--slots", "1", "--service-ms", "1"], &[]).await;
    let stats = sim.stats("?pages").await.unwrap();
    let ran_away: usize =
        stats.pages.iter().flat_map(|page| &page.faults).filter(|fault| fault.is_some()).count();
    assert_eq!(stats.disconnects, ran_away as u64, "each was cut off before its end");
    let reasons: Vec<_> = batch.ledger().await.unwrap().into_iter().map(|row| row.reason).collect();
    assert_eq!(reasons, [Some("model_output_runaway".to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_costs_its_tokens_and_what_is_saved_of_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // So dense that there are whole mentions in the first half of every answer.
    let page = page("dense", 1, &format!("{ALWAYS}cut-json Flag State: France\n").repeat(150));
    let root = folder.path().join("root");
    let batch = BatchDir::new(&root, BATCH).unwrap();
    batch.write_parts(&[vec![page]]).await.unwrap();
    let sim = OllamaSim::start(folder.path(), &[]).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &sim.url];
    let agent = Agent::start(root.to_str().unwrap(), &folder.path().join("work"), &args, &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    let told = jobs.complete(BATCH).await.unwrap().progress.unwrap();
    let row = &batch.ledger().await.unwrap()[0];
    assert_eq!(row.outcome, Outcome::Suggested, "{row:?}");
    assert!(row.prompt_tokens > 0 && row.output_tokens > 0, "{row:?}");
    assert!(told.salvaged >= u64::try_from(row.spans).unwrap(), "{told:?}");
    assert!(told.salvaged > 0 && row.ungrounded > 0, "what was cut is counted: {row:?}");
}

fn sample(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in:\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_the_server_saw_and_name_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let batch = BatchDir::new(&root, BATCH).unwrap();
    let pages = sheets(80).await.unwrap();
    batch.write_parts(&parts(&pages, 40)).await.unwrap();
    let faults = ["--slots", "4", "--service-ms", "5", "--faults", "0.1", "--fault-kinds", "500,no-done"];
    let sim = OllamaSim::start(folder.path(), &faults).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let metrics = format!("127.0.0.1:{port}");
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &sim.url, "--metrics", &metrics];
    let agent = Agent::start(root.to_str().unwrap(), &folder.path().join("work"), &args, &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    let told = jobs.complete(BATCH).await.unwrap().progress.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{metrics}/metrics")).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text().await.unwrap();
    let stats = sim.stats("").await.unwrap();
    assert_eq!(sample(&text, "dgx_agent_requests_total"), stats.now.requests);
    assert_eq!((told.requests, told.retries), (stats.now.requests, sample(&text, "dgx_agent_retries_total")));
    let injected: u64 = stats.faults.values().sum();
    let failures = text.lines().filter(|line| line.starts_with("dgx_agent_request_failures_total{"));
    let failures: u64 = failures.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(failures, injected);
    let of = |outcome| told.outcomes[outcome];
    assert_eq!(sample(&text, "dgx_agent_pages_total{outcome=\"suggested\"}"), of("suggested"));
    assert_eq!(sample(&text, "dgx_agent_jobs{state=\"complete\"}"), 1);
    assert_eq!(sample(&text, "dgx_agent_in_flight"), 0);
    assert!(text.contains("dgx_agent_limit_moves_total{reason=\"no_queue\"}"), "{text}");
    let docs: BTreeSet<_> = pages.iter().filter_map(|page| page.doc_id.clone()).collect();
    assert!(!text.contains(BATCH) && docs.iter().all(|doc| !text.contains(doc.as_str())));
    assert_eq!(client.get(format!("http://{metrics}/")).send().await.unwrap().status(), 404);
}
