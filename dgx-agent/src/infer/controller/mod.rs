//! How many requests to have in flight, found from the answers alone. Pure: samples in, a limit and its reason out.
//!
//! Constraints: nobody outside can read a server's slots; Ollama queues without a bound and never pushes back; time in
//! its queue is what its own durations leave of the whole (`total - load - prompt_eval - eval`), and what its whole
//! leaves of our wall time is the way there and back.
//!
//! ```text
//! round of answers ─► Round (Little's law: in flight = served + queued + under way)
//!    a queue shows   ─► as many as were served, those under way, and one that waits so that no slot does
//!    no queue        ─► more, as long as more brings more (a GPU slows as its slots fill): then the best of a search,
//!                       and now and then a step up or down from it
//! ```
//! A round holds answers to requests sent since the last move alone, so that a move is judged by what it did.

mod round;
mod search;

use std::{str::FromStr, time::Duration};

use round::Round;
use search::{Level, Search};

/// The most requests in flight where the number is to be found.
const CAP: u32 = 64;
/// The most that may be asked for.
const MOST: u32 = 256;

/// Answers that a throughput is judged by; the more their times vary, the more it takes.
const JUDGED_BY: std::ops::RangeInclusive<usize> = 24..=150;
/// A throughput is known well with this error, as a share of it.
const WELL_KNOWN: f64 = 0.04;
/// Answers of a round once a queue was seen.
const STEADY_ROUND: usize = 8;
/// Answers of one in which none waited.
const SPARE_ROUND: usize = 3;
/// A queue of this mean length shows.
const QUEUE_SHOWS: f64 = 0.25;
/// Shorter waits are the server's own overhead.
const WAIT_SHOWS: Duration = Duration::from_millis(1);
/// With this share of the limit in flight, it is the limit that is judged.
const FULL: f64 = 0.8;
/// How far the limit may be off before it moves.
const DEAD_BAND: f64 = 0.75;
/// Rounds to stay where more brought nothing, before trying again.
const HOLD: u32 = 20;
/// And where a step brought something.
const SHORT_HOLD: u32 = 2;

/// How many requests may be in flight, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    /// As many as keep the server at work.
    #[default]
    Auto,
    Fixed(u32),
}

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
        number
            .map(Self::Fixed)
            .ok_or_else(|| format!("{text:?} is neither auto nor a number from 1 to {MOST}"))
    }
}

/// The server's account of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the request's arrival to its end.
    pub total: Duration,
    pub load: Duration,
    /// In a slot: reading the prompt and writing the answer.
    pub served: Duration,
}

/// An answer. Times count from any fixed moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub sent: Duration,
    pub answered: Duration,
    /// Requests in flight when it was sent, itself included.
    pub in_flight: u32,
    /// None: the server does not say.
    pub timing: Option<Timing>,
    /// Written by the model.
    pub tokens: u64,
}

/// Why the limit is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reason {
    /// It was given.
    #[default]
    Fixed,
    /// Nothing is known yet.
    Start,
    /// No request waited in the server's queue.
    NoQueue,
    /// As many slots work, and one request waits for them.
    Slots(u32),
    /// More in flight brings no more tokens.
    NoGain,
    /// Looking between two limits for the one that brings most.
    Looking,
    /// The server turned requests off.
    TurnedOff,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed => f.write_str("it is fixed"),
            Self::Start => f.write_str("nothing is known of the server yet"),
            Self::NoQueue => f.write_str("no request waited in the server's queue"),
            Self::Slots(slots) => write!(f, "the server works on {slots} at a time"),
            Self::NoGain => f.write_str("more in flight brought no more tokens"),
            Self::Looking => f.write_str("looking for the number that brings most"),
            Self::TurnedOff => f.write_str("the server turned requests off"),
        }
    }
}

/// A change of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub limit: u32,
    pub reason: Reason,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Growing as fast as answers allow, until a queue shows or growth no longer plainly pays.
    Fast,
    /// A queue was seen.
    Steady,
    /// More in flight makes each request slower.
    Search(Search),
    /// The best limit that is known, for some rounds; then one a step further that `way` is tried.
    Hold { rounds: u32, way: Way },
    /// A step from a limit that was held, to see whether it is still the best.
    Step { from: Level, way: Way },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    fn step(self, limit: u32) -> u32 {
        match self {
            Self::Up => limit + limit.div_ceil(4),
            Self::Down => limit - limit.div_ceil(4).min(limit - 1),
        }
    }
}

