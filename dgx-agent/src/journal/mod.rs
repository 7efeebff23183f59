//! Finished answers of the model server, kept on this machine: what was asked once is not asked again, after a restart
//! and across batches.
//!
//! ```text
//! engine ─► recall(key) ─► segments (redb files, newest first) ─► the answer, or none
//!    └────► keep(key, answer) ─► queue (bounded) ─► writer: one look at the model, one commit a window ─► newest segment
//! ```
//! - Only what was of use is kept; a failure is asked again.
//! - An answer is kept as one of a model that the server still had after it: who pulls another one under the same name
//!   in mid-batch must not leave its answers under the old one's digest.
//! - It holds words of pages: folder and files are their owner's alone.
//! - It is a convenience and never a reason to fail: a full disk or a folder in use turns it off until that is over, a file
//!   that is broken is set aside. Both are told once.
//! - Bounded: when the newest segment is full the oldest is deleted, so nothing has to be compacted.

mod segment;
mod shelf;
mod witness;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{engine::on_rayon, infer::Completion};
use shelf::Shelf;
pub use witness::Witness;

/// SHA-256 of the model's digest and the canonical body of a request.
pub type Key = [u8; 32];

/// What came of a piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worth {
    /// A whole answer.
    #[default]
    Whole,
    /// What could be saved of an answer that was cut or broken, and of which no other was to be had.
    Saved,
    /// None: it was asked about in halves, and each of them is kept.
    Halves,
}

/// What came of a piece, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    pub worth: Worth,
    pub completion: Completion,
    /// In all, other tries at it included: so a page costs the same whether it is replayed or not.
    pub prompt_tokens: u64,
    pub output_tokens: u64,
}

/// In the state folder.
const FOLDER: &str = "journal";
/// How long an answer waits for others to share its commit with. With the commit itself this is what a kill repeats.
const WINDOW: Duration = Duration::from_millis(20);
/// Answers that wait for the disk; then whoever has another one waits.
const QUEUE: usize = 256;
/// How long the last commit may take when the agent ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// And how long a server that is away may take to say which model it has.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Cloning shares it.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

type Waiting = Arc<Mutex<HashMap<Key, Arc<Kept>>>>;

#[derive(Debug)]
struct Inner {
    shelf: Arc<Shelf>,
    /// Kept, and not yet on disk: no more than the queue and a commit hold.
    waiting: Waiting,
    /// None once it is closed.
    writer: Mutex<Option<Writer>>,
}

#[derive(Debug)]
struct Writer {
    queue: mpsc::Sender<Queued>,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

/// An answer on its way to the disk.
#[derive(Debug)]
struct Queued {
    key: Key,
    answer: Arc<Kept>,
    witness: Witness,
}

impl Journal {
    /// The journal of a state folder; None where nothing is to be kept.
    pub async fn of(state: &Path, keep: u64) -> Option<Self> {
        match keep {
            0 => None,
            _ => Some(Self::open(&state.join(FOLDER), keep).await),
        }
    }

    /// Opens the journal of a folder, of at most `keep` bytes. One that cannot be opened is off, and says why.
    pub async fn open(folder: &Path, keep: u64) -> Self {
        Self::opened(folder, keep, shelf::LOOK_AGAIN).await
    }

    async fn opened(folder: &Path, keep: u64, look_again: Duration) -> Self {
        let folder = folder.to_owned();
        let shelf = match spawn_blocking(move || Shelf::open(&folder, keep, look_again)).await {
            Ok(shelf) => Arc::new(shelf),
            Err(panic) => Arc::new(Shelf::off(&format!("it could not be opened ({panic})"))),
        };
        let (queue, answers) = mpsc::channel(QUEUE);
        let waiting = Waiting::default();
        let closing = CancellationToken::new();
        let task = tokio::spawn(write(shelf.clone(), answers, waiting.clone(), closing.clone()));
        let writer = Mutex::new(Some(Writer { queue, closing, task }));
        Self { inner: Arc::new(Inner { shelf, waiting, writer }) }
    }

