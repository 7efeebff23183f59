//! The log on stderr: quiet unless RUST_LOG says otherwise. It never holds page text or secrets.

use proto::store::Env;
use tracing_subscriber::EnvFilter;

use crate::env;

pub fn init(vars: &Env) {
    let filter = vars.get(env::LOG).map_or("error", String::as_str);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
