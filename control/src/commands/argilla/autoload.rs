//! `argilla autoload`: finds merged batches under the root and pushes each content once.
//!
//! ```text
//! list argilla/in ─► ingest log: what is new, what is open ─► lease ─► push (heartbeat beside it) ─► ingested | failed
//! ```
//! The lake is open for single transactions only, never during a push. A batch that fails by its own fault does
//! not keep the others; where Argilla, the lake or the configuration fails, the rest would too, and waits for the
//! next look.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use proto::{
    ids::BatchId,
    keys::{ARGILLA_IN, BatchFile, BatchKeys, batch_of},
    store::Object,
};
use serde::Serialize;

use super::{
    batch::MergedBatch,
    connect,
    ingest_log::{FileKey, IngestLog, Lease, Standing, lost},
    sync::Pushed,
};
use crate::{
    argilla::client::Client,
    batch,
    cli::AutoloadArgs,
    ctx::Ctx,
    failure::Failure,
    lake::Lake,
    printer::Answer,
    report::{seconds, table},
};

/// What one look did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AutoloadReport {
    /// Batches that are merged, in the order of their ids.
    pub batches: Vec<LoadedBatch>,
    pub seconds: f64,
    #[serde(skip)]
    failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadedBatch {
    pub batch: BatchId,
    pub dataset: String,
    pub object_uri: String,
    pub outcome: LoadOutcome,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadOutcome {
    /// By this look.
    Ingested,
    /// By an earlier one.
    AlreadyIngested,
    /// Another worker is at it.
    Held,
    Failed,
    /// Left for the next look.
    Waiting,
}

impl LoadOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ingested => "ingested",
            Self::AlreadyIngested => "already ingested",
            Self::Held => "held by another",
            Self::Failed => "FAILED",
            Self::Waiting => "waiting",
        }
    }
}

impl Answer for AutoloadReport {
    fn text(&self) -> String {
        if self.batches.is_empty() {
            return "no merged batch is there\n".to_owned();
        }
        let row = |loaded: &LoadedBatch| {
            vec![loaded.dataset.clone(), loaded.outcome.as_str().to_owned(), loaded.message.clone()]
        };
        table(&["dataset", "", ""], &[], self.batches.iter().map(row))
    }

    fn failure(&self) -> Option<Failure> {
        self.failure.clone()
    }
}

pub async fn autoload(ctx: &Ctx, args: &AutoloadArgs) -> Result<AutoloadReport, Failure> {
    let client = connect(ctx)?;
    let owner = format!(
        "{}-{}-{:08x}",
        ctx.settings.user.as_deref().unwrap_or("control"),
        std::process::id(),
        rand::random::<u32>()
    );
    let log = IngestLog::new(Lake::of(ctx)?, owner, chrono::Utc::now);
    if args.once {
        return look(ctx, &client, &log, args.batch.as_ref()).await;
    }
    loop {
        match look(ctx, &client, &log, args.batch.as_ref()).await {
            Ok(report) => {
                let told = report.batches.iter().filter(|b| b.outcome != LoadOutcome::AlreadyIngested);
                for loaded in told {
                    let LoadedBatch { dataset, outcome, message, .. } = loaded;
                    ctx.printer.note(&format!("{dataset}: {} {message}", outcome.as_str()));
                }
            }
            Err(failure @ Failure::Interrupted(_)) => return Err(failure),
            Err(failure) => {
                ctx.printer.note(&format!("this look failed, the next one tries again: {failure}"))
            }
        }
        let pause = Duration::from_secs(args.interval.max(1));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ctx.shutdown.cancelled() => {
                return Err(Failure::interrupted("stopped between two looks; nothing is half done"));
            }
        }
    }
}

struct Candidate {
    batch: BatchId,
    object: Object,
    file: FileKey,
}

