//! The SQL scripts of `sql/motherduck`, the very files that people run by hand, and what `control` puts into them.
//!
//! - A script finds its input in a one-row temporary table `_params`, whose values are bound, never spliced.
//! - What cannot be bound (`ATTACH`, `SET`, `COPY … TO`, names) is quoted by [`text`] or [`name`] and nothing else.
//! - `rawdb` and `anndb` stand for the two catalogs; [`Catalogs::apply`] is the one place that renames them.

use duckdb::{
    Connection,
    types::{TimeUnit, Value},
};

/// An embedded script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    DdlRaw,
    DdlAnnotated,
    LoadRaw,
    Merge,
    LoadAnnotated,
    Checks,
}

impl Script {
    pub const ALL: [Self; 6] =
        [Self::DdlRaw, Self::DdlAnnotated, Self::LoadRaw, Self::Merge, Self::LoadAnnotated, Self::Checks];

    /// Its file in `sql/motherduck`.
    pub fn file(self) -> &'static str {
        match self {
            Self::DdlRaw => "ddl_raw.sql",
            Self::DdlAnnotated => "ddl_annotated.sql",
            Self::LoadRaw => "examples_load_parquet.sql",
            Self::Merge => "merge_suggestions_for_argilla.sql",
            Self::LoadAnnotated => "load_annotated_parquet.sql",
            Self::Checks => "checks_integrity.sql",
        }
    }

    pub fn sql(self) -> &'static str {
        match self {
            Self::DdlRaw => include_str!("../../sql/motherduck/ddl_raw.sql"),
            Self::DdlAnnotated => include_str!("../../sql/motherduck/ddl_annotated.sql"),
            Self::LoadRaw => include_str!("../../sql/motherduck/examples_load_parquet.sql"),
            Self::Merge => include_str!("../../sql/motherduck/merge_suggestions_for_argilla.sql"),
            Self::LoadAnnotated => include_str!("../../sql/motherduck/load_annotated_parquet.sql"),
            Self::Checks => include_str!("../../sql/motherduck/checks_integrity.sql"),
        }
    }
}

/// What the two databases are called where the SQL runs: MotherDuck may refuse aliases for one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogs {
    pub raw: String,
    pub annotated: String,
}

impl Default for Catalogs {
    fn default() -> Self {
        Self { raw: "rawdb".into(), annotated: "anndb".into() }
    }
}

impl Catalogs {
    /// `sql` with `rawdb` and `anndb` replaced wherever they stand as a whole word.
    pub fn apply(&self, sql: &str) -> String {
        replace_word(&replace_word(sql, "rawdb", &self.raw), "anndb", &self.annotated)
    }
}

fn replace_word(sql: &str, word: &str, by: &str) -> String {
    if word == by {
        return sql.to_owned();
    }
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut replaced = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let whole = !before.ends_with(of_word) && !after.starts_with(of_word);
        replaced.push_str(before);
        replaced.push_str(if whole { by } else { word });
        rest = after;
    }
    replaced + rest
}

/// A string literal. DuckDB knows no escape in one but the doubled quote.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// An identifier.
pub fn name(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// A path as DuckDB's readers take it, in which `*`, `?` and `[` mean themselves.
pub fn file(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut escaped, c| {
        match c {
            '*' | '?' | '[' => escaped.extend(['[', c, ']']),
            c => escaped.push(c),
        }
        escaped
    })
}

/// The one row of `_params`. A list is bound as JSON, as DuckDB's C interface binds no lists.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(&'static str, &'static str, Value)>);

impl Params {
    #[must_use]
    pub fn text(mut self, name: &'static str, value: Option<&str>) -> Self {
        let value = value.map_or(Value::Null, |value| Value::Text(value.to_owned()));
        self.0.push((name, "?::VARCHAR", value));
        self
    }

    #[must_use]
    pub fn texts(mut self, name: &'static str, values: Option<&[String]>) -> Self {
        let value = values.map_or(Value::Null, |values| Value::Text(serde_json::json!(values).to_string()));
        self.0.push((name, "?::JSON::VARCHAR[]", value));
        self
    }

    /// Files to read, each by its own name.
    #[must_use]
    pub fn files(self, name: &'static str, paths: &[String]) -> Self {
        let paths: Vec<_> = paths.iter().map(|path| file(path)).collect();
        self.texts(name, Some(&paths))
    }

