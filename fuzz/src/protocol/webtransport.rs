//! What must hold for any bytes on a stream of WebTransport.

use edge_protocol::engine_io::webtransport::{
    FromWebSocket, Kind, ToWebSocket, receive_opening, split_header,
};
use edge_protocol::websocket::{Decoded, Decoder, Message, Opcode, put_frame_header};

const PAYLOAD_BYTES_MAX: usize = 4096;

/// The first byte says in what pieces the rest arrives. A stream means the same in pieces and at once, what it means can be
/// told from its headers alone, and what comes back of it is what was sent.
pub fn webtransport_stream(data: &[u8]) {
    let Some((&piece_len, stream)) = data.split_first() else { return };
    if let Ok(text) = str::from_utf8(stream) {
        // Must not panic; what it means is tested with cases.
        drop(receive_opening(text));
    }

    let at_once = translated(stream, stream.len());
    assert_eq!(at_once, translated(stream, piece_len.into()));

    let messages = decoded(at_once);
    let expected = walked(stream);
    assert!(expected.starts_with(&messages), "{messages:?} {expected:?}");
    echoed(&messages);
}

fn translated(stream: &[u8], piece_len: usize) -> Vec<u8> {
    let (mut to_websocket, mut frames) = (ToWebSocket::default(), Vec::new());
    for piece in stream.chunks(piece_len.max(1)) {
        to_websocket.translate(piece, &mut frames);
    }
    frames
}

/// The messages up to the first that the edge refuses.
fn decoded(mut frames: Vec<u8>) -> Vec<(Kind, Vec<u8>)> {
    let (mut decoder, mut messages, mut start) = (Decoder::default(), Vec::new(), 0);
    while let Ok(Decoded::Frame { consumed, message }) =
        decoder.decode(&mut frames[start..], PAYLOAD_BYTES_MAX)
    {
        match message {
            Some(Message::Text(text)) => messages.push((Kind::Text, text.as_bytes().to_vec())),
            Some(Message::Binary(bytes)) => messages.push((Kind::Binary, bytes.to_vec())),
            other => panic!("a client's packets became {other:?}"),
        }
        start += consumed;
    }
    messages
}

/// The whole frames of a stream, found without the translation.
fn walked(mut stream: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = split_header(stream) {
        let Ok(len) = usize::try_from(header.payload_bytes) else { break };
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        let kind = if len == 0 { Kind::Text } else { header.kind };
        messages.push((kind, payload.to_vec()));
        stream = rest;
    }
    messages
}

/// Sends the messages back and reads them as a client does.
fn echoed(messages: &[(Kind, Vec<u8>)]) {
    let mut frames = Vec::new();
    for (kind, payload) in messages {
        let opcode = if *kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
        put_frame_header(&mut frames, opcode, payload.len());
        frames.extend_from_slice(payload);
    }
    let mut out = Vec::new();
    let translated = FromWebSocket::default().translate(&frames, &mut out);

    assert!(translated.is_ok());
    let sent: Vec<_> =
        messages.iter().filter(|(_, payload)| !payload.is_empty()).cloned().collect();
    assert_eq!(walked(&out), sent);
}
