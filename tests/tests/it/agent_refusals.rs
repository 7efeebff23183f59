//! What the daemon refuses, as a program reads it: code, reason and details, by a client of the contract alone.

use std::fs;

use e2e::{
    agent_jobs::{AgentJobs, write_parts},
    batch_dir::page,
    harness::Agent,
};
use futures::stream;
use proto::{
    grpc::{
        AnnotateOptions, AnnotatePage, AnnotatePagesRequest, CancelBatchRequest, DescribeRequest,
        ListBatchesRequest, SetBatchWeightRequest, SubmitBatchRequest, annotate_pages_request::Message,
    },
    reasons,
};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};

struct Stage {
    folder: TempDir,
    agent: Agent,
    jobs: AgentJobs,
}

impl Stage {
    async fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root").display().to_string();
        fs::create_dir_all(&root).unwrap();
        write_parts(&root, "b", &[&[page("d", 1, "IMO 9074729")]]).await.unwrap();
        let agent = Agent::start(&root, &folder.path().join("work"), args, &[]).unwrap();
        let jobs = AgentJobs::connect(&agent.url).await.unwrap();
        Self { folder, agent, jobs }
    }
}

fn info(status: &Status, code: Code, reason: &str) -> ErrorInfo {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status}"));
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, reasons::DOMAIN));
    info
}

fn field(status: &Status) -> String {
    info(status, Code::InvalidArgument, reasons::BAD_FIELD);
    let mut bad = status.get_details_bad_request().unwrap();
    assert_eq!(bad.field_violations.len(), 1);
    bad.field_violations.remove(0).field
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_to_programs_what_it_says_to_people() {
    let mut stage = Stage::new(&[]).await;
    let root = stage.folder.path().join("root").display().to_string();
    let jobs = &mut stage.jobs;
    let unknown = jobs.get("nobody").await.unwrap_err();
    assert_eq!(info(&unknown, Code::NotFound, reasons::JOB_UNKNOWN).metadata["batch_id"], "nobody");
    assert_eq!(unknown.get_details_resource_info().unwrap().resource_name, "nobody");
    let none = jobs.submit("nobody").await.unwrap_err();
    info(&none, Code::NotFound, reasons::BATCH_NOT_FOUND);

    jobs.submit("b").await.unwrap();
    jobs.complete("b").await.unwrap();
    let cancel = CancelBatchRequest { batch_id: "b".into() };
    let late = jobs.client.cancel_batch(cancel).await.unwrap_err();
    assert_eq!(info(&late, Code::FailedPrecondition, reasons::JOB_STATE).metadata["state"], "complete");
    assert_eq!(late.get_details_precondition_failure().unwrap().violations[0].subject, "b");
    write_parts(&root, "b", &[&[page("another", 1, "IMO 9074729")]]).await.unwrap();
    let other = jobs.submit("b").await.unwrap_err();
    assert_eq!(info(&other, Code::AlreadyExists, reasons::JOB_DIFFERS).metadata["differs"], "pages");

    assert_eq!(field(&jobs.get("Not An Id").await.unwrap_err()), "batch_id");
    assert_eq!(field(&jobs.list(0, "no token").await.unwrap_err()), "page_token");
    let weigh = SetBatchWeightRequest { batch_id: "b".into(), weight: 101 };
    assert_eq!(field(&jobs.client.set_batch_weight(weigh).await.unwrap_err()), "weight");
    let ask = |engine, root_uri: &str| SubmitBatchRequest {
        batch_id: "b".into(),
        engine,
        root_uri: root_uri.into(),
        ..SubmitBatchRequest::default()
    };
    assert_eq!(field(&jobs.ask(ask(99, "")).await.unwrap_err()), "engine");
    assert_eq!(field(&jobs.ask(ask(0, "ftp://x")).await.unwrap_err()), "root_uri");
    let outside = jobs.ask(ask(0, "/elsewhere")).await.unwrap_err();
    info(&outside, Code::PermissionDenied, reasons::ROOT_OUTSIDE);
    assert!(stage.agent.process.is_running().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_limit_is_refused_with_the_limit_and_its_flag() {
    let mut stage = Stage::new(&["--max-page-mib", "1"]).await;
    let limit = (2 << 20).to_string();
    let too_large = |status: &Status| {
        let told = info(status, Code::ResourceExhausted, reasons::MESSAGE_TOO_LARGE).metadata;
        assert_eq!((&told["limit_bytes"], told["flag"].as_str()), (&limit, "--max-page-mib"));
        assert!(told["bytes"].parse::<u64>().unwrap() > 2 << 20);
        assert!(status.message().contains(&limit) && status.message().contains("--max-page-mib"), "{status}");
        assert!(status.get_details_retry_info().is_none(), "another try is no use");
    };
    // One message, and one of a stream.
    let labelset_toml = "#".repeat(3 << 20);
    let described =
        stage.jobs.client.describe(DescribeRequest { labelset_toml, ..DescribeRequest::default() });
    too_large(&described.await.unwrap_err());
    let page =
        AnnotatePage { doc_id: "d".into(), page_num: 1, text: "x".repeat(3 << 20), ..Default::default() };
    let messages = [Message::Options(AnnotateOptions::default()), Message::Page(page)];
    let messages = messages.map(|message| AnnotatePagesRequest { message: Some(message) });
    let mut answers = stage.jobs.client.annotate_pages(stream::iter(messages)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some(), "the provenance");
    too_large(&answers.message().await.unwrap_err());
    // The connection is as good as before.
    stage.jobs.client.list_batches(ListBatchesRequest::default()).await.unwrap();
}
