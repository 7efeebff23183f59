//! Ctrl-C and SIGTERM: a first one asks the command to end, which it does in its own words; a second one, or too
//! long a silence, ends it.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a command may take to end. Whatever is dropped then can be done again.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
    shutdown: CancellationToken,
}

impl Shutdown {
    /// Listens from now on.
    pub fn listen(shutdown: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            shutdown,
        })
    }

    /// Cancels the token at the first signal; ends when the command has had its time.
    pub async fn lost_patience(mut self) {
        self.next().await;
        self.shutdown.cancel();
        let _ = tokio::time::timeout(PATIENCE, self.next()).await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
