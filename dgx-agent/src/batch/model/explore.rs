//! Plays every schedule, less those that lead to a state that was seen before.

use std::{
    collections::{BTreeMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use chrono::DateTime;
use object_store::path::Path;
use proto::{
    docs::{CommitRecord, CommitTags, Counts, FileRef, Manifest, Provenance, VERSION},
    hash::sha256_hex,
    ids::BatchId,
    keys::{BatchKeys, Key, PartKind},
    rows::Outcome,
    store::{RootUri, Store},
};

use super::world::{Op, SeatedStore, Way, World, lock};
use crate::batch::{
    BatchError, commit,
    protocol::{Attempt, Protocol, Settled},
    standing::Standing,
    survey::Survey,
};

const FINGERPRINT: &str = "fingerprint";

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Commits its rows and completes the batch.
    Agent,
    /// Looked for a record before anybody wrote one, commits its rows, and is gone.
    Zombie,
}

/// When agents read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reads {
    /// At any time.
    #[default]
    Anytime,
    /// As soon as they can: what they know is as old as it can be.
    Early,
    /// Just before they write: it is as new as it can be.
    Late,
}

/// How a schedule may go, and how many of its operations wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub reads: Reads,
    pub retried_creates: u8,
    pub twice: u8,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub states: usize,
    /// Ends in which the record that stands is one whose files were laid, were staged, or were another agent's.
    pub direct: usize,
    pub staged: usize,
    pub found: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Agent(usize, Way),
    Late,
}

type End = Result<CommitRecord, BatchError>;
type Running<'a> = Pin<Box<dyn Future<Output = End> + 'a>>;

/// The rows that one agent made: no two agents make the same.
struct Made {
    keys: BatchKeys,
    batch: BatchId,
    attempts: Vec<Attempt>,
}

impl Made {
    fn new(agents: usize) -> Self {
        let batch: BatchId = "b".parse().expect("a batch id");
        let keys = BatchKeys::new(&batch);
        let attempts = (0..agents).map(|agent| attempt(&keys, &batch, agent)).collect();
        Self { keys, batch, attempts }
    }

    fn path(key: &Key) -> Path {
        Path::from(key.as_str())
    }
}

fn attempt(keys: &BatchKeys, batch: &BatchId, agent: usize) -> Attempt {
    let file = |kind, bytes: &Bytes| FileRef {
        key: keys.part(kind, 0).as_str().to_owned(),
        rows: 1,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    };
    let suggestions = Bytes::from(format!("suggestions of agent {agent}"));
    // The first two found nothing: their ledgers are the same.
    let ledger = Bytes::from(format!("ledger of kind {}", agent / 2));
    let mut counts = Counts::default();
    counts.add_page(Outcome::Suggested, None, agent as u64, 0);
    let provenance = Provenance {
        engine: "rules".into(),
        model: "rules".into(),
        model_digest: "d".into(),
        prompt_sha256: "d".into(),
        labelset_sha256: "l".into(),
        options: BTreeMap::new(),
        agent_version: "0".into(),
    };
    let record = CommitRecord {
        version: VERSION,
        batch_id: batch.clone(),
        part: 0,
        fingerprint: FINGERPRINT.into(),
        pages: file(PartKind::Pages, &Bytes::from_static(b"pages")),
        suggestions: file(PartKind::Suggestions, &suggestions),
        ledger: file(PartKind::Ledger, &ledger),
        counts,
        provenance,
        committed_at: DateTime::from_timestamp(agent as i64, 0).expect("a time"),
        etags: CommitTags::default(),
    };
    Attempt { record, suggestions, ledger }
}

/// As `Run` goes about a part and the end of a batch.
async fn agent(store: Store, made: &Made, number: usize, role: Role) -> End {
    let (keys, batch) = (&made.keys, &made.batch);
    let protocol = Protocol { store: &store, keys, batch, fingerprint: FINGERPRINT };
    let attempt = &made.attempts[number];
    let found = if role == Role::Agent { protocol.record(0).await? } else { None };
    let settled = match found {
        Some(record) => protocol.settle(record, None).await?,
        None => protocol.commit(attempt).await?,
    };
    let Settled::Whole(record) = settled else { panic!("agent {number}: the committed rows are lost") };
    if role == Role::Zombie {
        return Ok(record);
    }
    let survey = Survey::take(&store, keys).await?;
    assert!(survey.has_commit(0), "a listing shows what was committed before it");
    if protocol.manifest().await?.is_none() {
        let standing = protocol.verified(0, Standing::of(&record), &survey).await?;
        let standing = standing.expect("the committed rows are not lost");
        let parts = vec![standing.in_manifest(keys, 0, record.pages.clone())];
        let manifest = Manifest {
            completed_at: record.committed_at,
            ..commit::manifest(batch, FINGERPRINT, &record.provenance, parts, standing.counts)
        };
        protocol.complete(manifest).await?;
    }
    protocol.sweep().await?;
    Ok(record)
}

