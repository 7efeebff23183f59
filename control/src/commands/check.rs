//! `check`.

use crate::{cli::CheckArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &CheckArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
