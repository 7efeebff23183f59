//! The STAND-IN for Argilla as a process: for the demo and for tests that want one apart.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use e2e::argilla_standin::{App, serve};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// STAND-IN for Argilla 2.8: a test double, not Argilla.
///
/// Example: argilla-standin --listen 127.0.0.1:0 --port-file /tmp/port --state-file /tmp/argilla.json
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Once listening, the port is written here (whole or not at all), with a newline.
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// Keeps users, datasets, records and responses in this file, and takes them up at the next start.
    #[arg(long)]
    state_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let app = App::open(arguments.state_file.as_deref())?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tracing::info!(%address, "STAND-IN for Argilla listens");
    if let Some(file) = arguments.port_file {
        let unfinished = file.with_extension("tmp");
        fs::write(&unfinished, format!("{}\n", address.port()))
            .and_then(|()| fs::rename(&unfinished, &file))
            .with_context(|| format!("write the port file {}", file.display()))?;
    }
    serve(listener, app, async move {
        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    })
    .await
    .context("serve")
}
