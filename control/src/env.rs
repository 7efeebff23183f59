//! The names of the environment variables that `control` reads. The object store's own (`AWS_*`, `GOOGLE_*`,
//! `AZURE_*`) are in `proto::store`.

pub const ROOT: &str = "PREANNOTATE_ROOT";
pub const LAKE: &str = "PREANNOTATE_LAKE";
/// Where staged objects and what DuckDB spills lie.
pub const CACHE: &str = "PREANNOTATE_CACHE";
pub const MOTHERDUCK_TOKEN: &str = "MOTHERDUCK_TOKEN";

pub const AGENT_URL: &str = "DGX_AGENT_URL";
pub const AGENT_TOKEN: &str = "DGX_AGENT_TOKEN";
/// A PEM file: who signed the agent's certificate.
pub const AGENT_CA: &str = "DGX_AGENT_CA";

pub const ARGILLA_API_URL: &str = "ARGILLA_API_URL";
pub const ARGILLA_API_KEY: &str = "ARGILLA_API_KEY";
pub const ARGILLA_WORKSPACE: &str = "ARGILLA_WORKSPACE";
/// Cloudflare Access, where it stands in front of Argilla or the agent.
pub const ACCESS_ID: &str = "CF_ACCESS_CLIENT_ID";
pub const ACCESS_SECRET: &str = "CF_ACCESS_CLIENT_SECRET";

/// The agent's own: `doctor` asks Ollama there when the agent does not tell of it.
pub const OLLAMA_HOST: &str = "OLLAMA_HOST";
pub const OLLAMA_MODEL: &str = "OLLAMA_MODEL";

/// Who signs off, where `--by` is silent.
pub const USER: &str = "USER";
pub const HOME: &str = "HOME";
pub const CACHE_HOME: &str = "XDG_CACHE_HOME";
/// How much the log on stderr says.
pub const LOG: &str = "RUST_LOG";
