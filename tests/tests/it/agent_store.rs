//! The agent over a store that fails in all ways it can; and how little it asks of one that does not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use dgx_agent::{
    batch::{BatchError, Done, PATIENCE, Pipeline, Progress},
    config::EngineConfig,
};
use e2e::{
    batch_dir::{BatchDir, page, parts},
    campaign::made,
    faulty_store::{Fault, FaultyStore, Weather},
    ollama_sim::audit::Made,
    soak,
};
use futures::{StreamExt, future, stream};
use object_store::path::Path;
use proto::{
    docs::{BatchSpec, CommitRecord, Manifest},
    hash::sha256_hex,
    keys::{BatchKeys, Key, PartKind},
    labelset::Labelset,
    rows::BatchPage,
    store::{Env, Store},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

const BATCH: &str = "b";

/// Quick to make ready, which each try does.
const LABELS: &str = r#"
name = "numbers"
version = "1"
guidelines = ""
overlap_order = ["NUMBER"]
fragments = { gap = '[: ]{1,3}' }
[[labels]]
name = "NUMBER"
title = "number"
description = "a number"
examples = ["1001", "1002", "9999"]
pattern = '[0-9]{4}'
[[labels.rules]]
cues = ['number']
"#;

fn open(store: &FaultyStore) -> Store {
    Store::with_inner(Arc::new(store.clone()), Path::default(), "s3://faulty".parse().unwrap())
}

fn pipeline(store: &FaultyStore) -> Pipeline {
    let config = EngineConfig::resolve(Default::default(), &Env::new()).unwrap();
    Pipeline::new(open(store), Labelset::parse(LABELS).unwrap(), config)
}

async fn attempt(pipeline: &Pipeline) -> Result<Done, BatchError> {
    let plan = pipeline.plan(&BATCH.parse().unwrap(), None, None).await?;
    Box::pin(pipeline.run(&plan, None, &watch::channel(Progress::default()).0, CancellationToken::new()))
        .await
}

/// Three pages in each part, the last of which stands in the next part, too.
fn pages(part_count: i32) -> Vec<Vec<BatchPage>> {
    let one = |part: i32, nth: i32| {
        let number = 1000 + part * 10 + nth;
        page("d", number, &format!("The number {number} and the number: {}.", number + 1))
    };
    (0..part_count).map(|part| vec![one(part, 0), one(part, 1), one(part, 2), one(part + 1, 2)]).collect()
}

async fn spec(dir: &BatchDir) -> BatchSpec {
    let labelset = Labelset::parse(LABELS).unwrap();
    let mut spec = dir.spec().await.unwrap();
    spec.labelset.sha256 = labelset.sha256().to_owned();
    spec.labelset.toml = LABELS.to_owned();
    spec.no_pilot = Some("a test".into());
    spec
}

fn dir(store: &FaultyStore) -> BatchDir {
    let batch = BATCH.parse().unwrap();
    BatchDir { store: open(store), keys: BatchKeys::new(&batch), batch }
}

/// As a foreign producer leaves it, with keys in two parts; or as `batch create` does.
async fn batch(store: &FaultyStore, foreign: bool) -> BatchDir {
    let dir = dir(store);
    let mut pages = pages(6);
    if !foreign {
        pages.iter_mut().for_each(|part| part.truncate(3));
    }
    dir.write_parts(&pages).await.unwrap();
    if !foreign {
        dir.write_spec(&spec(&dir).await).await.unwrap();
    }
    dir
}

/// Tries as the daemon does, the pauses between by the model clock; how many tries it took.
async fn until_complete(store: FaultyStore, pipeline: Pipeline) -> usize {
    let mut pause = Duration::from_millis(500);
    for tries in 1.. {
        let error = match attempt(&pipeline).await {
            Ok(done) => {
                assert!(matches!(done, Done::Complete { .. }), "{done:?}");
                return tries;
            }
            Err(error) => error,
        };
        // Of this alone a job waits: of any other it fails.
        assert!(matches!(error, BatchError::StoreUnreachable(_)), "{error:?}");
        assert!(error.to_string().contains("s3://faulty"), "{error}");
        assert!(tries < 1000, "it does not come to an end: {error}");
        store.wait(pause);
        pause = Duration::from_secs(30).min(pause * 2);
    }
    unreachable!("there is no last try")
}

async fn json<T: serde::de::DeserializeOwned>(batch: &BatchDir, key: &Key) -> T {
    serde_json::from_slice(&batch.store.get(key).await.unwrap()).unwrap()
}

async fn records(batch: &BatchDir) -> Vec<CommitRecord> {
    let listed = batch.store.list_sorted(&batch.keys.parts(PartKind::Commits)).await.unwrap();
    stream::iter(&listed).then(|object| json(batch, &object.key)).collect().await
}

/// The batch is as an undisturbed run leaves it: its rows, its records, its manifest, and the files behind them.
async fn is_as(batch: &BatchDir, calm: &BatchDir, what: &str) {
    let (ours, theirs) = (made(batch).await.unwrap(), made(calm).await.unwrap());
    assert_eq!(ours.ledger, theirs.ledger, "{what}");
    assert_eq!(ours.suggestions, theirs.suggestions, "{what}");
    let (ours, theirs) = (records(batch).await, records(calm).await);
    let told = |record: &CommitRecord| {
        (record.part, record.fingerprint.clone(), record.pages.clone(), record.counts.clone())
    };
    assert_eq!(
        ours.iter().map(told).collect::<Vec<_>>(),
        theirs.iter().map(told).collect::<Vec<_>>(),
        "{what}"
    );
    for file in ours.iter().flat_map(|record| [&record.suggestions, &record.ledger]) {
        let bytes = batch.store.get(&Key::from_listing(&file.key)).await.unwrap();
        assert_eq!((sha256_hex(&bytes), bytes.len() as u64), (file.sha256.clone(), file.bytes), "{what}");
    }
    let manifest: Manifest = json(batch, &batch.keys.manifest()).await;
    let theirs: Manifest = json(calm, &calm.keys.manifest()).await;
    assert_eq!((manifest.fingerprint, manifest.counts), (theirs.fingerprint, theirs.counts), "{what}");
    let files = manifest.parts.into_iter().map(|part| (part.part, part.pages, part.suggestions, part.ledger));
    let recorded = ours.into_iter().map(|one| (one.part, one.pages, one.suggestions, one.ledger));
    assert_eq!(files.collect::<Vec<_>>(), recorded.collect::<Vec<_>>(), "{what}");
}

/// One campaign: agents at once over one batch, each with a connection that fails in its own way.
async fn campaign(seed: u64, calm: [&BatchDir; 2]) -> (usize, BTreeMap<Fault, u64>) {
    let (agents, foreign) = (1 + seed % 3, seed % 2 == 1);
    let store = FaultyStore::default();
    let batch = batch(&store, foreign).await;
    // A minute without writes begins somewhere in the first tries.
    let refused = Duration::from_millis(50 + 50 * (seed % 8));
    let client = |agent: u64| {
        let refuses = refused..refused + Duration::from_secs(60);
        let per_mille = [20, 50, 100][(seed % 3) as usize];
        store.in_weather(Weather { seed: seed * 100 + agent, per_mille, refuses })
    };
    let clients: Vec<_> = (0..agents).map(client).collect();
    let tries = clients.iter().map(|client| until_complete(client.clone(), pipeline(client)));
    let tries = future::join_all(tries).await.into_iter().sum();
    assert!(store.now() > Duration::from_secs(60), "seed {seed}: the minute passed");
    // What could not be tidied up then is tidied up by whoever comes again.
    attempt(&pipeline(&store)).await.unwrap();
    let staged = batch.store.list_sorted(&batch.keys.staged_folder()).await.unwrap();
    assert_eq!(staged, [], "seed {seed}");
    is_as(&batch, calm[usize::from(foreign)], &format!("seed {seed}")).await;
    let mut met = BTreeMap::new();
    for (fault, times) in clients.iter().flat_map(FaultyStore::met) {
        *met.entry(fault).or_default() += times;
    }
    (tries, met)
}

/// Tries, and faults by kind.
async fn campaigns(seeds: u64) -> (usize, BTreeMap<Fault, u64>) {
    let mut calm = Vec::new();
    for foreign in [false, true] {
        let store = FaultyStore::default();
        calm.push(batch(&store, foreign).await);
        attempt(&pipeline(&store)).await.unwrap();
    }
    let campaigns = stream::iter(0..seeds).map(|seed| campaign(seed, [&calm[0], &calm[1]]));
    let told: Vec<_> = campaigns.buffer_unordered(8).collect().await;
    let mut met = BTreeMap::new();
    for (fault, times) in told.iter().flat_map(|(_, met)| met) {
        *met.entry(*fault).or_default() += times;
    }
    (told.iter().map(|(tries, _)| tries).sum(), met)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_in_every_way_costs_time_and_no_row() {
    let (tries, met) = campaigns(24).await;
    assert!(tries > 24 * 3, "{tries} tries: hardly anything failed");
    let all =
        [Fault::Fails, Fault::Lost, Fault::OwnExists, Fault::Cut, Fault::Lies, Fault::Slow, Fault::Refused];
    for fault in all {
        assert!(met.get(&fault).is_some_and(|times| *times > 10), "{fault:?}: {met:?}");
    }
}

/// The store's time passes while others wait for it, a hundred times as fast as theirs.
fn passes(store: &FaultyStore) -> AbortOnDropHandle<()> {
    let store = store.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            store.wait(Duration::from_secs(1));
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_writes_is_waited_out_in_the_middle_of_a_run() {
    let calm = FaultyStore::default();
    let calm_batch = batch(&calm, false).await;
    let client = calm.in_weather(Weather::default());
    attempt(&pipeline(&client)).await.unwrap();
    let pages_read = client.asked()["get pages"];

    // From when the second part is to be committed, and some parts are under way.
    let store = FaultyStore::default();
    let batch = batch(&store, false).await;
    let from = store.now() + Duration::from_millis(400);
    let weather = |until: Duration| Weather { refuses: from..until, ..Weather::default() };
    let client = store.in_weather(weather(from + Duration::from_secs(60)));
    let _time = passes(&store);
    let done = attempt(&pipeline(&client).with_patience(PATIENCE)).await.unwrap();
    assert!(matches!(done, Done::Complete { .. }), "{done:?}");
    assert!(client.met()[&Fault::Refused] > 1, "{:?}", client.met());
    assert_eq!(client.asked()["get pages"], pages_read, "no part is begun twice");
    is_as(&batch, &calm_batch, "after a minute").await;

    // Patience has an end, and nothing is lost by it.
    let store = FaultyStore::default();
    let batch = self::batch(&store, false).await;
    let client = store.in_weather(Weather { refuses: from..Duration::MAX, ..Weather::default() });
    let error = attempt(&pipeline(&client).with_patience(Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(error, BatchError::StoreUnreachable(_)), "{error:?}");
    assert!(client.met()[&Fault::Refused] > 1, "it was tried again: {:?}", client.met());
    attempt(&pipeline(&store)).await.unwrap();
    is_as(&batch, &calm_batch, "after patience ended").await;
}

/// For `make soak`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn five_hundred_campaigns_over_a_faulty_store() {
    let seeds = soak("STORES", 500);
    let (tries, met) = campaigns(seeds as u64).await;
    println!(
        "{seeds} campaigns over a faulty store: every row as in an undisturbed run; {tries} tries; faults: {met:?}"
    );
}

/// What lies there is not this run's: it says so, and writes nothing.
async fn is_refused_and_stays(store: &FaultyStore, batch: &BatchDir, says: &[&str]) {
    let there = contents(batch).await;
    let error = attempt(&pipeline(store)).await.unwrap_err();
    assert!(matches!(error, BatchError::Differs(_)), "{error:?}");
    for says in says {
        assert!(error.to_string().contains(says), "{says:?} in {error}");
    }
    assert_eq!(contents(batch).await, there, "nothing is written, nothing overwritten");
}

async fn is_made_again_without(key: &Key, store: &FaultyStore, batch: &BatchDir, before: Made) {
    batch.store.delete(key).await.unwrap();
    attempt(&pipeline(store)).await.unwrap();
    let again = made(batch).await.unwrap();
    assert_eq!((again.ledger, again.suggestions), (before.ledger, before.suggestions));
}

#[tokio::test]
async fn a_record_of_another_fingerprint_is_refused_and_stays() {
    let store = FaultyStore::default();
    let batch = batch(&store, false).await;
    attempt(&pipeline(&store)).await.unwrap();
    let made = made(&batch).await.unwrap();
    let key = batch.keys.part(PartKind::Commits, 1);
    let mut other: CommitRecord = json(&batch, &key).await;
    other.fingerprint = sha256_hex("another");
    let other = serde_json::to_vec(&other).unwrap();

    // Found by the listing; with its part's files, and without any.
    for kept in [true, false] {
        batch.store.put(&key, other.clone()).await.unwrap();
        batch.store.delete(&batch.keys.manifest()).await.unwrap();
        if !kept {
            for kind in [PartKind::Suggestions, PartKind::Ledger] {
                batch.store.delete(&batch.keys.part(kind, 1)).await.unwrap();
            }
        }
        let says = ["s3://faulty", key.as_str(), "fingerprint", &sha256_hex("another"), "as its parent"];
        is_refused_and_stays(&store, &batch, &says).await;
    }

    // The right one back: all is as it was.
    is_made_again_without(&key, &store, &batch, made).await;
}

/// Every object of the batch.
async fn contents(batch: &BatchDir) -> BTreeMap<String, Bytes> {
    let listed = batch.store.list_sorted(batch.keys.folder()).await.unwrap();
    let content = |key: Key| async move { (key.as_str().to_owned(), batch.store.get(&key).await.unwrap()) };
    stream::iter(listed).then(|object| content(object.key)).collect().await
}

/// Whoever copies records by hand must not make a part stand for another one.
#[tokio::test]
async fn the_record_of_another_part_is_refused_and_stays() {
    let store = FaultyStore::default();
    let batch = batch(&store, false).await;
    attempt(&pipeline(&store)).await.unwrap();
    let made = made(&batch).await.unwrap();
    let [key, of_another] = [1, 0].map(|part| batch.keys.part(PartKind::Commits, part));
    let right: CommitRecord = json(&batch, &key).await;
    let another: CommitRecord = json(&batch, &of_another).await;
    let mut mixed = right.clone();
    mixed.ledger = another.ledger.clone();
    let mut unhashed = right.clone();
    unhashed.suggestions.sha256 = "nothing".into();

    for (record, says) in
        [(&another, "another part"), (&mixed, "another one's files"), (&unhashed, "cannot be made again")]
    {
        batch.store.put(&key, serde_json::to_vec(record).unwrap()).await.unwrap();
        batch.store.delete(&batch.keys.manifest()).await.unwrap();
        is_refused_and_stays(&store, &batch, &[key.as_str(), says, "delete"]).await;
    }

    is_made_again_without(&key, &store, &batch, made).await;
}

#[tokio::test]
async fn of_10_000_parts_the_commits_are_found_by_listings() {
    const PARTS: u32 = 10_000;
    const LEFT: u32 = 5;
    let store = FaultyStore::default();
    let batch = dir(&store);
    // One part is done; all others are made to look like it.
    let one = parts(&pages(1)[0], 4);
    batch.write_parts(&one).await.unwrap();
    let mut spec = spec(&batch).await;
    let first = spec.parts[0].clone();
    let bytes = batch.store.get(&batch.keys.part(PartKind::Pages, 0)).await.unwrap();
    for number in 1..PARTS {
        let key = batch.keys.part(PartKind::Pages, number);
        batch.store.put(&key, bytes.clone()).await.unwrap();
        spec.parts.push(proto::docs::PartSpec { number, key: key.as_str().to_owned(), ..first.clone() });
    }
    spec.pages = u64::from(PARTS) * first.rows;
    batch.write_spec(&spec).await.unwrap();
    let single = FaultyStore::default();
    let alone = dir(&single);
    alone.write_parts(&one).await.unwrap();
    attempt(&pipeline(&single)).await.unwrap();
    let record: CommitRecord = json(&alone, &alone.keys.part(PartKind::Commits, 0)).await;
    let [suggestions, ledger] =
        [PartKind::Suggestions, PartKind::Ledger].map(|kind| alone.keys.part(kind, 0));
    let files = [alone.store.get(&suggestions).await.unwrap(), alone.store.get(&ledger).await.unwrap()];
    let plan = pipeline(&store).plan(&BATCH.parse().unwrap(), None, None).await.unwrap();
    for part in 0..PARTS - LEFT {
        let mut record = CommitRecord { part, fingerprint: plan.fingerprint.clone(), ..record.clone() };
        record.pages.key = batch.keys.part(PartKind::Pages, part).as_str().to_owned();
        let kinds = [
            (PartKind::Suggestions, &mut record.suggestions, &mut record.etags.suggestions, &files[0]),
            (PartKind::Ledger, &mut record.ledger, &mut record.etags.ledger, &files[1]),
        ];
        for (kind, file, etag, bytes) in kinds {
            let key = batch.keys.part(kind, part);
            let version = batch.store.create(&key, bytes.clone()).await.unwrap().unwrap();
            (file.key, *etag) = (key.as_str().to_owned(), version.etag().map(str::to_owned));
        }
        let record = serde_json::to_vec(&record).unwrap();
        batch.store.put(&batch.keys.part(PartKind::Commits, part), record).await.unwrap();
    }

    // What is left is begun before the others' records are through, and each of those is read once: the manifest needs it.
    let again = store.in_weather(Weather::default());
    let done = attempt(&pipeline(&again)).await.unwrap();
    assert!(matches!(done, Done::Complete { parts: PARTS, .. }), "{done:?}");
    let asked = again.asked();
    let of = |what: &str| asked.get(what).copied().unwrap_or(0);
    let lists: u64 = asked.iter().filter(|(what, _)| what.starts_with("list ")).map(|(_, times)| times).sum();
    assert!(lists <= 10, "{asked:?}");
    assert!(of("get commits") <= u64::from(PARTS + LEFT), "{asked:?}");
    assert!(of("get pages") <= u64::from(LEFT) * 4, "of the parts that were left: {asked:?}");
    for what in ["get suggestions", "get ledger"] {
        assert_eq!(of(what), 0, "listings vouch for the files: {asked:?}");
    }
    assert_eq!((of("put suggestions"), of("put ledger"), of("put commits")), (5, 5, 5), "{asked:?}");

    // Complete: the batch's two documents, and four listings.
    let again = store.in_weather(Weather::default());
    attempt(&pipeline(&again)).await.unwrap();
    let asked = again.asked();
    let of_kind = |kind: &str| -> u64 {
        asked.iter().filter(|(what, _)| what.starts_with(kind)).map(|(_, times)| times).sum()
    };
    assert_eq!(
        (of_kind("get "), of_kind("list "), of_kind("put "), of_kind("head ")),
        (2, 4, 0, 0),
        "{asked:?}"
    );
}
