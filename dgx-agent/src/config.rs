//! Arguments and environment as one checked whole, before a port or a store is opened.
//!
//! ```text
//! flags ─► environment (a map) ─► defaults ─► ServeConfig | RunConfig, each with an EngineConfig
//! ```
//! An empty variable is an unset one. Secrets live in [`Endpoint`], which shows them as REDACTED.

use std::{fs, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use proto::{ids::BatchId, labelset::Labelset, store::Env};

use crate::{
    batch::Shard,
    cli::{EngineArgs, GroundArgs, HealthArgs, RunArgs, ServeArgs},
    engine::Engine,
    env,
    error::Failure,
    infer::{Concurrency, Endpoint, RetryPolicy, Timeouts},
};

const DEFAULT_LISTEN: &str = "127.0.0.1:50051";
const DEFAULT_METRICS: &str = "127.0.0.1:50052";
const DEFAULT_STATE_DIR: &str = "./agent-state";
const DEFAULT_AGENT: &str = "http://127.0.0.1:50051";
const DEFAULT_OLLAMA: &str = "http://127.0.0.1:11434";

/// Page text that may be in memory at once, beside one page of any allowed size.
const PAGES_IN_MEMORY_BYTES: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub root: String,
    /// Loopback: there is no TLS yet.
    pub listen: SocketAddr,
    pub port_file: Option<PathBuf>,
    /// Loopback, as `listen`.
    pub metrics: Option<SocketAddr>,
    pub state_dir: PathBuf,
    /// Batches that run at once.
    pub jobs: usize,
    pub drain_timeout: Duration,
    pub engine: EngineConfig,
}

#[derive(Debug, Clone)]
pub struct RunConfig {
    pub root: String,
    pub batch: BatchId,
    pub shard: Option<Shard>,
    /// Asked for by flag: they win over what the batch says.
    pub asked_engine: Option<Engine>,
    pub asked_model: Option<String>,
    /// Where the journal is kept; without it there is none.
    pub state_dir: Option<PathBuf>,
    pub json: bool,
    /// How long a store that is away is waited for in the middle of the run.
    pub patience: Duration,
    pub drain_timeout: Duration,
    pub engine: EngineConfig,
}

/// What the pipeline works with where a batch is silent.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub engine: Engine,
    pub model: Option<String>,
    pub ollama: Endpoint,
    pub labels: Option<PathBuf>,
    pub num_ctx: u32,
    pub num_predict: u32,
    /// Requests under way at the model server.
    pub concurrency: Concurrency,
    pub requests_per_minute: Option<NonZeroU32>,
    pub tokens_per_minute: Option<NonZeroU32>,
    pub timeouts: Timeouts,
    pub retry: RetryPolicy,
    pub limits: Limits,
    /// Bytes of finished answers that are kept; 0: none.
    pub journal_keep: u64,
}

/// What bounds the memory of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a page's text; a longer page fails.
    pub page_bytes: usize,
    /// Bytes of page text under way at once.
    pub bytes_in_memory: usize,
}

impl ServeConfig {
    pub fn resolve(args: ServeArgs, vars: &Env) -> Result<Self, Failure> {
        let listen = args.listen.or_else(|| var(vars, env::LISTEN)).unwrap_or_else(|| DEFAULT_LISTEN.into());
        let listen = loopback("--listen", &listen, DEFAULT_LISTEN)?;
        let metrics = args.metrics.or_else(|| var(vars, env::METRICS));
        Ok(Self {
            root: root(args.root, vars)?,
            listen,
            port_file: args.port_file,
            metrics: metrics.map(|address| loopback("--metrics", &address, DEFAULT_METRICS)).transpose()?,
            state_dir: args
                .state_dir
                .or_else(|| var(vars, env::STATE_DIR).map(PathBuf::from))
                .unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            jobs: args.jobs as usize,
            drain_timeout: Duration::from_secs(args.engine.drain_timeout.into()),
            engine: EngineConfig::resolve(args.engine, vars)?,
        })
    }
}

impl RunConfig {
    pub fn resolve(args: RunArgs, vars: &Env) -> Result<Self, Failure> {
        Ok(Self {
            root: root(args.root, vars)?,
            batch: args.batch_id,
            shard: args.shard,
            asked_engine: args.engine.engine,
            asked_model: args.engine.model.clone(),
            state_dir: args.state_dir.or_else(|| var(vars, env::STATE_DIR).map(PathBuf::from)),
            json: args.json,
            patience: Duration::from_secs(args.patience.into()),
            drain_timeout: Duration::from_secs(args.engine.drain_timeout.into()),
            engine: EngineConfig::resolve(args.engine, vars)?,
        })
    }
}

impl EngineConfig {
    pub fn resolve(args: EngineArgs, vars: &Env) -> Result<Self, Failure> {
        let (num_ctx, num_predict) = (args.num_ctx, args.num_predict);
        if num_predict > num_ctx / 2 {
            return Err(Failure::config(format!(
                "--num-predict {num_predict} leaves no room in --num-ctx {num_ctx}: pass at most half of it"
            )));
        }
        let host = args.ollama_url.or_else(|| var(vars, env::OLLAMA_HOST));
        let host = host.unwrap_or_else(|| DEFAULT_OLLAMA.into());
        let page_bytes = args.max_page_mib as usize * (1 << 20);
        Ok(Self {
            engine: args.engine.unwrap_or(Engine::Rules),
            model: args.model.or_else(|| var(vars, env::OLLAMA_MODEL)),
            ollama: Endpoint::parse(&host, access(vars)?).map_err(Failure::Config)?,
            labels: args.labels,
            num_ctx,
            num_predict,
            concurrency: args.concurrency,
            requests_per_minute: args.requests_per_minute.and_then(NonZeroU32::new),
            tokens_per_minute: args.tokens_per_minute.and_then(NonZeroU32::new),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            limits: Limits { page_bytes, bytes_in_memory: PAGES_IN_MEMORY_BYTES.max(page_bytes) },
            journal_keep: args.journal_keep,
        })
    }

