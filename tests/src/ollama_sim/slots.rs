//! Slots, their queue and their work as a state machine over a clock that the caller reads. Pure, and exact: what ends
//! between two readings ends when it does, and the next one begins at that moment.
//!
//! All that is active advances at one rate, so work is measured on a clock of its own that runs at this rate: 1, or
//! less the more is active (`slowdown`), as on a GPU whose requests share it.

use std::{collections::VecDeque, str::FromStr};

/// Nanoseconds since the simulator began.
pub type Nanos = u64;

pub type Id = u64;

/// When the number of slots changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// That many requests have been worked on.
    Answers(u64),
    /// So long after the first request.
    Elapsed(Nanos),
}

/// A change of the number of slots: `300:2` after 300 answers, `5s:2` after five seconds, `40:0` no more than 40 answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub when: When,
    pub slots: u32,
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no change of slots: give ANSWERS:SLOTS or SECONDSs:SLOTS");
        let (when, slots) = text.split_once(':').ok_or_else(wrong)?;
        let when = match when.strip_suffix('s') {
            Some(seconds) => When::Elapsed((seconds.parse::<f64>().map_err(|_| wrong())? * 1e9) as Nanos),
            None => When::Answers(when.parse().map_err(|_| wrong())?),
        };
        let slots = slots.parse().map_err(|_| wrong())?;
        Ok(Self { when, slots })
    }
}

/// What happened to a request, and when exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    Started(Id, Nanos),
    Finished(Id, Nanos),
}

#[derive(Debug)]
struct Active {
    id: Id,
    /// On the clock of the work.
    ends: f64,
}

#[derive(Debug)]
pub struct Slots {
    now: Nanos,
    first: Option<Nanos>,
    slots: u32,
    changes: VecDeque<Change>,
    slowdown: Option<f64>,
    active: Vec<Active>,
    queue: VecDeque<(Id, f64)>,
    /// Of each active request since the beginning, in nanoseconds alone on the server.
    work: f64,
    finished: u64,
    busy: u128,
    offered: u128,
}

impl Slots {
    /// `slowdown`: the number of active requests beyond the first at which each has half its rate.
    pub fn new(slots: u32, changes: Vec<Change>, slowdown: Option<f64>) -> Self {
        Self {
            now: 0,
            first: None,
            slots,
            changes: changes.into(),
            slowdown,
            active: Vec::new(),
            queue: VecDeque::new(),
            work: 0.0,
            finished: 0,
            busy: 0,
            offered: 0,
        }
    }

    pub fn count(&self) -> u32 {
        self.slots
    }

    /// Slot time used and slot time there was, in nanoseconds.
    pub fn times(&self) -> (u128, u128) {
        (self.busy, self.offered)
    }

    /// A request that needs `work` nanoseconds alone on the server; infinite: until it leaves.
    pub fn arrive(&mut self, now: Nanos, id: Id, work: f64) -> Vec<Event> {
        let mut events = self.advance(now);
        self.first.get_or_insert(now);
        self.queue.push_back((id, work));
        self.start(&mut events);
        events
    }

    /// It is not there any more, whether it waits, is worked on or has ended.
    pub fn leave(&mut self, now: Nanos, id: Id) -> Vec<Event> {
        let mut events = self.advance(now);
        self.queue.retain(|(waiting, _)| *waiting != id);
        self.active.retain(|active| active.id != id);
        self.start(&mut events);
        events
    }

    /// When something next ends or changes, if nobody comes or leaves.
    pub fn next(&self) -> Option<Nanos> {
        let ends = self.soonest().map(|(_, ends)| ends);
        [ends, self.timed_change()].into_iter().flatten().min()
    }

