//! A store that is away in the middle of a run is waited for where it was asked, so that nothing of what the model server
//! answered meanwhile has to be asked for again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{BatchError, Run};

/// How long, unless asked otherwise: longer than a service takes to be moved to another machine.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Pauses between two tries, after those of the store's client: doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

impl Run<'_> {
    /// Does what may be begun again until the store takes it, or for as long as the patience lasts; then its error.
    pub(super) async fn patiently<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, BatchError>
    where
        F: Future<Output = Result<T, BatchError>>,
    {
        let mut away_since = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match Box::pin(work()).await {
                Err(BatchError::StoreUnreachable(error)) => error,
                ended => {
                    if away_since.is_some() {
                        self.meter.answered();
                    }
                    return ended;
                }
            };
            let since = *away_since.get_or_insert_with(Instant::now);
            if since.elapsed() + pause > self.pipeline.patience {
                return Err(BatchError::StoreUnreachable(error));
            }
            self.meter.store_away(&error);
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}
