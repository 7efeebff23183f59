//! Who works on a part: so that two agents over one batch share it, and the GPU does nothing twice.
//!
//! Constraints: a lease is advice. What stands is decided by `protocol` alone, so a lease that is lost, stolen or cannot
//! be had costs work and no page. In a store with conditional writes it is an object that its holder rewrites with a
//! higher beat; who waits for it counts by a clock of its own, which nobody compares with another's: a beat that it sees
//! unchanged for so many periods is of a holder that is gone. In a folder it is the lock of a file, which ends with its
//! process; what a killed one leaves is kept for it for a while, for it has the answers in its journal: an agent that is
//! started again over its state directory is the same agent.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use proto::{
    keys::BatchKeys,
    lease::Holder,
    store::{Store, StoreError, Version},
};

/// Periods without a beat after which a holder is taken for dead.
const SILENT_PERIODS: u32 = 4;

/// Longest time that giving leases back may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Which agent this is.
#[derive(Debug)]
pub struct AgentId {
    id: String,
    /// Locked as long as the agent lives.
    _file: Option<File>,
}

impl Default for AgentId {
    /// An agent that nobody will know again.
    fn default() -> Self {
        Self { id: format!("{:016x}", rand::random::<u64>()), _file: None }
    }
}

impl AgentId {
    /// That of a state directory; another one while another process has it.
    pub fn of(state: &Path) -> Self {
        let new = Self::default();
        let known = || -> io::Result<Self> {
            fs::create_dir_all(state)?;
            let path = state.join("agent-id");
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            file.try_lock()?;
            let mut id = String::new();
            file.read_to_string(&mut id)?;
            if id.len() != new.id.len() {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(new.id.as_bytes())?;
                id.clone_from(&new.id);
            }
            Ok(Self { id, _file: Some(file) })
        };
        known().unwrap_or_else(|error| {
            tracing::warn!(%error, "the agent keeps no name: after a restart it waits for its own leases");
            new
        })
    }
}

/// This process, as an agent.
fn me(instance: String) -> Holder {
    static HOST: OnceLock<String> = OnceLock::new();
    let host = HOST.get_or_init(|| match fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => name.trim().to_owned(),
        Err(_) => "a host without a name".to_owned(),
    });
    Holder { host: host.clone(), pid: std::process::id(), instance, beat: 0 }
}

#[derive(Debug)]
enum Held {
    /// Locked until it is closed.
    File(File, PathBuf),
    Object(Version),
    /// The folder knows no locks.
    Nothing,
}

/// Another's lease, since when it is as it is.
#[derive(Debug)]
struct Sighting {
    mark: String,
    since: Instant,
}

/// The leases of one run.
#[derive(Debug)]
pub(super) struct Leases {
    store: Store,
    keys: BatchKeys,
    me: Holder,
    period: Duration,
    held: Mutex<BTreeMap<u32, Held>>,
    sightings: Mutex<HashMap<u32, Sighting>>,
}

impl Leases {
    pub fn new(store: &Store, keys: &BatchKeys, identity: &AgentId, period: Duration) -> Self {
        Self {
            store: store.clone(),
            keys: keys.clone(),
            me: me(identity.id.clone()),
            period,
            held: Mutex::default(),
            sightings: Mutex::default(),
        }
    }

    /// Takes the lease of a part; who else has it, if somebody has.
    pub async fn take(&self, part: u32) -> Result<Option<Holder>, StoreError> {
        let held = match self.store.local_path(&self.keys.lease(part)) {
            Some(path) => self.lock_file(part, path),
            None => self.take_object(part).await?,
        };
        Ok(match held {
            Ok(held) => {
                lock(&self.held).insert(part, held);
                lock(&self.sightings).remove(&part);
                None
            }
            Err(holder) => Some(holder),
        })
    }

