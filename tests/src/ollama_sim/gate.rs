//! The slots in real time: who comes gets a seat, is told when its work begins and ends, and leaves it by dropping it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use super::slots::{Event, Id, Nanos, Slots};

#[derive(Debug)]
pub struct Gate {
    begun: Instant,
    inner: Mutex<Inner>,
    /// What happens next has changed.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    slots: Slots,
    told: HashMap<Id, Told>,
    next_id: Id,
}

#[derive(Debug)]
struct Told {
    started: Option<oneshot::Sender<Nanos>>,
    finished: oneshot::Sender<Nanos>,
}

/// A place in the queue or a slot.
#[derive(Debug)]
pub struct Seat {
    gate: Arc<Gate>,
    id: Id,
    started: oneshot::Receiver<Nanos>,
    finished: oneshot::Receiver<Nanos>,
}

impl Gate {
    pub fn new(slots: Slots) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner { slots, told: HashMap::new(), next_id: 0 }),
            changed: Notify::new(),
        })
    }

    /// Since the simulator began.
    pub fn now(&self) -> Nanos {
        Nanos::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// `work`: nanoseconds alone on the server.
    pub fn take(self: &Arc<Self>, work: f64) -> Seat {
        let (started_told, started) = oneshot::channel();
        let (finished_told, finished) = oneshot::channel();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.told.insert(id, Told { started: Some(started_told), finished: finished_told });
        let events = inner.slots.arrive(self.now(), id, work);
        inner.tell(events);
        drop(inner);
        self.changed.notify_one();
        Seat { gate: self.clone(), id, started, finished }
    }

    /// Number of slots, slot time used, slot time there was: now.
    pub fn times(&self) -> (u32, u128, u128) {
        let mut inner = self.lock();
        let events = inner.slots.advance(self.now());
        inner.tell(events);
        let (busy, offered) = inner.slots.times();
        (inner.slots.count(), busy, offered)
    }

    /// Runs the clock; for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let next = self.lock().slots.next();
            let pause = next.map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
            tokio::select! {
                () = tokio::time::sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
                () = self.changed.notified() => continue,
            }
            let mut inner = self.lock();
            let events = inner.slots.advance(self.now());
            inner.tell(events);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            // Who has gone is not told.
            match event {
                Event::Started(id, at) => {
                    let started = self.told.get_mut(&id).and_then(|told| told.started.take());
                    let _ = started.map(|started| started.send(at));
                }
                Event::Finished(id, at) => {
                    let _ = self.told.remove(&id).map(|told| told.finished.send(at));
                }
            }
        }
    }
}

impl Seat {
    /// When its work began.
    pub async fn started(&mut self) -> Nanos {
        (&mut self.started).await.unwrap_or_else(|_| self.gate.now())
    }

    /// When its work ended.
    pub async fn finished(&mut self) -> Nanos {
        (&mut self.finished).await.unwrap_or_else(|_| self.gate.now())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.told.remove(&self.id);
        let events = inner.slots.leave(self.gate.now(), self.id);
        inner.tell(events);
        drop(inner);
        self.gate.changed.notify_one();
    }
}
