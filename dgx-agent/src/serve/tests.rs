//! The daemon in this process, over work that does as a test says, asked by a real client.

use proto::grpc::{self, agent_client::AgentClient};
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};

use super::*;
use crate::{
    health_cmd,
    jobs::fake::{Does, Fake},
};

/// No test waits for this.
const LONG: Duration = Duration::from_secs(600);

struct Running {
    url: String,
    client: AgentClient<Channel>,
    drain: CancellationToken,
    daemon: JoinHandle<Result<(), ServeError>>,
    _folder: tempfile::TempDir,
}

async fn start(does: fn(&str, usize) -> Does, patience: Duration) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let drain = CancellationToken::new();
    let store = JobStore::open(folder.path()).expect("a store");
    let jobs = Arc::new(Jobs::open(store, drain.clone(), crate::clock::now).expect("loaded"));
    let listener = listen("127.0.0.1:0".parse().expect("an address"), None).await.expect("listens");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let daemon = Daemon {
        jobs,
        work: Fake::new(does),
        root: "/data".parse().expect("a root"),
        clock: crate::clock::now,
        at_once: 1,
        page_bytes: 1 << 20,
        patience,
        now: CancellationToken::new(),
    };
    let daemon = tokio::spawn(serve(listener, daemon, drain.clone()));
    let client = AgentClient::connect(url.clone()).await.expect("connected");
    Running { url, client, drain, daemon, _folder: folder }
}

fn submission(batch: &str) -> grpc::SubmitBatchRequest {
    grpc::SubmitBatchRequest { batch_id: batch.into(), ..grpc::SubmitBatchRequest::default() }
}

fn of(batch: &str) -> grpc::WatchBatchRequest {
    grpc::WatchBatchRequest { batch_id: batch.into() }
}

#[tokio::test]
async fn a_drain_stops_the_run_closes_the_watchers_and_ends_the_server() {
    let Running { url, mut client, drain, daemon, _folder } = start(|_, _| Does::Hangs, LONG).await;
    client.submit_batch(submission("a")).await.expect("taken");
    let mut watch = client.watch_batch(of("a")).await.expect("watched").into_inner();
    while watch.message().await.expect("told").expect("more").batch.expect("there").state()
        != grpc::BatchState::Running
    {}
    assert!(health_cmd::ask(&url).await.serving);
    drain.cancel();
    let closed = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(closed.expect_err("closed").code(), Code::Unavailable);
    daemon.await.expect("no panic").expect("no fault");
    assert!(!health_cmd::ask(&url).await.serving);
}

#[tokio::test]
async fn while_it_drains_it_says_so_and_takes_no_work() {
    let Running { url, mut client, drain, daemon, _folder } = start(|_, _| Does::IsDeaf, LONG).await;
    client.submit_batch(submission("a")).await.expect("taken");
    let mut watch = client.watch_batch(of("a")).await.expect("watched").into_inner();
    while watch
        .message()
        .await
        .expect("told")
        .expect("more")
        .batch
        .expect("there")
        .progress
        .expect("there")
        .parts
        == 0
    {}
    drain.cancel();
    // The run does not stop, so the daemon is still there.
    let refused = client.submit_batch(submission("b")).await.expect_err("drains");
    assert_eq!(refused.code(), Code::Unavailable);
    // Said a moment after the drain begins.
    let health = loop {
        let health = health_cmd::ask(&url).await;
        if !health.serving {
            break health;
        }
    };
    assert_eq!(health.status, "draining");
    daemon.abort();
}

#[tokio::test]
async fn what_clients_get_wrong_has_a_code_and_a_sentence() {
    let Running { mut client, .. } = start(|_, _| Does::Completes, LONG).await;
    let root = |root: &str| grpc::SubmitBatchRequest { root_uri: root.into(), ..submission("a") };
    for (request, code, words) in [
        (submission("../a"), Code::InvalidArgument, "../a"),
        (submission("none"), Code::NotFound, "batch none"),
        (root("/elsewhere"), Code::PermissionDenied, "/elsewhere"),
        (root("ftp://x/y"), Code::InvalidArgument, "ftp://x/y"),
        (grpc::SubmitBatchRequest { engine: 9, ..submission("a") }, Code::InvalidArgument, "engine 9"),
    ] {
        let status = client.submit_batch(request).await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let unknown = client.watch_batch(of("b")).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let token = grpc::ListBatchesRequest { page_token: "x".into(), ..grpc::ListBatchesRequest::default() };
    assert_eq!(client.list_batches(token).await.expect_err("no token").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_port_file_says_where_it_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("port");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = listen(any, Some(&file)).await.expect("listens");
    let bound = listener.local_addr().expect("bound");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), format!("{bound}\n"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");

    let taken = listen(bound, None).await.expect_err("taken").to_string();
    assert!(taken.contains(&bound.to_string()) && taken.contains("--listen"), "{taken}");
    let nowhere = listen(any, Some(&folder.path().join("none/port"))).await.expect_err("no folder");
    assert!(nowhere.to_string().contains("none/port"), "{nowhere}");
}