    #[must_use]
    pub fn number(mut self, name: &'static str, value: Option<i64>) -> Self {
        self.0.push((name, "?::BIGINT", value.map_or(Value::Null, Value::BigInt)));
        self
    }

    #[must_use]
    pub fn time(mut self, name: &'static str, value: chrono::DateTime<chrono::Utc>) -> Self {
        self.0.push((
            name,
            "?::TIMESTAMP",
            Value::Timestamp(TimeUnit::Microsecond, value.timestamp_micros()),
        ));
        self
    }

    /// Makes `_params` anew.
    pub fn set(&self, connection: &Connection) -> duckdb::Result<()> {
        if self.0.is_empty() {
            return connection.execute_batch("DROP TABLE IF EXISTS temp._params");
        }
        let columns: Vec<_> =
            self.0.iter().map(|(column, bound, _)| format!("{bound} AS {}", name(column))).collect();
        let sql = format!("CREATE OR REPLACE TEMP TABLE _params AS SELECT {}", columns.join(", "));
        let values: Vec<_> = self.0.iter().map(|(_, _, value)| value).collect();
        connection.execute(&sql, duckdb::params_from_iter(values)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connection() -> Connection {
        Connection::open_in_memory().expect("DuckDB opens")
    }

    #[test]
    fn catalogs_are_renamed_as_whole_words() {
        let catalogs = Catalogs { raw: "md_raw_ocr".into(), annotated: "md_annotated".into() };
        assert_eq!(
            catalogs.apply("FROM rawdb.main.t, 'rawdb', xrawdb, rawdb_2, anndb"),
            "FROM md_raw_ocr.main.t, 'md_raw_ocr', xrawdb, rawdb_2, md_annotated"
        );
        for script in Script::ALL {
            assert_eq!(Catalogs::default().apply(script.sql()), script.sql());
            let renamed = catalogs.apply(script.sql());
            assert!(!renamed.contains("rawdb") && !renamed.contains("anndb"), "{}", script.file());
        }
    }

    #[test]
    fn params_hold_odd_values() {
        let connection = connection();
        let odd = ["a'b", "c\"d", "[x]", "\u{0}", "𝔘\r\n", ""].map(str::to_owned);
        let params = Params::default()
            .texts("doc_ids", Some(&odd))
            .text("one", Some("'; DROP TABLE x; --"))
            .text("none", None)
            .number("n", Some(7))
            .time("t", chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a time"));
        params.set(&connection).expect("set");
        params.set(&connection).expect("set again");
        let sql = "SELECT to_json(doc_ids)::VARCHAR, one, none, n, epoch_us(t) FROM _params";
        let (ids, one, none, n, t): (String, String, Option<String>, i64, i64) = connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .expect("read");
        assert_eq!(serde_json::from_str::<Vec<String>>(&ids).expect("JSON"), odd);
        assert_eq!((one.as_str(), none, n), ("'; DROP TABLE x; --", None, 7));
        assert_eq!(t, 1_700_000_000_123_456);
    }

    #[test]
    fn paths_that_look_like_patterns_are_read_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = connection();
        for odd in ["a*b", "a?b", "a[b]c", "it's", "{x,y}", "a%20b=1"] {
            let path = folder.path().join(format!("{odd}.parquet")).display().to_string();
            connection.execute_batch(&format!("COPY (SELECT 1 AS a) TO {}", text(&path))).expect("written");
            let read = format!(
                "SELECT count(*) FROM read_parquet({}, hive_partitioning = false)",
                text(&file(&path))
            );
            let rows: i64 = connection.query_row(&read, [], |row| row.get(0)).expect(odd);
            assert_eq!(rows, 1, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn quoted_text_and_names_come_back(value in "[^\u{0}]{0,30}", column in "[^\u{0}]{1,20}") {
            let connection = connection();
            let sql = format!("SELECT {} AS {}", text(&value), name(&column));
            let mut statement = connection.prepare(&sql).expect("parses");
            let back: String = statement.query_row([], |row| row.get(0)).expect("read");
            prop_assert_eq!(back, value);
            prop_assert_eq!(statement.column_name(0).expect("a column"), &column);
        }
    }
}
