//! `argilla`: a merged batch's records into Argilla, how far people are with them, and their answers out of it.
//!
//! ```text
//! batch (records, labelset) ─► sync | autoload ─► Argilla ─► status
//!                                                    └─────► export ─► argilla/out/…
//! ```

mod autoload;
mod batch;
mod export;
mod ingest_log;
mod status;
mod sync;

pub use autoload::{AutoloadReport, LoadOutcome, LoadedBatch, autoload};
pub use export::export;
pub use status::{Review, ReviewStatus, UserReview, review, status};
pub use sync::sync;

use proto::ids::BatchId;

use crate::{
    argilla::{
        client::{Client, Endpoint},
        dataset::{self, ReadyDataset},
    },
    ctx::Ctx,
    env,
    failure::Failure,
};

/// A client for the Argilla of the settings; nothing is asked of it yet.
pub fn connect(ctx: &Ctx) -> Result<Client, Failure> {
    let settings = &ctx.settings.argilla;
    let (url, key) = match (&settings.url, &settings.api_key) {
        (Some(url), Some(key)) => (url, key),
        (url, key) => {
            let missing = [(env::ARGILLA_API_URL, url.is_none()), (env::ARGILLA_API_KEY, key.is_none())];
            let missing: Vec<_> =
                missing.iter().filter(|(_, missing)| *missing).map(|(name, _)| *name).collect();
            return Err(Failure::config(format!(
                "{} not set: give Argilla's address, e.g. http://127.0.0.1:6900, and the API key of an owner or \
                 admin (in Argilla: My settings), or write them into control.toml under [argilla]",
                missing.join(" and ") + if missing.len() == 1 { " is" } else { " are" }
            )));
        }
    };
    let access = ctx.settings.access.as_ref();
    let access = access.map(|access| (access.id.expose().to_owned(), access.secret.expose().to_owned()));
    Ok(Client::new(&Endpoint { url: url.clone(), api_key: key.expose().to_owned(), access })?)
}

/// The published dataset of a batch, which must be there.
async fn found(ctx: &Ctx, client: &Client, batch: &BatchId) -> Result<ReadyDataset, Failure> {
    let (name, workspace) = (batch.dataset(), &ctx.settings.argilla.workspace);
    dataset::find(client, workspace, &name).await?.ok_or_else(|| {
        Failure::data(format!(
            "Argilla has no published dataset {name} in workspace {workspace:?}: run `control argilla sync {batch}` first"
        ))
    })
}

/// Where people review a dataset.
fn page_of(ctx: &Ctx, dataset: &ReadyDataset) -> String {
    let url = ctx.settings.argilla.url.as_deref().unwrap_or_default().trim_end_matches('/');
    format!("{url}/dataset/{}/annotation-mode", dataset.id)
}

/// `a:1 (reason); b:2 (reason) and 3 more`, of what is told of `all`.
fn named<'a>(told: impl Iterator<Item = (&'a String, &'a String)>, all: u64) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = told.take(SHOWN).map(|(id, why)| format!("{id:?} ({why})")).collect();
    let more = all.saturating_sub(shown.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join("; "))
}
