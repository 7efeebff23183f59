//! What a job does now, in the words that fit on one line of a terminal. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::Job;

/// Between the things that are told.
const BETWEEN: &str = " · ";

impl Job {
    /// What goes on at the model server, and what the job waits for; empty when there is nothing to tell.
    pub fn activity(&self, now: DateTime<Utc>) -> String {
        let told = match (self.state, self.waiting_since) {
            ("queued", _) => vec!["queued".to_owned()],
            ("running", Some(since)) => vec![self.waits(since, now)],
            ("running", None) => self.works(),
            _ => Vec::new(),
        };
        told.join(BETWEEN)
    }

    fn waits(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> String {
        // A wait of a night needs its day.
        let recent = (now - since).abs() < TimeDelta::hours(12);
        let since = since.format(if recent { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M UTC" });
        match self.waiting_for() {
            "" => format!("waiting since {since}"),
            reason => format!("waiting since {since}: {reason}"),
        }
    }

    fn works(&self) -> Vec<String> {
        let mut told = Vec::new();
        if self.in_flight > 0 || self.limit > 0 {
            told.push(match self.limit {
                0 => format!("{} in flight", self.in_flight),
                limit => format!("{} in flight (limit {limit}: {})", self.in_flight, self.limit_reason),
            });
        }
        let counted = |count: u64, one: &str, more: &str| {
            (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { more }))
        };
        told.extend(counted(self.retries, "retry", "retries"));
        told.extend(counted(self.salvaged, "mention salvaged", "mentions salvaged"));
        told.extend(self.slow_place().map(|place| format!("the model runs on {place}: slow")));
        told
    }

    /// What it waits for; empty when it does not.
    pub fn waiting_for(&self) -> &str {
        if self.waiting_since.is_some() { &self.reason } else { "" }
    }

    /// Where the model runs, if it is known and not all of it is on a GPU.
    pub fn slow_place(&self) -> Option<String> {
        match (self.model_size_bytes, self.model_size_vram_bytes) {
            (0, _) => None,
            (all, gpu) if gpu >= all => None,
            (_, 0) => Some("the CPU".to_owned()),
            (all, gpu) => {
                let share = u128::from(gpu) * 100 / u128::from(all);
                Some(format!("the CPU, {share} % of it on the GPU"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::grpc::{Batch, BatchState, Progress};

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a time")
    }

    fn told(state: BatchState, reason: &str, progress: Progress) -> String {
        let batch = Batch {
            state: state.into(),
            reason: reason.into(),
            progress: Some(progress),
            ..Batch::default()
        };
        Job::from(batch).activity(at(60))
    }

    fn busy() -> Progress {
        Progress {
            in_flight: 8,
            limit: 8,
            limit_reason: "the server works on 7 at a time".into(),
            requests: 812,
            ..Progress::default()
        }
    }

    #[test]
    fn work_is_told_on_one_line() {
        let told = |progress| told(BatchState::Running, "", progress);
        assert_eq!(told(Progress::default()), "", "the rules ask nobody");
        assert_eq!(told(busy()), "8 in flight (limit 8: the server works on 7 at a time)");
        let ill =
            Progress { retries: 3, salvaged: 1, model_size_bytes: 10, model_size_vram_bytes: 4, ..busy() };
        assert_eq!(
            told(ill),
            "8 in flight (limit 8: the server works on 7 at a time) · 3 retries · 1 mention salvaged · \
             the model runs on the CPU, 40 % of it on the GPU: slow"
        );
        let whole = Progress { model_size_bytes: 10, model_size_vram_bytes: 10, ..busy() };
        assert!(!told(whole).contains("CPU"));
    }

    #[test]
    fn a_wait_says_since_when_and_for_what() {
        let since = |seconds| {
            let since = at(seconds).timestamp();
            Progress {
                waiting_since: Some(prost_types::Timestamp { seconds: since, nanos: 0 }),
                retries: 3,
                ..busy()
            }
        };
        let told = |progress| told(BatchState::Running, "cannot reach Ollama", progress);
        assert_eq!(told(since(0)), "waiting since 22:13:20 UTC: cannot reach Ollama");
        assert_eq!(told(since(-86_400)), "waiting since 2023-11-13 22:13 UTC: cannot reach Ollama");
    }

    #[test]
    fn what_has_not_begun_or_has_ended_does_nothing() {
        assert_eq!(told(BatchState::Queued, "", Progress::default()), "queued");
        assert_eq!(told(BatchState::Failed, "broken", busy()), "");
    }
}
