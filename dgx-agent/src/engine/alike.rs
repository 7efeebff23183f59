//! Pieces that are asked about now, by what the journal knows them by: of several that are alike one is asked about, and
//! the others wait for what it finds.
//!
//! - Where the one ahead fails, or its caller goes, the next one is asked about: a failure is nobody else's.
//! - A piece waits for longer ones alone to find their halves, so that no two wait for one another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::journal::{Kept, Key};

type Place = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Alike(Arc<Mutex<HashMap<Key, Place>>>);

/// The turn of one piece among those that are alike. The next one has it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    key: Key,
    place: Option<Place>,
    found: Option<OwnedMutexGuard<Option<Kept>>>,
    all: Alike,
}

impl Alike {
    /// Waits for those ahead.
    pub async fn turn(&self, key: Key) -> Turn {
        let place = self.places().entry(key).or_default().clone();
        // Before the wait: who gives it up leaves nothing behind.
        let mut turn = Turn { key, place: Some(place.clone()), found: None, all: self.clone() };
        turn.found = Some(place.lock_owned().await);
        turn
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Key, Place>> {
        // Entries come and go whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    pub fn key(&self) -> Key {
        self.key
    }

    /// What the one ahead found.
    pub fn found(&self) -> Option<Kept> {
        self.found.as_ref().and_then(|found| found.as_ref().cloned())
    }

    /// Tells those behind.
    pub fn tell(&mut self, kept: &Kept) {
        // The map's, this one's and the guard's: nobody is behind.
        let waited_for = self.place.as_ref().is_some_and(|place| Arc::strong_count(place) > 3);
        if let Some(found) = self.found.as_mut().filter(|_| waited_for) {
            **found = Some(kept.clone());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.found = None;
        let mut places = self.all.places();
        self.place = None;
        if places.get(&self.key).is_some_and(|place| Arc::strong_count(place) == 1) {
            places.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    fn kept() -> Kept {
        Kept { prompt_tokens: 7, ..Kept::default() }
    }

    #[tokio::test]
    async fn one_asks_and_the_others_take_what_it_found() {
        let alike = Alike::default();
        let asked = Mutex::new(0);
        let piece = async |key: u8| {
            let mut turn = alike.turn([key; 32]).await;
            if turn.found().is_none() {
                *asked.lock().expect("whole") += 1;
                tokio::task::yield_now().await;
                turn.tell(&kept());
            }
        };
        join_all((0..100).map(|n| piece(n % 2))).await;
        assert_eq!(*asked.lock().expect("whole"), 2);
        assert!(alike.places().is_empty(), "nothing is left of them");
    }

    #[tokio::test]
    async fn after_a_failure_the_next_one_asks_and_who_gives_up_is_forgotten() {
        let alike = Alike::default();
        let first = alike.turn([1; 32]).await;
        let behind = tokio::spawn({
            let alike = alike.clone();
            async move { alike.turn([1; 32]).await.found() }
        });
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, alike.turn([1; 32])).await;
        assert!(given_up.is_err());
        drop(first);
        assert_eq!(behind.await.expect("it has its turn"), None);
        assert!(alike.places().is_empty());
    }
}
