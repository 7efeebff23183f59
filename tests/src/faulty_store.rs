//! A store that misbehaves by a seed: it fails, delays, cuts answers, lies about lengths, loses the answers of writes that
//! it did or says "exists" to them, and takes no writes for a while. And it counts what it is asked.
//!
//! Constraints: nothing here takes real time. There is a model clock, which each operation moves on, a slow one by seconds,
//! and whoever waits between two tries by its pause. What befalls an operation hangs on the seed and the operation's
//! number. What a store promises it keeps: a write is whole or not there, a listing that ends without an error is whole.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Of the model clock, for an operation.
const TAKES: Duration = Duration::from_millis(10);

/// What goes wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing is done.
    Fails,
    /// It is done, and its answer is lost. Of a read or a listing: the half of it comes, and then an error.
    Lost,
    /// A write on condition is done, and the client's retry hears that the condition does not hold.
    OwnExists,
    /// Half of what was asked for comes, as if it were all.
    Cut,
    /// Another length is told than is there.
    Lies,
    /// Others come first.
    Slow,
    /// No writes are taken.
    Refused,
}

/// How bad it is.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    pub seed: u64,
    /// Operations of a thousand that meet a fault.
    pub per_mille: u32,
    /// No write is taken then, by the model clock.
    pub refuses: Range<Duration>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By what is asked and the folder or file below the batch.
    asked: BTreeMap<String, u64>,
    met: BTreeMap<Fault, u64>,
    operations: u64,
}

/// Over a store in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct FaultyStore {
    inner: Arc<InMemory>,
    clock: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
    weather: Weather,
}

impl FaultyStore {
    /// The same objects and clock as another client has them, in this weather.
    #[must_use]
    pub fn in_weather(&self, weather: Weather) -> Self {
        Self { inner: self.inner.clone(), clock: self.clock.clone(), seen: Arc::default(), weather }
    }

    /// Moves the model clock on.
    pub fn wait(&self, time: Duration) {
        self.clock.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn now(&self) -> Duration {
        Duration::from_millis(self.clock.load(Ordering::Relaxed))
    }

    /// How often it was asked, as `get commits` or `list ledger`.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        self.seen().asked.clone()
    }

    /// The faults that were met.
    pub fn met(&self) -> BTreeMap<Fault, u64> {
        self.seen().met.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What befalls the next operation, which is done after it was late.
    async fn fault(&self, what: &str, at: &Path, kinds: &[Fault]) -> Option<Fault> {
        self.wait(TAKES);
        let (fault, turns) = self.draw(what, at, kinds);
        if fault == Some(Fault::Slow) {
            for _ in 0..turns {
                tokio::task::yield_now().await;
                self.wait(Duration::from_millis(100));
            }
            return None;
        }
        fault
    }

    fn draw(&self, what: &str, at: &Path, kinds: &[Fault]) -> (Option<Fault>, u32) {
        let now = self.now();
        let mut seen = self.seen();
        let place = at.parts().nth(3).map(|part| part.as_ref().to_owned()).unwrap_or_default();
        *seen.asked.entry(format!("{what} {place}")).or_default() += 1;
        seen.operations += 1;
        let mut rng = StdRng::seed_from_u64(self.weather.seed ^ (seen.operations << 32));
        let writes = matches!(what, "put" | "delete");
        let fault = match () {
            () if writes && self.weather.refuses.contains(&now) => Some(Fault::Refused),
            () if rng.random_range(0..1000) < self.weather.per_mille => kinds.choose(&mut rng).copied(),
            () => None,
        };
        if let Some(fault) = fault {
            *seen.met.entry(fault).or_default() += 1;
        }
        (fault, rng.random_range(1..50))
    }
}

fn broken(at: &Path) -> Error {
    Error::Generic { store: "faulty", source: format!("{at}: as planned").into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a faulty store")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let conditional = !matches!(options.mode, PutMode::Overwrite);
        // What only they can meet comes as often as all else: few writes are on condition.
        let own = Fault::OwnExists;
        let kinds = [Fault::Fails, Fault::Lost, Fault::Slow, own, own, own];
        let kinds = if conditional { &kinds[..] } else { &kinds[..3] };
        let fault = self.fault("put", at, kinds).await;
        if matches!(fault, Some(Fault::Fails | Fault::Refused)) {
            return Err(broken(at));
        }
        let updates = matches!(options.mode, PutMode::Update(_));
        let put = self.inner.put_opts(at, payload, options).await?;
        let (path, source) = (at.to_string(), "an earlier try was done".into());
        match fault {
            None => Ok(put),
            Some(Fault::OwnExists) if updates => Err(Error::Precondition { path, source }),
            Some(Fault::OwnExists) => Err(Error::AlreadyExists { path, source }),
            Some(_) => Err(broken(at)),
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fault("put", at, &[Fault::Fails, Fault::Slow]).await {
            None => self.inner.put_multipart_opts(at, options).await,
            Some(_) => Err(broken(at)),
        }
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let kinds = [Fault::Fails, Fault::Lies, Fault::Slow, Fault::Lost, Fault::Cut];
        let kinds = if head { &kinds[..3] } else { &kinds[..] };
        let fault = self.fault(if head { "head" } else { "get" }, at, kinds).await;
        let mut found = self.inner.get_opts(at, options).await?;
        match fault {
            None => return Ok(found),
            Some(Fault::Lies) => {
                found.meta.size += 1;
                return Ok(found);
            }
            Some(Fault::Cut | Fault::Lost) => {}
            Some(_) => return Err(broken(at)),
        }
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        let mut came = vec![Ok(bytes.slice(..bytes.len() / 2))];
        came.extend((fault == Some(Fault::Lost)).then(|| Err(broken(at))));
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter(came).boxed()),
            meta,
            range,
            attributes,
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let fault = store.fault("delete", &path, &[Fault::Fails, Fault::Lost, Fault::Slow]).await;
                if matches!(fault, Some(Fault::Fails | Fault::Refused)) {
                    return Err(broken(&path));
                }
                let one = stream::once(future::ready(Ok(path.clone()))).boxed();
                store.inner.delete_stream(one).try_collect::<Vec<_>>().await?;
                fault.map_or(Ok(()), |_| Err(broken(&path))).map(|()| path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let at = prefix.clone().unwrap_or_default();
            let kinds = [Fault::Fails, Fault::Lost, Fault::Lies, Fault::Slow];
            let fault = store.fault("list", &at, &kinds).await;
            let mut listed: Vec<_> = match fault {
                Some(Fault::Fails) => Vec::new(),
                _ => store.inner.list(prefix.as_ref()).collect().await,
            };
            match fault {
                Some(Fault::Lies) => listed.iter_mut().flatten().for_each(|meta| meta.size += 1),
                Some(_) => {
                    listed.truncate(listed.len() / 2);
                    listed.push(Err(broken(&at)));
                }
                None => {}
            }
            stream::iter(listed)
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
