//! `signoff`.

use crate::{cli::SignoffArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &SignoffArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
