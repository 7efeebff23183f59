//! The journal's segments: which are read, which one is written, and what becomes of bad and old ones. Blocking.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{
    Kept, Key,
    segment::{Fault, Segment},
};

/// Segments that the journal's bytes are spread over: so much of it, the oldest, goes at once.
const SEGMENTS: u64 = 4;
/// Written together; a segment is looked at for its size in between.
const COMMIT_BYTES: usize = 1 << 20;
const FOLDER_MODE: u32 = 0o700;
/// A disk that took nothing is looked at again after so long.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The last broken segment, for whoever wants to know why; the one before it is overwritten.
const ASIDE: &str = "set-aside.redb";
/// Of zstd: the fastest.
const LEVEL: i32 = 1;
/// No answer is longer.
const MAX_ANSWER: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    keep: u64,
    /// Oldest first; the last one is written. Whoever reads has its own hold of them.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    trouble: Mutex<Option<Trouble>>,
    look_again: Duration,
}

/// Why nothing is kept.
#[derive(Debug)]
struct Trouble {
    why: String,
    /// When it may be over; None: not as long as the agent lives.
    until: Option<Instant>,
}

impl Shelf {
    pub fn off(why: &str) -> Self {
        let shelf = Self::new(PathBuf::new(), 0, LOOK_AGAIN);
        shelf.turn_off(why, false);
        shelf
    }

    fn new(folder: PathBuf, keep: u64, look_again: Duration) -> Self {
        Self { folder, keep, segments: RwLock::default(), trouble: Mutex::default(), look_again }
    }

    pub fn open(folder: &Path, keep: u64, look_again: Duration) -> Self {
        let shelf = Self::new(folder.to_owned(), keep, look_again);
        if let Err(fault) = shelf.fill() {
            shelf.suffer(fault, None);
        }
        shelf
    }