    /// The answer that was kept.
    pub async fn recall(&self, key: Key) -> Option<Kept> {
        let shelf = &self.inner.shelf;
        if let Some(kept) = those(&self.inner.waiting).get(&key) {
            return Some(kept.as_ref().clone());
        }
        if shelf.is_empty() {
            return None;
        }
        let there = shelf.clone();
        match on_rayon(move || there.get(&key)).await {
            Ok(answer) => answer,
            Err(_) => {
                shelf.distrust();
                None
            }
        }
    }

    /// Keeps an answer, soon, if `witness` vouches for it; waits while the disk is behind.
    pub async fn keep(&self, key: Key, answer: Kept, witness: &Witness) {
        if !self.inner.shelf.may_keep() {
            return;
        }
        let queue = self.writer().as_ref().map(|writer| writer.queue.clone());
        // One that was closed keeps nothing more.
        let Some(queue) = queue else { return };
        if let Ok(place) = queue.reserve().await {
            let answer = Arc::new(answer);
            those(&self.inner.waiting).insert(key, answer.clone());
            place.send(Queued { key, answer, witness: witness.clone() });
        }
    }

    /// Why nothing is kept now.
    pub fn trouble(&self) -> Option<String> {
        self.inner.shelf.trouble()
    }

    /// Writes what waits, and lets go of the files.
    pub async fn close(&self) {
        let Some(Writer { queue, closing, task }) = self.writer().take() else { return };
        drop(queue);
        closing.cancel();
        if time::timeout(FAREWELL, task).await.is_err() {
            tracing::warn!("the journal's last answers are not on disk: they will be asked for again");
        }
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        // It is taken or it is not.
        self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits what came within a window together, until nobody can keep anything any more.
async fn write(
    shelf: Arc<Shelf>,
    mut answers: mpsc::Receiver<Queued>,
    waiting: Waiting,
    closing: CancellationToken,
) {
    let mut window = Vec::new();
    while answers.recv_many(&mut window, QUEUE).await > 0 {
        if !answers.is_closed() {
            time::sleep(WINDOW).await;
        }
        while window.len() < 2 * QUEUE
            && let Ok(answer) = answers.try_recv()
        {
            window.push(answer);
        }
        let keys: Vec<Key> = window.iter().map(|queued| queued.key).collect();
        let too_late = async {
            closing.cancelled().await;
            time::sleep(LAST_WORD).await;
        };
        let answers = tokio::select! {
            answers = vouched_for(std::mem::take(&mut window)) => answers,
            () = too_late => {
                tracing::warn!("the model server is away: its last answers are not kept, and will be asked for again");
                Vec::new()
            }
        };
        let there = shelf.clone();
        if !answers.is_empty() && spawn_blocking(move || there.put(&answers)).await.is_err() {
            shelf.distrust();
        }
        let mut waiting = those(&waiting);
        keys.iter().for_each(|key| drop(waiting.remove(key)));
    }
    // Closing a file that was written takes a moment on the disk.
    let _ = spawn_blocking(move || shelf.close()).await;
}

/// Each witness is asked once.
async fn vouched_for(window: Vec<Queued>) -> Vec<(Key, Arc<Kept>)> {
    let mut asked: Vec<(Witness, bool)> = Vec::new();
    let mut answers = Vec::with_capacity(window.len());
    for Queued { key, answer, witness } in window {
        let known = asked.iter().find(|(other, _)| *other == witness).map(|(_, vouches)| *vouches);
        let vouches = match known {
            Some(vouches) => vouches,
            None => {
                let vouches = witness.vouches().await;
                asked.push((witness, vouches));
                vouches
            }
        };
        if vouches {
            answers.push((key, answer));
        }
    }
    answers
}

fn those(waiting: &Waiting) -> MutexGuard<'_, HashMap<Key, Arc<Kept>>> {
    // Entries come and go whole.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
