//! The agent's gRPC service, generated from `proto/dgx/agent/v1/agent.proto`.

#![allow(clippy::all, clippy::pedantic)]

tonic::include_proto!("dgx.agent.v1");

/// The compiled descriptors, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.bin"));
