//! `leases/part-N.json`: who works on a part. Advice, not truth: what stands is what the commit records say.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Between two beats of a holder, where leases are objects: it rewrites them. In a folder it locks them.
pub const PERIOD: Duration = Duration::from_secs(5);

/// Who holds a lease, as it stands in the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub host: String,
    pub pid: u32,
    /// Of the agent.
    pub instance: String,
    pub beat: u64,
}

impl Holder {
    /// Of a lease that is being given back, or says nothing that can be read.
    pub fn unknown() -> Self {
        Self { host: "an unknown host".into(), pid: 0, instance: "unknown".into(), beat: 0 }
    }

    pub fn document(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn of(document: &[u8]) -> Self {
        serde_json::from_slice(document).unwrap_or_else(|_| Self::unknown())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} (agent {})", self.pid, self.host, self.instance)
    }
}
