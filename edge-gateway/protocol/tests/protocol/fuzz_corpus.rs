//! Replays the corpus of the fuzz targets, each file through the function that is fuzzed.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "public to the fuzz targets")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();

    assert!(files.len() >= 10, "{target} has {} files", files.len());
    for file in files {
        check(&fs::read(file).unwrap());
    }
}

#[test]
fn the_corpus_of_websocket_frames_holds() {
    replay("websocket_frame", fuzz::websocket_frame);
}

#[test]
fn the_corpus_of_engine_io_packets_holds() {
    replay("engine_io_packet", fuzz::engine_io_packet);
}

#[test]
fn the_corpus_of_engine_io_payloads_holds() {
    replay("engine_io_payload", fuzz::engine_io_payload);
}

#[test]
fn the_corpus_of_engine_io_v3_payloads_holds() {
    replay("engine_io_v3_payload", fuzz::engine_io_v3_payload);
}

#[test]
fn the_corpus_of_socket_io_packets_holds() {
    replay("socket_io_packet", fuzz::socket_io_packet);
}

#[test]
fn the_corpus_of_socket_io_binary_packets_holds() {
    replay("socket_io_binary", fuzz::socket_io_binary);
}

#[test]
fn the_corpus_of_plain_json_messages_holds() {
    replay("plain_json_message", fuzz::plain_json_message);
}

#[test]
fn the_corpus_of_webtransport_streams_holds() {
    replay("webtransport_stream", fuzz::webtransport_stream);
}

#[test]
fn the_corpus_of_proxy_headers_holds() {
    replay("proxy_protocol", fuzz::proxy_protocol);
}
