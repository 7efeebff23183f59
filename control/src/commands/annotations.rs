//! `annotations load`.

use crate::{cli::AnnotationsLoadArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn load(_ctx: &Ctx, _args: &AnnotationsLoadArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
