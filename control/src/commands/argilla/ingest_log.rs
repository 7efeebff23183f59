//! `anndb.main.argilla_ingest_log`: which merged files are in Argilla, and who is at work on one.
//!
//! ```text
//! discovered ─► ingesting ─► ingested
//!      ▲            │ ├────► failed ─► (the next look)
//!      └─ released ─┘ └────► (heartbeat stops) ─► taken over, epoch + 1
//! ```
//! A file is known by dataset, URI and ETag; MotherDuck holds to no key, so every insert looks first. What ends a
//! lease is written only where owner and epoch are still ours. Times are UTC and come from here, not from SQL.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use duckdb::params;
use proto::store::{Object, Store};

use crate::{
    failure::Failure,
    lake::{Database, Lake, Session},
};

/// Between two signs of life of a worker.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A worker that gave none for this long is dead: ten of its heartbeats, some of which a locked lake may delay.
const DEAD_AFTER: Duration = Duration::from_secs(300);
/// Of a message in the log, in code points.
const MESSAGE_MAX: usize = 2_000;

/// Which file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    pub dataset: String,
    pub uri: String,
    pub etag: String,
}

impl FileKey {
    pub fn of(store: &Store, dataset: &str, object: &Object) -> Self {
        // A store without ETags: a file that is written again is newer.
        let etag = object
            .etag
            .clone()
            .unwrap_or_else(|| format!("{}-{}", object.last_modified.timestamp_micros(), object.bytes));
        Self { dataset: dataset.to_owned(), uri: store.uri_of(&object.key), etag }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody is at work on it, and it is not done.
    Open,
    /// By whom.
    Held(String),
    Ingested,
}

/// The right to ingest one file, as long as it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub file: FileKey,
    owner: String,
    epoch: i64,
}

#[derive(Debug, Clone)]
pub(super) struct IngestLog {
    lake: Lake,
    /// This worker.
    owner: String,
    clock: fn() -> DateTime<Utc>,
}

impl IngestLog {
    pub fn new(lake: Lake, owner: String, clock: fn() -> DateTime<Utc>) -> Self {
        Self { lake, owner, clock }
    }

    /// Every file of the log. Reads only: most looks find nothing new.
    pub async fn standings(&self) -> Result<HashMap<FileKey, Standing>, Failure> {
        let alive_since = self.micros() - micros(DEAD_AFTER);
        let rows = self.lake.read(&[Database::Annotated], move |session| {
            session.query(
                "SELECT dataset, object_uri, object_etag, status, owner, coalesce(epoch_us(heartbeat_at), 0)::BIGINT
                 FROM anndb.main.argilla_ingest_log",
                [],
                |row| {
                    let file = FileKey { dataset: row.get(0)?, uri: row.get(1)?, etag: row.get(2)? };
                    let (status, owner): (String, Option<String>) = (row.get(3)?, row.get(4)?);
                    let standing = match status.as_str() {
                        "ingested" => Standing::Ingested,
                        "ingesting" if row.get::<_, i64>(5)? >= alive_since => {
                            Standing::Held(owner.unwrap_or_default())
                        }
                        _ => Standing::Open,
                    };
                    Ok((file, standing))
                },
            )
        });
        Ok(rows.await?.into_iter().collect())
    }

