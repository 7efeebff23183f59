//! Compiles the gRPC contract with protox, so that nobody needs protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["dgx/agent/v1/agent.proto"], ["proto"])?;
    let descriptor = PathBuf::from(env::var("OUT_DIR")?).join("agent.bin");
    fs::write(descriptor, files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
