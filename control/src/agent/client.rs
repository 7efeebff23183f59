//! Calls to the agent. Credentials go with every call and into no message.

use std::time::{Duration, Instant};

use proto::{
    grpc::{
        Batch, BatchState, CancelBatchRequest, DeleteBatchRequest, DescribeRequest, DescribeResponse,
        GetBatchRequest, ListBatchesRequest, PauseBatchRequest, ResumeBatchRequest, RetryBatchRequest,
        SetBatchWeightRequest, SubmitBatchRequest, WatchBatchRequest, agent_client::AgentClient,
    },
    ids::BatchId,
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    env,
    failure::Failure,
    redact,
    settings::{Access, AgentSettings, Secret, Settings},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Describe may load a model's facts; everything else is a look-up.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a watch waits for an agent that has gone away: it restarts in seconds.
const AWAY: Duration = Duration::from_secs(60);
const AWAY_PAUSE: Duration = Duration::from_secs(1);
const JOBS_A_PAGE: u32 = 1000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Config(Failure),
    #[error(
        "the agent at {url} does not answer ({cause}): start `dgx-agent serve` there, or set --agent or {}",
        env::AGENT_URL
    )]
    Away { url: String, cause: String },
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Config(failure) => failure,
            ConnectError::Away { .. } => Self::unreachable(error),
        }
    }
}

/// Whether a job is in a state that it stays in until somebody asks otherwise.
pub fn has_ended(state: BatchState) -> bool {
    matches!(state, BatchState::Complete | BatchState::Failed | BatchState::Cancelled)
}

/// A connection to the agent.
pub struct Agent {
    client: AgentClient<InterceptedService<Channel, Credentials>>,
    health: HealthClient<InterceptedService<Channel, Credentials>>,
    url: String,
}

