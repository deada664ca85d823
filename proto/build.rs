//! Compiles the contracts in pure Rust: no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;

const CONTRACTS: [&str; 6] = [
    "sockeye/edge/v1/edge.proto",
    "sockeye/auth/v1/auth.proto",
    "sockeye/auth/v1/revocation.proto",
    "sockeye/auth/v1/ticket.proto",
    "sockeye/chat/v1/chat.proto",
    "sockeye/peer/v1/peer.proto",
];

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=sockeye");
    let descriptors = protox::compile(CONTRACTS, ["."])?;

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        // Sockets come and go far less often than they send, and each event of a frame has the size of the largest kind.
        .boxed(".sockeye.edge.v1.EdgeEvent.kind.opened")
        .boxed(".sockeye.edge.v1.EdgeEvent.kind.resumed")
        .boxed(".sockeye.edge.v1.EdgeEvent.kind.refreshed")
        .compile_fds(descriptors)?;
    Ok(())
}