    /// Writes files down that the log does not know. An older content that nobody ingested is over with.
    pub async fn discover(&self, files: Vec<(FileKey, u64)>) -> Result<(), Failure> {
        let (now, alive_since) = (self.micros(), self.micros() - micros(DEAD_AFTER));
        transaction(&self.lake, move |session| {
            for (file, bytes) in &files {
                insert(session, file, *bytes, now)?;
                session.execute(
                    "UPDATE anndb.main.argilla_ingest_log
                     SET status = 'failed', owner = NULL, message = 'another file lies there now'
                     WHERE dataset = ? AND object_uri = ? AND object_etag <> ? AND (status = 'discovered'
                         OR (status = 'ingesting' AND coalesce(epoch_us(heartbeat_at), 0) < ?::BIGINT))",
                    params![file.dataset, file.uri, file.etag, alive_since],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Takes a file that is open: one worker gets it. None: another was first.
    pub async fn claim(&self, file: &FileKey) -> Result<Option<Lease>, Failure> {
        let (now, alive_since) = (self.micros(), self.micros() - micros(DEAD_AFTER));
        let (file, owner) = (file.clone(), self.owner.clone());
        transaction(&self.lake, move |session| {
            let taken = session.execute(
                "UPDATE anndb.main.argilla_ingest_log
                 SET status = 'ingesting', owner = ?, epoch = coalesce(epoch, 0) + 1,
                     heartbeat_at = make_timestamp(?::BIGINT), message = NULL
                 WHERE dataset = ? AND object_uri = ? AND object_etag = ? AND (status IN ('discovered', 'failed')
                     OR (status = 'ingesting' AND coalesce(epoch_us(heartbeat_at), 0) < ?::BIGINT))",
                params![owner, now, file.dataset, file.uri, file.etag, alive_since],
            )?;
            if taken == 0 {
                return Ok(None);
            }
            let epochs = session.query(
                "SELECT max(epoch)::BIGINT FROM anndb.main.argilla_ingest_log
                 WHERE dataset = ? AND object_uri = ? AND object_etag = ?",
                params![file.dataset, file.uri, file.etag],
                |row| row.get::<_, i64>(0),
            )?;
            let epoch = epochs.into_iter().next().unwrap_or(1);
            Ok(Some(Lease { file: file.clone(), owner: owner.clone(), epoch }))
        })
        .await
    }

    /// Renews a lease until it is lost; then tells so.
    pub async fn keep(&self, lease: &Lease) -> Failure {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.renew(lease).await {
                Ok(true) => {}
                Ok(false) => return lost(lease),
                // Pushing twice does no harm, so a lake that is busy is no reason to stop.
                Err(failure) => tracing::warn!(%failure, "no heartbeat in the ingest log"),
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<bool, Failure> {
        let now = self.micros();
        self.of_lease(lease, "heartbeat_at = make_timestamp(?::BIGINT)", now, None).await
    }

    /// The file is in Argilla. False: the lease was lost meanwhile, and nothing is written.
    pub async fn ingested(&self, lease: &Lease, message: &str) -> Result<bool, Failure> {
        let set = "status = 'ingested', ingested_at = make_timestamp(?::BIGINT), owner = NULL, message = ?";
        self.of_lease(lease, set, self.micros(), Some(message)).await
    }

    pub async fn failed(&self, lease: &Lease, message: &str) -> Result<bool, Failure> {
        let set = "status = 'failed', heartbeat_at = make_timestamp(?::BIGINT), owner = NULL, message = ?";
        self.of_lease(lease, set, self.micros(), Some(message)).await
    }

    /// Gives a file back that was not finished, also when the command was stopped.
    pub async fn release(&self, lease: &Lease, message: &str) -> Result<bool, Failure> {
        let log = Self { lake: self.lake.to_the_end(), ..self.clone() };
        let set =
            "status = 'discovered', heartbeat_at = make_timestamp(?::BIGINT), owner = NULL, message = ?";
        log.of_lease(lease, set, self.micros(), Some(message)).await
    }

    /// Writes down that a file is in Argilla though no lease was taken: a person pushed it.
    pub async fn pushed(&self, file: FileKey, bytes: u64, message: &str) -> Result<(), Failure> {
        let (now, message) = (self.micros(), shortened(message));
        transaction(&self.lake, move |session| {
            insert(session, &file, bytes, now)?;
            session.execute(
                "UPDATE anndb.main.argilla_ingest_log
                 SET status = 'ingested', ingested_at = make_timestamp(?::BIGINT), owner = NULL, message = ?
                 WHERE dataset = ? AND object_uri = ? AND object_etag = ? AND status <> 'ingested'",
                params![now, message, file.dataset, file.uri, file.etag],
            )?;
            Ok(())
        })
        .await
    }

    /// Changes the row of a lease while it is ours; also when the command was stopped meanwhile, so that the log
    /// tells what became of the file.
    async fn of_lease(
        &self,
        lease: &Lease,
        set: &str,
        at: i64,
        message: Option<&str>,
    ) -> Result<bool, Failure> {
        let sql = format!(
            "UPDATE anndb.main.argilla_ingest_log SET {set} WHERE dataset = ? AND object_uri = ? AND object_etag = ? \
             AND status = 'ingesting' AND owner = ? AND epoch = ?::BIGINT"
        );
        let (lease, message) = (lease.clone(), message.map(shortened));
        let work = move |session: &Session| {
            let Lease { file: FileKey { dataset, uri, etag }, owner, epoch } = &lease;
            let changed = match &message {
                Some(message) => {
                    session.execute(&sql, params![at, message, dataset, uri, etag, owner, epoch])?
                }
                None => session.execute(&sql, params![at, dataset, uri, etag, owner, epoch])?,
            };
            Ok(changed > 0)
        };
        transaction(&self.lake.to_the_end(), work).await
    }

    fn micros(&self) -> i64 {
        (self.clock)().timestamp_micros()
    }
}

async fn transaction<T: Send + 'static>(
    lake: &Lake,
    work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    lake.write(Database::Annotated, move |session| session.transaction(work)).await
}

fn insert(session: &Session, file: &FileKey, bytes: u64, now: i64) -> Result<(), Failure> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let FileKey { dataset, uri, etag } = file;
    session.execute(
        "INSERT INTO anndb.main.argilla_ingest_log
             (dataset, object_uri, object_etag, object_bytes, discovered_at, status)
         SELECT ?::VARCHAR, ?::VARCHAR, ?::VARCHAR, ?::BIGINT, make_timestamp(?::BIGINT), 'discovered'
         WHERE NOT EXISTS (
             FROM anndb.main.argilla_ingest_log WHERE dataset = ? AND object_uri = ? AND object_etag = ?)",
        params![dataset, uri, etag, bytes, now, dataset, uri, etag],
    )?;
    Ok(())
}

pub(super) fn lost(lease: &Lease) -> Failure {
    Failure::unreachable(format!(
        "{}: another worker took the ingestion over while this one was slow; it ends it, nothing is to be done",
        lease.file.dataset
    ))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn shortened(message: &str) -> String {
    message.chars().take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::ctx;

    fn file(etag: &str) -> FileKey {
        FileKey { dataset: "vessels_ocr_p".into(), uri: "/r/o'x.parquet".into(), etag: etag.into() }
    }

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).expect("a time")
    }

    fn later() -> DateTime<Utc> {
        noon() + DEAD_AFTER + Duration::from_secs(1)
    }

    async fn two_workers() -> (tempfile::TempDir, IngestLog, IngestLog) {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = Lake::of(&ctx(folder.path(), folder.path().join("lake").to_str().expect("UTF-8")));
        let lake = lake.expect("a lake");
        lake.init(Database::Annotated).await.expect("made");
        let worker = |name: &str| IngestLog::new(lake.clone(), name.to_owned(), noon);
        let (one, two) = (worker("one"), worker("two"));
        (folder, one, two)
    }

    async fn rows(log: &IngestLog) -> Vec<(String, String, Option<String>, i64)> {
        log.lake
            .read(&[Database::Annotated], |session| {
                session.query(
                    "SELECT object_etag, status, message, coalesce(epoch, 0)::BIGINT
                     FROM anndb.main.argilla_ingest_log ORDER BY discovered_at, object_etag",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )
            })
            .await
            .expect("read")
    }

    #[tokio::test]
    async fn a_file_is_ingested_once() {
        let (_folder, one, two) = two_workers().await;
        for _ in 0..2 {
            one.discover(vec![(file("a"), 7)]).await.expect("written");
        }
        let lease = one.claim(&file("a")).await.expect("asked").expect("free");
        assert_eq!(two.claim(&file("a")).await, Ok(None));
        assert_eq!(two.standings().await.expect("read")[&file("a")], Standing::Held("one".into()));
        assert_eq!(one.renew(&lease).await, Ok(true));
        assert_eq!(one.ingested(&lease, "3 created").await, Ok(true));
        assert_eq!(two.claim(&file("a")).await, Ok(None));
        assert_eq!(rows(&one).await, [("a".into(), "ingested".into(), Some("3 created".into()), 1)]);
    }

    #[tokio::test]
    async fn a_failed_file_and_one_given_back_are_open() {
        let (_folder, one, two) = two_workers().await;
        one.discover(vec![(file("a"), 7)]).await.expect("written");
        let lease = one.claim(&file("a")).await.expect("asked").expect("free");
        assert_eq!(one.failed(&lease, &"x".repeat(5_000)).await, Ok(true));
        assert_eq!(rows(&one).await[0].2.as_ref().map(String::len), Some(MESSAGE_MAX));
        assert_eq!(two.standings().await.expect("read")[&file("a")], Standing::Open);
        let lease = two.claim(&file("a")).await.expect("asked").expect("free");
        assert_eq!(two.release(&lease, "stopped").await, Ok(true));
        let lease = one.claim(&file("a")).await.expect("asked").expect("free");
        assert_eq!(lease.epoch, 3);
    }

    #[tokio::test]
    async fn a_dead_worker_is_followed_and_writes_nothing_when_it_comes_back() {
        let (_folder, one, two) = two_workers().await;
        one.discover(vec![(file("a"), 7)]).await.expect("written");
        let old = one.claim(&file("a")).await.expect("asked").expect("free");
        let two = IngestLog { clock: later, ..two };
        assert_eq!(two.standings().await.expect("read")[&file("a")], Standing::Open);
        let lease = two.claim(&file("a")).await.expect("asked").expect("it is dead");
        assert_eq!((lease.epoch, old.epoch), (2, 1));
        assert_eq!(one.renew(&old).await, Ok(false));
        assert_eq!(one.ingested(&old, "late").await, Ok(false));
        assert_eq!(one.failed(&old, "late").await, Ok(false));
        assert_eq!(two.ingested(&lease, "done").await, Ok(true));
        assert_eq!(rows(&two).await, [("a".into(), "ingested".into(), Some("done".into()), 2)]);
    }

    #[tokio::test]
    async fn another_content_is_another_file_and_ends_the_old_one() {
        let (_folder, one, _two) = two_workers().await;
        one.discover(vec![(file("a"), 7)]).await.expect("written");
        one.discover(vec![(file("b"), 7)]).await.expect("written");
        let told = rows(&one).await;
        assert_eq!((told[0].1.as_str(), told[1].1.as_str()), ("failed", "discovered"));
        one.pushed(file("b"), 7, "by hand").await.expect("written");
        one.pushed(file("b"), 7, "again").await.expect("written");
        assert_eq!(rows(&one).await[1], ("b".into(), "ingested".into(), Some("by hand".into()), 0));
    }

    #[tokio::test]
    async fn a_stopped_command_still_gives_its_file_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let ctx = ctx(folder.path(), folder.path().join("lake").to_str().expect("UTF-8"));
        let lake = Lake::of(&ctx).expect("a lake");
        lake.init(Database::Annotated).await.expect("made");
        let log = IngestLog::new(lake, "one".into(), noon);
        log.discover(vec![(file("a"), 7)]).await.expect("written");
        let lease = log.claim(&file("a")).await.expect("asked").expect("free");
        ctx.shutdown.cancel();
        assert_eq!(log.release(&lease, "stopped").await, Ok(true));
    }
}
