//! The lake: two databases, `md_raw_ocr` and `md_annotated`, each open for one transaction at a time.
//!
//! - A folder of DuckDB files, or `md:` for MotherDuck. In SQL the databases are `rawdb` and `anndb` in both.
//! - One open writer of a file shuts out every reader and writer, so that work on it must be short; who finds it
//!   locked waits for `--lock-timeout`. DuckDB's lock holds between processes only: within this one, a gate does.
//! - DuckDB blocks, so it runs on blocking threads, and is interrupted when the command is stopped or dropped.
//! - No extension is needed for a folder, and none is fetched.
//!
//! ```no_run
//! # use control::{ctx::Ctx, failure::Failure, lake::{Database, Lake}};
//! # async fn example(ctx: &Ctx) -> Result<(), Failure> {
//! let lake = Lake::of(ctx)?;
//! let pages: Vec<i64> = lake
//!     .read(&[Database::Raw], |session| {
//!         session.query("SELECT count(*) FROM rawdb.main.raw_pages", [], |row| row.get(0))
//!     })
//!     .await?;
//! # let _ = pages; Ok(())
//! # }
//! ```

mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use duckdb::InterruptHandle;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use session::{OpenError, Opening};
pub use session::{Row, Session};

use crate::{
    ctx::Ctx,
    failure::Failure,
    settings::Secret,
    sql::{Catalogs, Script},
};

/// Between two looks at a lock, and two words to a query that is to end.
const POLL: Duration = Duration::from_millis(50);

/// What a database must be to be used, and what `lake init` makes of it.
pub const SCHEMA_VERSION: i64 = 1;

static GATE: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// What the OCR job wrote.
    Raw,
    /// What people made of it, and the state of the ingestion.
    Annotated,
}

impl Database {
    pub const BOTH: &'static [Self] = &[Self::Raw, Self::Annotated];

    /// As MotherDuck knows it; the file's name without its end.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "md_raw_ocr",
            Self::Annotated => "md_annotated",
        }
    }

    /// As SQL names it, before [`Catalogs::apply`].
    fn alias(self) -> &'static str {
        match self {
            Self::Raw => "rawdb",
            Self::Annotated => "anndb",
        }
    }

    /// What brings a database of version n to n + 1; the first may be run again at any time.
    fn migrations(self) -> &'static [Script] {
        match self {
            Self::Raw => &[Script::DdlRaw],
            Self::Annotated => &[Script::DdlAnnotated],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    MotherDuck,
}

/// What an opening may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    /// Reads, whatever the version is.
    Look,
    Write,
    /// Writes, and takes a database that is not there or not ready.
    Create,
}

/// Where the lake is, and how to open it. Cheap to make and to clone; nothing is open in between.
#[derive(Debug, Clone)]
pub struct Lake {
    place: Place,
    token: Option<Secret>,
    lock_timeout: Duration,
    cache: PathBuf,
    shutdown: CancellationToken,
}

impl Lake {
    /// Refuses what can never work; opens nothing.
    pub fn of(ctx: &Ctx) -> Result<Self, Failure> {
        let settings = &ctx.settings.lake;
        let place = match settings.place.strip_prefix("md:") {
            None => Place::Folder(settings.place.clone().into()),
            Some("") if settings.motherduck_token.is_some() => Place::MotherDuck,
            // Without a token the extension would start a browser and wait.
            Some("") => return Err(Failure::config("the lake md: needs MOTHERDUCK_TOKEN: set it")),
            Some(_) => {
                return Err(Failure::config(format!(
                    "the lake {:?} is not known: give md: alone (its databases are md_raw_ocr and md_annotated), or \
                     a folder",
                    settings.place
                )));
            }
        };
        Ok(Self {
            place,
            token: settings.motherduck_token.clone(),
            lock_timeout: settings.lock_timeout,
            cache: ctx.settings.cache.clone(),
            shutdown: ctx.shutdown.clone(),
        })
    }

    /// For a short last word when the command was stopped: its work on the lake is not interrupted.
    #[must_use]
    pub fn to_the_end(&self) -> Self {
        Self { shutdown: CancellationToken::new(), ..self.clone() }
    }

    /// Where a database is, for people.
    pub fn uri(&self, database: Database) -> String {
        match &self.place {
            Place::Folder(_) => {
                self.path(database).map(|path| path.display().to_string()).unwrap_or_default()
            }
            Place::MotherDuck => format!("md:{}", database.name()),
        }
    }