    /// All that happened up to `now`, in order.
    pub fn advance(&mut self, now: Nanos) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let change = self.timed_change().filter(|at| *at <= now);
            match self.soonest().filter(|(_, at)| *at <= now) {
                Some((index, at)) if change.is_none_or(|change| at <= change) => {
                    self.pass(at);
                    let ended = self.active.swap_remove(index);
                    self.finished += 1;
                    events.push(Event::Finished(ended.id, at));
                    while let Some(Change { when: When::Answers(after), slots }) = self.changes.front()
                        && *after <= self.finished
                    {
                        self.slots = *slots;
                        self.changes.pop_front();
                    }
                }
                _ => match change {
                    Some(at) => {
                        self.pass(at);
                        let changed = self.changes.pop_front();
                        self.slots = changed.map_or(self.slots, |change| change.slots);
                    }
                    None => break,
                },
            }
            self.start(&mut events);
        }
        self.pass(now);
        events
    }

    fn timed_change(&self) -> Option<Nanos> {
        match self.changes.front()?.when {
            When::Elapsed(after) => Some((self.first? + after).max(self.now)),
            When::Answers(_) => None,
        }
    }

    fn start(&mut self, events: &mut Vec<Event>) {
        while self.active.len() < self.slots as usize {
            let Some((id, work)) = self.queue.pop_front() else { return };
            self.active.push(Active { id, ends: self.work + work });
            events.push(Event::Started(id, self.now));
        }
    }

    /// Which one ends next and when, if ever.
    fn soonest(&self) -> Option<(usize, Nanos)> {
        let ends = self.active.iter().enumerate().map(|(index, active)| (index, active.ends));
        let (index, ends) = ends.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, ends)| ends.is_finite())?;
        let wait = ((ends - self.work) / self.rate()).max(0.0);
        Some((index, self.now + wait.ceil() as Nanos))
    }

    /// Of each active request: half at `slowdown` beyond the first. Together they are fastest near that number.
    fn rate(&self) -> f64 {
        match self.slowdown {
            Some(half) => {
                let beyond = self.active.len().saturating_sub(1) as f64 / half;
                1.0 / (1.0 + beyond * beyond)
            }
            None => 1.0,
        }
    }

    fn pass(&mut self, to: Nanos) {
        let passed = to.saturating_sub(self.now);
        self.work += passed as f64 * self.rate();
        let busy = self.active.len().min(self.slots as usize);
        self.busy += u128::from(passed) * busy as u128;
        self.offered += u128::from(passed) * u128::from(self.slots);
        self.now = self.now.max(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Event::{Finished, Started};

    #[test]
    fn two_slots_serve_in_order_without_a_gap() {
        let mut slots = Slots::new(2, Vec::new(), None);
        let begun: Vec<_> = (0..4).flat_map(|id| slots.arrive(10, id, 50.0)).collect();
        assert_eq!(begun, [Started(0, 10), Started(1, 10)]);
        assert_eq!(slots.next(), Some(60));
        // Read late: the third and the fourth began when the others ended.
        let events = slots.advance(115);
        let expected = [
            Finished(0, 60),
            Started(2, 60),
            Finished(1, 60),
            Started(3, 60),
            Finished(3, 110),
            Finished(2, 110),
        ];
        for event in expected {
            assert!(events.contains(&event), "{event:?} in {events:?}");
        }
        assert_eq!(slots.times(), (2 * 100, 2 * 115));
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn who_leaves_frees_its_slot_or_its_place() {
        let mut slots = Slots::new(1, Vec::new(), None);
        slots.arrive(0, 0, f64::INFINITY);
        slots.arrive(0, 1, 10.0);
        slots.arrive(0, 2, 10.0);
        assert_eq!((slots.next(), slots.leave(5, 1)), (None, vec![]));
        assert_eq!(slots.leave(7, 0), [Started(2, 7)]);
        assert_eq!(slots.advance(17), [Finished(2, 17)]);
    }

    #[test]
    fn slots_change_after_answers_and_at_times() {
        let changes = vec!["1:1".parse().expect("answers"), "0.0000001s:3".parse().expect("a time")];
        let mut slots = Slots::new(2, changes, None);
        for id in 0..6 {
            slots.arrive(0, id, 40.0 + id as f64);
        }
        assert_eq!(slots.advance(41), [Finished(0, 40), Finished(1, 41), Started(2, 41)]);
        assert_eq!(slots.count(), 1);
        let events = slots.advance(100);
        assert!(events.contains(&Started(4, 100)) && events.contains(&Started(5, 100)), "{events:?}");
        for bad in ["", "3", "x:1", "1:-1", "1:x"] {
            assert!(bad.parse::<Change>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_slots_all_that_comes_waits() {
        let mut slots = Slots::new(1, vec!["2:0".parse().expect("answers")], None);
        (0..4).for_each(|id| drop(slots.arrive(0, id, 10.0)));
        assert_eq!(slots.advance(100), [Finished(0, 10), Started(1, 10), Finished(1, 20)]);
        assert_eq!((slots.next(), slots.times()), (None, (20, 20)));
    }

    #[test]
    fn each_slows_as_others_come_and_all_together_have_a_best() {
        let rate = |active: u64| {
            let mut slots = Slots::new(100, Vec::new(), Some(6.0));
            (0..active).for_each(|id| drop(slots.arrive(0, id, 1000.0)));
            active as f64 / slots.next().expect("it ends") as f64
        };
        let rates: Vec<_> = (1..=16).map(rate).collect();
        let best = (0..16).max_by(|a, b| rates[*a].total_cmp(&rates[*b])).expect("rates") + 1;
        assert_eq!(best, 6);
        assert!(rates[15] < rates[5] * 0.7);
    }
}
