//! Batches as a producer that only knows the agent leaves them, the jobs of a running agent, and what it made of a
//! batch in a form that two runs can be compared by.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use chrono::DateTime;
use proto::{
    docs::{CommitRecord, Manifest},
    grpc::{
        Batch, BatchState, CancelBatchRequest, GetBatchRequest, ListBatchesRequest, RetryBatchRequest,
        SubmitBatchRequest, WatchBatchRequest, agent_client::AgentClient,
    },
    ids::BatchId,
    keys::{self, BatchKeys, PartKind},
    parquet_io::{encode, read_all},
    rows::{BatchPage, LedgerRow, Row, Suggestion},
    store::{Env, Store},
};
use tonic::{Status, transport::Channel};

use crate::corpus::examples;

/// Far above what a job takes on a loaded machine; reached only when something is broken.
const DEADLINE: Duration = Duration::from_secs(90);

/// The pages of the committed corpus, the newest run of each document, sorted by key.
pub async fn example_pages() -> Result<Vec<BatchPage>> {
    let root = examples();
    let store = Store::open(root.to_str().context("the checkout's path is UTF-8")?, &Env::new())?;
    let mut newest = BTreeMap::new();
    for object in store.list_sorted(keys::RAW_PAGES).await? {
        // Raw pages have the columns of a batch's pages among theirs.
        for page in read_all::<BatchPage>(&store, &object.key).await? {
            let key = (page.doc_id.clone(), page.page_num);
            if newest.get(&key).is_none_or(|other: &BatchPage| other.run_id < page.run_id) {
                newest.insert(key, page);
            }
        }
    }
    Ok(newest.into_values().collect())
}

/// Writes a batch without a `_batch.json`: each slice is a part.
pub async fn write_parts(root: &str, batch: &str, parts: &[&[BatchPage]]) -> Result<()> {
    let (store, keys) = (Store::open(root, &Env::new())?, BatchKeys::new(&batch.parse()?));
    for (number, pages) in (0..).zip(parts) {
        store.put(&keys.part(PartKind::Pages, number), encode(pages)?).await?;
    }
    Ok(())
}

/// All that the agent made of a batch, less what differs between two equal runs: when, how often, how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub suggestions: Vec<Suggestion>,
    pub ledger: Vec<LedgerRow>,
    pub manifest: Option<Manifest>,
}

impl Made {
    /// Reads every part that is there, whether committed or not.
    pub async fn read(root: &str, batch: &str) -> Result<Self> {
        let (store, keys) = (Store::open(root, &Env::new())?, BatchKeys::new(&batch.parse()?));
        let mut suggestions: Vec<Suggestion> = rows(&store, &keys, PartKind::Suggestions).await?;
        let mut ledger: Vec<LedgerRow> = rows(&store, &keys, PartKind::Ledger).await?;
        for row in &mut suggestions {
            row.generated_at = DateTime::UNIX_EPOCH;
        }
        for row in &mut ledger {
            (row.attempts, row.latency_ms) = (0, 0);
        }
        let manifest = store.get_opt(&keys.manifest()).await?;
        let manifest = manifest.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
        Ok(Self { suggestions, ledger, manifest })
    }
}

async fn rows<R: Row>(store: &Store, keys: &BatchKeys, kind: PartKind) -> Result<Vec<R>> {
    let mut all = Vec::new();
    for object in store.list_sorted(&keys.parts(kind)).await? {
        all.extend(read_all::<R>(store, &object.key).await?);
    }
    Ok(all)
}

/// The commit records of a batch, by part.
pub async fn commits(root: &str, batch: &str) -> Result<Vec<CommitRecord>> {
    let (store, keys) = (Store::open(root, &Env::new())?, BatchKeys::new(&batch.parse::<BatchId>()?));
    let mut commits = Vec::new();
    for object in store.list_sorted(&keys.parts(PartKind::Commits)).await? {
        commits.push(serde_json::from_slice(&store.get(&object.key).await?)?);
    }
    Ok(commits)
}

/// The jobs of an agent, by a client of the contract alone.
#[derive(Debug, Clone)]
pub struct AgentJobs {
    pub client: AgentClient<Channel>,
}

impl AgentJobs {
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self { client: AgentClient::connect(url.to_owned()).await? })
    }

    /// The job, and whether it is new.
    pub async fn submit(&mut self, batch: &str) -> Result<(Batch, bool), Status> {
        self.ask(SubmitBatchRequest { batch_id: batch.into(), ..SubmitBatchRequest::default() }).await
    }

    pub async fn ask(&mut self, request: SubmitBatchRequest) -> Result<(Batch, bool), Status> {
        let answer = self.client.submit_batch(request).await?.into_inner();
        Ok((answer.batch.unwrap_or_default(), answer.created))
    }

    pub async fn get(&mut self, batch: &str) -> Result<Batch, Status> {
        let answer = self.client.get_batch(GetBatchRequest { batch_id: batch.into() }).await?;
        Ok(answer.into_inner().batch.unwrap_or_default())
    }

    pub async fn cancel(&mut self, batch: &str) -> Result<Batch, Status> {
        let answer = self.client.cancel_batch(CancelBatchRequest { batch_id: batch.into() }).await?;
        Ok(answer.into_inner().batch.unwrap_or_default())
    }

    pub async fn retry(&mut self, batch: &str) -> Result<Batch, Status> {
        let answer =
            self.client.retry_batch(RetryBatchRequest { batch_id: batch.into(), lost_files: false }).await?;
        Ok(answer.into_inner().batch.unwrap_or_default())
    }

    /// A page of the list: the batch ids, and the token of the next page.
    pub async fn list(&mut self, page_size: u32, page_token: &str) -> Result<(Vec<String>, String), Status> {
        let request = ListBatchesRequest { page_size, page_token: page_token.into() };
        let answer = self.client.list_batches(request).await?.into_inner();
        Ok((answer.batches.into_iter().map(|batch| batch.batch_id).collect(), answer.next_page_token))
    }

    /// Watches until the job is as asked, or the watch or the patience ends.
    pub async fn until(&mut self, batch: &str, what: impl Fn(&Batch) -> bool) -> Result<Batch> {
        let mut last = None;
        let found = tokio::time::timeout(DEADLINE, async {
            let mut watch =
                self.client.watch_batch(WatchBatchRequest { batch_id: batch.into() }).await?.into_inner();
            while let Some(told) = watch.message().await? {
                let job = told.batch.unwrap_or_default();
                if what(&job) {
                    return Ok::<_, Status>(Some(job));
                }
                last = Some(job);
            }
            Ok(None)
        });
        match found.await {
            Ok(Ok(Some(job))) => Ok(job),
            Ok(Ok(None)) => bail!("the watch of {batch} ended with {last:?}"),
            Ok(Err(status)) => bail!("the watch of {batch} broke: {status}; last: {last:?}"),
            Err(_) => Err(anyhow!("{batch} did not get there within {DEADLINE:?}: {last:?}")),
        }
    }

    /// The job in its final state.
    pub async fn ended(&mut self, batch: &str) -> Result<Batch> {
        let is_final =
            |state| matches!(state, BatchState::Complete | BatchState::Failed | BatchState::Cancelled);
        self.until(batch, |job| is_final(job.state())).await
    }

    /// Watches until the job is complete.
    pub async fn complete(&mut self, batch: &str) -> Result<Batch> {
        let job = self.ended(batch).await?;
        match job.state() {
            BatchState::Complete => Ok(job),
            state => bail!("{batch} ended as {}: {}", state.as_str_name(), job.reason),
        }
    }
}