    /// The labelset of batches that carry none.
    pub fn labelset(&self) -> Result<Labelset, Failure> {
        labelset(self.labels.as_ref())
    }
}

impl GroundArgs {
    pub fn labelset(&self) -> Result<Labelset, Failure> {
        labelset(self.labels.as_ref())
    }
}

impl HealthArgs {
    /// The URL of the daemon to ask.
    pub fn url(&self, vars: &Env) -> String {
        self.agent.clone().or_else(|| var(vars, env::URL)).unwrap_or_else(|| DEFAULT_AGENT.into())
    }
}

fn loopback(flag: &str, text: &str, example: &str) -> Result<SocketAddr, Failure> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Failure::config(format!("{flag} {text:?} is no address, e.g. {example}")))?;
    if !address.ip().is_loopback() {
        return Err(Failure::config(format!(
            "{flag} {address} is not loopback, and the agent has no TLS yet: listen on 127.0.0.1, and put a tunnel or \
             a proxy with TLS before it"
        )));
    }
    Ok(address)
}

fn labelset(path: Option<&PathBuf>) -> Result<Labelset, Failure> {
    let Some(path) = path else { return Ok(Labelset::embedded()) };
    let toml = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    Labelset::parse(&toml).map_err(|error| Failure::config(format!("{}: {error}", path.display())))
}

fn root(flag: Option<String>, vars: &Env) -> Result<String, Failure> {
    flag.or_else(|| var(vars, env::ROOT)).ok_or_else(|| {
        Failure::config(format!("no root: pass --root, or set {}, to where the batches lie", env::ROOT))
    })
}

fn var(vars: &Env, name: &str) -> Option<String> {
    vars.get(name).filter(|value| !value.is_empty()).cloned()
}

fn access(vars: &Env) -> Result<Option<(String, String)>, Failure> {
    match (var(vars, env::ACCESS_ID), var(vars, env::ACCESS_SECRET)) {
        (Some(id), Some(secret)) => Ok(Some((id, secret))),
        (None, None) => Ok(None),
        _ => Err(Failure::config(format!(
            "set {} and {} both, or neither",
            env::ACCESS_ID,
            env::ACCESS_SECRET
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn vars(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<RunConfig, Failure> {
        let cli = Cli::try_parse_from([&["dgx-agent", "run", "--batch-id", "b"], args].concat());
        let Command::Run(args) = cli.expect("parsed").command else { unreachable!() };
        RunConfig::resolve(args, &vars(env))
    }

    fn serve(args: &[&str]) -> Result<ServeConfig, Failure> {
        let cli = Cli::try_parse_from([&["dgx-agent", "serve", "--root", "."], args].concat());
        let Command::Serve(args) = cli.expect("parsed").command else { unreachable!() };
        ServeConfig::resolve(args, &Env::new())
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_defaults() {
        let env = [("DGX_AGENT_ROOT", "/env"), ("OLLAMA_HOST", "gpu"), ("OLLAMA_MODEL", "small")];
        let config = run(&["--root", "/flag", "--model", "large"], &env).expect("a configuration");
        assert_eq!((config.root.as_str(), config.engine.ollama.url()), ("/flag", "http://gpu:11434"));
        assert_eq!(config.engine.model.as_deref(), Some("large"));
        let config = run(&[], &env).expect("a configuration");
        assert_eq!((config.root.as_str(), config.engine.model.as_deref()), ("/env", Some("small")));
        assert_eq!((config.asked_engine, config.asked_model), (None, None));
        assert_eq!(run(&[], &[]).expect_err("no root").exit_code(), 3);
        assert_eq!(run(&["--root", "."], &[("OLLAMA_HOST", "ftp://x")]).expect_err("no URL").exit_code(), 3);
        let half = run(&["--root", ".", "--num-predict", "5000"], &[]);
        assert_eq!(half.expect_err("too long").exit_code(), 3);
    }

    #[test]
    fn secrets_do_not_show_and_come_in_pairs() {
        let id = ("CF_ACCESS_CLIENT_ID", "me");
        let config = run(&["--root", "."], &[id, ("CF_ACCESS_CLIENT_SECRET", "hunter2")]);
        let shown = format!("{:?}", config.expect("a configuration"));
        assert!(shown.contains("REDACTED") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(run(&["--root", "."], &[id]).expect_err("one of two").exit_code(), 3);
    }

    #[test]
    fn the_daemon_listens_on_loopback_alone() {
        assert_eq!(serve(&[]).expect("a configuration").listen.to_string(), DEFAULT_LISTEN);
        assert!(serve(&["--listen", "[::1]:0"]).is_ok());
        for bad in ["0.0.0.0:1", "10.0.0.1:50051", "localhost"] {
            assert_eq!(serve(&["--listen", bad]).expect_err("refused").exit_code(), 3, "{bad}");
            assert_eq!(serve(&["--metrics", bad]).expect_err("refused").exit_code(), 3, "{bad}");
        }
    }
}
