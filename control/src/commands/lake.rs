//! `lake init`.

use std::time::Instant;

use crate::{
    cli::InitArgs,
    ctx::Ctx,
    failure::Failure,
    lake::{Database, Lake, SCHEMA_VERSION},
    report::Report,
};

pub async fn init(ctx: &Ctx, _args: &InitArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let lake = Lake::of(ctx)?;
    let mut report = Report::new("lake init").already_done(true);
    for database in Database::BOTH {
        let found = lake.init(*database).await?;
        report = report.artifact(lake.uri(*database));
        if found == Some(SCHEMA_VERSION) {
            continue;
        }
        report.already_done = false;
        report = match found {
            None => report.note(format!("{} is made", database.name())),
            Some(version) => report.note(format!("{} was of version {version}", database.name())),
        };
    }
    Ok(report.since(start))
}
