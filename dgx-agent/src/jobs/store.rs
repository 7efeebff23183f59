//! Jobs on disk: one redb file in the state folder, one row a job, each change durable before it is told.
//!
//! The file is locked while it is open, so that two daemons never run the same jobs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use proto::{hash::sha256_hex, ids::BatchId};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::job::Job;

/// Batch id to the job as JSON.
const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs.v1");
/// SHA-256 of a labelset to its TOML: those that jobs have from the agent.
const LABELSETS: TableDefinition<'_, &str, &str> = TableDefinition::new("labelsets.v1");
const FILE: &str = "jobs.redb";
/// Only the agent's user reads it.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[derive(Debug, thiserror::Error)]
pub enum JobStoreError {
    #[error("{folder} is the state folder of another dgx-agent that runs: stop it, or give this one its own --state-dir", folder = .folder.display())]
    InUse { folder: PathBuf },
    #[error("the state folder {folder} cannot be used: {source}; pass another --state-dir", folder = .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("{file} cannot be read or written: {source}", file = .file.display())]
    Database { file: PathBuf, source: Box<redb::Error> },
    #[error("{file} holds a job for batch {batch} that this version cannot read: {source}; move the file away and submit the batch again", file = .file.display())]
    Row { file: PathBuf, batch: String, source: serde_json::Error },
}

/// The jobs of one daemon.
#[derive(Debug)]
pub struct JobStore {
    database: Database,
    file: PathBuf,
}

impl JobStore {
    /// Opens the store of a state folder; makes both where they are not there.
    pub fn open(folder: &Path) -> Result<Self, JobStoreError> {
        let file = folder.join(FILE);
        prepare(folder, &file)
            .map_err(|source| JobStoreError::Folder { folder: folder.to_owned(), source })?;
        let database = Database::create(&file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => JobStoreError::InUse { folder: folder.to_owned() },
            other => JobStoreError::Database { file: file.clone(), source: Box::new(other.into()) },
        })?;
        let store = Self { database, file };
        // So that reading finds the table.
        store.tried(|| {
            let change = store.database.begin_write()?;
            change.open_table(JOBS)?;
            change.open_table(LABELSETS)?;
            change.commit()?;
            Ok(())
        })?;
        Ok(store)
    }

    /// Every job, in no order.
    pub fn load(&self) -> Result<Vec<Job>, JobStoreError> {
        let rows = self.tried(|| {
            let table = self.database.begin_read()?.open_table(JOBS)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (batch, json) = row?;
                rows.push((batch.value().to_owned(), json.value().to_owned()));
            }
            Ok(rows)
        })?;
        let job = |(batch, json): (String, Vec<u8>)| {
            serde_json::from_slice(&json).map_err(|source| JobStoreError::Row {
                file: self.file.clone(),
                batch,
                source,
            })
        };
        rows.into_iter().map(job).collect()
    }

    /// Durable once this returns.
    pub fn save(&self, job: &Job) -> Result<(), JobStoreError> {
        let json = serde_json::to_vec(job).map_err(|source| JobStoreError::Row {
            file: self.file.clone(),
            batch: job.batch.to_string(),
            source,
        })?;
        self.tried(|| {
            let change = self.database.begin_write()?;
            change.open_table(JOBS)?.insert(job.batch.as_str(), json.as_slice())?;
            change.commit()?;
            Ok(())
        })
    }

    /// Gone once this returns.
    pub fn remove(&self, batch: &BatchId) -> Result<(), JobStoreError> {
        self.tried(|| {
            let change = self.database.begin_write()?;
            change.open_table(JOBS)?.remove(batch.as_str())?;
            change.commit()?;
            Ok(())
        })
    }

    /// Keeps a labelset under its hash; durable once this returns. There are few, and none is forgotten.
    pub fn keep_labelset(&self, toml: &str) -> Result<(), JobStoreError> {
        let sha256 = sha256_hex(toml);
        if self.labelset(&sha256)?.is_some() {
            return Ok(());
        }
        self.tried(|| {
            let change = self.database.begin_write()?;
            change.open_table(LABELSETS)?.insert(sha256.as_str(), toml)?;
            change.commit()?;
            Ok(())
        })
    }

    pub fn labelset(&self, sha256: &str) -> Result<Option<String>, JobStoreError> {
        self.tried(|| {
            let table = self.database.begin_read()?.open_table(LABELSETS)?;
            Ok(table.get(sha256)?.map(|toml| toml.value().to_owned()))
        })
    }

    fn tried<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, JobStoreError> {
        work().map_err(|source| JobStoreError::Database { file: self.file.clone(), source: Box::new(source) })
    }
}

/// The folder and the file, for their owner alone. A folder that is there already keeps its mode: it may be
/// somebody's choice.
fn prepare(folder: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let file = fs::File::options().read(true).append(true).create(true).mode(FILE_MODE).open(file)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::jobs::{event::Event, job::Ask};

    fn job(batch: &str) -> Job {
        let ask = Ask { root: "/data".into(), engine: None, model: None, shard: None };
        Job::new(batch.parse().expect("an id"), 1, ask, None, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn jobs_come_back_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("a/state");
        let store = JobStore::open(&state).expect("opened");
        let mut first = job("first");
        for job in [&first, &job("second")] {
            store.save(job).expect("saved");
        }
        first.apply(Event::Start, DateTime::UNIX_EPOCH).expect("queued");
        store.save(&first).expect("saved");
        drop(store);
        let jobs = JobStore::open(&state).expect("opened").load().expect("loaded");
        assert_eq!(jobs, [first, job("second")]);
    }

    #[test]
    fn labelsets_are_known_by_their_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = JobStore::open(folder.path()).expect("opened");
        for _ in 0..2 {
            store.keep_labelset("name = \"a\"").expect("kept");
        }
        drop(store);
        let store = JobStore::open(folder.path()).expect("opened");
        let found = store.labelset(&sha256_hex("name = \"a\"")).expect("read");
        assert_eq!(found.as_deref(), Some("name = \"a\""));
        assert_eq!(store.labelset("other").expect("read"), None);
    }

    #[test]
    fn only_the_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let _store = JobStore::open(&state).expect("opened");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn two_on_one_folder_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = JobStore::open(folder.path()).expect("opened");
        let error = JobStore::open(folder.path()).expect_err("in use").to_string();
        assert!(error.contains("--state-dir") && error.contains("another dgx-agent"), "{error}");
        drop(first);
        JobStore::open(folder.path()).expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_made_and_a_foreign_file_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "x").expect("written");
        let error = JobStore::open(&file.join("state")).expect_err("a file").to_string();
        assert!(error.contains("file/state"), "{error}");
        fs::write(folder.path().join(FILE), "not a database, but longer than its header".repeat(100))
            .expect("written");
        let error = JobStore::open(folder.path()).expect_err("foreign").to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
