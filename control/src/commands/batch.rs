//! `batch create`, `list` and `show`.

use crate::{
    cli::{CreateArgs, ListArgs, ShowArgs},
    ctx::Ctx,
    failure::Failure,
    report::Report,
};

pub async fn create(_ctx: &Ctx, _args: &CreateArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn list(_ctx: &Ctx, _args: &ListArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn show(_ctx: &Ctx, _args: &ShowArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
