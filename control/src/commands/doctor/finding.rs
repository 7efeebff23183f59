//! What one look finds, before it becomes a line of the answer.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::answer::Status;
use crate::failure::Failure;

/// Nothing stands in the way.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub says: String,
    pub kind: Kind,
    pub versions: BTreeMap<String, String>,
    /// Another machine's clock.
    pub clock: Option<Clock>,
}

#[derive(Debug, Default)]
pub(super) enum Kind {
    #[default]
    Fine,
    /// It works, and a person should know; with what to do.
    Warning(String),
    /// Not asked, or not needed.
    Unasked,
}

impl Found {
    pub fn fine(says: impl Into<String>) -> Self {
        Self { says: says.into(), ..Self::default() }
    }

    pub fn warning(says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind: Kind::Warning(fix.into()), ..Self::fine(says) }
    }

    pub fn unasked(says: impl Into<String>) -> Self {
        Self { kind: Kind::Unasked, ..Self::fine(says) }
    }
}

/// Something stands in the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub status: Status,
    pub found: String,
    /// None: `found` says it already.
    pub fix: Option<String>,
}

impl Trouble {
    /// Not as it must be.
    pub fn problem(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Problem, found: found.into(), fix: Some(fix.into()) }
    }

    /// Does not answer.
    pub fn away(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Unreachable, found: found.into(), fix: Some(fix.into()) }
    }

    /// A failure that has no way out in its message.
    pub fn of(failure: &Failure, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::from(failure) }
    }
}

/// A failure whose message says what to do.
impl From<&Failure> for Trouble {
    fn from(failure: &Failure) -> Self {
        let status = if failure.exit_code() == 4 { Status::Unreachable } else { Status::Problem };
        Self { status, found: failure.to_string(), fix: None }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::from(&failure)
    }
}

/// How far another machine's clock is from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub whose: &'static str,
    /// Above zero: theirs is ahead. Zero where the time of the question leaves it open.
    pub skew: TimeDelta,
}

impl Clock {
    /// `theirs` may be cut to whole seconds, and was read at some time from `asked` to `answered` on our clock.
    pub fn read(
        whose: &'static str,
        theirs: DateTime<Utc>,
        asked: DateTime<Utc>,
        answered: DateTime<Utc>,
    ) -> Self {
        let latest = theirs + TimeDelta::seconds(1);
        let skew = if theirs > answered {
            theirs - answered
        } else if latest < asked {
            latest - asked
        } else {
            TimeDelta::zero()
        };
        Self { whose, skew }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_as_exactly_as_the_question_allows() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000_000 + seconds, 0).expect("a time");
        let skew = |theirs| Clock::read("x", at(theirs), at(0), at(3)).skew.num_seconds();
        assert_eq!([skew(-1), skew(0), skew(3)], [0, 0, 0]);
        assert_eq!([skew(-6), skew(9)], [-5, 6]);
    }
}
