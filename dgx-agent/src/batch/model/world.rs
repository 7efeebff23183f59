//! A store whose every operation waits until a scheduler lets it happen, and agents that are polled by hand.
//!
//! Constraint: nothing but the schedule decides what happens: no clock, no thread, no chance. So a schedule can be played
//! again, and two that led to the same objects, each agent having seen the same, have the same future.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use bytes::Bytes;
use chrono::DateTime;
use futures::{StreamExt, future, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// What an agent wants of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Get(Path),
    List(Path),
    Put(Path, Bytes),
    Create(Path, Bytes),
    Delete(Path),
}

impl Op {
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get(_) | Self::List(_))
    }
}

/// How an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Well,
    /// It is done, its answer is lost, and the client's retry hears that something lies there.
    RetriedCreate,
    /// It is done, and once more later: the first of two requests was only slow.
    Twice,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Answer {
    Done,
    Exists,
    Missing,
    Bytes(Bytes),
    Listed(Vec<(Path, usize, String)>),
}

/// One agent's place: what it waits for, and a hash of all that it did and saw.
#[derive(Debug, Default)]
struct Seat {
    wants: Option<Op>,
    let_go: Option<Way>,
    seen: u64,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub objects: BTreeMap<Path, Bytes>,
    seats: Vec<Seat>,
    /// Requests that are still under way though nobody waits for them.
    pub late: Vec<Op>,
}

impl World {
    pub fn wants(&self, seat: usize) -> Option<&Op> {
        self.seats[seat].wants.as_ref()
    }

    pub fn let_go(&mut self, seat: usize, way: Way) {
        self.seats[seat].let_go = Some(way);
    }

    pub fn deliver_late(&mut self) {
        let op = self.late.remove(0);
        self.apply(&op);
    }

    /// Of the objects alone.
    pub fn objects_hash(&self) -> u64 {
        hash(&self.objects)
    }

    /// Of all that decides what can happen from here.
    pub fn hash(&self) -> u64 {
        let seen: Vec<u64> = self.seats.iter().map(|seat| seat.seen).collect();
        hash(&(&self.objects, seen, &self.late))
    }

    fn apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::Get(path) => match self.objects.get(path) {
                Some(bytes) => Answer::Bytes(bytes.clone()),
                None => Answer::Missing,
            },
            Op::List(prefix) => {
                let below = self.objects.iter().filter(|(path, _)| path.prefix_matches(prefix));
                Answer::Listed(below.map(|(path, bytes)| (path.clone(), bytes.len(), etag(bytes))).collect())
            }
            Op::Create(path, _) if self.objects.contains_key(path) => Answer::Exists,
            Op::Put(path, bytes) | Op::Create(path, bytes) => {
                self.objects.insert(path.clone(), bytes.clone());
                Answer::Done
            }
            Op::Delete(path) => {
                self.objects.remove(path);
                Answer::Done
            }
        }
    }

    fn perform(&mut self, seat: usize, op: &Op, way: Way) -> Answer {
        let mut answer = self.apply(op);
        match way {
            Way::Well => {}
            Way::RetriedCreate => answer = Answer::Exists,
            Way::Twice => self.late.push(op.clone()),
        }
        let seat = &mut self.seats[seat];
        seat.seen = hash(&(seat.seen, op, &answer));
        answer
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Of the content, as S3 has it.
fn etag(bytes: &Bytes) -> String {
    hash(bytes).to_string()
}

/// The store as one agent has it.
#[derive(Clone)]
pub(super) struct SeatedStore {
    world: Arc<Mutex<World>>,
    seat: usize,
}

pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().expect("no test panics while it holds this")
}

impl SeatedStore {
    pub fn new(world: &Arc<Mutex<World>>) -> Self {
        let mut locked = lock(world);
        locked.seats.push(Seat::default());
        Self { world: world.clone(), seat: locked.seats.len() - 1 }
    }

    async fn ask(&self, op: Op) -> Answer {
        lock(&self.world).seats[self.seat].wants = Some(op.clone());
        poll_fn(|_| {
            let mut world = lock(&self.world);
            match world.seats[self.seat].let_go.take() {
                None => Poll::Pending,
                Some(way) => {
                    world.seats[self.seat].wants = None;
                    Poll::Ready(world.perform(self.seat, &op, way))
                }
            }
        })
        .await
    }
}

impl fmt::Debug for SeatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of agent {}", self.seat)
    }
}

impl fmt::Display for SeatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn meta(location: Path, size: usize, etag: String) -> ObjectMeta {
    let size = size as u64;
    ObjectMeta { location, last_modified: DateTime::UNIX_EPOCH, size, e_tag: Some(etag), version: None }
}

#[async_trait::async_trait]
impl ObjectStore for SeatedStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes: Bytes = payload.into();
        let e_tag = Some(etag(&bytes));
        let op = match options.mode {
            PutMode::Overwrite => Op::Put(at.clone(), bytes),
            PutMode::Create => Op::Create(at.clone(), bytes),
            PutMode::Update(_) => unreachable!("commits replace no version"),
        };
        match self.ask(op).await {
            Answer::Exists => Err(Error::AlreadyExists { path: at.to_string(), source: "exists".into() }),
            _ => Ok(PutResult { e_tag, version: None }),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("commits write whole objects")
    }

    async fn get_opts(&self, at: &Path, _: GetOptions) -> Result<GetResult> {
        let Answer::Bytes(bytes) = self.ask(Op::Get(at.clone())).await else {
            return Err(Error::NotFound { path: at.to_string(), source: "missing".into() });
        };
        Ok(GetResult {
            meta: meta(at.clone(), bytes.len(), etag(&bytes)),
            range: 0..bytes.len() as u64,
            attributes: Default::default(),
            payload: GetResultPayload::Stream(stream::once(future::ready(Ok(bytes))).boxed()),
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                store.ask(Op::Delete(path.clone())).await;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let Answer::Listed(listed) = store.ask(Op::List(prefix)).await else {
                unreachable!("a list is answered by one")
            };
            stream::iter(listed.into_iter().map(|(path, size, etag)| Ok(meta(path, size, etag))))
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("batches are listed whole")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("commits copy nothing")
    }
}
