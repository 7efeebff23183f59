//! Places where a crash test stops the process to kill it: only with the feature `failpoints`, which the `e2e` crate
//! alone turns on. Without it nothing of this is in the program.
//!
//! `DGX_AGENT_PAUSE_AT=ledger` (or `ledger:3`, for one part): the process says `paused at ledger of part 3` on stderr
//! and waits there for ever.

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// The part is annotated, nothing of it is written.
    Part,
    /// Its suggestions are written.
    Suggestions,
    /// Its ledger too, but not its commit.
    Ledger,
    /// Its commit record is written, too.
    Commit,
    /// All parts are committed, the manifest is not written. Its part is 0.
    Manifest,
}

#[cfg(not(feature = "failpoints"))]
pub(super) async fn reach(_point: Point, _part: u32) {}

#[cfg(feature = "failpoints")]
pub(super) async fn reach(point: Point, part: u32) {
    use std::io::Write as _;

    let name = match point {
        Point::Part => "part",
        Point::Suggestions => "suggestions",
        Point::Ledger => "ledger",
        Point::Commit => "commit",
        Point::Manifest => "manifest",
    };
    let Ok(asked) = std::env::var("DGX_AGENT_PAUSE_AT") else { return };
    if asked == name || asked == format!("{name}:{part}") {
        let _ = writeln!(std::io::stderr(), "paused at {name} of part {part}");
        std::future::pending::<()>().await;
    }
}
