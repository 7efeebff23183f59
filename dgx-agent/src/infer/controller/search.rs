//! The limit that brings most, where more in flight makes each request slower. Pure.
//!
//! The time of a request over the number in flight is taken for a parabola through three measured limits, so that the
//! best limit is guessed from few, and then measured.

use super::JUDGED_BY;

/// Growth goes on without a second look while it brings this much more.
const PLAINLY_WORTH: f64 = 1.15;
/// Fewer answers than this say nothing of a limit.
const TELLING: usize = 8;
/// A smaller limit is as good when it brings this much of the best.
const AS_GOOD: f64 = 0.99;
/// So many times more or less: limits that tell of each other.
const NEAR: u32 = 4;
/// Standard errors that are no chance.
const SURE: f64 = 2.0;
/// Limits that are kept.
const POINTS: usize = 12;

/// So much a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub rate: f64,
    /// Its standard error, as a share of it.
    pub error: f64,
}

/// What limits are compared by: what is known better. A model's time goes by the tokens it writes; that of a server
/// with other costs may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Tokens,
    Answers,
}

/// A limit and what it brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub limit: u32,
    /// None: the server does not count.
    pub tokens: Option<Rate>,
    pub each: Rate,
    pub answers: usize,
    /// Measured long enough to be compared with another.
    pub judged: bool,
}

impl Level {
    /// Whether it may bring plainly more than `before`, as far as the few answers of both can tell.
    pub fn may_pay(&self, before: &Self) -> bool {
        self.pays(before, 1.0)
    }

    /// Whether it might, if the answers were unusual ones.
    pub fn might_pay(&self, before: &Self) -> bool {
        self.pays(before, SURE)
    }

    /// Whether it more likely brings plainly more than `before`.
    pub fn likely_pays(&self, before: &Self) -> bool {
        self.pays(before, 0.5)
    }

    /// How much answers vary is taken from these, which are more.
    fn pays(&self, before: &Self, doubts: f64) -> bool {
        let root = |level: &Self| (level.answers as f64).sqrt();
        let by = self.known_better();
        let doubt = self.by(by).error * (1.0 + root(self) / root(before).max(1.0));
        before.answers < TELLING
            || self.by(by).rate >= before.by(by).rate * PLAINLY_WORTH * (1.0 - doubts * doubt)
    }

