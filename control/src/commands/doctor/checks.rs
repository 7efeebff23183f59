//! One look at each prerequisite: what was found, or a failure that says what to do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use proto::{
    grpc::{DescribeRequest, DescribeResponse, Engine, ModelServer},
    keys::{self, Key},
    store::{Created, RootUri, Store},
};

use crate::{
    agent::Agent,
    commands::argilla as argilla_commands,
    ctx::Ctx,
    env,
    failure::Failure,
    lake::{Database, Lake},
};

/// Less than this on a disk stops a pilot halfway.
const MIN_FREE: u64 = 1 << 30;
/// Beyond 15 minutes S3 refuses requests; long before that, times of one run do not fit together.
const MAX_SKEW: TimeDelta = TimeDelta::seconds(120);
/// What lies under the root for a moment. `control` alone writes it, and nothing reads it.
const PROBE: &str = "_doctor/";

#[derive(Debug, Default)]
pub(super) struct Found {
    pub says: String,
    pub versions: BTreeMap<String, String>,
    /// Another machine's clock, and ours when it was read.
    pub clock: Option<Clock>,
}

#[derive(Debug)]
pub(super) struct Clock {
    pub whose: &'static str,
    pub theirs: DateTime<Utc>,
    pub ours: DateTime<Utc>,
}

fn says(says: String) -> Found {
    Found { says, ..Found::default() }
}

/// Reads, writes, lists and deletes; and whether a create-only write is one, which commits rely on.
pub(super) async fn store(ctx: &Ctx) -> Result<Found, Failure> {
    let store = ctx.store()?;
    if let RootUri::Folder(folder) = store.root()
        && !folder.is_dir()
    {
        return Err(Failure::config(format!(
            "there is no folder {}: give --root or {} where the OCR job writes md_raw_ocr/",
            folder.display(),
            env::ROOT
        )));
    }
    let ours = Utc::now();
    let key = Key::from_listing(format!("{PROBE}{}-{}", std::process::id(), ours.timestamp_micros()));
    let probed = probe(store, &key).await;
    // Also after a failure: what was written is taken away.
    let deleted = store.delete(&key).await;
    if let Some(folder) = store.local_path(&Key::from_listing(PROBE.trim_end_matches('/'))) {
        let _ = std::fs::remove_dir(folder);
    }
    let theirs = probed?;
    deleted?;
    let ocr = match store.list(keys::RAW_DOCUMENTS).next().await.transpose()? {
        Some(_) => "OCR output is there",
        None => "no OCR output yet",
    };
    let clock = matches!(store.root(), RootUri::Bucket { .. }).then_some(Clock {
        whose: "the object store's",
        theirs,
        ours,
    });
    let says = format!("{}: can be read and written; {ocr}", store.root());
    Ok(Found { says, clock, ..Found::default() })
}

async fn probe(store: &Store, key: &Key) -> Result<DateTime<Utc>, Failure> {
    const CONTENT: &[u8] = b"control doctor looks whether it can write here";
    store.put_create(key, CONTENT).await?;
    if store.put_create(key, &b"a second write"[..]).await? != Created::Exists
        || store.get(key).await? != CONTENT
    {
        return Err(Failure::config(format!(
            "{}: a create-only write replaced what was there, and commits rely on that: use a store that knows \
             conditional writes (If-None-Match)",
            store.root()
        )));
    }
    Ok(store.head(key).await?.last_modified)
}

pub(super) async fn lake(ctx: &Ctx) -> Result<Found, Failure> {
    let lake = Lake::of(ctx)?;
    let place = &ctx.settings.lake.place;
    let missing =
        |database: &Database| !place.starts_with("md:") && !Path::new(&lake.uri(*database)).is_file();
    if Database::BOTH.iter().all(missing) {
        let folder = std::path::absolute(place).map_err(|e| Failure::file("find", Path::new(place), &e))?;
        can_write(&existing(&folder))?;
        return Ok(says(format!("{}: not made yet, `control lake init` makes it", folder.display())));
    }
    for database in [Database::Raw, Database::Annotated] {
        let databases = match database {
            Database::Raw => &[Database::Raw],
            Database::Annotated => &[Database::Annotated],
        };
        lake.read(databases, |session| session.query("SELECT 1", [], |_| Ok(()))).await?;
    }
    Ok(says(format!("{place}: both databases open, tables are of this version")))
}