/// Finds the limit.
#[derive(Debug, Clone)]
pub struct Controller {
    cap: u32,
    fixed: bool,
    limit: u32,
    reason: Reason,
    phase: Phase,
    /// Requests sent before tell of an earlier limit.
    since: Duration,
    round: Round,
    /// The limits on the way up, and what they brought.
    grown: Vec<Level>,
    /// Rounds without a queue, one after the other.
    idle_rounds: u32,
}

impl Controller {
    pub fn new(concurrency: Concurrency) -> Self {
        match concurrency {
            Concurrency::Auto => Self::auto(CAP),
            Concurrency::Fixed(limit) => Self::fixed(limit),
        }
    }

    /// Finds a limit of at most `cap`, from 1.
    pub fn auto(cap: u32) -> Self {
        Self {
            cap: cap.max(1),
            fixed: false,
            limit: 1,
            reason: Reason::Start,
            phase: Phase::Fast,
            since: Duration::ZERO,
            round: Round::default(),
            grown: Vec::new(),
            idle_rounds: 0,
        }
    }

    /// Stays at `limit`.
    pub fn fixed(limit: u32) -> Self {
        Self { fixed: true, limit: limit.max(1), reason: Reason::Fixed, ..Self::auto(limit) }
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The highest limit that it can come to.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Takes an answer into account.
    pub fn answered(&mut self, sample: &Sample) -> Option<Move> {
        if self.fixed || sample.sent < self.since {
            return None;
        }
        // The first ones after a step up were sent while fewer were in flight.
        if matches!(self.phase, Phase::Fast) && f64::from(sample.in_flight) < f64::from(self.limit) * FULL {
            return None;
        }
        self.round.add(sample);
        let limit = self.limit as usize;
        let enough = match self.phase {
            Phase::Fast if limit == 1 => true,
            Phase::Fast => self.round.answers() >= limit.max(STEADY_ROUND),
            // In all of so many answers one would have waited, if there were no slots to spare.
            Phase::Steady if self.round.none_waited() => self.round.answers() >= (limit / 2).max(SPARE_ROUND),
            Phase::Steady => self.round.answers() >= limit.max(STEADY_ROUND),
            Phase::Search(ref search) => self.is_judged() || search.is_out(&self.here()),
            Phase::Hold { .. } | Phase::Step { .. } => self.is_judged(),
        };
        if !enough {
            return None;
        }
        let here = self.here();
        let round = std::mem::take(&mut self.round);
        self.judge(round, here, sample.answered)
    }

    /// The limit and what it brought in this round.
    fn here(&self) -> Level {
        let round = &self.round;
        let judged = self.is_judged();
        Level {
            limit: self.limit,
            tokens: round.tokens(),
            each: round.each(),
            answers: round.answers(),
            judged,
        }
    }

    fn is_judged(&self) -> bool {
        let answers = self.round.answers();
        let tokens = self.round.tokens().map_or(f64::MAX, |rate| rate.error);
        answers >= (2 * self.limit as usize).max(*JUDGED_BY.start())
            && (answers >= *JUDGED_BY.end() || tokens.min(self.round.each().error) <= WELL_KNOWN)
    }

    /// The server turned a request off: it takes fewer than this.
    pub fn turned_off(&mut self, at: Duration) -> Option<Move> {
        if self.fixed || self.limit == 1 {
            return None;
        }
        self.phase = Phase::Steady;
        self.grown.clear();
        self.go(self.limit / 2, Reason::TurnedOff, at)
    }

    fn judge(&mut self, round: Round, here: Level, now: Duration) -> Option<Move> {
        if round.queue_shows() {
            self.idle_rounds = 0;
            return self.settle(round, here, now);
        }
        // Fewer in flight than allowed: the pages were late, and nothing is learned of the server.
        if round.in_flight() < f64::from(self.limit) * FULL {
            return None;
        }
        self.idle_rounds += 1;
        match self.phase {
            Phase::Fast => self.grow(round, here, now),
            // No queue, and not for want of requests.
            Phase::Steady if round.is_held_up() => {
                self.go((round.wanted().round() as u32).max(2), Reason::NoQueue, now)
            }
            Phase::Steady => {
                // Too few waited, or slots came back; the second time, it is slots.
                let more = if self.idle_rounds > 1 { self.limit } else { self.limit.div_ceil(2) };
                self.go(self.limit + more, Reason::NoQueue, now)
            }
            Phase::Search(_) => self.search(here, now),
            Phase::Hold { rounds, way } if rounds > 0 => {
                self.phase = Phase::Hold { rounds: rounds - 1, way };
                None
            }
            Phase::Hold { way, .. } => {
                self.phase = Phase::Step { from: here, way };
                self.go(way.step(self.limit), Reason::Looking, now)
            }
            Phase::Step { from, way } => self.stepped(from, way, here, now),
        }
    }

    /// A step that brought something is followed by the next one soon; the other way is tried later.
    fn stepped(&mut self, from: Level, way: Way, here: Level, now: Duration) -> Option<Move> {
        let better = match way {
            Way::Up => !from.is_as_good_as(&here),
            Way::Down => here.is_as_good_as(&from),
        };
        if better {
            self.phase = Phase::Hold { rounds: SHORT_HOLD, way };
            self.reason = Reason::NoGain;
            return None;
        }
        self.phase = Phase::Hold { rounds: HOLD, way: way.back() };
        self.go(from.limit, Reason::NoGain, now)
    }

    /// A queue shows, so the slots do.
    fn settle(&mut self, round: Round, here: Level, now: Duration) -> Option<Move> {
        let slots = round.busy().round().max(1.0) as u32;
        let wanted = round.wanted();
        if let Phase::Step { from, way: Way::Up } = self.phase
            && from.is_as_good_as(&here)
        {
            return self.stepped(from, Way::Up, here, now);
        }
        let off = (wanted - f64::from(self.limit)).abs() >= DEAD_BAND;
        if off {
            self.phase = Phase::Steady;
            return self.go(wanted.round() as u32, Reason::Slots(slots), now);
        }
        if matches!(self.phase, Phase::Search(_)) {
            return self.search(Level { limit: slots.min(self.limit), ..here }, now);
        }
        self.reason = Reason::Slots(slots);
        // All slots work. If far fewer in flight were nearly as good, the best may lie between.
        self.grown.retain(|level| level.limit < slots);
        if !self.grown.is_empty() && !here.judged {
            self.round = round;
            return None;
        }
        let grown = std::mem::take(&mut self.grown);
        let far = |before: &&Level| before.limit * 3 <= slots * 2;
        if grown.iter().filter(far).any(|before| !here.likely_pays(before)) {
            self.phase = Phase::Search(Search::new(&grown, slots));
            return self.search(Level { limit: slots, ..here }, now);
        }
        None
    }

    fn grow(&mut self, round: Round, here: Level, now: Duration) -> Option<Move> {
        if self.grown.iter().any(|before| !here.may_pay(before)) {
            // Where it may be chance, a second look is cheaper than a search.
            let chance = self.grown.iter().all(|before| here.might_pay(before));
            if chance && here.answers < 2 * self.limit as usize {
                self.round = round;
                return None;
            }
            self.phase = Phase::Search(Search::new(&self.grown, self.cap));
            return self.search(here, now);
        }
        if self.limit == self.cap {
            self.phase = Phase::Hold { rounds: HOLD, way: Way::Down };
            return None;
        }
        self.grown.push(here);
        // The first answer is that of the warm-up, and says little; and where requests slow each other, a long step is
        // a slow one.
        let times = if self.limit == 1 { 4 } else { 2 };
        self.go(self.limit * times, Reason::NoQueue, now)
    }

    fn search(&mut self, here: Level, now: Duration) -> Option<Move> {
        let Phase::Search(search) = &mut self.phase else { return None };
        search.take(here);
        let (best, next, ceiling) = (search.best().limit, search.next(), search.ceiling());
        match next {
            Some(next) => self.go(next, Reason::Looking, now),
            // All slots: and one request waits for them.
            None if best == ceiling && best < self.cap => {
                self.phase = Phase::Steady;
                self.go(best + 1, Reason::Slots(best), now)
            }
            None => {
                self.phase = Phase::Hold { rounds: HOLD, way: Way::Up };
                self.go(best, Reason::NoGain, now)
            }
        }
    }

    fn go(&mut self, limit: u32, reason: Reason, now: Duration) -> Option<Move> {
        let limit = limit.clamp(1, self.cap);
        self.reason = reason;
        if limit == self.limit {
            return None;
        }
        self.limit = limit;
        self.since = now;
        self.round = Round::default();
        Some(Move { limit, reason })
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
