//! The names of the environment variables that the agent reads. The object store's own (`AWS_*`, `GOOGLE_*`,
//! `AZURE_*`) are in `proto::store`.

pub const ROOT: &str = "DGX_AGENT_ROOT";
pub const LISTEN: &str = "DGX_AGENT_LISTEN";
/// Where Prometheus may scrape it.
pub const METRICS: &str = "DGX_AGENT_METRICS";
/// Where `serve` keeps its jobs, and both doors their journal.
pub const STATE_DIR: &str = "DGX_AGENT_STATE_DIR";
/// The daemon that `health` asks.
pub const URL: &str = "DGX_AGENT_URL";

/// Ollama's own names for where the server is and which model to use.
pub const OLLAMA_HOST: &str = "OLLAMA_HOST";
pub const OLLAMA_MODEL: &str = "OLLAMA_MODEL";
/// Cloudflare Access, where it stands in front of Ollama.
pub const ACCESS_ID: &str = "CF_ACCESS_CLIENT_ID";
pub const ACCESS_SECRET: &str = "CF_ACCESS_CLIENT_SECRET";

/// How much the log on stderr says.
pub const LOG: &str = "RUST_LOG";