pub(super) async fn agent(ctx: &Ctx) -> Result<Found, Failure> {
    let url = &ctx.settings.agent.url;
    let mut agent = Agent::connect(&ctx.settings).await?;
    if !agent.serves().await? {
        return Err(Failure::unreachable(format!(
            "the agent at {url} takes no work: it starts or it drains; look at its log, then try again"
        )));
    }
    let ours = Utc::now();
    let told = agent.describe(DescribeRequest::default()).await?;
    same_root(ctx.store()?.root(), &told.root_uri)?;
    if let Some(server) = &told.model_server {
        model_server(server)?;
    }
    let theirs =
        told.now.and_then(|now| DateTime::from_timestamp(now.seconds, u32::try_from(now.nanos).ok()?));
    let clock = theirs.map(|theirs| Clock { whose: "the agent's", theirs, ours });
    Ok(Found { says: format!("{url} serves {}", engine(&told)), versions: versions_of(&told), clock })
}

fn engine(told: &DescribeResponse) -> String {
    let Some(provenance) = &told.provenance else { return "an engine that it does not name".to_owned() };
    let server = told.model_server.as_ref();
    let on_cpu = server.is_some_and(|server| server.size_bytes > 0 && server.size_vram_bytes == 0);
    let cpu = if on_cpu { "; it runs on the CPU, which is slow" } else { "" };
    match provenance.engine() {
        Engine::Rules | Engine::Unspecified => "the rules engine".to_owned(),
        Engine::Ollama => format!("model {}{cpu}", provenance.model),
        Engine::Hybrid => format!("rules and model {}{cpu}", provenance.model),
    }
}

fn model_server(server: &ModelServer) -> Result<(), Failure> {
    if !server.reachable {
        return Err(Failure::unreachable(format!(
            "the agent's model server {} does not answer: {}",
            server.url, server.error
        )));
    }
    if !server.model_present {
        return Err(Failure::config(format!(
            "the agent's model server {} has not got the model: {}",
            server.url, server.error
        )));
    }
    Ok(())
}

/// A batch must lie below the agent's root.
fn same_root(ours: &RootUri, theirs: &str) -> Result<(), Failure> {
    match theirs.parse::<RootUri>() {
        Ok(root) if root.contains(ours) => Ok(()),
        _ => Err(Failure::config(format!(
            "the agent works under {theirs}, and this command under {ours}: start the agent with --root {ours}, or \
             give --root here"
        ))),
    }
}

pub(super) fn versions_of(told: &DescribeResponse) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("dgx-agent".to_owned(), told.agent_version.clone())]);
    if let Some(server) = told.model_server.as_ref().filter(|server| !server.version.is_empty()) {
        versions.insert("ollama".to_owned(), server.version.clone());
    }
    versions
}

pub(super) async fn argilla(ctx: &Ctx) -> Result<Found, Failure> {
    let client = argilla_commands::connect(ctx)?;
    let version = client.version().await?;
    let me = client.me().await?;
    let workspace = &ctx.settings.argilla.workspace;
    let there = client.workspaces().await?.iter().any(|found| found.name == *workspace);
    let url = ctx.settings.argilla.url.as_deref().unwrap_or_default();
    let known = match (there, me.role.as_str()) {
        (_, "annotator") => {
            return Err(Failure::config(format!(
                "{:?} is an annotator in Argilla at {url}, who may not push records: set {} to the key of an owner \
                 or admin",
                me.username,
                env::ARGILLA_API_KEY
            )));
        }
        (true, _) => format!("workspace {workspace:?}"),
        (false, "owner") => format!("workspace {workspace:?} will be made"),
        (false, _) => {
            return Err(Failure::config(format!(
                "Argilla at {url} has no workspace {workspace:?} for {:?}: ask an owner to make it, or set {}",
                me.username,
                env::ARGILLA_WORKSPACE
            )));
        }
    };
    let says = format!("{url}: {:?} ({}), {known}", me.username, me.role);
    Ok(Found { says, versions: BTreeMap::from([("argilla".to_owned(), version)]), clock: None })
}