/// One schedule, as far as it was played.
struct Execution<'a> {
    made: &'a Made,
    world: Arc<Mutex<World>>,
    running: Vec<Option<Running<'a>>>,
    ends: Vec<Option<End>>,
    left: Faults,
    /// Whose record stands.
    winner: Option<usize>,
    first_record: Option<Bytes>,
    first_manifest: Option<Bytes>,
    /// Files that were once what the standing record says.
    right: HashSet<String>,
}

impl<'a> Execution<'a> {
    fn new(made: &'a Made, roles: &[Role], faults: Faults) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let mut execution = Self {
            made,
            world,
            running: Vec::new(),
            ends: Vec::new(),
            left: faults,
            winner: None,
            first_record: None,
            first_manifest: None,
            right: HashSet::new(),
        };
        roles.iter().for_each(|role| execution.enter(*role));
        execution
    }

    fn enter(&mut self, role: Role) {
        let number = self.running.len();
        let seated = Arc::new(SeatedStore::new(&self.world));
        let root: RootUri = "s3://model".parse().expect("a root");
        let store = Store::with_inner(seated, Path::default(), root);
        self.running.push(Some(Box::pin(agent(store, self.made, number, role))));
        self.ends.push(None);
        self.poll(number);
    }

    fn poll(&mut self, number: usize) {
        let Some(running) = &mut self.running[number] else { return };
        if let Poll::Ready(end) = running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.running[number] = None;
            self.ends[number] = Some(end);
        }
    }

    fn steps(&self) -> Vec<Step> {
        let world = lock(&self.world);
        let mut running = (0..self.running.len()).filter(|number| self.running[*number].is_some());
        let alone = running.find(|number| {
            let op = world.wants(*number).expect("who runs waits for the store");
            op.is_read() && self.left.reads == Reads::Early || self.is_alone(&world, op)
        });
        if let Some(number) = alone {
            return vec![Step::Agent(number, Way::Well)];
        }
        let mut steps = Vec::new();
        for number in (0..self.running.len()).filter(|number| self.running[*number].is_some()) {
            steps.push(Step::Agent(number, Way::Well));
            let op = world.wants(number).expect("who runs waits for the store");
            if self.left.retried_creates > 0 && matches!(op, Op::Create(..)) {
                steps.push(Step::Agent(number, Way::RetriedCreate));
            }
            if self.left.twice > 0 && !op.is_read() {
                steps.push(Step::Agent(number, Way::Twice));
            }
        }
        if !world.late.is_empty() {
            steps.push(Step::Late);
        }
        steps
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Late => lock(&self.world).deliver_late(),
            Step::Agent(number, way) => {
                self.left.retried_creates -= u8::from(way == Way::RetriedCreate);
                self.left.twice -= u8::from(way == Way::Twice);
                while self.let_go(number, way) && self.left.reads == Reads::Late {}
            }
        }
    }

    /// Whether it was a read, and the agent wants more.
    fn let_go(&mut self, number: usize, way: Way) -> bool {
        let record = Made::path(&self.made.keys.part(PartKind::Commits, 0));
        let mut world = lock(&self.world);
        let op = world.wants(number).expect("who runs waits for the store");
        let read = op.is_read();
        if matches!(op, Op::Create(path, _) if *path == record) && !world.objects.contains_key(&record) {
            self.winner = Some(number);
        }
        world.let_go(number, way);
        drop(world);
        self.poll(number);
        read && self.running[number].is_some()
    }

    /// Whether it does not matter when an operation happens: it changes nothing, and nobody can change what it sees.
    /// Records and manifests stand once they are there; so do files that are what the record says (`check` sees to
    /// both), and no file of a part is ever deleted under its own name.
    fn is_alone(&self, world: &World, op: &Op) -> bool {
        let (keys, objects) = (&self.made.keys, &world.objects);
        let standing = |path: &Path| {
            let files = [PartKind::Suggestions, PartKind::Ledger].map(|kind| Made::path(&keys.part(kind, 0)));
            match self.winner.map(|winner| &self.made.attempts[winner]) {
                Some(winner) if *path == files[0] => objects.get(path) == Some(&winner.suggestions),
                Some(winner) if *path == files[1] => objects.get(path) == Some(&winner.ledger),
                _ => false,
            }
        };
        let fixed = |path: &Path| {
            let record = Made::path(&keys.part(PartKind::Commits, 0));
            (*path == record || *path == Made::path(&keys.manifest())) && objects.contains_key(path)
        };
        match op {
            Op::Get(path) => fixed(path) || standing(path),
            Op::List(folder) => {
                let mut below = objects.keys().filter(|path| path.prefix_matches(folder)).peekable();
                below.peek().is_some() && below.all(|path| fixed(path) || standing(path))
            }
            Op::Create(path, _) => objects.contains_key(path),
            Op::Put(path, bytes) => standing(path) && objects.get(path) == Some(bytes),
            Op::Delete(_) => false,
        }
    }

    /// A schedule whose last step alone is new.
    fn replay(made: &'a Made, roles: &[Role], faults: Faults, schedule: &[Step]) -> Self {
        let mut execution = Self::new(made, roles, faults);
        for (index, step) in schedule.iter().enumerate() {
            if index + 1 == schedule.len() {
                execution.check();
            }
            execution.play(*step);
        }
        execution.check();
        execution
    }

    fn object(&self, key: &Key) -> Option<Bytes> {
        lock(&self.world).objects.get(&Made::path(key)).cloned()
    }

    /// What holds after every step.
    fn check(&mut self) {
        let keys = &self.made.keys;
        let record = self.object(&keys.part(PartKind::Commits, 0));
        assert!(self.first_record.is_none() || record == self.first_record, "the first record stands");
        self.first_record.clone_from(&record);
        let manifest = self.object(&keys.manifest());
        assert!(
            self.first_manifest.is_none() || manifest == self.first_manifest,
            "the first manifest stands"
        );
        self.first_manifest.clone_from(&manifest);
        let Some(record) = record else {
            assert!(manifest.is_none(), "a manifest before the record");
            return;
        };
        let record: CommitRecord = serde_json::from_slice(&record).expect("a record");
        let ended = self.ends.iter().flatten().next().is_some();
        for file in [&record.suggestions, &record.ledger] {
            let right = |bytes: Bytes| sha256_hex(&bytes) == file.sha256;
            let lies = self.object(&Key::from_listing(&file.key)).is_some_and(right);
            let waits = self.object(&keys.staged(0, &file.sha256)).is_some_and(right);
            assert!(lies || waits, "{} is lost though its commit stands", file.key);
            assert!(lies || !self.right.contains(&file.key), "{} was right and is not", file.key);
            if lies {
                self.right.insert(file.key.clone());
            }
            assert!(
                lies || (manifest.is_none() && !ended),
                "{} is wrong after an agent was through",
                file.key
            );
        }
        if let Some(manifest) = manifest {
            let manifest: Manifest = serde_json::from_slice(&manifest).expect("a manifest");
            let [part] = &manifest.parts[..] else { panic!("one part: {manifest:?}") };
            let same = part.suggestions == record.suggestions && part.ledger == record.ledger;
            assert!(same && manifest.counts == record.counts, "the manifest is of another commit");
        }
        for end in self.ends.iter().flatten() {
            let told = end.as_ref().expect("no agent fails");
            assert_eq!(*told, record, "an agent was told of another commit");
        }
    }

    /// A fresh agent, alone.
    fn recover(&mut self) {
        self.enter(Role::Agent);
        let number = self.running.len() - 1;
        while self.running[number].is_some() {
            self.play(Step::Agent(number, Way::Well));
            self.check();
        }
        assert!(self.first_manifest.is_some(), "the batch is complete");
        let left = lock(&self.world).objects.len();
        assert_eq!(left, 4, "suggestions, ledger, record, manifest, and nothing staged");
    }
}

