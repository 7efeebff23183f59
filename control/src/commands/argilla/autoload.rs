//! `argilla autoload`.

use crate::{cli::AutoloadArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn autoload(_ctx: &Ctx, _args: &AutoloadArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
