//! A server with slots, in process and without a clock: events in order of time, seeded, so that runs repeat.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Controller, Sample, Timing};

/// How the server works. Times are in microseconds.
pub(super) struct Server {
    /// By the number of requests answered so far.
    pub slots: fn(usize) -> usize,
    pub service: f64,
    /// Of the log-normal time; 0: all the same.
    pub sigma: f64,
    /// Of a request's time, by how many are served with it.
    pub slows: fn(usize) -> f64,
    pub way: u64,
    pub says_timing: bool,
    /// Tokens that an answer has more or less than 100, whatever its time.
    pub tokens_vary: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            slots: |_| 4,
            service: 50_000.0,
            sigma: 0.0,
            slows: |_| 1.0,
            way: 1_000,
            says_timing: true,
            tokens_vary: 0,
        }
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Microseconds.
    pub took: u64,
    /// Slot time that was there and used, in microseconds.
    pub there: f64,
    pub used: f64,
    /// The same while requests were left to send: the last answers of a batch take what they take.
    fed_there: f64,
    fed_used: f64,
    /// The limit after each answer.
    pub limits: Vec<u32>,
    /// Requests in flight after each answer.
    pub in_flight: Vec<usize>,
}

impl Run {
    pub fn busy(&self) -> f64 {
        self.used / self.there
    }

    pub fn busy_while_fed(&self) -> f64 {
        self.fed_used / self.fed_there
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Leaves(usize),
    Back(usize),
}

struct Request {
    sent: u64,
    in_flight: u32,
    arrived: u64,
    began: u64,
    ended: u64,
}

/// Answers `pages` requests.
pub(super) fn run(server: &Server, mut controller: Controller, pages: usize, seed: u64) -> Run {
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = BinaryHeap::new();
    let mut requests: Vec<Request> = Vec::new();
    let mut queue = VecDeque::new();
    let (mut serving, mut answered, mut in_flight, mut now) = (0usize, 0usize, 0usize, 0u64);
    let mut done = Run::default();
    loop {
        while in_flight < controller.limit() as usize && requests.len() < pages {
            in_flight += 1;
            requests.push(Request { sent: now, in_flight: in_flight as u32, arrived: 0, began: 0, ended: 0 });
            events.push(Reverse((now + server.way / 2, Event::Arrives(requests.len() - 1))));
        }
        let Some(Reverse((at, event))) = events.pop() else { break };
        let slots = (server.slots)(answered);
        let (there, used) = ((at - now) as f64 * slots as f64, (at - now) as f64 * serving.min(slots) as f64);
        done.there += there;
        done.used += used;
        if requests.len() < pages {
            done.fed_there += there;
            done.fed_used += used;
        }
        now = at;
        match event {
            Event::Arrives(request) => {
                requests[request].arrived = now;
                queue.push_back(request);
            }
            Event::Leaves(request) => {
                serving -= 1;
                requests[request].ended = now;
                events.push(Reverse((now + server.way.div_ceil(2), Event::Back(request))));
            }
            Event::Back(request) => {
                answered += 1;
                in_flight -= 1;
                let Request { sent, in_flight: with, arrived, began, ended } = requests[request];
                let timing = Timing {
                    total: Duration::from_micros(ended - arrived),
                    load: Duration::ZERO,
                    served: Duration::from_micros(ended - began),
                };
                controller.answered(&Sample {
                    sent: Duration::from_micros(sent),
                    answered: Duration::from_micros(now),
                    in_flight: with,
                    timing: server.says_timing.then_some(timing),
                    tokens: 100 - server.tokens_vary + random.random_range(0..=2 * server.tokens_vary),
                });
                done.limits.push(controller.limit());
                done.in_flight.push(in_flight);
            }
        }
        while serving < slots {
            let Some(request) = queue.pop_front() else { break };
            serving += 1;
            requests[request].began = now;
            // Box and Muller.
            let (u, v): (f64, f64) = (random.random_range(1e-9..1.0), random.random());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            let varies = (server.sigma * normal - server.sigma * server.sigma / 2.0).exp();
            let takes = server.service * varies * (server.slows)(serving);
            events.push(Reverse((now + takes as u64, Event::Leaves(request))));
        }
    }
    done.took = now;
    done
}
