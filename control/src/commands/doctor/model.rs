//! The model: which, with what digest, on a GPU or not. The agent tells; where it cannot, Ollama itself is asked at
//! OLLAMA_HOST, as the agent would.

use std::{collections::BTreeMap, time::Duration};

use proto::grpc::{DescribeRequest, DescribeResponse, Engine};
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;

use super::{
    agent::{self, Short},
    answer::Status,
    finding::{Found, Trouble},
};
use crate::{ctx::Ctx, env, redact};

const PORT: u16 = 11434;
pub(super) const LATE_FIX: &str = "look whether Ollama answers there: `ollama ps`";
const START: &str = "start `ollama serve` there, or set OLLAMA_HOST (of the agent, if it runs)";

/// What is known of a model that is there.
struct Model<'a> {
    name: &'a str,
    digest: &'a str,
    url: &'a str,
    /// In bytes, all and on the GPU; (0, 0): not loaded.
    size: (u64, u64),
}

/// `patience` bounds each of at most two steps.
pub(super) async fn look(ctx: &Ctx, ask_agent: bool, patience: Duration) -> Result<Found, Trouble> {
    let told = if ask_agent { describe(ctx, patience).await? } else { None };
    match (told, &ctx.settings.ollama.host) {
        (Some(told), _) if told.model_server.is_some() => of_agent(&told),
        // A batch may ask an agent for a model that works by rules otherwise.
        (_, Some(host)) => {
            let late = || super::late(redact::url(host), patience, START);
            tokio::time::timeout(patience, of_ollama(ctx, host)).await.map_err(|_| late())?
        }
        (Some(_), None) => Ok(Found::unasked("not needed: the agent works by rules")),
        (None, None) => Ok(Found::unasked(format!(
            "not known: the agent would tell; set {} to ask Ollama itself",
            env::OLLAMA_HOST
        ))),
    }
}

/// What the agent tells. None: there is no agent to ask, as its own line says.
async fn describe(ctx: &Ctx, patience: Duration) -> Result<Option<DescribeResponse>, Trouble> {
    let serving = async {
        let mut agent = agent::connect(ctx).await.ok()?;
        agent.serves().await.ok()?.then_some(agent)
    };
    let Ok(Some(mut agent)) = tokio::time::timeout(patience, serving).await else { return Ok(None) };
    match tokio::time::timeout(patience, agent.describe(DescribeRequest::default())).await {
        Ok(Ok(told)) => Ok(Some(told)),
        Ok(Err(status)) => Err(agent::refused(&redact::url(&ctx.settings.agent.url), &status)),
        Err(_) => Err(Trouble::away(
            format!("the agent's model server does not answer it within {} s", patience.as_secs()),
            LATE_FIX,
        )),
    }
}

fn of_agent(told: &DescribeResponse) -> Result<Found, Trouble> {
    let (Some(server), Some(stamp)) = (&told.model_server, &told.provenance) else {
        return Ok(Found::unasked("the agent names no model"));
    };
    let url = redact::url(&server.url);
    if !server.error.is_empty() {
        // Its error says what to do.
        let status = if server.reachable { Status::Problem } else { Status::Unreachable };
        return Err(Trouble {
            status,
            found: format!("the agent's model server: {}", server.error),
            fix: None,
        });
    }
    let found = there(&Model {
        name: &stamp.model,
        digest: &stamp.model_digest,
        url: &url,
        size: (server.size_bytes, server.size_vram_bytes),
    });
    let says =
        if stamp.engine() == Engine::Hybrid { format!("{}, beside rules", found.says) } else { found.says };
    Ok(Found { says, versions: agent::versions(told), ..found })
}

fn pull(model: &str) -> String {
    format!("run `ollama pull {model}` there, or name another model ({} of the agent)", env::OLLAMA_MODEL)
}

fn there(model: &Model<'_>) -> Found {
    let says = format!("{}, digest {}, at {}", model.name, Short(model.digest), model.url);
    match model.size {
        (0, _) => Found::fine(format!("{says}; not loaded now: GPU or CPU shows once it works")),
        (all, gpu) if gpu >= all => Found::fine(format!("{says}; on the GPU")),
        (all, gpu) => {
            let place =
                if gpu == 0 { "CPU".to_owned() } else { format!("CPU, {} % on the GPU", gpu * 100 / all) };
            Found::warning(
                format!("{says}; on the {place}, which is slow"),
                "for more than a trial, run Ollama where it finds a GPU (`ollama ps` shows it)",
            )
        }
    }
}

