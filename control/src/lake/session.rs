//! One opening of the lake: a DuckDB in memory to which databases are attached, gone when dropped.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use duckdb::{Config, Connection, InterruptHandle, Params as Bound};
use tempfile::TempDir;

use super::{Database, Mode, SCHEMA_VERSION};
use crate::{
    failure::Failure,
    settings::Secret,
    sql::{self, Catalogs, Params, Script},
};

pub use duckdb::Row;

/// MotherDuck's errors that another try later may cure; all others of its connecting are configuration.
const MOTHERDUCK_LATER: &[&str] =
    &["Please try again later", "timed out", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Failed to download"];
const MOTHERDUCK_REFUSES: &[(&str, &str)] = &[
    ("Jwt is expired", "make a new MOTHERDUCK_TOKEN"),
    ("not authenticated", "make a new MOTHERDUCK_TOKEN"),
    ("Invalid MotherDuck token", "make a new MOTHERDUCK_TOKEN"),
    ("supported by MotherDuck", "take the control that is built for it"),
    ("no longer supported", "take a newer control"),
    ("no database/share named", "CREATE DATABASE it in MotherDuck, then run `control lake init`"),
    ("attached in read-only mode", "take a token that may write"),
    ("daily compute limit", "wait, or raise the limit"),
];

/// What it takes to open the lake once.
pub(super) struct Opening {
    pub attach: Vec<(Database, String)>,
    pub mode: Mode,
    pub catalogs: Catalogs,
    /// The token; None: files.
    pub motherduck: Option<Secret>,
    pub cache: PathBuf,
}

pub(super) enum OpenError {
    /// By whom, in DuckDB's words.
    Locked {
        by: String,
    },
    Failed(Failure),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The lake, open. Closed, and what is not committed undone, when dropped.
pub struct Session {
    // Before the folder that it spills to.
    connection: Connection,
    catalogs: Catalogs,
    token: Option<Secret>,
    _spill: TempDir,
}

impl Opening {
    /// Blocks.
    pub(super) fn open(self) -> Result<Session, OpenError> {
        let spill = tempfile::Builder::new()
            .prefix("duckdb-")
            .tempdir_in(&self.cache)
            .map_err(|error| Failure::file("make a folder in", &self.cache, &error))?;
        let home = self.cache.join("duckdb");
        // DuckDB makes no home, and installs no extension without one.
        std::fs::create_dir_all(&home).map_err(|error| Failure::file("make", &home, &error))?;
        let home = home.display().to_string();
        let config = || {
            let config = Config::default()
                .with("temp_directory", spill.path().display().to_string())?
                .with("extension_directory", format!("{home}/extensions"))?
                .custom_user_agent(concat!("preannotate/", env!("CARGO_PKG_VERSION")))?;
            if self.motherduck.is_some() {
                return Ok(config);
            }
            config.with("autoinstall_known_extensions", "false")?.with("autoload_known_extensions", "false")
        };
        let connection = config()
            .and_then(Connection::open_in_memory_with_flags)
            .map_err(|error| Failure::config(format!("DuckDB does not start: {error}")))?;
        let session = Session { connection, catalogs: self.catalogs, token: self.motherduck, _spill: spill };
        session.batch(&format!("SET home_directory = {}", sql::text(&home)))?;
        if let Some(token) = &session.token {
            // This order: an earlier SET is not known, a later one is not allowed.
            session.batch("INSTALL motherduck; LOAD motherduck")?;
            session.batch(&format!("SET motherduck_token = {}", sql::text(token.expose())))?;
        }
        for (database, place) in &self.attach {
            session.attach(*database, place, self.mode)?;
        }
        Ok(session)
    }
}

impl Session {
    fn attach(&self, database: Database, place: &str, mode: Mode) -> Result<(), OpenError> {
        let sql = match (&self.token, mode) {
            // MotherDuck gives one's own databases no alias.
            (Some(_), _) => format!("ATTACH {}", sql::text(place)),
            (None, Mode::Read | Mode::Look) => {
                format!("ATTACH {} AS {} (READ_ONLY)", sql::text(place), database.alias())
            }
            (None, _) => format!("ATTACH {} AS {}", sql::text(place), database.alias()),
        };
        if let Err(error) = self.connection.execute_batch(&sql) {
            let message = first_line(&error);
            return Err(match lock_holder(&message) {
                Some(by) => OpenError::Locked { by },
                None => OpenError::Failed(self.failure(&error).context(place)),
            });
        }
        if mode == Mode::Look {
            return Ok(());
        }
        let version = self.version(database)?;
        let wrong = match version {
            Some(version) if version > SCHEMA_VERSION => {
                format!(
                    "{place} is of version {version}, and this control knows {SCHEMA_VERSION}: take a newer one"
                )
            }
            _ if mode == Mode::Create || version == Some(SCHEMA_VERSION) => return Ok(()),
            Some(version) => {
                format!("{place} is of version {version}, and not {SCHEMA_VERSION}: run `control lake init`")
            }
            None => format!("{place} has no tables of the lake: run `control lake init`"),
        };
        Err(Failure::config(wrong).into())
    }

    /// The schema version of an attached database; None without tables.
    pub(super) fn version(&self, database: Database) -> Result<Option<i64>, Failure> {
        let alias = self.catalogs.apply(database.alias());
        let there = self.query(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'main' AND \
             table_name = 'schema_version'",
            [&alias],
            |row| row.get::<_, i64>(0),
        )?;
        if there == [0] {
            return Ok(None);
        }
        let sql = format!("SELECT max(version)::BIGINT FROM {}.main.schema_version", database.alias());
        Ok(self.query(&sql, [], |row| row.get(0))?.into_iter().next().flatten())
    }

    pub(super) fn interrupt_handle(&self) -> Arc<InterruptHandle> {
        self.connection.interrupt_handle()
    }

    /// One statement with bound values. In `sql`, `rawdb` and `anndb` stand for the databases.
    pub fn execute(&self, sql: &str, values: impl Bound) -> Result<usize, Failure> {
        self.connection.execute(&self.catalogs.apply(sql), values).map_err(|error| self.failure(&error))
    }

    /// The rows of one statement with bound values.
    pub fn query<T>(
        &self,
        sql: &str,
        values: impl Bound,
        row: impl FnMut(&Row<'_>) -> duckdb::Result<T>,
    ) -> Result<Vec<T>, Failure> {
        let rows = || self.connection.prepare(&self.catalogs.apply(sql))?.query_map(values, row)?.collect();
        let rows: duckdb::Result<_> = rows();
        rows.map_err(|error| self.failure(&error))
    }

    /// All of `work` or nothing.
    pub fn transaction<T>(&self, work: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.batch("BEGIN")?;
        match work(self) {
            Ok(value) => self.batch("COMMIT").map(|()| value),
            Err(failure) => {
                let _ = self.batch("ROLLBACK");
                Err(failure)
            }
        }
    }

    /// Runs a script over `params`.
    pub fn run(&self, script: Script, params: &Params) -> Result<(), Failure> {
        params.set(&self.connection).map_err(|error| self.failure(&error))?;
        self.batch(&self.catalogs.apply(script.sql())).inspect_err(|_| {
            // It may have ended within its transaction.
            let _ = self.connection.execute_batch("ROLLBACK");
        })
    }

    /// What a script counted: the rows (metric, value) of a temporary table.
    pub fn report(&self, table: &str) -> Result<BTreeMap<String, u64>, Failure> {
        let rows = self.query(&format!("FROM temp.{}", sql::name(table)), [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        rows.into_iter()
            .map(|(metric, value)| match value.map(u64::try_from) {
                Some(Ok(value)) => Ok((metric, value)),
                // A script that lacks its input says so in place of a metric.
                _ => Err(Failure::data(metric)),
            })
            .collect()
    }

    fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.connection.execute_batch(sql).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &duckdb::Error) -> Failure {
        let mut message = first_line(error);
        if let Some(token) = &self.token {
            message = message.replace(token.expose(), "REDACTED");
            if let Some((_, remedy)) = MOTHERDUCK_REFUSES.iter().find(|(says, _)| message.contains(says)) {
                return Failure::config(format!("MotherDuck refuses: {message}: {remedy}"));
            }
            if MOTHERDUCK_LATER.iter().any(|says| message.contains(says)) {
                return Failure::unreachable(format!(
                    "MotherDuck does not answer: {message}: try again later"
                ));
            }
            if message.contains("write-write conflict") || message.contains("Conflict on update") {
                return Failure::unreachable(format!("another writer came first: {message}: run it again"));
            }
        }
        let of_machine =
            ["No space left", "Permission denied", "Out of Memory", "Cannot open file", "Read-only"];
        if of_machine.iter().any(|says| message.contains(says)) {
            return Failure::config(message);
        }
        if message.starts_with("INTERRUPT") {
            return Failure::interrupted("the query was interrupted");
        }
        Failure::data(message)
    }
}

/// DuckDB's own words, without the SQL that it prints below them.
fn first_line(error: &duckdb::Error) -> String {
    let message = match error {
        duckdb::Error::DuckDBFailure(_, Some(message)) => message.clone(),
        error => error.to_string(),
    };
    let line = message.lines().next().unwrap_or_default();
    // What a script itself refuses, in its own words.
    line.strip_prefix("Invalid Input Error: ").unwrap_or(line).to_owned()
}

fn lock_holder(message: &str) -> Option<String> {
    let (_, says) = message.split_once("Could not set lock on file")?;
    let says = says.split_once("\": ").map_or(says, |(_, says)| says);
    let says = says.split_once(". See also").map_or(says, |(says, _)| says);
    Some(says.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let says = "IO Error: Could not set lock on file \"/l/md_raw_ocr.duckdb\": Conflicting lock is held in \
                    /usr/bin/duckdb (PID 7) by user ada. See also https://duckdb.org/docs/stable/connect/concurrency";
        assert_eq!(
            lock_holder(says).as_deref(),
            Some("Conflicting lock is held in /usr/bin/duckdb (PID 7) by user ada")
        );
        assert_eq!(lock_holder("IO Error: disk"), None);
    }
}
