//! Ctrl-C and SIGTERM ask a command to end: the first one softly, the second one at once.

use tokio::signal::unix::{SignalKind, signal};

use crate::{batch::Stop, error::Failure};

/// What the signals cancel.
pub fn stop() -> Result<Stop, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::config(format!("cannot listen to signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let stop = Stop::default();
    let cancel = stop.clone();
    tokio::spawn(async move {
        for token in [cancel.drain, cancel.now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(stop)
}
