//! The object store: the calls of `proto::store`, over a folder and over S3.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use proto::{
    hash::sha256_hex,
    ids::DocId,
    keys::{Key, raw_pages},
    store::{Created, Env, Store, StoreError},
};
use tokio::io::AsyncWriteExt as _;

use super::{Case, Seen, cases, token};

/// More than the writer keeps before it starts a multipart upload (10 MiB), and no multiple of a part.
const LARGE: usize = (23 << 20) + 17;

/// A root of its own in a store.
pub struct Target {
    store: Store,
    uri: String,
    /// How it was opened; the secret in it must show in no message.
    env: Env,
}

impl Target {
    pub fn folder(path: &Path) -> Result<Self> {
        Self::open(path.to_str().context("a folder in UTF-8")?, Env::new())
    }

    /// `env`: `AWS_*`.
    pub fn s3(bucket: &str, env: Env) -> Result<Self> {
        Self::open(&format!("s3://{bucket}/conformance-{}", token()), env)
    }

    fn open(uri: &str, env: Env) -> Result<Self> {
        Ok(Self { store: Store::open(uri, &env)?, uri: uri.to_owned(), env })
    }

    fn is_folder(&self) -> bool {
        !self.uri.starts_with("s3://")
    }

    /// The same root, opened with one variable changed.
    fn with(&self, name: &str, value: &str) -> Result<Store> {
        let mut env = self.env.clone();
        env.insert(name.to_owned(), value.to_owned());
        Ok(Store::open(&self.uri, &env)?)
    }

    /// What a message may say: the URI and no secret. Gives it without the parts that differ from run to run.
    fn told(&self, error: &StoreError, key: &Key) -> Result<()> {
        let text = format!("{error} {error:?}");
        ensure!(text.contains(&self.store.uri_of(key)), "the message does not name the URI: {error}");
        let secret = self.env.get("AWS_SECRET_ACCESS_KEY").map_or("no secret", String::as_str);
        ensure!(!text.contains(secret), "the message holds the secret key");
        Ok(())
    }
}

pub fn cases() -> Vec<Case<Target>> {
    cases![
        whole => "put, get, head, stream, put again, delete",
        odd_keys => "keys with blanks, %, quotes, dots, Unicode",
        listing => "a listing is sorted and stays below its prefix",
        many => "a listing of more than one answer (1,000 keys)",
        writer => "a large object through a writer (multipart)",
        abandoned => "a writer that is dropped leaves nothing",
        create => "conditional put: absent, present, after a delete",
        race => "conditional put: one winner of sixteen",
        missing => "a missing object",
        bucket => "a missing bucket",
        denied => "wrong credentials",
        unreachable => "nobody at the endpoint",
        no_credentials => "an endpoint without credentials",
    ]
}

fn key(name: &str) -> Key {
    Key::from_listing(name)
}

async fn whole(target: &Target) -> Result<Seen> {
    let (store, at) = (&target.store, key("whole/object"));
    let mut seen = Seen::default();
    store.put(&at, "first").await?;
    ensure!(store.get(&at).await? == "first", "what was put comes back");
    let first = store.head(&at).await?;
    store.put(&at, "the second").await?;
    let second = store.head_opt(&at).await?.context("it is there")?;
    ensure!((first.bytes, second.bytes) == (5, 10) && second.key == at, "sizes {first:?} {second:?}");
    let etags = first.etag.is_some() && first.etag != second.etag;
    seen.note(format!("another content has another etag: {etags}"));
    let chunks: Vec<Bytes> = store.stream(&at).await?.try_collect().await?;
    ensure!(chunks.concat() == b"the second", "the stream is the object");
    store.put(&at, Bytes::new()).await?;
    ensure!(store.get(&at).await?.is_empty(), "an object may be empty");
    store.delete(&at).await?;
    ensure!(store.get_opt(&at).await?.is_none(), "it is deleted");
    Ok(seen)
}

