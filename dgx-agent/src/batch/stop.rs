//! How a run is told to end before its end: softly, or at once. Neither loses anything that was committed.

use tokio_util::sync::CancellationToken;

use crate::engine::Annotator;

/// Cancelling either ends the run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// No page is taken any more; requests at the model server are waited for, and their answers kept.
    pub drain: CancellationToken,
    /// Requests are dropped.
    pub now: CancellationToken,
}

impl From<CancellationToken> for Stop {
    fn from(now: CancellationToken) -> Self {
        Self { now, ..Self::default() }
    }
}

impl Stop {
    /// That of a part of what this one stops.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), now: self.now.child_token() }
    }

    /// Told to end, in either way.
    pub async fn told(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.now.cancelled() => {}
        }
    }

    /// Runs it until it ends or has to: None then.
    pub(super) async fn until_told<T>(
        &self,
        annotator: &Annotator,
        run: impl Future<Output = T>,
    ) -> Option<T> {
        let drained = async {
            self.drain.cancelled().await;
            annotator.drain().await;
        };
        tokio::select! {
            biased;
            () = self.now.cancelled() => None,
            done = run => Some(done),
            () = drained => None,
        }
    }
}
