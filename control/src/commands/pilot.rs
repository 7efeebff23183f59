//! `pilot run`.

use crate::{cli::PilotRunArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &PilotRunArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