impl Agent {
    /// Connects, so that an agent that is not there is told by its URL.
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let url = redact::url(&settings.agent.url);
        let credentials = Credentials::of(settings).map_err(ConnectError::Config)?;
        let channel = channel(&settings.agent, &url).await?;
        let health = HealthClient::with_interceptor(channel.clone(), credentials.clone());
        Ok(Self { client: AgentClient::with_interceptor(channel, credentials), health, url })
    }

    /// Whether it takes work: false while it drains.
    pub async fn serves(&mut self) -> Result<bool, Status> {
        let answer = self.health.check(timed(HealthCheckRequest::default())).await?.into_inner();
        Ok(answer.status() == ServingStatus::Serving)
    }

    pub async fn describe(&mut self, request: DescribeRequest) -> Result<DescribeResponse, Status> {
        Ok(self.client.describe(timed(request)).await?.into_inner())
    }

    /// The job, and whether this call made it.
    pub async fn submit(&mut self, request: SubmitBatchRequest) -> Result<(Batch, bool), Failure> {
        let answer = self.client.submit_batch(timed(request)).await?.into_inner();
        Ok((some(answer.batch)?, answer.created))
    }

    pub async fn get(&mut self, batch: &BatchId) -> Result<Batch, Failure> {
        let request = GetBatchRequest { batch_id: batch.to_string() };
        some(self.client.get_batch(timed(request)).await?.into_inner().batch)
    }

    /// None where there is no job for the batch.
    pub async fn find(&mut self, batch: &BatchId) -> Result<Option<Batch>, Failure> {
        let request = GetBatchRequest { batch_id: batch.to_string() };
        match self.client.get_batch(timed(request)).await {
            Ok(answer) => Ok(answer.into_inner().batch),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Every job, newest first.
    pub async fn list(&mut self) -> Result<Vec<Batch>, Failure> {
        let (mut jobs, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListBatchesRequest { page_size: JOBS_A_PAGE, page_token };
            let page = self.client.list_batches(timed(request)).await?.into_inner();
            jobs.extend(page.batches);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(jobs);
            }
        }
    }

    pub async fn cancel(&mut self, batch: &BatchId) -> Result<Batch, Failure> {
        let request = CancelBatchRequest { batch_id: batch.to_string() };
        some(self.client.cancel_batch(timed(request)).await?.into_inner().batch)
    }

    /// `lost_files`: of a complete one, too, what got lost of it.
    pub async fn retry(&mut self, batch: &BatchId, lost_files: bool) -> Result<Batch, Failure> {
        let request = RetryBatchRequest { batch_id: batch.to_string(), lost_files };
        some(self.client.retry_batch(timed(request)).await?.into_inner().batch)
    }

    pub async fn pause(&mut self, batch: &BatchId) -> Result<Batch, Failure> {
        let request = PauseBatchRequest { batch_id: batch.to_string() };
        some(self.client.pause_batch(timed(request)).await?.into_inner().batch)
    }

    pub async fn resume(&mut self, batch: &BatchId) -> Result<Batch, Failure> {
        let request = ResumeBatchRequest { batch_id: batch.to_string() };
        some(self.client.resume_batch(timed(request)).await?.into_inner().batch)
    }

    pub async fn weigh(&mut self, batch: &BatchId, weight: u32) -> Result<Batch, Failure> {
        let request = SetBatchWeightRequest { batch_id: batch.to_string(), weight };
        some(self.client.set_batch_weight(timed(request)).await?.into_inner().batch)
    }

    /// Forgets a job that has ended; whether there was one.
    pub async fn delete(&mut self, batch: &BatchId) -> Result<bool, Failure> {
        let request = DeleteBatchRequest { batch_id: batch.to_string() };
        match self.client.delete_batch(timed(request)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    /// Tells every state of a job to `seen` until a final one, which it gives back. An agent that goes away
    /// meanwhile is waited for: the job is durable.
    pub async fn watch(
        &mut self,
        batch: &BatchId,
        mut seen: impl FnMut(Sight<'_>),
    ) -> Result<Batch, Failure> {
        let mut away: Option<Instant> = None;
        loop {
            let broke = match self
                .follow(batch, &mut |state| {
                    away = None;
                    seen(Sight::Job(state));
                })
                .await
            {
                Ok(last) => return Ok(last),
                Err(status) if status.code() == Code::Unavailable => status,
                Err(status) => return Err(status.into()),
            };
            let since = *away.get_or_insert_with(Instant::now);
            if since.elapsed() > AWAY {
                return Err(Failure::unreachable(format!(
                    "the agent at {} has been away for {} s ({}); the job is durable: start the agent, then watch again",
                    self.url,
                    AWAY.as_secs(),
                    broke.message()
                )));
            }
            seen(Sight::Away);
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    async fn follow(&mut self, batch: &BatchId, seen: &mut impl FnMut(&Batch)) -> Result<Batch, Status> {
        let request = WatchBatchRequest { batch_id: batch.to_string() };
        let mut states = self.client.watch_batch(request).await?.into_inner();
        while let Some(answer) = states.message().await? {
            let Some(job) = answer.batch else { continue };
            seen(&job);
            if has_ended(job.state()) {
                return Ok(job);
            }
        }
        Err(Status::unavailable("the stream ended before the job did"))
    }
}

/// What a watch sees.
pub enum Sight<'a> {
    Job(&'a Batch),
    /// The agent does not answer; it is asked again.
    Away,
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn some(batch: Option<Batch>) -> Result<Batch, Failure> {
    batch.ok_or_else(|| Failure::data("the agent answered without a batch: is it of another version?"))
}

async fn channel(settings: &AgentSettings, url: &str) -> Result<Channel, ConnectError> {
    let wrong = |why: &dyn std::fmt::Display| {
        ConnectError::Config(Failure::config(format!(
            "{url:?} is no agent URL ({why}): set --agent or {}, e.g. http://127.0.0.1:50051",
            env::AGENT_URL
        )))
    };
    let mut endpoint = Endpoint::from_shared(settings.url.clone()).map_err(|error| wrong(&error))?;
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        Some("https") => {
            let mut tls = ClientTlsConfig::new().with_webpki_roots();
            if let Some(path) = &settings.ca {
                let pem = std::fs::read(path)
                    .map_err(|error| ConnectError::Config(Failure::file("read", path, &error)))?;
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
        }
        _ => return Err(wrong(&"the scheme is not http or https")),
    }
    let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
    connected.map_err(|error| ConnectError::Away { url: url.to_owned(), cause: innermost(&error) })
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Headers of every call.
#[derive(Clone)]
struct Credentials(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Credentials {
    fn of(settings: &Settings) -> Result<Self, Failure> {
        let mut headers = Vec::new();
        if let Some(token) = &settings.agent.token {
            headers.push(("authorization", value(env::AGENT_TOKEN, &format!("Bearer {}", token.expose()))?));
        }
        if let Some(Access { id, secret }) = &settings.access {
            let plain = |name, secret: &Secret| value(name, secret.expose());
            headers.push(("cf-access-client-id", plain(env::ACCESS_ID, id)?));
            headers.push(("cf-access-client-secret", plain(env::ACCESS_SECRET, secret)?));
        }
        Ok(Self(headers))
    }
}

fn value(name: &str, text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| {
        Failure::config(format!("{name} holds a character that no header takes: copy it again"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}