async fn odd_keys(target: &Target) -> Result<Seen> {
    let store = &target.store;
    let mut wanted = BTreeSet::new();
    for name in
        ["a b", "100%", "a%2Fb", "..a", "a..b", "it's", "\"q\"", "é船😀", "a+b=c&d", "#?", "~", "[x]*"]
    {
        wanted.insert(key(&format!("odd/{name}/object")));
    }
    for id in ["../a b/c%\"'", "..", ".", "é\u{202e}x", "a%2Fb", "00123", "a\\b", "\u{feff}"] {
        let key = raw_pages(&DocId::new(id)?, 1);
        wanted.insert(Key::from_listing(format!("odd/{key}")));
    }
    for key in &wanted {
        let put = store.put(key, key.as_str().to_owned()).await;
        put.with_context(|| format!("put {key}"))?;
    }
    let listed = store.list_sorted("odd/").await?;
    let keys: BTreeSet<Key> = listed.iter().map(|object| object.key.clone()).collect();
    ensure!(keys == wanted, "listed {:?}", keys.symmetric_difference(&wanted).collect::<Vec<_>>());
    for object in &listed {
        ensure!(
            store.get(&object.key).await? == object.key.as_str(),
            "{} holds another's content",
            object.key
        );
    }
    let mut seen = Seen::default();
    for object in listed {
        seen.note(format!("{} {}", object.key, object.bytes));
    }
    Ok(seen)
}

async fn listing(target: &Target) -> Result<Seen> {
    let store = &target.store;
    ensure!(store.list_sorted("nothing/here/").await?.is_empty(), "an empty prefix is an empty list");
    for name in ["list/b", "list/a/2", "list/a/10", "list/B", "list-not/a", "lis", "list/a.b"] {
        store.put(&key(name), name.to_owned()).await?;
    }
    let mut seen = Seen::default();
    for object in store.list_sorted("list/").await? {
        seen.note(&object.key);
    }
    let wanted = ["list/B", "list/a.b", "list/a/10", "list/a/2", "list/b"];
    ensure!(seen.lines == wanted, "listed {:?}", seen.lines);
    Ok(seen)
}

async fn many(target: &Target) -> Result<Seen> {
    let store = &target.store;
    let keys: Vec<Key> = (0..1005).map(|n| key(&format!("many/{n:04}"))).collect();
    for some in keys.chunks(64) {
        for put in join_all(some.iter().map(|key| store.put(key, "x"))).await {
            put?;
        }
    }
    let listed: Vec<Key> = store.list_sorted("many/").await?.into_iter().map(|object| object.key).collect();
    ensure!(listed == keys, "{} of {} are listed in order", listed.len(), keys.len());
    Ok(Seen::default())
}

async fn writer(target: &Target) -> Result<Seen> {
    let (store, at) = (&target.store, key("large/object"));
    let content: Vec<u8> = (0..LARGE).map(|n| u8::try_from(n * 31 % 251).unwrap_or_default()).collect();
    let mut writer = store.writer(&at)?;
    for piece in content.chunks(1 << 20) {
        writer.write_all(piece).await?;
    }
    ensure!(store.get_opt(&at).await?.is_none(), "it shows before it is whole");
    writer.shutdown().await?;
    let head = store.head(&at).await?;
    ensure!(head.bytes == LARGE as u64, "its size");
    // S3 tells the number of parts at the end of the ETag.
    let parts = head.etag.as_ref().and_then(|etag| etag.trim_matches('"').rsplit_once('-')?.1.parse().ok());
    ensure!(target.is_folder() || parts.is_some_and(|parts: u32| parts > 1), "not in parts: {head:?}");
    ensure!(sha256_hex(store.get(&at).await?) == sha256_hex(&content), "its content");
    store.delete(&at).await?;
    Ok(Seen::default())
}

async fn abandoned(target: &Target) -> Result<Seen> {
    let (store, at) = (&target.store, key("abandoned/object"));
    let mut writer = store.writer(&at)?;
    for _ in 0..12 {
        writer.write_all(&vec![1; 1 << 20]).await?;
    }
    drop(writer);
    ensure!(store.get_opt(&at).await?.is_none(), "half an object shows");
    let listed = store.list_sorted("abandoned/").await?;
    ensure!(listed.iter().all(|object| object.key != at), "half an object is listed");
    Ok(Seen::default())
}

