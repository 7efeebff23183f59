//! Work for the processor, kept off the threads that serve the network.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

/// The work panicked. Its message may hold page text, so it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work on a page panicked")]
pub struct Panicked;

/// Runs `work` on rayon. It runs to its end even when nobody waits for it any more.
pub async fn on_rayon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    let (send, receive) = oneshot::channel();
    rayon::spawn(move || {
        // Whoever asked may have gone.
        let _ = send.send(catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked));
    });
    receive.await.unwrap_or(Err(Panicked))
}