pub(super) fn explore(roles: &[Role], faults: Faults) -> Told {
    let made = Made::new(roles.len() + 1);
    let (mut seen, mut recovered) = (HashSet::new(), HashSet::new());
    let mut told = Told::default();
    let mut left: Vec<Vec<Step>> = vec![Vec::new()];
    while let Some(schedule) = left.pop() {
        let mut execution = Execution::replay(&made, roles, faults, &schedule);
        // From here on straight ahead; the other ways are played from the start.
        let mut schedule = schedule;
        loop {
            let state = lock(&execution.world).hash();
            if !seen.insert((state, execution.left.retried_creates, execution.left.twice)) {
                break;
            }
            told.states += 1;
            let objects = lock(&execution.world).objects_hash();
            if recovered.insert(objects) {
                Execution::replay(&made, roles, faults, &schedule).recover();
            }
            let mut steps = execution.steps();
            let Some(step) = steps.pop() else {
                told.end(&execution);
                break;
            };
            left.extend(steps.into_iter().map(|step| [&schedule[..], &[step]].concat()));
            execution.play(step);
            execution.check();
            schedule.push(step);
        }
    }
    told
}

impl Told {
    fn end(&mut self, execution: &Execution<'_>) {
        let Some(record) = &execution.first_record else { return };
        let record: CommitRecord = serde_json::from_slice(record).expect("a record");
        let winners =
            execution.made.attempts.iter().position(|made| made.record.committed_at == record.committed_at);
        self.found += usize::from(winners != Some(0));
        match record.etags.suggestions {
            Some(_) => self.direct += 1,
            None => self.staged += 1,
        }
    }
}
