//! `lake init`.

use crate::{cli::InitArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn init(_ctx: &Ctx, _args: &InitArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
