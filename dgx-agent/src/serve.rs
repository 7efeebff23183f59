//! The daemon: jobs behind a gRPC service, until it is told to end.
//!
//! ```text
//! drain cancelled ─► health NOT_SERVING, no new work ─► the run stops (bounded) ─► watchers are closed ─► the server ends
//! ```
//! The listener, the jobs, the work and the clock come in from outside, so that tests choose them.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use proto::{
    grpc::agent_server::AgentServer,
    store::{Env, RootUri, Store},
};
use tokio::{net::TcpListener, time};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    batch::{AgentId, PATIENCE, Pipeline, Stop},
    clock,
    config::ServeConfig,
    error::Failure,
    grpc::{MAX_ANSWER_BYTES, limits::Limits, service::AgentService},
    jobs::{
        Jobs,
        runner::Runner,
        store::{JobStore, JobStoreError},
        work::{Batches, Work},
    },
    journal::Journal,
    memory, metrics,
};

/// How long clients may take to hear that the server ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Of a request besides the text of a page.
const ENVELOPE_BYTES: usize = 1 << 20;
const MAX_STREAMS: u32 = 1024;
/// Dead clients are found, and watchers keep their way through proxies.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}; pass another --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot write the port file {path}: {source}", path = .path.display())]
    PortFile { path: PathBuf, source: io::Error },
    /// What jobs do cannot be kept: the daemon ends rather than promise it.
    #[error(transparent)]
    Jobs(#[from] JobStoreError),
    #[error("the gRPC server ended: {0}")]
    Server(String),
}

/// What a daemon serves.
pub struct Daemon<W> {
    pub jobs: Arc<Jobs>,
    pub work: Arc<W>,
    pub root: RootUri,
    pub clock: fn() -> DateTime<Utc>,
    /// Batches that run at once.
    pub at_once: usize,
    /// Longest text of a page.
    pub page_bytes: usize,
    /// How long what is under way may take once it drains.
    pub patience: Duration,
    /// Ends what is under way.
    pub now: CancellationToken,
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Server(_) => Self::Job(error.to_string()),
            // Whoever starts it again may find that there is room.
            ServeError::Jobs(ref jobs) if jobs.may_pass() => Self::Unreachable(error.to_string()),
            other => Self::config(other),
        }
    }
}

/// The daemon as it is configured, until it is told to stop.
pub async fn run(config: ServeConfig, env: Env, stop: Stop) -> Result<(), Failure> {
    let Stop { drain, now } = stop;
    let store = Store::open(&config.root, &env)?;
    let root = store.root().clone();
    let keep = config.engine.journal_keep;
    let page_bytes = config.engine.limits.page_bytes;
    let pipeline = Pipeline::new(store, config.engine.labelset()?, config.engine).with_patience(PATIENCE);
    memory::trim();
    let jobs = JobStore::open(&config.state_dir)
        .and_then(|store| Jobs::open(store, drain.clone(), clock::now))
        .map_err(ServeError::from)?;
    let journal = Journal::of(&config.state_dir, keep).await;
    let pipeline = journal.iter().cloned().fold(pipeline, Pipeline::with_journal);
    let pipeline = pipeline.with_identity(AgentId::of(&config.state_dir));
    let (jobs, work) = (Arc::new(jobs), Arc::new(Batches::new(pipeline, env)));
    if let Some(address) = config.metrics {
        let scraped = metrics::serve(listen(address, None).await?, jobs.clone(), drain.clone());
        // It ends with the daemon; a batch does not end for want of it.
        tokio::spawn(async {
            scraped.await.inspect_err(|error| tracing::error!(%error, "no metrics any more"))
        });
    }
    let listener = listen(config.listen, config.port_file.as_deref()).await?;
    let daemon = Daemon {
        jobs,
        work,
        root,
        clock: clock::now,
        at_once: config.jobs,
        page_bytes,
        patience: config.drain_timeout,
        now: now.clone(),
    };
    let served = serve(listener, daemon, drain).await;
    if let Some(journal) = journal {
        journal.close().await;
    }
    served?;
    match now.is_cancelled() {
        true => Err(Failure::Interrupted(
            "interrupted twice: what was under way is dropped, and goes on at the next start".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Listens, and says where once it does.
pub async fn listen(address: SocketAddr, port_file: Option<&Path>) -> Result<TcpListener, ServeError> {
    let wrong = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    if let Some(path) = port_file {
        write_whole(path, &format!("{bound}\n"))
            .map_err(|source| ServeError::PortFile { path: path.to_owned(), source })?;
    }
    tracing::info!(address = %bound, "listening");
    Ok(listener)
}

/// A reader finds the whole text or none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

/// Serves until `drain` is cancelled and what ran then has stopped. `drain` is that of the jobs.
pub async fn serve<W: Work>(
    listener: TcpListener,
    daemon: Daemon<W>,
    drain: CancellationToken,
) -> Result<(), ServeError> {
    let Daemon { jobs, work, root, clock, at_once, page_bytes, patience, now } = daemon;
    let (stopped, closing) = (CancellationToken::new(), CancellationToken::new());
    let service = AgentService::new(jobs.clone(), work.clone(), root, stopped.clone(), clock);
    let streams = service.streams();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::grpc::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Server(error.to_string()))?;
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(Limits(
            AgentServer::new(service)
                .max_decoding_message_size(page_bytes + ENVELOPE_BYTES)
                .max_encoding_message_size(MAX_ANSWER_BYTES),
        ))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            closing.clone().cancelled_owned(),
        );
    let mut server = tokio::spawn(server);
    let runner = Runner { jobs, work, at_once, patience, now: now.clone() };
    let mut runner = tokio::spawn(async move { runner.run().await });

    // Only the first of these is how it should be.
    let (mut ran, mut served) = (None, None);
    tokio::select! {
        () = drain.cancelled() => {}
        run = &mut runner => ran = Some(run),
        end = &mut server => served = Some(end),
    }
    tracing::info!("draining");
    let since = time::Instant::now();
    drain.cancel();
    set_health(&health, ServingStatus::NotServing).await;
    let ran = match ran {
        Some(ran) => ran,
        None => runner.await,
    };
    // What was taken in of pages is told to whoever reads it, as long as it may take.
    streams.close();
    tokio::select! {
        () = streams.wait() => {}
        () = time::sleep_until(since + patience) => {}
        () = now.cancelled() => {}
    }
    stopped.cancel();
    closing.cancel();
    if served.is_none() {
        // Who watches the server's health would hold it for ever.
        let _ = time::timeout(FAREWELL, server).await;
    }
    tracing::info!("drained");
    ran.map_err(|panic| ServeError::Server(format!("the runner of its jobs broke ({panic})")))??;
    match served {
        None => Ok(()),
        Some(Ok(Ok(()))) => Err(ServeError::Server("it takes no connections any more".into())),
        Some(Ok(Err(error))) => Err(ServeError::Server(error.to_string())),
        Some(Err(panic)) => Err(ServeError::Server(panic.to_string())),
    }
}

/// Of the server and of the agent's service alike: they take work together.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", proto::grpc::agent_server::SERVICE_NAME] {
        health.set_service_status(service, status).await;
    }
}

#[cfg(test)]
mod tests;
