//! Double and real, held to one suite: a call that fails, or that the two answer differently, fails.

use std::path::Path;

use e2e::{
    argilla_standin::{ANNOTATOR_KEY, App, OWNER_KEY, serve},
    conformance::{
        Column, argilla, compare,
        ollama::{Launch, Target},
        run, store,
    },
    harness::{OllamaDouble, OllamaSim},
    ollama_double::MODEL,
};

use crate::services::{env, store_env};

fn check(service: &str, columns: &[Column]) {
    let comparison = compare(service, columns);
    // `make live` prints the tables together at its end.
    match std::env::var_os("LIVE_TABLES") {
        Some(folder) => std::fs::write(Path::new(&folder).join(service), &comparison.text).unwrap(),
        // In one write: other tests print beside it.
        None => print!("{}", comparison.text),
    }
    assert!(comparison.wrong.is_empty(), "{service}: {}", comparison.wrong.join("; "));
}

#[tokio::test]
async fn argilla() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = App::open(None).unwrap();
    let search = argilla::Search::Planned(app.faults.clone());
    tokio::spawn(serve(listener, app, std::future::pending()));
    let double = argilla::Target::open(&url, OWNER_KEY, ANNOTATOR_KEY, search).await.unwrap();
    let (url, owner, annotator) =
        (env("ARGILLA_API_URL"), env("ARGILLA_API_KEY"), env("LIVE_ARGILLA_ANNOTATOR_KEY"));
    let search = argilla::Search::At(env("LIVE_OPENSEARCH_URL"));
    let real = argilla::Target::open(&url, &owner, &annotator, search).await.unwrap();
    let cases = argilla::cases();
    check("Argilla", &[run("double", &double, &cases).await, run("real", &real, &cases).await]);
}

#[tokio::test]
async fn object_store() {
    let folder = tempfile::tempdir().unwrap();
    let double = store::Target::folder(folder.path()).unwrap();
    let real = store::Target::s3(&env("LIVE_S3_BUCKET"), store_env()).unwrap();
    let cases = store::cases();
    check("Object store", &[run("folder", &double, &cases).await, run("MinIO", &real, &cases).await]);
}

#[tokio::test]
async fn ollama() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = OllamaDouble::start(folder.path(), &[]).unwrap();
    let work = folder.path().to_owned();
    let double = Target::new(&stand_in.url, MODEL, MODEL, Launch::DOUBLE, work.clone()).unwrap();
    let process = OllamaSim::start(folder.path(), &["--slots", "2", "--service-ms", "5"]).unwrap();
    let simulator = Target::new(&process.url, MODEL, MODEL, Launch::SIMULATOR, work.clone()).unwrap();
    let launch =
        Launch::Real { binary: env("LIVE_OLLAMA_BIN").into(), models: env("LIVE_OLLAMA_MODELS").into() };
    let (tiny, slow) = (env("LIVE_OLLAMA_TINY_MODEL"), env("LIVE_OLLAMA_MODEL"));
    let real = Target::new(&env("OLLAMA_HOST"), &tiny, &slow, launch, work).unwrap();
    let cases = e2e::conformance::ollama::cases();
    let simulated = run("simulator", &simulator, &cases).await;
    check("Ollama", &[run("double", &double, &cases).await, simulated, run("real", &real, &cases).await]);
}
