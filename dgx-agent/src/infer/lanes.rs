//! Whose request is next: slots of a server in proportion to weights, over all who ask. Pure.
//!
//! Fair queueing by start times: who waits goes in the order of slot time used, divided by weight. A slot is charged when
//! it is given, with what one usually takes for whom it is given to, and corrected when it comes back. Who did not ask for
//! a while has no claim on the past.

use std::collections::{BTreeMap, VecDeque};

/// How much the latest slot says of the usual one.
const LEARN: f64 = 0.1;

pub(super) type LaneId = u64;

/// All who ask; `T` waits.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    lanes: BTreeMap<LaneId, Lane<T>>,
    next: LaneId,
    /// Slot time by weight of whoever was served last.
    now: f64,
    /// Seconds that a slot is usually held, whoever holds it.
    usual: f64,
}

#[derive(Debug)]
struct Lane<T> {
    weight: u32,
    /// Slot time used, by weight.
    used: f64,
    /// Seconds that it usually holds a slot, once that is known.
    usual: Option<f64>,
    served: usize,
    waiting: VecDeque<T>,
    /// Gets nothing more.
    held: bool,
}

/// A slot that was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    pub lane: LaneId,
    seconds: f64,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), next: 0, now: 0.0, usual: 1.0 }
    }
}

impl<T> Lanes<T> {
    pub fn add(&mut self, weight: u32) -> LaneId {
        let id = self.next;
        self.next += 1;
        let weight = weight.max(1);
        let lane =
            Lane { weight, used: self.now, usual: None, served: 0, waiting: VecDeque::new(), held: false };
        self.lanes.insert(id, lane);
        id
    }

    pub fn remove(&mut self, id: LaneId) {
        self.lanes.remove(&id);
    }

    pub fn weigh(&mut self, id: LaneId, weight: u32) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.weight = weight.max(1);
        }
    }

    /// Gives a lane nothing more; who waits there waits on.
    pub fn hold(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.held = true;
        }
    }

    pub fn wait(&mut self, id: LaneId, who: T) {
        let now = self.now;
        if let Some(lane) = self.lanes.get_mut(&id) {
            if lane.waiting.is_empty() && lane.served == 0 {
                lane.used = lane.used.max(now);
            }
            lane.waiting.push_back(who);
        }
    }

    /// The next one, if `here` says that it still waits.
    pub fn next(&mut self, here: impl Fn(&T) -> bool) -> Option<(Charge, T)> {
        for lane in self.lanes.values_mut() {
            while lane.waiting.front().is_some_and(|who| !here(who)) {
                lane.waiting.pop_front();
            }
        }
        let ready = self.lanes.iter_mut().filter(|(_, lane)| !lane.held && !lane.waiting.is_empty());
        let (id, lane) = ready.min_by(|(_, one), (_, other)| one.used.total_cmp(&other.used))?;
        let who = lane.waiting.pop_front()?;
        self.now = self.now.max(lane.used);
        let seconds = lane.usual.unwrap_or(self.usual);
        lane.used += seconds / f64::from(lane.weight);
        lane.served += 1;
        Some((Charge { lane: *id, seconds }, who))
    }

    /// A slot is free again, after so many seconds.
    pub fn back(&mut self, charge: Charge, seconds: f64) {
        self.usual += (seconds - self.usual) * LEARN;
        if let Some(lane) = self.lanes.get_mut(&charge.lane) {
            let usual = lane.usual.get_or_insert(seconds);
            *usual += (seconds - *usual) * LEARN;
            lane.used += (seconds - charge.seconds) / f64::from(lane.weight);
            lane.served = lane.served.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Serves `rounds` slots of lanes that always wait; slot seconds by lane.
    fn serve(weights: &[u32], seconds: &[f64], slots: usize, rounds: usize) -> Vec<f64> {
        let mut lanes = Lanes::default();
        let ids: Vec<_> = weights.iter().map(|weight| lanes.add(*weight)).collect();
        for id in &ids {
            (0..slots + 1).for_each(|_| lanes.wait(*id, *id));
        }
        let mut used = vec![0.0; weights.len()];
        // Slots and when they are free.
        let mut busy: Vec<(f64, Charge, f64)> = Vec::new();
        let mut clock = 0.0;
        for _ in 0..rounds {
            if busy.len() == slots {
                let first = (0..slots).min_by(|a, b| busy[*a].0.total_cmp(&busy[*b].0)).expect("one");
                let (end, charge, held) = busy.swap_remove(first);
                clock = end;
                lanes.back(charge, held);
            }
            let (charge, id) = lanes.next(|_| true).expect("somebody waits");
            lanes.wait(id, id);
            let lane = ids.iter().position(|other| *other == id).expect("known");
            used[lane] += seconds[lane];
            busy.push((clock + seconds[lane], charge, seconds[lane]));
        }
        used
    }

    fn shares(used: &[f64]) -> Vec<f64> {
        let all: f64 = used.iter().sum();
        used.iter().map(|used| used / all).collect()
    }

    proptest! {
        #[test]
        fn slot_time_goes_by_weight_whatever_a_request_takes(
            lanes in proptest::collection::vec((1u32..20, 0.1f64..5.0), 1..5),
            slots in 1usize..12,
        ) {
            let (weights, seconds): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
            let used = shares(&serve(&weights, &seconds, slots, 20_000));
            let all: u32 = weights.iter().sum();
            for (share, weight) in used.iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(all);
                prop_assert!((share / wanted - 1.0).abs() < 0.1, "{share} of {wanted}: {weights:?} {seconds:?}");
            }
        }
    }

    #[test]
    fn who_was_away_gets_its_share_and_not_what_it_missed() {
        let mut lanes = Lanes::default();
        let (busy, idle) = (lanes.add(1), lanes.add(1));
        for _ in 0..100 {
            lanes.wait(busy, busy);
            let (charge, _) = lanes.next(|_| true).expect("waits");
            lanes.back(charge, 1.0);
        }
        for _ in 0..10 {
            lanes.wait(busy, busy);
            lanes.wait(idle, idle);
        }
        let served: Vec<_> = (0..10)
            .map(|_| {
                let (charge, who) = lanes.next(|_| true).expect("waits");
                lanes.back(charge, 1.0);
                who
            })
            .collect();
        assert_eq!(served.iter().filter(|who| **who == idle).count(), 5, "{served:?}");
    }

    #[test]
    fn who_is_held_or_gone_gets_nothing() {
        let mut lanes = Lanes::default();
        let (one, other) = (lanes.add(9), lanes.add(1));
        lanes.wait(one, "held");
        lanes.wait(other, "gone");
        lanes.wait(other, "there");
        lanes.hold(one);
        assert_eq!(lanes.next(|who| *who != "gone").expect("one").1, "there");
        assert!(lanes.next(|_| true).is_none());
        lanes.remove(one);
        assert!(lanes.next(|_| true).is_none());
    }
}