async fn look(
    ctx: &Ctx,
    client: &Client,
    log: &IngestLog,
    only: Option<&BatchId>,
) -> Result<AutoloadReport, Failure> {
    let start = Instant::now();
    let find = merged(ctx, only);
    let candidates = ctx.until_stopped(find, || "stopped; nothing was begun".to_owned()).await?;
    let standings = log.standings().await?;
    let unknown: Vec<_> = candidates
        .iter()
        .filter(|candidate| !standings.contains_key(&candidate.file))
        .map(|candidate| (candidate.file.clone(), candidate.object.bytes))
        .collect();
    if !unknown.is_empty() {
        log.discover(unknown).await?;
    }
    let mut report = AutoloadReport { batches: Vec::new(), seconds: 0.0, failure: None };
    let mut stop = false;
    for candidate in candidates {
        let standing = standings.get(&candidate.file).unwrap_or(&Standing::Open);
        let (outcome, message) = match standing {
            Standing::Ingested => (LoadOutcome::AlreadyIngested, String::new()),
            Standing::Held(by) => (LoadOutcome::Held, format!("by {by}")),
            Standing::Open if stop => (LoadOutcome::Waiting, "for the next look".to_owned()),
            Standing::Open => match ingest(ctx, client, log, &candidate).await {
                Ok(Some(message)) => (LoadOutcome::Ingested, message),
                Ok(None) => (LoadOutcome::Held, "another worker was first".to_owned()),
                Err(failure @ Failure::Interrupted(_)) => return Err(failure),
                Err(failure) => {
                    // Configuration, or what does not answer: the others would fail by it too.
                    stop = matches!(failure.exit_code(), 3 | 4);
                    let message = failure.to_string();
                    if stop || report.failure.is_none() {
                        report.failure = Some(failure);
                    }
                    (LoadOutcome::Failed, message)
                }
            },
        };
        let Candidate { batch, file, .. } = candidate;
        let (dataset, object_uri) = (file.dataset, file.uri);
        report.batches.push(LoadedBatch { batch, dataset, object_uri, outcome, message });
    }
    report.seconds = seconds(start.elapsed());
    Ok(report)
}

/// What is merged, by batch.
async fn merged(ctx: &Ctx, only: Option<&BatchId>) -> Result<Vec<Candidate>, Failure> {
    let store = ctx.store()?;
    let mut found: Vec<(BatchId, Object)> = match only {
        Some(batch) => match store.head_opt(&BatchKeys::new(batch).records()).await? {
            Some(object) => vec![(batch.clone(), object)],
            None if batch::part_files(ctx, &BatchKeys::new(batch), proto::keys::PartKind::Pages)
                .await?
                .is_empty() =>
            {
                return Err(batch::unknown(ctx, batch));
            }
            None => Vec::new(),
        },
        None => {
            let records = store.list(ARGILLA_IN).try_filter_map(|object| async move {
                Ok(batch_of(&object.key, BatchFile::Records).map(|batch| (batch, object)))
            });
            records.try_collect().await?
        }
    };
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let candidate = |(batch, object): (BatchId, Object)| {
        let file = FileKey::of(store, &batch.dataset(), &object);
        Candidate { batch, object, file }
    };
    Ok(found.into_iter().map(candidate).collect())
}

/// One file: taken, pushed, and written down as what it came to. None: another worker has it.
async fn ingest(
    ctx: &Ctx,
    client: &Client,
    log: &IngestLog,
    candidate: &Candidate,
) -> Result<Option<String>, Failure> {
    let Some(lease) = log.claim(&candidate.file).await? else { return Ok(None) };
    let push = Box::pin(push(ctx, client, &candidate.batch));
    let done = tokio::select! {
        done = push => done,
        lost = log.keep(&lease) => return Err(lost),
    };
    match done {
        Ok(message) => match log.ingested(&lease, &message).await? {
            true => Ok(Some(message)),
            false => Err(lost(&lease)),
        },
        Err(failure) => {
            written_down(log, &lease, &failure).await;
            Err(failure)
        }
    }
}

async fn push(ctx: &Ctx, client: &Client, batch: &BatchId) -> Result<String, Failure> {
    let batch = MergedBatch::open(ctx, batch).await?;
    let pushed = Pushed::push(ctx, client, &batch).await?;
    pushed.whole(&batch)?;
    Ok(pushed.sentence())
}

/// The failure itself is what is told; that it is in the log too is worth no second one.
async fn written_down(log: &IngestLog, lease: &Lease, failure: &Failure) {
    let message = failure.to_string();
    let written = match failure {
        Failure::Interrupted(_) => log.release(lease, &message).await,
        _ => log.failed(lease, &message).await,
    };
    if let Err(error) = written {
        tracing::warn!(%error, "the ingest log could not be written");
    }
}
