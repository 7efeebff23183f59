//! Jobs on disk: one redb file in the state folder, one row a job, each change durable before it is told.
//!
//! The file is locked while it is open, so that two daemons never run the same jobs. After an error it is opened again by
//! the next call: a disk that was full takes the change then.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
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
    #[error("{file} cannot be read or written: {source}; once the disk takes it, it goes on by itself", file = .file.display())]
    Disk { file: PathBuf, source: Box<redb::Error> },
    #[error("{file} is broken: {source}; move it away and submit the batches again: what is committed is not done twice", file = .file.display())]
    Broken { file: PathBuf, source: Box<redb::Error> },
    #[error("{file} holds a job for batch {batch} that this version cannot read: {source}; move the file away and submit the batch again", file = .file.display())]
    Row { file: PathBuf, batch: String, source: serde_json::Error },
}

impl JobStoreError {
    /// A disk that is full or away now may not be so later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Disk { .. } => true,
            Self::Folder { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// The jobs of one daemon.
#[derive(Debug)]
pub struct JobStore {
    /// None after an error: redb takes no more from a file that failed it once.
    database: Mutex<Option<Database>>,
    file: PathBuf,
}

impl JobStore {
    /// Opens the store of a state folder; makes both where they are not there.
    pub fn open(folder: &Path) -> Result<Self, JobStoreError> {
        let file = folder.join(FILE);
        prepare(folder, &file)
            .map_err(|source| JobStoreError::Folder { folder: folder.to_owned(), source })?;
        let store = Self { database: Mutex::default(), file };
        // So that reading finds the table.
        store.tried(|database| {
            let change = database.begin_write()?;
            change.open_table(JOBS)?;
            change.open_table(LABELSETS)?;
            change.commit()?;
            Ok(())
        })?;
        Ok(store)
    }

    /// Every job, in no order.
    pub fn load(&self) -> Result<Vec<Job>, JobStoreError> {
        let rows = self.tried(|database| {
            let table = database.begin_read()?.open_table(JOBS)?;
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
        self.tried(|database| {
            let change = database.begin_write()?;
            change.open_table(JOBS)?.insert(job.batch.as_str(), json.as_slice())?;
            change.commit()?;
            Ok(())
        })
    }

    /// Gone once this returns.
    pub fn remove(&self, batch: &BatchId) -> Result<(), JobStoreError> {
        self.tried(|database| {
            let change = database.begin_write()?;
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
        self.tried(|database| {
            let change = database.begin_write()?;
            change.open_table(LABELSETS)?.insert(sha256.as_str(), toml)?;
            change.commit()?;
            Ok(())
        })
    }

    pub fn labelset(&self, sha256: &str) -> Result<Option<String>, JobStoreError> {
        self.tried(|database| {
            let table = database.begin_read()?.open_table(LABELSETS)?;
            Ok(table.get(sha256)?.map(|toml| toml.value().to_owned()))
        })
    }

    fn tried<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, JobStoreError> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match held.take() {
            Some(database) => database,
            None => self.opened()?,
        };
        let done = work(&database).map_err(|error| self.error(error))?;
        *held = Some(database);
        Ok(done)
    }

    fn opened(&self) -> Result<Database, JobStoreError> {
        let is_new = fs::metadata(&self.file).is_ok_and(|file| file.len() == 0);
        // A file that was tampered with may make redb panic.
        let opened = std::panic::catch_unwind(|| Database::create(&self.file));
        let broken = |_| self.error(redb::Error::Corrupted("it cannot be opened".into()));
        let opened = opened.map_err(broken)?.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                let folder = self.file.parent().unwrap_or(&self.file).to_owned();
                JobStoreError::InUse { folder }
            }
            other => self.error(other.into()),
        });
        if is_new && let Err(JobStoreError::Disk { .. }) = opened {
            // What there was room for would be taken for a broken file.
            let _ = fs::File::options().write(true).truncate(true).open(&self.file);
        }
        opened
    }

    fn error(&self, source: redb::Error) -> JobStoreError {
        let (file, source) = (self.file.clone(), Box::new(source));
        match source.as_ref() {
            // redb's words for a file that is not its own, or ends too early.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                JobStoreError::Broken { file, source }
            }
            redb::Error::Io(_) | redb::Error::PreviousIo => JobStoreError::Disk { file, source },
            _ => JobStoreError::Broken { file, source },
        }
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
        let error = JobStore::open(folder.path()).expect_err("foreign");
        assert!(matches!(error, JobStoreError::Broken { .. }) && !error.may_pass(), "{error:?}");
        assert!(error.to_string().contains(FILE) && error.to_string().contains("move it away"), "{error}");
    }
}
