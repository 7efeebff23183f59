//! Where the real services are: the environment that `.services/env` sets.

use proto::store::Env;

/// A variable of `.services/env`.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make services`, then `make live`"))
}

/// What opens the object store: `AWS_*`.
pub fn store_env() -> Env {
    std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect()
}
