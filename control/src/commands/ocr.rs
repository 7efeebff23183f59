//! `ocr load` and `ocr check`.

use crate::{cli::OcrArgs, ctx::Ctx, failure::Failure, report::Report};

pub async fn load(_ctx: &Ctx, _args: &OcrArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}

pub async fn check(_ctx: &Ctx, _args: &OcrArgs) -> Result<Report, Failure> {
    Err(Failure::config("not built yet"))
}
