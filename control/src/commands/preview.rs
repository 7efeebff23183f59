//! `preview`.

use crate::{cli::PreviewArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &PreviewArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
