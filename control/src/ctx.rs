//! What every command is given: settings, store, printer, clock, and word of when to stop.

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use proto::store::{Env, Store};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, printer::Printer, settings::Settings};

pub struct Ctx {
    pub settings: Settings,
    pub printer: Printer,
    /// Cancelled by Ctrl-C and SIGTERM.
    pub shutdown: CancellationToken,
    env: Env,
    clock: fn() -> DateTime<Utc>,
    store: OnceLock<Store>,
}

impl Ctx {
    pub fn new(settings: Settings, env: Env, printer: Printer, shutdown: CancellationToken) -> Self {
        Self { settings, printer, shutdown, env, clock: Utc::now, store: OnceLock::new() }
    }

    #[must_use]
    pub fn with_clock(self, clock: fn() -> DateTime<Utc>) -> Self {
        Self { clock, ..self }
    }

    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The environment that the object store's own names are read from.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The root, opened at the first call; nothing is read yet.
    pub fn store(&self) -> Result<&Store, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.settings.root, &self.env)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Drops `work` when the person stops the command: for work that leaves nothing half done. `left` says what
    /// is left behind then.
    pub async fn until_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        left: impl FnOnce() -> String,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            () = self.shutdown.cancelled() => Err(Failure::interrupted(left())),
        }
    }
}
