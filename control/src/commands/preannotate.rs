//! `preannotate`.

use crate::{
    cli::{StatusArgs, SubmitArgs, WatchArgs},
    ctx::Ctx,
    failure::Failure,
    report::Report,
};

pub async fn submit(_ctx: &Ctx, _args: &SubmitArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn watch(_ctx: &Ctx, _args: &WatchArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn status(_ctx: &Ctx, _args: &StatusArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn cancel(_ctx: &Ctx, _args: &WatchArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn retry(_ctx: &Ctx, _args: &WatchArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
