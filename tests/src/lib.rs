//! End to end: the doubles of the services we do not own, a harness that runs the real binaries, and the demo.
//!
//! ```text
//!  corpus ──► harness ──► tests/it, bin/demo
//! ```

pub mod corpus;
pub mod harness;
