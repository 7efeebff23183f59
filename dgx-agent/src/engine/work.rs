//! Work for the processor, kept off the threads that serve the network where it takes long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

/// The work panicked. Its message may hold page text, so it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work on a page panicked")]
pub struct Panicked;

/// Bytes of text that are worked on within about a millisecond, which a thread of the network can spare: most pages take
/// a tenth of that, and to wake another thread and wait for it takes as long.
const AT_ONCE: usize = 32 << 10;

/// Runs `work` on `bytes` of text: at once where that is soon done, else on rayon.
pub async fn near<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    match bytes <= AT_ONCE {
        true => caught(work),
        false => on_rayon(work).await,
    }
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

/// Runs `work` on rayon. It runs to its end even when nobody waits for it any more.
pub async fn on_rayon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    let (send, receive) = oneshot::channel();
    rayon::spawn(move || {
        // Whoever asked may have gone.
        let _ = send.send(caught(work));
    });
    receive.await.unwrap_or(Err(Panicked))
}
