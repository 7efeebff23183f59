//! What a round of answers says together, by Little's law: of the requests in flight, the share that was served is
//! the share of their time that was spent being served.

use std::time::Duration;

use super::{QUEUE_SHOWS, Sample, WAIT_SHOWS, search::Rate};

/// In a slot so long, in seconds, a request waits for its server and not for the network.
const SLOW: f64 = 0.02;

#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    answers: usize,
    in_flight: f64,
    tokens: u64,
    /// Seconds, summed: of our wall time, and of what the server says of it.
    wall: f64,
    served: f64,
    queued: f64,
    /// In the queue, in seconds.
    longest_wait: f64,
    /// The way there and back, of each; the median of them is little moved by a pause of ours.
    ways: Vec<f64>,
    /// Time served, or our wall time where the server does not say.
    spent: f64,
    /// Squares of times and tokens, and their products, summed: how far the ones are from telling the others.
    spent_spent: f64,
    spent_tokens: f64,
    tokens_tokens: f64,
    /// Not all answers say how long they took at the server.
    untimed: bool,
}

impl Round {
    pub fn add(&mut self, sample: &Sample) {
        let wall = sample.answered.saturating_sub(sample.sent);
        self.answers += 1;
        self.in_flight += f64::from(sample.in_flight);
        self.tokens += sample.tokens;
        // Loading is neither work on a request nor a queue.
        let load = sample.timing.map_or(Duration::ZERO, |timing| timing.load);
        let (seconds, tokens) = (wall.saturating_sub(load).as_secs_f64(), sample.tokens as f64);
        self.wall += seconds;
        // Waits vary too, but what they take from one they give to another.
        let spent = sample.timing.map_or(seconds, |timing| timing.served.as_secs_f64());
        self.spent += spent;
        self.spent_spent += spent * spent;
        self.spent_tokens += spent * tokens;
        self.tokens_tokens += tokens * tokens;
        let Some(timing) = sample.timing else {
            self.untimed = true;
            return;
        };
        self.served += timing.served.as_secs_f64();
        let queued = timing.total.saturating_sub(timing.load + timing.served).as_secs_f64();
        self.queued += queued;
        self.longest_wait = self.longest_wait.max(queued);
        self.ways.push(wall.saturating_sub(timing.total).as_secs_f64());
    }

    pub fn answers(&self) -> usize {
        self.answers
    }

    pub fn in_flight(&self) -> f64 {
        self.in_flight / self.answers.max(1) as f64
    }

    /// Tokens a second, where they were counted.
    pub fn tokens(&self) -> Option<Rate> {
        let each = (self.tokens > 0).then(|| self.spent / self.tokens as f64)?;
        let squares = self.spent_spent - 2.0 * each * self.spent_tokens + each * each * self.tokens_tokens;
        Some(self.rate(self.tokens as f64, squares))
    }

    /// Answers a second.
    pub fn each(&self) -> Rate {
        let answers = self.answers as f64;
        self.rate(answers, self.spent_spent - self.spent * self.spent / answers.max(1.0))
    }

    /// `squares`: what the times are off from being told by the amount, squared and summed.
    fn rate(&self, amount: f64, squares: f64) -> Rate {
        // A few answers that are alike by chance prove nothing.
        let least = if self.answers < 8 { 0.3 / (self.answers.max(1) as f64).sqrt() } else { 0.0 };
        Rate {
            rate: self.in_flight() * amount / self.wall.max(1e-9),
            error: least.max(squares.max(0.0).sqrt() / self.spent.max(1e-9)),
        }
    }

    /// Whether not one answer waited.
    pub fn none_waited(&self) -> bool {
        !self.untimed && self.longest_wait < WAIT_SHOWS.as_secs_f64()
    }

    /// Slots at work.
    pub fn busy(&self) -> f64 {
        self.share(self.served)
    }

    pub fn queue_shows(&self) -> bool {
        let wait = self.queued / self.answers.max(1) as f64;
        !self.untimed && self.share(self.queued) >= QUEUE_SHOWS && wait >= WAIT_SHOWS.as_secs_f64()
    }

    /// In flight, so that each slot that ends a request finds the next: those served, those under way, one that waits,
    /// and as many more as the number under way varies by.
    pub fn wanted(&self) -> f64 {
        let way = self.way();
        let under_way = match self.served {
            served if served > 0.0 => self.busy() * way * self.answers as f64 / served,
            _ => self.share(way * self.answers as f64),
        };
        let wanted = self.busy() + under_way + 1.0 + under_way.sqrt();
        match self.served / self.answers.max(1) as f64 >= SLOW {
            // Answers that come late by so much are held up here, and more of them would not come sooner.
            true => wanted.min(2.0 * self.busy() + 2.0),
            false => wanted,
        }
    }

    /// Whether most of the time went by on the way and not at the server.
    pub fn is_held_up(&self) -> bool {
        self.served > 0.0 && self.share(self.served) < self.in_flight() * 0.6
    }

    fn share(&self, seconds: f64) -> f64 {
        self.in_flight() * seconds / self.wall.max(1e-9)
    }

    fn way(&self) -> f64 {
        let mut ways = self.ways.clone();
        ways.sort_by(f64::total_cmp);
        ways.get(ways.len() / 2).copied().unwrap_or_default()
    }
}