    /// Runs `work` with these databases attached for reading.
    pub async fn read<T: Send + 'static>(
        &self,
        databases: &'static [Database],
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.open(databases, Mode::Read, work).await
    }

    /// Runs `work` with one database attached for writing: a transaction writes one database.
    pub async fn write<T: Send + 'static>(
        &self,
        database: Database,
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.open(one(database), Mode::Write, work).await
    }

    /// Runs `work` with no database at all: Parquet in, Parquet out.
    pub async fn scratch<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let lake = Self { place: Place::Folder(PathBuf::new()), ..self.clone() };
        lake.open(&[], Mode::Read, work).await
    }

    /// The schema version of both databases; None: no tables of the lake. None is opened that is not there.
    pub async fn versions(&self) -> Result<Vec<(Database, Option<i64>)>, Failure> {
        self.open(Database::BOTH, Mode::Look, |session| {
            Database::BOTH.iter().map(|database| Ok((*database, session.version(*database)?))).collect()
        })
        .await
    }

    /// Does not wait longer than this for a lake that another process has open.
    #[must_use]
    pub fn impatient(self, lock_timeout: Duration) -> Self {
        Self { lock_timeout: self.lock_timeout.min(lock_timeout), ..self }
    }

    /// Makes what is missing and migrates what is old. Answers with the version that was found; None: nothing.
    pub async fn init(&self, database: Database) -> Result<Option<i64>, Failure> {
        self.open(one(database), Mode::Create, move |session| {
            let found = session.version(database)?;
            for (version, script) in (0..).zip(database.migrations()) {
                if version == 0 || found.is_none_or(|found| found <= version) {
                    session.run(*script, &crate::sql::Params::default())?;
                }
            }
            Ok(found)
        })
        .await
    }

    async fn open<T: Send + 'static>(
        &self,
        databases: &'static [Database],
        mode: Mode,
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let stopped = || Failure::interrupted("interrupted; nothing was changed in the lake");
        let gate = match databases {
            [] => None,
            _ => tokio::select! {
                gate = GATE.clone().lock_owned() => Some(gate),
                () = self.shutdown.cancelled() => return Err(stopped()),
            },
        };
        let give_up = Instant::now() + self.lock_timeout;
        let session = loop {
            let opening = self.opening(databases, mode)?;
            match tokio::task::spawn_blocking(move || opening.open()).await.map_err(ended)? {
                Ok(session) => break session,
                Err(OpenError::Failed(failure)) => return Err(failure),
                Err(OpenError::Locked { by }) if Instant::now() >= give_up => {
                    return Err(self.locked(databases, &by));
                }
                Err(OpenError::Locked { .. }) => tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = self.shutdown.cancelled() => return Err(stopped()),
                },
            }
        };
        let running = Running(session.interrupt_handle());
        let mut task = tokio::task::spawn_blocking(move || {
            let done = work(&session);
            drop(session);
            drop(gate);
            done
        });
        tokio::select! {
            done = &mut task => return done.map_err(ended)?,
            () = self.shutdown.cancelled() => {}
        }
        // An interrupt between two statements is lost, so it is said until it is heard.
        let done = loop {
            running.0.interrupt();
            if let Ok(done) = tokio::time::timeout(POLL, &mut task).await {
                break done.map_err(ended)?;
            }
        };
        done.map_err(|_| stopped())
    }

    fn opening(&self, databases: &'static [Database], mode: Mode) -> Result<Opening, Failure> {
        fs::create_dir_all(&self.cache).map_err(|error| Failure::file("make", &self.cache, &error))?;
        let attach = databases
            .iter()
            .map(|database| {
                if self.place == Place::MotherDuck {
                    return Ok((*database, format!("md:{}", database.name())));
                }
                let path = self.path(*database)?;
                if mode == Mode::Create {
                    let folder = path.parent().unwrap_or(&path);
                    fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
                } else if !path.is_file() {
                    let path = path.display();
                    return Err(Failure::config(format!(
                        "there is no lake at {path}: run `control lake init`"
                    )));
                }
                let text = path.to_str().ok_or_else(|| {
                    Failure::config(format!("the path {} is not UTF-8: move the lake", path.display()))
                })?;
                Ok((*database, text.to_owned()))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let motherduck = self.token.clone().filter(|_| self.place == Place::MotherDuck);
        let catalogs = match motherduck {
            Some(_) => {
                Catalogs { raw: Database::Raw.name().into(), annotated: Database::Annotated.name().into() }
            }
            None => Catalogs::default(),
        };
        Ok(Opening { attach, mode, catalogs, motherduck, cache: self.cache.clone() })
    }

    fn path(&self, database: Database) -> Result<PathBuf, Failure> {
        let Place::Folder(folder) = &self.place else {
            return Err(Failure::config("MotherDuck has no folder"));
        };
        let path = folder.join(format!("{}.duckdb", database.name()));
        std::path::absolute(&path).map_err(|error| Failure::file("find", &path, &error))
    }

    fn locked(&self, databases: &[Database], by: &str) -> Failure {
        let files: Vec<_> = databases.iter().map(|database| self.uri(*database)).collect();
        Failure::unreachable(format!(
            "{} is open in another process ({by}) and did not come free within {} s: end that process, or wait \
             longer with --lock-timeout",
            files.join(" or "),
            self.lock_timeout.as_secs()
        ))
    }
}

fn one(database: Database) -> &'static [Database] {
    match database {
        Database::Raw => &[Database::Raw],
        Database::Annotated => &[Database::Annotated],
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn ended(error: tokio::task::JoinError) -> Failure {
    Failure::data(format!("a step on the lake ended abnormally ({error}): this is a defect, report it"))
}

/// A query whose caller has gone is ended. Without effect once its connection is closed.
struct Running(Arc<InterruptHandle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}
