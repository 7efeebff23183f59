//! The STAND-IN for Ollama as a process.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use e2e::ollama_double::{App, Faults, MODEL, serve};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// STAND-IN for Ollama: a test double without a model.
///
/// Example: ollama-double --listen 127.0.0.1:0 --port-file /tmp/port --fail-first 2
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Once listening, the port is written here (whole or not at all), with a newline.
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// The model it pretends to have.
    #[arg(long, default_value = MODEL)]
    model: String,
    #[command(flatten)]
    faults: Faults,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tracing::info!(%address, "STAND-IN for Ollama listens");
    if let Some(file) = arguments.port_file {
        let unfinished = file.with_extension("tmp");
        fs::write(&unfinished, format!("{}\n", address.port()))
            .and_then(|()| fs::rename(&unfinished, &file))
            .with_context(|| format!("write the port file {}", file.display()))?;
    }
    serve(listener, App::new(&arguments.model, arguments.faults), async move {
        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    })
    .await
    .context("serve")
}