    fn fill(&self) -> Result<(), Fault> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(number));
        }
        numbers.sort_unstable();
        let mut segments = Vec::new();
        for number in numbers {
            let path = self.path(number);
            match Segment::open(&path, number) {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(Fault::Broken(why)) => self.set_aside(&path, &why),
                Err(fault) => return Err(fault),
            }
        }
        self.swap(|held| *held = segments);
        self.prune();
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.segments().is_empty()
    }

    pub fn trouble(&self) -> Option<String> {
        let folder = self.folder.display();
        self.lock_trouble().as_ref().map(|trouble| format!("the journal in {folder} is off: {}", trouble.why))
    }

    /// Whether an answer may find a place: there is no trouble, or it may be over.
    pub fn may_keep(&self) -> bool {
        self.lock_trouble().as_ref().is_none_or(Trouble::may_be_over)
    }

    /// Opens the files again once the trouble may be over; whether there is none.
    fn is_on(&self) -> bool {
        match self.lock_trouble().as_ref() {
            None => return true,
            Some(trouble) if !trouble.may_be_over() => return false,
            Some(_) => {}
        }
        if let Err(fault) = self.fill() {
            self.suffer(fault, None);
            return false;
        }
        tracing::info!(folder = %self.folder.display(), "the journal is on again");
        *self.lock_trouble() = None;
        true
    }

    /// None as well where what is there cannot be read: it is asked for again then.
    pub fn get(&self, key: &Key) -> Option<Kept> {
        for segment in self.segments().iter().rev() {
            match segment.get(key) {
                Ok(None) => {}
                Ok(Some(value)) => match decode(&value) {
                    Some(answer) => return Some(answer),
                    None => self.suffer(Fault::Broken("an answer in it".to_owned()), Some(segment)),
                },
                Err(fault) => self.suffer(fault, Some(segment)),
            }
        }
        None
    }

    pub fn put(&self, answers: &[(Key, Arc<Kept>)]) {
        let mut commit = Vec::new();
        let mut bytes = 0;
        for (key, answer) in answers {
            let Some(value) = encode(answer) else { continue };
            bytes += value.len();
            commit.push((*key, value));
            if bytes > COMMIT_BYTES {
                self.commit(&std::mem::take(&mut commit));
                bytes = 0;
            }
        }
        if !commit.is_empty() {
            self.commit(&commit);
        }
    }

    fn commit(&self, answers: &[(Key, Vec<u8>)]) {
        // Once more where the segment turned out to be broken.
        for _ in 0..2 {
            if !self.is_on() {
                return;
            }
            match self.newest().map(|newest| (newest.put(answers), newest)) {
                Ok((Ok(()), _)) => return,
                Ok((Err(fault), newest)) => self.suffer(fault, Some(&newest)),
                Err(fault) => self.suffer(fault, None),
            }
        }
    }

    /// The segment to write, a new one where the last is full.
    fn newest(&self) -> Result<Arc<Segment>, Fault> {
        let last = self.segments().last().cloned();
        let next = match last {
            // A file doubles as it grows.
            Some(last) if last.bytes() <= self.keep / SEGMENTS / 2 => return Ok(last),
            Some(last) => last.number + 1,
            None => 1,
        };
        let segment = Arc::new(Segment::open(&self.path(next), next)?);
        self.swap(|held| held.push(segment.clone()));
        self.prune();
        Ok(segment)
    }

    /// Deletes the oldest segments beyond what is to be kept; never the newest.
    fn prune(&self) {
        self.swap(|held| {
            let mut bytes: u64 = held.iter().map(|segment| segment.bytes()).sum();
            while held.len() > 1 && (bytes > self.keep || held.len() as u64 > SEGMENTS) {
                let oldest = held.remove(0);
                bytes -= oldest.bytes();
                // Who still reads it reads on.
                let _ = fs::remove_file(&oldest.path);
                tracing::debug!(segment = oldest.number, "the journal's oldest answers are deleted");
            }
        });
    }

    /// What a fault means for the journal.
    fn suffer(&self, fault: Fault, segment: Option<&Arc<Segment>>) {
        match (fault, segment) {
            (Fault::Broken(why), Some(segment)) => {
                self.swap(|held| held.retain(|other| !Arc::ptr_eq(other, segment)));
                self.set_aside(&segment.path, &why);
            }
            (Fault::InUse, _) => self.turn_off("another dgx-agent has its folder open", true),
            (Fault::Disk(why) | Fault::Broken(why), _) => self.turn_off(&why, true),
        }
    }

    /// Something broke in the middle of reading or writing: no segment can be told from another.
    pub fn distrust(&self) {
        self.turn_off("redb broke over it: see the log", false);
    }

    fn set_aside(&self, path: &Path, why: &str) {
        let aside = self.folder.join(ASIDE);
        tracing::warn!(file = %path.display(), aside = %aside.display(), why, "a file of the journal is broken and set aside");
        if let Err(error) = fs::rename(path, &aside) {
            tracing::warn!(file = %path.display(), %error, "it cannot be set aside");
        }
    }

    fn turn_off(&self, why: &str, may_pass: bool) {
        let mut trouble = self.lock_trouble();
        if trouble.is_none() {
            let folder = self.folder.display();
            tracing::warn!(%folder, why, "the journal is off: answers are not kept for now");
        }
        let until = may_pass.then(|| Instant::now() + self.look_again);
        *trouble = Some(Trouble { why: why.to_owned(), until });
        drop(trouble);
        self.close();
    }

    pub fn close(&self) {
        self.swap(Vec::clear);
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("answers-{number:06}.redb"))
    }

    fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn swap(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        let mut held = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.as_ref().clone();
        change(&mut changed);
        *held = Arc::new(changed);
    }

    fn lock_trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn may_be_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("answers-")?.strip_suffix(".redb")?.parse().ok()
}

/// None: it is not kept.
fn encode(answer: &Kept) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(answer).ok()?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    compressor.include_checksum(true).ok()?;
    compressor.compress(&json).ok()
}

fn decode(value: &[u8]) -> Option<Kept> {
    let size = zstd::zstd_safe::get_frame_content_size(value).ok().flatten()?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_ANSWER)?;
    let json = zstd::bulk::decompress(value, size).ok()?;
    serde_json::from_slice(&json).ok()
}
