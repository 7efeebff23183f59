//! Argilla: its version, who we are there, and whether that suffices to push records.

use std::collections::BTreeMap;

use chrono::Utc;

use super::finding::{Clock, Found, Trouble};
use crate::{argilla::client::ArgillaError, commands::argilla, ctx::Ctx, env};

pub(super) const LATE_FIX: &str =
    "look whether ARGILLA_API_URL is right, and whether its database and search engine are up";

pub(super) async fn look(ctx: &Ctx) -> Result<Found, Trouble> {
    let client = argilla::connect(ctx)?.once();
    let url = client.url().to_owned();
    let told = |error: ArgillaError| trouble(&url, &error);
    let asked = Utc::now();
    let greeting = client.greet().await.map_err(told)?;
    let answered = Utc::now();
    let me = client.me().await.map_err(told)?;
    if me.role == "annotator" {
        return Err(Trouble::problem(
            format!("{url}: {:?} is an annotator, who may not push records", me.username),
            format!("set {} to the key of an owner or admin (in Argilla: My settings)", env::ARGILLA_API_KEY),
        ));
    }
    let workspace = &ctx.settings.argilla.workspace;
    let there = client.workspaces().await.map_err(told)?.iter().any(|found| found.name == *workspace);
    let place = match (there, me.role.as_str()) {
        (true, _) => format!("workspace {workspace:?} is there"),
        (false, "owner") => format!("workspace {workspace:?} will be made"),
        (false, _) => {
            return Err(Trouble::problem(
                format!(
                    "{url}: there is no workspace {workspace:?} for {:?}, who is {}",
                    me.username, me.role
                ),
                format!("ask an owner to make it, or set {}", env::ARGILLA_WORKSPACE),
            ));
        }
    };
    let clock = greeting.date.map(|date| Clock::read("Argilla's", date, asked, answered));
    let says = format!("{url}: Argilla {}, user {:?} ({}), {place}", greeting.version, me.username, me.role);
    let versions = BTreeMap::from([("argilla".to_owned(), greeting.version)]);
    Ok(Found { versions, clock, ..Found::fine(says) })
}

/// What a person makes of an error of Argilla, or of an answer that is not Argilla's.
fn trouble(url: &str, error: &ArgillaError) -> Trouble {
    let front = || {
        format!(
            "set {} to Argilla itself; behind Cloudflare Access, set {} and {}",
            env::ARGILLA_API_URL,
            env::ACCESS_ID,
            env::ACCESS_SECRET
        )
    };
    match error {
        ArgillaError::Config(message) => Trouble::problem(message, "mend it, and look again"),
        ArgillaError::Unreachable { reason, .. } => {
            // The chain of a broken connection: its end says it.
            let cause = if reason.contains("client error") { reason.rsplit(": ").next() } else { None };
            Trouble::away(
                format!("Argilla at {url} does not answer: {}", cause.unwrap_or(reason)),
                format!("start it, or set {}", env::ARGILLA_API_URL),
            )
        }
        ArgillaError::Denied { status, .. } if status.is_redirection() => {
            Trouble::problem(format!("what answers at {url} is a login page (HTTP {status})"), front())
        }
        ArgillaError::Denied { reason, status, .. } => Trouble::problem(
            format!("Argilla at {url} does not let us in: {reason} (HTTP {status})"),
            format!("set {} to the key of an owner or admin (in Argilla: My settings)", env::ARGILLA_API_KEY),
        ),
        ArgillaError::Refused { .. } | ArgillaError::Unreadable { .. } => {
            Trouble::problem(format!("what answers at {url} is no Argilla: {error}"), front())
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::commands::doctor::answer::Status;

    #[test]
    fn a_login_page_is_no_argilla_that_is_away() {
        let away = ArgillaError::Unreachable { base: "u".into(), reason: "refused".into() };
        assert_eq!(trouble("u", &away).status, Status::Unreachable);
        let page = ArgillaError::Denied {
            base: "u".into(),
            action: "a".into(),
            status: StatusCode::FOUND,
            reason: "r".into(),
        };
        let html = ArgillaError::Unreadable { action: "a".into(), reason: "r".into() };
        for error in [page, html] {
            let told = trouble("u", &error);
            assert_eq!(told.status, Status::Problem);
            assert!(told.fix.is_some_and(|fix| fix.contains("CF_ACCESS_CLIENT_ID")), "{error}");
        }
    }
}
