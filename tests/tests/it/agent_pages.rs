//! `AnnotatePages` as its callers meet it: one outcome a page, held up where they must be, and gone when they go. And many
//! callers at once, with flat memory.

use std::{fs, time::Duration};

use e2e::{
    agent_jobs::{AgentJobs, write_parts},
    batch_dir::page,
    harness::{Agent, OllamaSim},
    ollama_double::MODEL,
    ollama_sim::Stats,
};
use futures::{StreamExt, future, stream};
use proto::{
    grpc::{
        AnnotateOptions, AnnotatePage, AnnotatePagesRequest, AnnotatePagesResponse, PageOutcome,
        WatchBatchRequest, agent_client::AgentClient, annotate_pages_request, annotate_pages_response,
    },
    reasons,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Request, Status, Streaming, transport::Endpoint};
use tonic_types::StatusExt;

struct Stage {
    folder: TempDir,
    simulator: Option<OllamaSim>,
}

impl Stage {
    fn new(simulator: Option<&[&str]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulator = simulator.map(|args| OllamaSim::start(&folder.path().join("sim"), args).unwrap());
        Self { simulator, folder }
    }

    fn root(&self) -> String {
        self.folder.path().join("root").display().to_string()
    }

    async fn agent(&self, more: &[&str]) -> (Agent, AgentJobs) {
        fs::create_dir_all(self.root()).unwrap();
        let mut args = more.to_vec();
        if let Some(simulator) = &self.simulator {
            args.extend(["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url]);
        }
        let agent = Agent::start(&self.root(), &self.folder.path().join("work"), &args, &[]).unwrap();
        let jobs = AgentJobs::connect(&agent.url).await.unwrap();
        (agent, jobs)
    }

    async fn until(&self, what: impl Fn(&Stats) -> bool) -> Stats {
        for _ in 0..6000 {
            let stats = self.simulator.as_ref().unwrap().stats("").await.unwrap();
            if what(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the simulator did not get there");
    }
}

fn options() -> AnnotatePagesRequest {
    let options = AnnotateOptions::default();
    AnnotatePagesRequest { message: Some(annotate_pages_request::Message::Options(options)) }
}

fn asked(number: i32, text: &str) -> AnnotatePagesRequest {
    let page =
        AnnotatePage { doc_id: "d".into(), page_num: number, text: text.into(), ..AnnotatePage::default() };
    AnnotatePagesRequest { message: Some(annotate_pages_request::Message::Page(page)) }
}

fn imo(number: i32) -> AnnotatePagesRequest {
    asked(number, &format!("Sheet {number}: IMO 9074729"))
}

/// All that comes, and how it ends.
async fn all(mut answers: Streaming<AnnotatePagesResponse>) -> (Vec<PageOutcome>, Result<(), Status>) {
    let mut outcomes = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => match answer.message {
                Some(annotate_pages_response::Message::Outcome(outcome)) => outcomes.push(outcome),
                other => assert!(other.is_some() && outcomes.is_empty(), "the provenance comes first"),
            },
            Ok(None) => return (outcomes, Ok(())),
            Err(status) => return (outcomes, Err(status)),
        }
    }
}

fn resident_mebibytes(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_has_one_outcome_and_what_is_wrong_is_named() {
    let stage = Stage::new(None);
    let (_agent, mut jobs) = stage.agent(&["--max-page-mib", "1"]).await;
    let mut pages: Vec<_> = (1..=500).map(imo).collect();
    pages.push(asked(501, " \n"));
    pages.push(asked(502, &"x".repeat((1 << 20) + 1)));
    let wrong = AnnotatePage {
        doc_id: "d".into(),
        page_num: 503,
        text: "IMO 9074729".into(),
        text_sha256: "0".repeat(64),
        run_id: Some(7),
    };
    pages.push(AnnotatePagesRequest { message: Some(annotate_pages_request::Message::Page(wrong)) });
    pages.push(asked(0, "IMO 9074729"));
    let sent = stream::iter([options()].into_iter().chain(pages));
    let (mut outcomes, ended) = all(jobs.client.annotate_pages(sent).await.unwrap().into_inner()).await;
    ended.unwrap();
    outcomes.sort_by_key(|outcome| outcome.page_num);
    assert_eq!(outcomes.iter().map(|o| o.page_num).collect::<Vec<_>>(), (0..=503).collect::<Vec<_>>());
    let told = |number: usize| (outcomes[number].outcome.as_str(), outcomes[number].reason.as_str());
    assert_eq!(told(0), ("skipped", "invalid_page_num"));
    assert_eq!(told(501), ("empty", "blank_text"));
    assert_eq!(told(502), ("failed", "page_too_large"));
    assert_eq!((told(503), outcomes[503].run_id), (("skipped", "hash_mismatch"), Some(7)));
    for outcome in &outcomes[1..=500] {
        assert_eq!(outcome.outcome, "suggested");
        let text = format!("Sheet {}: IMO 9074729", outcome.page_num);
        for span in &outcome.spans {
            let place: String =
                text.chars().skip(span.start as usize).take((span.end - span.start) as usize).collect();
            assert_eq!(place, span.text);
        }
    }

    let refused = |sent: Vec<AnnotatePagesRequest>| {
        let mut jobs = jobs.clone();
        async move {
            all(jobs.client.annotate_pages(stream::iter(sent)).await.unwrap().into_inner())
                .await
                .1
                .unwrap_err()
        }
    };
    let status = refused(vec![imo(1)]).await;
    assert!(status.code() == Code::InvalidArgument && status.message().contains("options"), "{status}");
    let status = refused(vec![options(), options()]).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = refused(vec![options(), asked(1, &"x".repeat(3 << 20))]).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("--max-page-mib"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_is_held_up_and_holds_up_nobody() {
    let stage = Stage::new(Some(&["--slots", "4"]));
    let (agent, mut jobs) = stage.agent(&["--concurrency", "4"]).await;
    let (send, receive) = mpsc::channel(1);
    let text = "a line without a mention\n".repeat(50);
    let writer = tokio::spawn(async move {
        send.send(options()).await.unwrap();
        let mut sent = 0;
        while send.send(asked(sent + 1, &format!("{}: IMO 9074729\n{text}", sent + 1))).await.is_ok() {
            sent += 1;
            if sent == 50_000 {
                return sent;
            }
        }
        sent
    });
    let requests = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    // Headers come, and nothing is read after them.
    let small = Endpoint::from_shared(agent.url.clone()).unwrap().initial_stream_window_size(65_535);
    let mut client = AgentClient::new(small.connect().await.unwrap());
    let answers = client.annotate_pages(requests).await.unwrap().into_inner();
    // It goes on until it is held up: as many as fit into windows and among those under way.
    let mut last = (0, 0);
    for _ in 0..600 {
        let requests = stage.until(|_| true).await.now.requests;
        last = if requests == last.0 { (requests, last.1 + 1) } else { (requests, 0) };
        if last.1 > 50 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last.1 > 50 && !writer.is_finished(), "it is held up");
    let memory = resident_mebibytes(agent.process.id());
    println!("held up after {} requests; {memory:.0} MiB", last.0);
    assert!(memory < 150.0, "{memory} MiB");

    // It holds no slot: others are served.
    let pages: Vec<_> =
        (1..=50).map(|number| page("job", number, &format!("{number}: IMO 9074729"))).collect();
    write_parts(&stage.root(), "job", &[&pages]).await.unwrap();
    jobs.submit("job").await.unwrap();
    jobs.complete("job").await.unwrap();
    writer.abort();
    drop(answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_and_a_deadline_that_passes_end_at_the_model_server() {
    let stage = Stage::new(Some(&["--slots", "4", "--service-ms", "5000"]));
    let (_agent, mut jobs) = stage.agent(&["--concurrency", "4"]).await;
    // The first request of a stream shows that the server is well: it goes alone.
    let endless = || stream::iter([options(), imo(1), imo(2)]).chain(stream::pending());
    // tonic's client resets a stream when both its sides are dropped.
    let (go, gone) = oneshot::channel::<()>();
    let answers = jobs.client.annotate_pages(endless().take_until(gone)).await.unwrap().into_inner();
    stage.until(|stats| stats.in_flight > 0).await;
    drop(answers);
    drop(go);
    let gone = stage.until(|stats| stats.in_flight == 0).await;
    assert!(gone.disconnects > 0, "{gone:?}");

    let mut request = Request::new(endless());
    request.set_timeout(Duration::from_millis(500));
    let answers = jobs.client.annotate_pages(request).await.unwrap().into_inner();
    let (outcomes, ended) = all(answers).await;
    let status = ended.unwrap_err();
    assert!(
        outcomes.is_empty() && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
    let overdue = stage.until(|stats| stats.in_flight == 0 && stats.disconnects > gone.disconnects).await;
    assert!(overdue.disconnects > gone.disconnects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_changes_under_a_stream_ends_it_and_no_outcome_is_of_the_other() {
    let stage = Stage::new(Some(&["--slots", "2", "--service-ms", "5", "--pull-again-after", "40"]));
    let (_agent, mut jobs) = stage.agent(&["--concurrency", "2"]).await;
    let sent = stream::iter([options()].into_iter().chain((1..=200).map(imo)));
    let answers = jobs.client.annotate_pages(sent).await.unwrap().into_inner();
    let (outcomes, ended) = all(answers).await;
    let status = ended.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, reasons::BATCH_CHANGED);
    assert!((1..=40).contains(&outcomes.len()), "{}", outcomes.len());
    // The others, on a stream that begins with the new one.
    let sent = stream::iter([options()].into_iter().chain((1..=20).map(imo)));
    let (outcomes, ended) = all(jobs.client.annotate_pages(sent).await.unwrap().into_inner()).await;
    ended.unwrap();
    assert_eq!(outcomes.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_the_same_pages_at_once_share_their_requests() {
    let stage = Stage::new(Some(&["--slots", "4", "--service-ms", "30"]));
    let (_agent, jobs) = stage.agent(&["--concurrency", "4"]).await;
    let caller = |_| {
        let mut jobs = jobs.clone();
        async move {
            let sent = stream::iter([options()].into_iter().chain((1..=20).map(imo)));
            let answers = jobs.client.annotate_pages(sent).await.unwrap().into_inner();
            let (outcomes, ended) = all(answers).await;
            ended.unwrap();
            assert!(outcomes.len() == 20 && outcomes.iter().all(|outcome| !outcome.spans.is_empty()));
            outcomes.iter().map(|outcome| u64::from(outcome.attempts)).sum::<u64>()
        }
    };
    let spent: u64 = future::join_all((0..5).map(caller)).await.into_iter().sum();
    let asked = stage.until(|_| true).await.now.requests;
    assert_eq!(spent, 20, "each page was asked about once");
    assert!(asked <= 20 + 5, "{asked}: and each caller once to see that all is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_what_was_taken_in_and_takes_nothing_more() {
    let stage = Stage::new(Some(&["--slots", "4", "--service-ms", "300"]));
    let (mut agent, mut jobs) = stage.agent(&["--concurrency", "4"]).await;
    let endless = stream::iter([options()].into_iter().chain((1..=6).map(imo))).chain(stream::pending());
    let answers = jobs.client.annotate_pages(endless).await.unwrap().into_inner();
    stage.until(|stats| stats.in_flight > 1).await;
    agent.process.terminate().unwrap();
    let (outcomes, ended) = all(answers).await;
    let status = ended.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(outcomes.len(), 6, "{status}");
    assert!(agent.process.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_and_a_thousand_watches_cost_little_memory() {
    let stage = Stage::new(Some(&["--slots", "8"]));
    let (agent, mut jobs) = stage.agent(&["--concurrency", "8"]).await;
    let pages: Vec<_> =
        (1..=500).map(|number| page("job", number, &format!("{number}: IMO 9074729"))).collect();
    let parts: Vec<_> = pages.chunks(200).collect();
    write_parts(&stage.root(), "job", &parts).await.unwrap();
    let idle = resident_mebibytes(agent.process.id());

    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(AgentClient::connect(agent.url.clone()).await.unwrap());
    }
    // A paused job is watched for as long as it takes, and told of when it goes on.
    jobs.submit("job").await.unwrap();
    let request = proto::grpc::PauseBatchRequest { batch_id: "job".into() };
    jobs.client.pause_batch(request).await.unwrap();
    let mut watches = Vec::new();
    for number in 0..1000 {
        let request = WatchBatchRequest { batch_id: "job".into() };
        let mut watch = clients[number % 100].watch_batch(request).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        watches.push(watch);
    }
    let watched = resident_mebibytes(agent.process.id());
    let streams = (0..100).zip(&clients).map(|(number, client)| {
        let mut client = client.clone();
        async move {
            let pages: Vec<_> = [options()]
                .into_iter()
                .chain((1..=20).map(|page| asked(page, &format!("{number} {page}: IMO 9074729"))))
                .collect();
            let answers = client.annotate_pages(stream::iter(pages)).await.unwrap().into_inner();
            let (outcomes, ended) = all(answers).await;
            ended.unwrap();
            outcomes.len()
        }
    });
    let outcomes = future::join_all(streams).await;
    assert!(outcomes.iter().all(|count| *count == 20), "{outcomes:?}");
    let annotated = resident_mebibytes(agent.process.id());

    let request = proto::grpc::ResumeBatchRequest { batch_id: "job".into() };
    jobs.client.resume_batch(request).await.unwrap();
    let ends = watches.into_iter().map(|mut watch| async move {
        let mut last = None;
        while let Some(told) = watch.message().await.unwrap() {
            last = told.batch.map(|job| job.state());
        }
        last
    });
    let ends = future::join_all(ends).await;
    assert!(
        ends.iter().all(|end| *end == Some(proto::grpc::BatchState::Complete)),
        "every watch saw the end"
    );
    let after = resident_mebibytes(agent.process.id());
    println!(
        "MiB: idle {idle:.0}, 1000 watches {watched:.0}, 100 callers with 20 pages each {annotated:.0}, after {after:.0}"
    );
    assert!(watched - idle < 40.0 && annotated < 150.0 && after < 150.0);
}
