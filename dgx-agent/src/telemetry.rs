//! The log on stderr. It never holds page text or secrets.

use proto::store::Env;
use tracing_subscriber::EnvFilter;

use crate::env;

/// `quiet`: what is said where RUST_LOG says nothing.
pub fn init(vars: &Env, quiet: &str) {
    let filter = vars.get(env::LOG).map_or(quiet, String::as_str);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(quiet));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
