//! `merge`.

use crate::{cli::MergeArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &MergeArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
