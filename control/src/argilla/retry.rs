//! Which failures of a call may pass, and how long to wait for that.
//!
//! Every call may be repeated: an upsert by external id is idempotent, and a repeated creation answers 409,
//! which the caller reads as "it is there".

use std::time::Duration;

use rand::Rng;
use reqwest::{StatusCode, header::HeaderMap};

/// Attempts of one call, the first included.
pub const ATTEMPTS: u32 = 6;
const BASE: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(15);
/// What a server may ask for at most; beyond it, it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not a failure, or one that will not pass.
    Final,
    /// May pass; at the earliest after this, where the server said so.
    Transient(Option<Duration>),
}

pub fn of_status(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Verdict::Transient(retry_after(headers))
        }
        status if status.is_server_error() => Verdict::Transient(retry_after(headers)),
        _ => Verdict::Final,
    }
}

/// A reset, a refused connection, a time-out, an answer that broke off: all may pass. A request that could not
/// be formed will not.
pub fn of_error(error: &reqwest::Error) -> Verdict {
    if error.is_builder() || error.is_redirect() { Verdict::Final } else { Verdict::Transient(None) }
}

/// The wait before attempt `next` (2 is the first repetition): full jitter under an exponential bound, never less
/// than the server asked for. None when that is more than we have patience for.
pub fn wait(next: u32, asked: Option<Duration>, random: &mut impl Rng) -> Option<Duration> {
    let bound = BASE.saturating_mul(1 << next.saturating_sub(2).min(16)).min(CAP);
    let jitter = bound.mul_f64(random.random::<f64>());
    match asked {
        Some(asked) if asked > PATIENCE => None,
        Some(asked) => Some(asked + jitter),
        None => Some(jitter),
    }
}

/// `Retry-After` as seconds or as an HTTP date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    (at.to_utc() - chrono::Utc::now()).to_std().ok()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn asks(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(reqwest::header::RETRY_AFTER, value.parse().expect("a header"))])
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        let none = HeaderMap::new();
        for status in [408, 429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(of_status(status, &none), Verdict::Transient(None), "{status}");
        }
        for status in [200, 201, 302, 401, 403, 404, 409, 413, 422] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(of_status(status, &none), Verdict::Final, "{status}");
        }
    }

    #[test]
    fn the_server_may_ask_for_time() {
        let busy = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(of_status(busy, &asks("7")), Verdict::Transient(Some(Duration::from_secs(7))));
        assert_eq!(of_status(busy, &asks("soon")), Verdict::Transient(None));
        let in_a_minute = (chrono::Utc::now() + chrono::TimeDelta::seconds(60)).to_rfc2822();
        assert!(
            matches!(of_status(busy, &asks(&in_a_minute)), Verdict::Transient(Some(wait)) if wait.as_secs() > 50)
        );
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let mut random = StdRng::seed_from_u64(1);
        for attempt in 2..40 {
            let wait = wait(attempt, None, &mut random).expect("a wait");
            assert!(wait <= CAP && wait <= BASE * 2u32.saturating_pow(attempt - 2), "{attempt}: {wait:?}");
        }
        let asked = Duration::from_secs(3);
        assert!(wait(2, Some(asked), &mut random).is_some_and(|wait| wait >= asked));
        assert_eq!(wait(2, Some(Duration::from_secs(3600)), &mut random), None);
    }
}
