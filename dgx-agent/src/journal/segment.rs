//! One file of the journal: a redb table of answers.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, Error, ReadableDatabase, TableDefinition};

use super::Key;

/// An answer as compressed JSON, with a checksum.
const ANSWERS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("answers.v1");
/// Of each segment: redb's own cache would grow to a gibibyte. Keys are hashes and come in no order, so a larger one helps
/// little; what is not in it, the system has.
const CACHE_BYTES: usize = 1 << 20;
const MODE: u32 = 0o600;

/// Why a segment cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    InUse,
    /// What is in it is not what was written.
    Broken(String),
    /// The disk or the folder: full, read-only, not ours.
    Disk(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseAlreadyOpen => Self::InUse,
            // redb's words for a file that is not its own, or ends too early.
            Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Broken(error.to_string())
            }
            Error::Io(error) => Self::Disk(error.to_string()),
            Error::PreviousIo => Self::Disk("an earlier write failed".to_owned()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    database: Database,
}

impl Segment {
    /// Opens or makes it.
    pub fn open(path: &Path, number: u64) -> Result<Self, Fault> {
        let file = fs::File::options().read(true).append(true).create(true).mode(MODE).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        let is_new = file.metadata()?.len() == 0;
        drop(file);
        let open = || Builder::new().set_cache_size(CACHE_BYTES).create(path);
        // A file that was tampered with may make redb panic.
        let database = std::panic::catch_unwind(open)
            .map_err(|_| Fault::Broken("it cannot be opened".to_owned()))?
            .map_err(|error| Fault::from(Error::from(error)));
        if is_new && let Err(Fault::Disk(_)) = database {
            // What there was room for would be taken for a broken one.
            let _ = fs::remove_file(path);
        }
        Ok(Self { number, path: path.to_owned(), database: database? })
    }

    pub fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Fault> {
        self.tried(|| {
            let read = self.database.begin_read()?;
            let table = match read.open_table(ANSWERS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// All or none; on disk once this returns.
    pub fn put(&self, answers: &[(Key, Vec<u8>)]) -> Result<(), Fault> {
        self.tried(|| {
            let mut change = self.database.begin_write()?;
            // So that the next start after a kill need not read all of the file.
            change.set_quick_repair(true);
            {
                let mut table = change.open_table(ANSWERS)?;
                for (key, value) in answers {
                    table.insert(key, value.as_slice())?;
                }
            }
            change.commit()?;
            Ok(())
        })
    }

    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    fn tried<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Fault> {
        work().map_err(Fault::from)
    }
}
