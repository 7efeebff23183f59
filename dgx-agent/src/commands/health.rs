//! `dgx-agent health`: one line, and an exit code.

use std::io::{self, Write as _};

use proto::store::Env;

use crate::{cli::HealthArgs, health_cmd};

pub async fn run(args: &HealthArgs, env: &Env) -> u8 {
    let health = health_cmd::ask(&args.url(env)).await;
    let text = match args.json.then(|| serde_json::to_string(&health)) {
        Some(Ok(document)) => document,
        _ => health.to_string(),
    };
    // Nobody may be there to read it.
    let _ = writeln!(io::stdout(), "{text}");
    u8::from(!health.serving)
}
