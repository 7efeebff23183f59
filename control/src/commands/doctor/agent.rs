//! The agent: reachable, serving, and at work under our root.
//!
//! It is asked about its rules engine, which needs no model server: one that is away must not hide the agent.

use std::{collections::BTreeMap, fmt, time::Duration};

use chrono::{DateTime, Utc};
use proto::{
    grpc::{DescribeRequest, DescribeResponse, Engine},
    store::RootUri,
};
use tonic::{Code, Status};

use super::{
    answer::Status as Line,
    finding::{Clock, Found, Trouble},
};
use crate::{
    agent::{Agent, ConnectError},
    ctx::Ctx,
    env, redact,
};

pub(super) const LATE_FIX: &str = "look whether DGX_AGENT_URL is the agent's own port, and what its log says";
/// Of the question whether something is a web server.
const WEB_PATIENCE: Duration = Duration::from_secs(2);
const START: &str = "start `dgx-agent serve` there, or set --agent or DGX_AGENT_URL";

pub(super) async fn look(ctx: &Ctx) -> Result<Found, Trouble> {
    let url = redact::url(&ctx.settings.agent.url);
    let mut agent = connect(ctx).await?;
    let serves = match agent.serves().await {
        Ok(serves) => serves,
        Err(status) => return Err(refused_or_web(ctx, &url, &status).await),
    };
    if !serves {
        return Err(Trouble::away(
            format!("the agent at {url} takes no work: it starts or it drains"),
            "wait until it serves; its log says what it does",
        ));
    }
    let asked = Utc::now();
    let request = DescribeRequest { engine: Engine::Rules.into(), ..DescribeRequest::default() };
    let told = agent.describe(request).await.map_err(|status| refused(&url, &status))?;
    let answered = Utc::now();
    let ours: RootUri = ctx.settings.root.parse().map_err(|error| {
        Trouble::problem(
            format!("the agent serves, and its root cannot be compared: {error}"),
            "mend the store first",
        )
    })?;
    same_root(&ours, &told.root_uri)?;
    let theirs =
        told.now.and_then(|now| DateTime::from_timestamp(now.seconds, u32::try_from(now.nanos).ok()?));
    let clock = theirs.map(|theirs| Clock::read("the agent's", theirs, asked, answered));
    let versions = versions(&told);
    let says = format!("{url}: dgx-agent {} serves {}", told.agent_version, told.root_uri);
    Ok(Found { versions, clock, ..Found::fine(says) })
}

pub(super) async fn connect(ctx: &Ctx) -> Result<Agent, Trouble> {
    Agent::connect(&ctx.settings).await.map_err(|error| match error {
        ConnectError::Config(failure) => failure.into(),
        ConnectError::Away { url, cause } => {
            Trouble::away(format!("the agent at {url} does not answer: {cause}"), START)
        }
    })
}

/// A web server breaks the connection off at some point, and the error depends on which: so it is asked whether it
/// is one.
async fn refused_or_web(ctx: &Ctx, url: &str, status: &Status) -> Trouble {
    let told = refused(url, status);
    if told.status != Line::Unreachable {
        return told;
    }
    let client = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(WEB_PATIENCE)
        .build();
    let Ok(client) = client else { return told };
    match client.get(&ctx.settings.agent.url).send().await {
        Ok(answer) => foreign(url, &format!("it answers as a web server does (HTTP {})", answer.status())),
        Err(_) => told,
    }
}

fn foreign(url: &str, why: &str) -> Trouble {
    Trouble::problem(
        format!("what answers at {url} is no dgx-agent: {why}"),
        format!(
            "set --agent or {} to the agent's own port; behind Cloudflare Access, set {} and {}",
            env::AGENT_URL,
            env::ACCESS_ID,
            env::ACCESS_SECRET
        ),
    )
}

/// What a person makes of the agent's refusal, or of an answer that is not an agent's.
pub(super) fn refused(url: &str, status: &Status) -> Trouble {
    let message = status.message();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Trouble::problem(
            format!("the agent at {url} does not let us in: {message}"),
            format!("set {} to its token", env::AGENT_TOKEN),
        ),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            Trouble::away(format!("the agent at {url} does not answer: {message}"), START)
        }
        Code::ResourceExhausted => {
            Trouble::away(format!("the agent at {url} is busy: {message}"), "try again")
        }
        Code::InvalidArgument | Code::FailedPrecondition => {
            Trouble::problem(format!("the agent at {url} refuses: {message}"), "mend it at the agent")
        }
        // Whatever speaks no gRPC, or redirects, ends here.
        _ => foreign(url, message),
    }
}

/// A batch must lie below the agent's root.
fn same_root(ours: &RootUri, theirs: &str) -> Result<(), Trouble> {
    match theirs.parse::<RootUri>() {
        Ok(root) if root.contains(ours) => Ok(()),
        _ => Err(Trouble::problem(
            format!("the agent works under {theirs}, and this command under {ours}"),
            format!("start the agent with --root {ours}, or give --root here"),
        )),
    }
}

pub(super) fn versions(told: &DescribeResponse) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("dgx-agent".to_owned(), told.agent_version.clone())]);
    if let Some(server) = told.model_server.as_ref().filter(|server| !server.version.is_empty()) {
        versions.insert("ollama".to_owned(), server.version.clone());
    }
    versions
}

/// A digest as `ollama list` shows it.
pub(super) struct Short<'a>(pub &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_must_work_where_we_do() {
        let ours: RootUri = "/data/x".parse().expect("a root");
        assert!(same_root(&ours, "/data").is_ok() && same_root(&ours, "/data/x/").is_ok());
        assert!(same_root(&ours, "/other").is_err() && same_root(&ours, "").is_err());
    }

    #[test]
    fn what_speaks_no_grpc_is_told_from_an_agent_that_is_away() {
        for (code, line) in [
            (Code::Unavailable, Line::Unreachable),
            (Code::DeadlineExceeded, Line::Unreachable),
            (Code::Unauthenticated, Line::Problem),
            (Code::Internal, Line::Problem),
            (Code::Unknown, Line::Problem),
        ] {
            assert_eq!(refused("u", &Status::new(code, "m")).status, line, "{code:?}");
        }
    }
}