/// Where staged objects, what DuckDB spills, and the lake go.
pub(super) async fn disk(ctx: &Ctx) -> Result<Found, Failure> {
    let mut places = vec![ctx.settings.cache.clone()];
    if !ctx.settings.lake.place.starts_with("md:") {
        places.push(PathBuf::from(&ctx.settings.lake.place));
    }
    let mut told = Vec::new();
    for place in places {
        let place = std::path::absolute(&place).map_err(|error| Failure::file("find", &place, &error))?;
        let there = existing(&place);
        can_write(&there)?;
        match free(&there).await {
            Some(bytes) if bytes < MIN_FREE => {
                return Err(Failure::config(format!(
                    "{} has {} left: make room (at least {}), or set {} elsewhere",
                    place.display(),
                    mebibytes(bytes),
                    mebibytes(MIN_FREE),
                    env::CACHE
                )));
            }
            Some(bytes) => told.push(format!("{} has {} left", place.display(), mebibytes(bytes))),
            None => told.push(format!("{} can be written", place.display())),
        }
    }
    Ok(says(told.join(", ")))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// As POSIX `df` tells it; None where it does not run.
async fn free(folder: &Path) -> Option<u64> {
    let output = tokio::process::Command::new("df").arg("-Pk").arg(folder).output().await.ok()?;
    available(&String::from_utf8(output.stdout).ok()?)
}

fn available(df: &str) -> Option<u64> {
    let kibibytes: u64 = df.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The folder, or the nearest one above it that is there.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn can_write(folder: &Path) -> Result<(), Failure> {
    tempfile::NamedTempFile::new_in(folder)
        .map(drop)
        .map_err(|error| Failure::file("write in", folder, &error))
}

pub(super) fn clock(clocks: &[Clock]) -> Result<Found, Failure> {
    let mut told = Vec::new();
    for clock in clocks {
        let skew = clock.ours - clock.theirs;
        if skew.abs() > MAX_SKEW {
            return Err(Failure::config(format!(
                "this clock differs from {} by {} s: set both by NTP",
                clock.whose,
                skew.num_seconds()
            )));
        }
        told.push(format!("agrees with {}", clock.whose));
    }
    if told.is_empty() {
        told.push(format!("{}, with no other to compare", Utc::now().format("%Y-%m-%d %H:%M UTC")));
    }
    Ok(says(told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read_as_posix_has_it() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 40 60 40% /a b\n";
        assert_eq!(available(df), Some(60 << 10));
        assert_eq!(available("df: no such file\n"), None);
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let ours = Utc::now();
        let clock_of = |whose, seconds| Clock { whose, theirs: ours + TimeDelta::seconds(seconds), ours };
        assert!(clock(&[]).is_ok());
        assert!(clock(&[clock_of("the agent's", 60)]).is_ok());
        let error = clock(&[clock_of("the agent's", 60), clock_of("the object store's", -600)]);
        assert!(
            error.is_err_and(|e| e.exit_code() == 3 && e.to_string().contains("object store's by 600 s"))
        );
    }

    #[test]
    fn the_agent_must_work_where_we_do() {
        let ours: RootUri = "/data/x".parse().expect("a root");
        assert!(same_root(&ours, "/data").is_ok() && same_root(&ours, "/data/x/").is_ok());
        assert!(same_root(&ours, "/other").is_err() && same_root(&ours, "").is_err());
    }

    #[tokio::test]
    async fn a_folder_is_looked_at_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_str().expect("UTF-8");
        let store = Store::open(root, &proto::store::Env::new()).expect("a store");
        let key = Key::from_listing("_doctor/x");
        probe(&store, &key).await.expect("as it must be");
        store.delete(&key).await.expect("deleted");
    }
}
