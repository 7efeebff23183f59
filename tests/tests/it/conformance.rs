//! The doubles pass the suites that the real services pass (`make live` runs both and compares).

use e2e::{
    argilla_standin::{ANNOTATOR_KEY, App, OWNER_KEY, serve},
    conformance::{Column, argilla, compare, ollama, run, store},
    harness::{OllamaDouble, OllamaSim},
    ollama_double::MODEL,
};

fn check(service: &str, column: Column) {
    let comparison = compare(service, &[column]);
    assert!(comparison.wrong.is_empty(), "{}", comparison.text);
}

#[tokio::test]
async fn the_argilla_stand_in_conforms() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = App::open(None).unwrap();
    let search = argilla::Search::Planned(app.faults.clone());
    tokio::spawn(serve(listener, app, std::future::pending()));
    let target = argilla::Target::open(&url, OWNER_KEY, ANNOTATOR_KEY, search).await.unwrap();
    check("Argilla", run("double", &target, &argilla::cases()).await);
}

#[tokio::test]
async fn a_folder_conforms_as_an_object_store() {
    let folder = tempfile::tempdir().unwrap();
    let target = store::Target::folder(folder.path()).unwrap();
    check("Object store", run("folder", &target, &store::cases()).await);
}

#[tokio::test]
async fn the_ollama_double_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let double = OllamaDouble::start(folder.path(), &[]).unwrap();
    let work = folder.path().to_owned();
    let target = ollama::Target::new(&double.url, MODEL, MODEL, ollama::Launch::DOUBLE, work).unwrap();
    check("Ollama", run("double", &target, &ollama::cases()).await);
}

#[tokio::test]
async fn the_ollama_simulator_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = OllamaSim::start(folder.path(), &["--slots", "2", "--service-ms", "5"]).unwrap();
    let work = folder.path().to_owned();
    let target = ollama::Target::new(&simulator.url, MODEL, MODEL, ollama::Launch::SIMULATOR, work).unwrap();
    check("Ollama", run("simulator", &target, &ollama::cases()).await);
}
