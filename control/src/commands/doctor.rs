//! `doctor`.

use crate::{cli::DoctorArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn run(_ctx: &Ctx, _args: &DoctorArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
