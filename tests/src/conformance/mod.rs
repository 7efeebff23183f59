//! One suite for each service we do not own, run against its double and against the real one.
//!
//! ```text
//!  cases of a service ─┬─► its double (make test, make live) ─┬─► a table: call × double × real
//!                      └─► the real one (make live)          ─┘    and every difference, by name
//! ```
//! Constraints: a case asserts what the contract says and notes what it saw, without ids, times and random names;
//! double and real agree when both pass *and* noted the same. A case makes what it needs and relies on no other, so
//! that one failure is one line of the table. What a case says holds no secret.

pub mod argilla;
pub mod ollama;
pub mod store;
mod table;

use std::{fmt, io::Write as _, time::Duration};

use futures::future::LocalBoxFuture;

pub use table::{Column, Comparison, compare};

/// Far above what any case takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// What a case saw, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    lines: Vec<String>,
    absent: bool,
}

impl Seen {
    /// This target has nothing of the kind (a folder has no credentials): neither a pass nor a failure.
    pub fn absent() -> Self {
        Self { lines: Vec::new(), absent: true }
    }

    pub fn note(&mut self, line: impl fmt::Display) {
        self.lines.push(line.to_string());
    }
}

/// A call or a trap of the contract.
pub struct Case<T> {
    /// Its line in the table.
    pub call: &'static str,
    pub run: for<'a> fn(&'a T) -> LocalBoxFuture<'a, anyhow::Result<Seen>>,
}

/// `cases![function => "line of the table", …]`
macro_rules! cases {
    ($($function:path => $call:literal,)*) => {
        vec![$($crate::conformance::Case { call: $call, run: |target| Box::pin($function(target)) },)*]
    };
}
pub(crate) use cases;

/// Runs every case, each to its end whatever became of the others.
pub async fn run<T>(name: &str, target: &T, cases: &[Case<T>]) -> Column {
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        let start = tokio::time::Instant::now();
        let outcome = match tokio::time::timeout(DEADLINE, (case.run)(target)).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(why)) => Err(format!("{why:#}")),
            Err(_) => Err(format!("no end within {DEADLINE:?}")),
        };
        // For whoever waits, and for whoever asks where the time went.
        let told = if outcome.is_ok() { "ok" } else { "FAIL" };
        let _ = writeln!(
            std::io::stderr(),
            "conformance: {name}: {}: {told}  {:.1} s",
            case.call,
            start.elapsed().as_secs_f64()
        );
        rows.push((case.call, outcome));
    }
    Column { name: name.to_owned(), rows }
}

/// Something to tell this run's names by from any other's.
pub(crate) fn token() -> String {
    hex::encode(rand::random::<[u8; 4]>())
}

/// Polls until `look` finds something; what it last said is wrong is the error.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = tokio::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(why) if start.elapsed() > Duration::from_secs(60) => return Err(why.context("after 60 s")),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
