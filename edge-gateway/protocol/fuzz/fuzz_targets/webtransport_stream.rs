#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_protocol_fuzz::webtransport_stream(data));
