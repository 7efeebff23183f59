use std::path::Path;

use proto::store::Env;

use super::*;
use crate::{cli::GlobalArgs, printer::Printer, settings::Settings};

pub(crate) fn ctx(folder: &Path, lake: &str) -> Ctx {
    let vars = [("PREANNOTATE_CACHE", folder.join("cache").display().to_string())];
    let env: Env = vars.map(|(name, value)| (name.to_owned(), value)).into();
    let flags = GlobalArgs {
        lake: Some(lake.to_owned()),
        root: Some(folder.join("data").display().to_string()),
        lock_timeout: Some(0),
        ..GlobalArgs::default()
    };
    let settings = Settings::resolve(&flags, &env).expect("settings");
    Ctx::new(settings, env, Printer::into(true, std::io::sink(), std::io::sink()), CancellationToken::new())
}

fn in_folder() -> (tempfile::TempDir, Ctx) {
    let folder = tempfile::tempdir().expect("a folder");
    let ctx = ctx(folder.path(), &folder.path().join("the 'lake'").display().to_string());
    (folder, ctx)
}

#[test]
fn motherduck_needs_its_token_and_no_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut without = ctx(folder.path(), "md:");
    let error = Lake::of(&without).expect_err("no token");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("MOTHERDUCK_TOKEN"), "{error}");
    without.settings.lake.motherduck_token = Some(Secret::new("hunter2"));
    let lake = Lake::of(&without).expect("a lake");
    assert_eq!(lake.uri(Database::Raw), "md:md_raw_ocr");
    assert!(!format!("{lake:?}").contains("hunter2"));
    assert_eq!(Lake::of(&ctx(folder.path(), "md:other")).expect_err("a name").exit_code(), 3);
}

#[tokio::test]
async fn a_lake_is_made_once_and_written_and_read() {
    let (_folder, ctx) = in_folder();
    let lake = Lake::of(&ctx).expect("a lake");
    let missing = lake.read(&[Database::Raw], |_| Ok(())).await.expect_err("no lake yet");
    assert_eq!(missing.exit_code(), 3);
    assert!(missing.to_string().contains("lake init"), "{missing}");
    for found in [None, Some(SCHEMA_VERSION)] {
        for database in Database::BOTH {
            assert_eq!(lake.init(*database).await, Ok(found));
        }
    }
    let sql = "INSERT INTO rawdb.main.tombstones VALUES (?, '2026-01-01', ?)";
    lake.write(Database::Raw, move |session| session.execute(sql, ["d'1", "why"])).await.expect("written");
    let undone = lake
        .write(Database::Raw, move |session| {
            session.transaction(|session| {
                session.execute(sql, ["d2", "why"])?;
                Err::<(), _>(Failure::gate("no"))
            })
        })
        .await;
    assert_eq!(undone, Err(Failure::gate("no")));
    let found: Vec<String> = lake
        .read(Database::BOTH, |session| {
            session.query("SELECT doc_id FROM rawdb.main.tombstones", [], |row| row.get(0))
        })
        .await
        .expect("read");
    assert_eq!(found, ["d'1"]);
    let read_only = lake.read(&[Database::Raw], move |session| session.execute(sql, ["d3", ""])).await;
    assert!(read_only.is_err());
}

#[tokio::test]
async fn another_version_and_another_file_are_refused() {
    let (_folder, ctx) = in_folder();
    let lake = Lake::of(&ctx).expect("a lake");
    lake.init(Database::Raw).await.expect("made");
    let sql = "INSERT INTO rawdb.main.schema_version VALUES (99, '2026-01-01')";
    lake.write(Database::Raw, move |session| session.execute(sql, [])).await.expect("written");
    for error in [
        lake.read(&[Database::Raw], |_| Ok(())).await.expect_err("newer"),
        lake.init(Database::Raw).await.expect_err("newer"),
    ] {
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("version 99"), "{error}");
    }
    let file = lake.path(Database::Annotated).expect("a path");
    std::fs::write(&file, "no database at all, but long enough to be looked at").expect("written");
    let error = lake.read(&[Database::Annotated], |_| Ok(())).await.expect_err("no database");
    assert_eq!(error.exit_code(), 5, "{error}");
    assert!(error.to_string().contains("md_annotated.duckdb"), "{error}");
}

#[tokio::test]
async fn a_stopped_query_ends_and_changes_nothing() {
    let (_folder, ctx) = in_folder();
    let lake = Lake::of(&ctx).expect("a lake");
    lake.init(Database::Raw).await.expect("made");
    let (started, has_started) = tokio::sync::oneshot::channel();
    let stop = ctx.shutdown.clone();
    tokio::spawn(async move {
        let _ = has_started.await;
        stop.cancel();
    });
    let endless = "INSERT INTO rawdb.main.tombstones \
                   SELECT (a.range + b.range)::VARCHAR, '2026-01-01', '' FROM range(1000000000) AS a, range(1000000000) AS b";
    let done = lake
        .write(Database::Raw, move |session| {
            let _ = started.send(());
            session.execute(endless, [])
        })
        .await;
    assert_eq!(done.expect_err("stopped").exit_code(), 130);
    let lake = Lake { shutdown: CancellationToken::new(), ..lake };
    let sql = "SELECT count(*) FROM rawdb.main.tombstones";
    let rows = lake.read(&[Database::Raw], move |session| session.query(sql, [], |row| row.get::<_, i64>(0)));
    assert_eq!(rows.await, Ok(vec![0]));
}

#[tokio::test]
async fn versions_are_told_and_the_home_of_extensions_is_there() {
    let (_folder, ctx) = in_folder();
    let lake = Lake::of(&ctx).expect("a lake");
    assert_eq!(lake.versions().await.expect_err("no lake").exit_code(), 3);
    for database in Database::BOTH {
        lake.init(*database).await.expect("made");
    }
    lake.write(Database::Annotated, |session| session.execute("DROP TABLE anndb.main.schema_version", []))
        .await
        .expect("dropped");
    let versions = vec![(Database::Raw, Some(SCHEMA_VERSION)), (Database::Annotated, None)];
    assert_eq!(lake.versions().await, Ok(versions));
    assert!(ctx.settings.cache.join("duckdb").is_dir(), "DuckDB installs no extension without its home");
}