    fn lock_file(&self, part: u32, path: PathBuf) -> Result<Held, Holder> {
        let may_take = |left: &[u8]| {
            left.is_empty()
                || Holder::of(left).instance == self.me.instance
                || self.is_silent(part, String::from_utf8_lossy(left).into_owned())
        };
        match locked(&path, &self.me, may_take) {
            Ok(Ok(file)) => Ok(Held::File(file, path)),
            Ok(Err(holder)) => Err(holder),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no lease: other agents may do the same part");
                Ok(Held::Nothing)
            }
        }
    }

    async fn take_object(&self, part: u32) -> Result<Result<Held, Holder>, StoreError> {
        let key = self.keys.lease(part);
        if let Some(version) = self.store.create(&key, self.me.document()).await? {
            return Ok(Ok(Held::Object(version)));
        }
        let (document, version) = match self.store.get_version(&key).await {
            Ok(found) => found,
            // Given back just now: next time.
            Err(StoreError::NotFound { .. }) => return Ok(Err(Holder::unknown())),
            Err(error) => return Err(error),
        };
        let holder = Holder::of(&document);
        if holder.instance == self.me.instance {
            // We wrote it, and did not hear of it.
            return Ok(Ok(Held::Object(version)));
        }
        if !self.is_silent(part, format!("{version:?}")) {
            return Ok(Err(holder));
        }
        match self.store.replace(&key, &version, self.me.document()).await? {
            Some(version) => {
                tracing::warn!(part, %holder, "its lease is taken over: it gave no sign for a while");
                Ok(Ok(Held::Object(version)))
            }
            None => Ok(Err(holder)),
        }
    }

    /// Whether we have seen this very lease for so long that nobody renews it.
    fn is_silent(&self, part: u32, mark: String) -> bool {
        let now = Instant::now();
        let mut sightings = lock(&self.sightings);
        match sightings.get(&part) {
            Some(seen) if seen.mark == mark => now - seen.since >= self.period * SILENT_PERIODS,
            _ => {
                sightings.insert(part, Sighting { mark, since: now });
                false
            }
        }
    }

    /// Gives a lease back. That it cannot be given back is no error: it runs out.
    pub async fn release(&self, part: u32) {
        let held = lock(&self.held).remove(&part);
        let gone = match held {
            // While it is locked: nobody can have taken it.
            Some(Held::File(_file, path)) => fs::remove_file(path).map_err(|error| error.to_string()),
            Some(Held::Object(_)) => {
                self.store.delete(&self.keys.lease(part)).await.map_err(|error| error.to_string())
            }
            Some(Held::Nothing) | None => Ok(()),
        };
        if let Err(error) = gone {
            tracing::debug!(part, error, "the lease is not given back");
        }
    }

    /// All that are left, in bounded time.
    pub async fn release_all(&self) {
        let parts: Vec<u32> = lock(&self.held).keys().copied().collect();
        let all = async {
            for part in parts {
                self.release(part).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }

    /// Renews what is held, for ever.
    pub async fn renew(&self) {
        for beat in 1.. {
            tokio::time::sleep(self.period).await;
            self.beat(beat).await;
        }
    }

    async fn beat(&self, beat: u64) {
        let objects = |(part, held): (&u32, &Held)| match held {
            Held::Object(version) => Some((*part, version.clone())),
            _ => None,
        };
        let held: Vec<_> = lock(&self.held).iter().filter_map(objects).collect();
        let document = Holder { beat, ..self.me.clone() }.document();
        for (part, version) in held {
            match self.store.replace(&self.keys.lease(part), &version, document.clone()).await {
                Ok(Some(version)) => {
                    if let Some(held @ Held::Object(_)) = lock(&self.held).get_mut(&part) {
                        *held = Held::Object(version);
                    }
                }
                // It may have been given back since.
                Ok(None) if lock(&self.held).remove(&part).is_some() => {
                    tracing::warn!(part, "the lease was taken over: another agent may do the part, too");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(part, %error, "the lease is not renewed"),
            }
        }
    }

    /// Removes what agents that died left, once the batch is complete.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        for object in self.store.list_sorted(&self.keys.leases()).await? {
            self.store.delete(&object.key).await?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, locked and with our name in it; or whose it is.
/// `may_take`: whether what somebody left in it, who did not give it back, may be taken.
fn locked(path: &Path, me: &Holder, may_take: impl Fn(&[u8]) -> bool) -> io::Result<Result<File, Holder>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    loop {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut document = Vec::new();
                file.read_to_end(&mut document)?;
                return Ok(Err(Holder::of(&document)));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who gave it back removed it: what we locked may lie nowhere any more.
        let there = fs::metadata(path).ok().map(|there| there.ino());
        if there == Some(file.metadata()?.ino()) {
            let mut left = Vec::new();
            file.read_to_end(&mut left)?;
            if !may_take(&left) {
                return Ok(Err(Holder::of(&left)));
            }
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&me.document())?;
            return Ok(Ok(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::{memory::InMemory, path::Path};
    use proto::store::Env;

    use super::*;

    /// Of one who waits long, and of one for whom what it sees twice is dead.
    const LONG: Duration = Duration::from_secs(3600);
    const NONE: Duration = Duration::ZERO;

    fn leases(store: &Store, period: Duration) -> Leases {
        Leases::new(store, &BatchKeys::new(&"b".parse().expect("an id")), &AgentId::default(), period)
    }

    fn memory() -> Store {
        Store::with_inner(Arc::new(InMemory::new()), Path::default(), "s3://memory".parse().expect("a root"))
    }

    fn folder() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().to_str().expect("UTF-8"), &Env::new()).expect("a store");
        (folder, store)
    }

    #[tokio::test]
    async fn one_has_a_lease_until_it_gives_it_back() {
        let (_folder, in_folder) = folder();
        for store in [memory(), in_folder] {
            let (one, other) = (leases(&store, LONG), leases(&store, LONG));
            assert_eq!(one.take(3).await.expect("a store"), None);
            let holder = other.take(3).await.expect("a store").expect("it is held");
            assert_eq!((holder.pid, &holder.instance), (std::process::id(), &one.me.instance));
            assert!(holder.to_string().contains(&holder.host), "{holder}");
            assert_eq!(other.take(4).await.expect("a store"), None, "another part");
            one.release_all().await;
            assert_eq!(other.take(3).await.expect("a store"), None, "given back");
            other.release_all().await;
            assert_eq!(store.list_sorted("").await.expect("a list"), [], "nothing is left behind");
        }
    }

    #[tokio::test]
    async fn a_dead_holder_is_succeeded_and_a_living_one_is_not() {
        let store = memory();
        let (one, other, patient) = (leases(&store, LONG), leases(&store, NONE), leases(&store, LONG));
        assert_eq!(one.take(0).await.expect("a store"), None);
        for beat in 1..10 {
            assert!(other.take(0).await.expect("a store").is_some(), "it is another beat each time");
            assert!(patient.take(0).await.expect("a store").is_some());
            one.beat(beat).await;
        }
        for _ in 0..3 {
            assert!(patient.take(0).await.expect("a store").is_some(), "the same beat, but not for long");
        }
        assert!(other.take(0).await.expect("a store").is_some(), "a new beat");
        assert_eq!(other.take(0).await.expect("a store"), None, "the same: it is dead");
        // The first one comes back: it sees that it lost it, and takes nothing away.
        let version = store.get_version(&one.keys.lease(0)).await.expect("there").1;
        one.beat(10).await;
        one.release(0).await;
        assert_eq!(store.get_version(&one.keys.lease(0)).await.expect("there").1, version);
    }

    #[tokio::test]
    async fn what_a_killed_agent_leaves_in_a_folder_is_kept_for_it_for_a_while() {
        let (folder, store) = folder();
        let keys = BatchKeys::new(&"b".parse().expect("an id"));
        let state = folder.path().join("state");
        let (first, copy) = (AgentId::of(&state), AgentId::of(&state));
        assert_ne!(first.id, copy.id, "while it lives, it alone is itself");
        let before = Leases::new(&store, &keys, &first, LONG);
        assert_eq!(before.take(0).await.expect("a store"), None);
        drop((before, first));
        let (patient, hasty) = (leases(&store, LONG), leases(&store, NONE));
        for _ in 0..3 {
            assert!(patient.take(0).await.expect("a store").is_some(), "not yet");
        }
        let again = Leases::new(&store, &keys, &AgentId::of(&state), LONG);
        assert_eq!(again.take(0).await.expect("a store"), None, "it is the same agent");
        drop(again);
        assert!(hasty.take(0).await.expect("a store").is_some(), "seen once");
        assert_eq!(hasty.take(0).await.expect("a store"), None, "seen for so long");
    }

    #[test]
    fn a_file_that_was_removed_under_its_lock_is_no_lease() {
        let (folder, store) = folder();
        let path = folder.path().join("part");
        let mine = locked(&path, &leases(&store, LONG).me, |_| true).expect("a file").expect("free");
        fs::remove_file(&path).expect("removed");
        let other = locked(&path, &leases(&store, LONG).me, |_| true)
            .expect("a file")
            .expect("free: it is another file");
        drop((mine, other));
    }
}
