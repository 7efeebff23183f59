//! The lake, its schema version, and what can be said about MotherDuck.

use std::path::Path;

use super::{
    finding::{Found, Trouble},
    machine::{can_write, existing},
};
use crate::{
    ctx::Ctx,
    env,
    failure::Failure,
    lake::{Database, Lake, SCHEMA_VERSION},
};

pub(super) const LATE_FIX: &str = "look whether another program has it open, or whether MotherDuck is up";
const INIT: &str = "run `control lake init`";

pub(super) async fn look(ctx: &Ctx, patience: std::time::Duration) -> Result<Found, Trouble> {
    let place = &ctx.settings.lake.place;
    if place == "md:" && ctx.settings.lake.motherduck_token.is_none() {
        return Ok(Found::unasked("md: cannot be opened without a token"));
    }
    let lake = Lake::of(ctx)?.impatient(patience);
    if !place.starts_with("md:") {
        let missing: Vec<_> =
            Database::BOTH.iter().filter(|database| !Path::new(&lake.uri(**database)).is_file()).collect();
        if missing.len() == Database::BOTH.len() {
            let folder = std::path::absolute(place)
                .map_err(|error| Failure::file("find", Path::new(place), &error))?;
            can_write(&existing(&folder), "give --lake a folder that can be written")?;
            let init = format!("{INIT} (`control pilot run` does)");
            return Ok(Found::warning(format!("{}: there is no lake yet", folder.display()), init));
        }
        if let Some(database) = missing.first() {
            return Err(Trouble::problem(format!("{} is not there", lake.uri(**database)), INIT));
        }
    }
    let versions = lake.versions().await?;
    for (database, version) in &versions {
        judge(&lake.uri(*database), *version)?;
    }
    let names: Vec<_> = versions.iter().map(|(database, _)| database.name()).collect();
    Ok(Found::fine(format!("{place}: {} open, schema version {SCHEMA_VERSION}", names.join(" and "))))
}

fn judge(uri: &str, version: Option<i64>) -> Result<(), Trouble> {
    match version {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(version) if version > SCHEMA_VERSION => Err(Trouble::problem(
            format!("{uri} is of schema version {version}, and this control knows {SCHEMA_VERSION}"),
            "take a newer control",
        )),
        Some(version) => Err(Trouble::problem(
            format!("{uri} is of schema version {version}, behind {SCHEMA_VERSION}"),
            INIT,
        )),
        None => Err(Trouble::problem(format!("{uri} has no tables of the lake"), INIT)),
    }
}

/// From the settings and what the look at the lake came to; asks nobody.
pub(super) fn motherduck(ctx: &Ctx, lake: Option<&Result<Found, Trouble>>) -> Result<Found, Trouble> {
    let settings = &ctx.settings.lake;
    let (used, token) = (settings.place.starts_with("md:"), settings.motherduck_token.is_some());
    match (used, token) {
        (true, false) => Err(Trouble::problem(
            format!("the lake is md:, and {} is not set", env::MOTHERDUCK_TOKEN),
            format!("set {} (in MotherDuck: Settings, Access Tokens, read/write)", env::MOTHERDUCK_TOKEN),
        )),
        (true, true) => match lake {
            Some(Ok(_)) => Ok(Found::fine("token set; MotherDuck takes it, and both databases open with it")),
            // The line of the lake says why.
            _ => Ok(Found::unasked(
                "token set; not verified: that MotherDuck takes it, that it may write, and that the databases are \
                 there",
            )),
        },
        (false, true) => Ok(Found::unasked(
            "token set, and not needed: the lake is a folder. Not verified: that MotherDuck takes the token, that it \
             may write, and that md_raw_ocr and md_annotated are there (--lake md: looks)",
        )),
        (false, false) => Ok(Found::unasked("not needed: the lake is a folder, and no token is set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_judged() {
        assert!(judge("x", Some(SCHEMA_VERSION)).is_ok());
        for (version, fix) in
            [(Some(0), INIT), (None, INIT), (Some(SCHEMA_VERSION + 1), "take a newer control")]
        {
            let told = judge("x", version).expect_err("not ready");
            assert_eq!(told.fix.as_deref(), Some(fix), "{told:?}");
        }
    }
}
