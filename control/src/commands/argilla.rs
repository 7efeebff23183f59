//! `argilla`.

use crate::{
    cli::{ArgillaStatusArgs, AutoloadArgs, ExportArgs, SyncArgs},
    ctx::Ctx,
    failure::Failure,
    report::Report,
};

pub async fn sync(_ctx: &Ctx, _args: &SyncArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn autoload(_ctx: &Ctx, _args: &AutoloadArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn status(_ctx: &Ctx, _args: &ArgillaStatusArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn export(_ctx: &Ctx, _args: &ExportArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