    /// Whether it brings about as much as `other`.
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        let by = self.known_better();
        self.by(by).rate >= other.by(by).rate * AS_GOOD
    }

    pub fn known_better(&self) -> By {
        match self.tokens {
            Some(tokens) if tokens.error <= self.each.error => By::Tokens,
            _ => By::Answers,
        }
    }

    fn by(&self, by: By) -> Rate {
        match by {
            By::Tokens => self.tokens.unwrap_or(self.each),
            By::Answers => self.each,
        }
    }

    /// Of a request, without its unit.
    fn time(&self, by: By) -> f64 {
        f64::from(self.limit) / self.by(by).rate.max(1e-9)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Search {
    /// By limit.
    points: Vec<Level>,
    ceiling: u32,
    by: By,
}

impl Search {
    /// `points`: limits that were measured, well or not. None above `ceiling` is tried.
    pub fn new(points: &[Level], ceiling: u32) -> Self {
        let mut search = Self { points: Vec::new(), ceiling, by: By::Answers };
        points.iter().filter(|point| point.limit <= ceiling).for_each(|point| search.take(*point));
        search
    }

    pub fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// Takes a measured limit; it is worth more than what was known of the same one.
    pub fn take(&mut self, level: Level) {
        self.by = level.known_better();
        match self.points.binary_search_by_key(&level.limit, |point| point.limit) {
            Ok(at) => self.points[at] = level,
            Err(at) => self.points.insert(at, level),
        }
        // The one that says least of the best goes.
        if self.points.len() > POINTS {
            let best = self.best().limit;
            let far = |at: usize| self.points[at].limit.abs_diff(best);
            let last = self.points.len() - 1;
            self.points.remove(if far(0) > far(last) { 0 } else { last });
        }
    }

    /// The limit that brought most, as measured.
    fn most(&self) -> u32 {
        let most = self.points.iter().max_by(|a, b| a.by(self.by).rate.total_cmp(&b.by(self.by).rate));
        most.map_or(1, |point| point.limit)
    }

    /// Whether a limit is so much worse than the best that more answers would not change it.
    pub fn is_out(&self, level: &Level) -> bool {
        let by = level.known_better();
        let sure = |level: &Level, sign: f64| level.by(by).rate * (1.0 + sign * SURE * level.by(by).error);
        level.answers >= *JUDGED_BY.start()
            && self.points.iter().any(|best| best.judged && sure(best, -1.0) > sure(level, 1.0))
    }

    /// What the limits around this one say together.
    fn near(&self, limit: u32) -> Option<Parabola> {
        let near = |point: &&Level| point.limit * NEAR >= limit && point.limit <= limit * NEAR;
        Parabola::through(self.points.iter().filter(near), self.by)
    }

    /// What a limit brings: as its neighbours have it, where that is within its own error.
    fn rate(&self, point: &Level, near: Option<Parabola>) -> f64 {
        let own = point.by(self.by);
        let told = near.map(|near| f64::from(point.limit) / near.time(point.limit));
        let within = |told: &f64| (told / own.rate - 1.0).abs() <= 2.0 * own.error;
        told.filter(within).unwrap_or(own.rate)
    }

    /// The smallest limit that brings about as much as any.
    pub fn best(&self) -> Level {
        let near = self.near(self.most());
        let rate = |point: &Level| self.rate(point, near);
        let most = self.points.iter().map(rate).fold(0.0, f64::max);
        let best = self.points.iter().find(|point| rate(point) >= most * AS_GOOD);
        let nothing = Rate { rate: 0.0, error: 1.0 };
        *best.unwrap_or(&Level { limit: 1, tokens: None, each: nothing, answers: 0, judged: true })
    }

    /// The limit to measure next; None: the best one is found.
    pub fn next(&self) -> Option<u32> {
        let best = self.best();
        let at = self.points.partition_point(|point| point.limit < best.limit);
        let right = self.points.get(at + 1);
        let left = at.checked_sub(1).and_then(|at| self.points.get(at));
        let fresh = |limit: &u32| {
            let near = (limit / 8).max(1);
            self.points.iter().all(|point| point.limit.abs_diff(*limit) >= near)
        };
        let guess = match (left, right) {
            // Little more than half as many brought: the best may lie between.
            (Some(left), None) if self.is_flat(left, &best) => Some(left.limit.midpoint(best.limit)),
            (_, None) if best.limit < self.ceiling => Some((best.limit * 2).min(self.ceiling)),
            // All three lie on the way up; the best may still lie between them.
            (Some(_), None) => at.checked_sub(2).and_then(|at| self.peak(self.points[at].limit, best.limit)),
            (None, None) => None,
            (Some(left), Some(right)) => self.peak(left.limit, right.limit),
            (None, Some(right)) => Some(best.limit.midpoint(right.limit)),
        };
        guess.filter(fresh).or((!best.judged).then_some(best.limit))
    }

    /// The limit between two that brings most, as far as all around them tell.
    fn peak(&self, low: u32, high: u32) -> Option<u32> {
        let peak = self.near(self.most())?.peak()?;
        Some(peak.clamp(f64::from(low), f64::from(high)).round() as u32)
    }

    /// Whether the way from one limit to one far above it brought little.
    fn is_flat(&self, low: &Level, high: &Level) -> bool {
        high.limit * 2 >= low.limit * 3
            && high.by(self.by).rate < low.by(self.by).rate * PLAINLY_WORTH
            && low.answers >= TELLING
    }
}

/// The time of a request by the number in flight, as the parabola that is nearest to what was measured.
#[derive(Debug, Clone, Copy)]
struct Parabola([f64; 3]);

impl Parabola {
    /// None: fewer than three limits, or they lie on no one parabola. A point weighs by its answers.
    fn through<'a>(points: impl Iterator<Item = &'a Level>, by: By) -> Option<Self> {
        let (mut powers, mut times, mut limits) = ([0.0; 5], [0.0; 3], 0);
        for point in points {
            let (limit, time) = (f64::from(point.limit), point.time(by));
            let weight = point.answers as f64 / (time * time);
            powers.iter_mut().enumerate().for_each(|(power, sum)| *sum += weight * limit.powi(power as i32));
            times
                .iter_mut()
                .enumerate()
                .for_each(|(power, sum)| *sum += weight * time * limit.powi(power as i32));
            limits += 1;
        }
        let [a, b, c, d, e] = powers;
        let rows = [[a, b, c], [b, c, d], [c, d, e]];
        let all = determinant(rows);
        let solved = [0, 1, 2].map(|column| {
            let mut swapped = rows;
            swapped.iter_mut().zip(times).for_each(|(row, time)| row[column] = time);
            determinant(swapped) / all
        });
        (limits >= 3 && solved.iter().all(|factor| factor.is_finite())).then_some(Self(solved))
    }

    fn time(self, limit: u32) -> f64 {
        let Self([constant, slope, square]) = self;
        let limit = f64::from(limit);
        constant + slope * limit + square * limit * limit
    }

    /// The limit that brings most: of `limit / time`.
    fn peak(self) -> Option<f64> {
        let Self([constant, _, square]) = self;
        let peak = (constant / square).sqrt();
        (square > 0.0 && peak.is_finite()).then_some(peak)
    }
}

fn determinant([[a, b, c], [d, e, f], [g, h, i]]: [[f64; 3]; 3]) -> f64 {
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_seen_through_from_three_limits() {
        let level = |limit: u32| {
            let beyond = f64::from(limit - 1) / 6.0;
            let rate = f64::from(limit) / (1.0 + beyond * beyond);
            Level { limit, tokens: None, each: Rate { rate, error: 0.0 }, answers: 24, judged: true }
        };
        let mut search = Search::new(&[level(1), level(4), level(16)], 64);
        assert_eq!(search.next(), Some(6));
        search.take(level(6));
        assert_eq!((search.next(), search.best().limit), (None, 6));
    }
}
