//! The SIMULATOR of Ollama as a process.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use e2e::{
    ollama_double::{App, Faults, MODEL},
    ollama_sim::{Plan, Sim, serve},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// SIMULATOR of Ollama: a test double with slots, a queue, service times and faults, without a model.
///
/// Example: ollama-sim --slots 8 --then 300:2 --then 600:8 --service-ms 50 --sigma 0.6 --faults 0.2
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
    plan: Plan,
    #[command(flatten)]
    faults: Faults,
}

/// One thread: the client it is measured with has the other cores.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tracing::info!(%address, "SIMULATOR of Ollama listens");
    // Before anybody is told of it: what it takes to get ready is no service time.
    let sim = Sim::new(App::new(&arguments.model, arguments.faults), arguments.plan)
        .context("make the file for bodies")?;
    if let Some(file) = arguments.port_file {
        let unfinished = file.with_extension("tmp");
        fs::write(&unfinished, format!("{}\n", address.port()))
            .and_then(|()| fs::rename(&unfinished, &file))
            .with_context(|| format!("write the port file {}", file.display()))?;
    }
    serve(listener, sim, async move {
        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    })
    .await
    .context("serve")
}
