//! What must hold for any body of a client of Engine.IO 3.

use edge_protocol::engine_io::v3::payload::{self, Body, Packets, Payload};
use edge_protocol::engine_io::v3::{BinaryForm, ReceiveError, Received};
use edge_protocol::websocket::{Opcode, put_frame_header};

use super::{PAYLOAD_BYTES_MAX, payloads_of_frames};

/// After a `b` the input is a binary body, otherwise a text one. What it carries makes an answer
/// that carries the same, in either form, and nothing counts after what ends the session. As frames
/// of the server, the input is refused or rewritten to as many frames.
pub fn engine_io_v3_payload(data: &[u8]) {
    match data.strip_prefix(b"b") {
        Some(body) => takes_another_turn(payload::receive_binary(body), body.len()),
        None => takes_another_turn(payload::receive(data), data.len()),
    }

    let mut answer = Payload::new();
    let is_taken = answer.push(data).is_ok();
    for form in [BinaryForm::Bytes, BinaryForm::Base64] {
        match form.rewrite(data) {
            Ok(frames) => {
                assert_eq!(payloads_of_frames(&frames).len(), payloads_of_frames(data).len());
            }
            Err(_) => assert!(!is_taken),
        }
    }
    answer.into_body();
}

/// A message, so that it can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
}

fn takes_another_turn(mut packets: Packets<'_>, body_len: usize) {
    let mut seen = Vec::new();
    let mut count = 0;
    while let Some(received) = packets.next() {
        count += 1;
        match received {
            Ok(Received::Message(text)) => seen.push(Seen::Text(text.to_owned())),
            Ok(Received::Binary(bytes)) => seen.push(Seen::Binary(bytes.to_vec())),
            Ok(Received::Base64(base64)) => {
                if let Ok(bytes) = base64.decode(PAYLOAD_BYTES_MAX) {
                    seen.push(Seen::Binary(bytes.to_vec()));
                }
            }
            Ok(Received::Ping | Received::Ignored) => {}
            Ok(Received::Closed) | Err(_) => {
                assert_eq!(packets.next(), None);
                break;
            }
        }
    }
    assert!(count <= body_len + 1);

    for form in [BinaryForm::Bytes, BinaryForm::Base64] {
        let frames: Vec<_> = seen.iter().map(|message| frame_of(message, form)).collect();
        let mut answer = Payload::new();
        for frame in &frames {
            answer.push(frame).unwrap();
        }
        let has_bytes = seen.iter().any(|message| matches!(message, Seen::Binary(_)));
        let again: Vec<_> = match answer.into_body() {
            Body::Text(body) if body.is_empty() => Vec::new(),
            Body::Text(body) => {
                assert!(!has_bytes || form == BinaryForm::Base64);
                payload::receive(&body).map(keep).collect()
            }
            Body::Binary(body) => {
                assert!(has_bytes && form == BinaryForm::Bytes);
                payload::receive_binary(&body).map(keep).collect()
            }
        };
        assert_eq!(again, seen);
    }
}

fn keep(received: Result<Received<'_>, ReceiveError>) -> Seen {
    match received.unwrap() {
        Received::Message(text) => Seen::Text(text.to_owned()),
        Received::Binary(bytes) => Seen::Binary(bytes.to_vec()),
        Received::Base64(base64) => {
            Seen::Binary(base64.decode(PAYLOAD_BYTES_MAX).unwrap().to_vec())
        }
        other @ (Received::Ping | Received::Ignored | Received::Closed) => panic!("{other:?}"),
    }
}

fn frame_of(message: &Seen, form: BinaryForm) -> Vec<u8> {
    let mut frame = Vec::new();
    match message {
        Seen::Text(text) => {
            put_frame_header(&mut frame, Opcode::Text, text.len() + 1);
            frame.push(b'4');
            frame.extend(text.as_bytes());
        }
        Seen::Binary(bytes) => {
            put_frame_header(&mut frame, Opcode::Binary, bytes.len());
            frame.extend(bytes);
        }
    }
    form.rewrite(&frame).unwrap()
}
