//! Compiles the contracts in pure Rust: no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;
use tonic_build::manual;

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

    // Each side encodes what it sends, and decodes what it receives.
    let (edge, backend) = ("crate::edge::v1::EdgeFrame", "crate::edge::v1::BackendFrame");
    let encoded = |frame: &str| format!("crate::encoded::Encoded::<{frame}>");
    let client = out_dir.join("encoded/client");
    fs::create_dir_all(&client)?;
    let builder = manual::Builder::new().build_server(false).out_dir(client);
    builder.compile(&[edge_link(&encoded(edge), backend)]);
    let server = out_dir.join("encoded/server");
    fs::create_dir_all(&server)?;
    let builder = manual::Builder::new().build_client(false).out_dir(server);
    builder.compile(&[edge_link(edge, &encoded(backend))]);
    Ok(())
}

/// `EdgeLink` with other types for its frames. The contract says what it is; a path that differs would be found by every test
/// that has a link.
fn edge_link(input: &str, output: &str) -> manual::Service {
    let attach = manual::Method::builder()
        .name("attach")
        .route_name("Attach")
        .input_type(input)
        .output_type(output)
        .codec_path("crate::encoded::EncodedCodec")
        .client_streaming()
        .server_streaming()
        .build();
    manual::Service::builder().name("EdgeLink").package("sockeye.edge.v1").method(attach).build()
}