async fn create(target: &Target) -> Result<Seen> {
    let (store, at) = (&target.store, key("create/object"));
    let mut seen = Seen::default();
    for content in ["first", "second"] {
        seen.note(format!("{content}: {:?}", store.put_create(&at, content).await?));
        ensure!(store.get(&at).await? == "first", "the first stands");
    }
    store.delete(&at).await?;
    seen.note(format!("after a delete: {:?}", store.put_create(&at, "third").await?));
    ensure!(seen.lines == ["first: New", "second: Exists", "after a delete: New"], "{:?}", seen.lines);
    Ok(seen)
}

async fn race(target: &Target) -> Result<Seen> {
    let store = &target.store;
    for round in 0..4 {
        let at = key(&format!("race/{round}"));
        let made = join_all((0..16).map(|n| store.put_create(&at, n.to_string()))).await;
        let mut winners = Vec::new();
        for (n, made) in made.into_iter().enumerate() {
            if made? == Created::New {
                winners.push(n.to_string());
            }
        }
        let [winner] = winners.as_slice() else { bail!("{} winners", winners.len()) };
        ensure!(store.get(&at).await? == winner.as_bytes(), "the winner's content stands");
    }
    Ok(Seen::default())
}

async fn missing(target: &Target) -> Result<Seen> {
    let (store, at) = (&target.store, key("missing/é'%/object"));
    for error in [store.get(&at).await.err(), store.head(&at).await.err(), store.stream(&at).await.err()] {
        let error = error.context("there is no such object")?;
        ensure!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
        target.told(&error, &at)?;
    }
    ensure!(store.get_opt(&at).await?.is_none() && store.head_opt(&at).await?.is_none(), "none");
    store.delete(&at).await.context("a delete of nothing is fine")?;
    Ok(Seen::default())
}

async fn bucket(target: &Target) -> Result<Seen> {
    if target.is_folder() {
        return Ok(Seen::absent());
    }
    let store = Store::open("s3://no-such-bucket-here/p", &target.env)?;
    let put = store.put(&key("a"), "x").await.err().context("a put into no bucket succeeds")?;
    ensure!(put.to_string().contains("s3://no-such-bucket-here/p/a"), "{put}");
    ensure!(matches!(put, StoreError::NotFound { .. }), "{put:?}");
    let list = store.list_sorted("a/").await.err().context("a listing of no bucket succeeds")?;
    ensure!(list.to_string().contains("s3://no-such-bucket-here/p"), "{list}");
    Ok(Seen::default())
}

async fn denied(target: &Target) -> Result<Seen> {
    if target.is_folder() {
        return Ok(Seen::absent());
    }
    let at = key("denied");
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2"), ("AWS_ACCESS_KEY_ID", "nobody")] {
        let store = target.with(name, value)?;
        let errors = [
            store.put(&at, "x").await.err(),
            store.put_create(&at, "x").await.err(),
            store.get(&at).await.err(),
            store.list_sorted("denied/").await.err(),
        ];
        for error in errors {
            let error = error.with_context(|| format!("a wrong {name} is let in"))?;
            ensure!(matches!(error, StoreError::Denied { .. }), "{name}: {error:?}");
            ensure!(!format!("{error} {error:?}").contains("hunter2"), "the message holds the secret key");
            target.told(&error, &at)?;
        }
    }
    Ok(Seen::default())
}

async fn unreachable(target: &Target) -> Result<Seen> {
    if target.is_folder() {
        return Ok(Seen::absent());
    }
    // Bound and never accepted from is slow; a port that was just free answers with a refusal at once.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let store = target.with("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))?;
    let at = key("unreachable");
    let error = store.get(&at).await.err().context("nobody answers")?;
    ensure!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    target.told(&error, &at)?;
    Ok(Seen::default())
}

async fn no_credentials(target: &Target) -> Result<Seen> {
    if target.is_folder() {
        return Ok(Seen::absent());
    }
    let mut env = target.env.clone();
    env.remove("AWS_ACCESS_KEY_ID");
    env.remove("AWS_SECRET_ACCESS_KEY");
    let error = Store::open(&target.uri, &env).err().context("opened without keys")?;
    ensure!(matches!(error, StoreError::NoCredentials { .. }), "{error:?}");
    ensure!(error.to_string().contains(&target.uri), "{error}");
    Ok(Seen::default())
}