/// The answers of `tags` and `ps`, as far as they matter here.
#[derive(Debug, Deserialize)]
struct Models {
    #[serde(default)]
    models: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    size_vram: u64,
}

impl Models {
    /// A name without a tag means `:latest`.
    fn find(&self, name: &str) -> Option<&Listed> {
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let name = if tagged { name.to_owned() } else { format!("{name}:latest") };
        self.models.iter().find(|model| model.name == name)
    }
}

async fn of_ollama(ctx: &Ctx, host: &str) -> Result<Found, Trouble> {
    let base = base(host);
    let url = redact::url(&base);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Trouble::problem(format!("the HTTP client cannot be made: {error}"), "report it"))?;
    let ask = async |path: &str| {
        let mut request = client.get(format!("{base}/{path}"));
        if let Some(access) = &ctx.settings.access {
            request = request.header("cf-access-client-id", access.id.expose());
            request = request.header("cf-access-client-secret", access.secret.expose());
        }
        let answer = request.send().await.map_err(|error| away(&url, error))?;
        let status = answer.status();
        let json = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let json = json.is_some_and(|kind| kind.starts_with("application/json"));
        if !status.is_success() || !json {
            return Err(Trouble::problem(
                format!("what answers at {url} is no Ollama (HTTP {status})"),
                format!(
                    "set {} to Ollama itself; behind Cloudflare Access, set {} and {}",
                    env::OLLAMA_HOST,
                    env::ACCESS_ID,
                    env::ACCESS_SECRET
                ),
            ));
        }
        answer.json::<Value>().await.map_err(|error| away(&url, error))
    };
    let version = ask("api/version").await?["version"].as_str().unwrap_or("unknown").to_owned();
    let versions = BTreeMap::from([("ollama".to_owned(), version)]);
    let tags = models(ask("api/tags").await?, &url)?;
    let Some(name) = &ctx.settings.ollama.model else {
        let says =
            format!("Ollama at {url} has {} models; {} names none", tags.models.len(), env::OLLAMA_MODEL);
        return Ok(Found { versions, ..Found::fine(says) });
    };
    let Some(model) = tags.find(name) else {
        return Err(Trouble::problem(format!("Ollama at {url} has no model {name}"), pull(name)));
    };
    let loaded = models(ask("api/ps").await?, &url)?;
    let size = loaded.find(name).map_or((0, 0), |loaded| (loaded.size, loaded.size_vram));
    let found = there(&Model { name, digest: &model.digest, url: &url, size });
    Ok(Found { versions, ..found })
}

fn models(answer: Value, url: &str) -> Result<Models, Trouble> {
    serde_json::from_value(answer).map_err(|error| {
        Trouble::problem(
            format!("what answers at {url} is no Ollama: {error}"),
            "set OLLAMA_HOST to Ollama itself",
        )
    })
}

fn away(url: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Trouble::away(format!("Ollama at {url} does not answer: {cause}"), START)
}

/// As Ollama's own tools read OLLAMA_HOST: scheme and port may be left out.
fn base(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let Some((scheme, rest)) = host.split_once("://") else {
        let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        return if port { format!("http://{host}") } else { format!("http://{host}:{PORT}") };
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Kind;

    #[test]
    fn a_host_is_read_as_ollama_reads_it() {
        for (host, url) in [
            ("gpu", "http://gpu:11434"),
            ("127.0.0.1:80", "http://127.0.0.1:80"),
            ("https://ollama.example/", "https://ollama.example"),
        ] {
            assert_eq!(base(host), url);
        }
    }

    #[test]
    fn where_it_runs_is_told() {
        let told = |size| there(&Model { name: "m", digest: "0123456789abcdef", url: "u", size });
        assert!(matches!(told((0, 0)).kind, Kind::Fine) && told((0, 0)).says.contains("not loaded"));
        assert!(told((10, 10)).says.ends_with("digest 0123456789ab, at u; on the GPU"));
        let cpu = told((10, 0));
        assert!(matches!(cpu.kind, Kind::Warning(_)) && cpu.says.contains("on the CPU,"), "{}", cpu.says);
        assert!(told((10, 4)).says.contains("40 % on the GPU"));
    }

    #[test]
    fn a_bare_name_means_latest() {
        let models: Models =
            serde_json::from_str(r#"{"models": [{"name": "q:latest", "digest": "d"}]}"#).expect("models");
        assert!(models.find("q").is_some() && models.find("q:8b").is_none());
    }
}
