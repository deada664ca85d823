//! What must hold of the decoders of what clients send.

mod engine_io_v3;
mod proxy_protocol;
mod webtransport;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_protocol::MessageBounds;
use edge_protocol::engine_io::payload::{self, Payload};
use edge_protocol::engine_io::{self, Probe, Received};
use edge_protocol::plain_json;
use edge_protocol::socket_io::{
    self, ATTACHMENTS_MAX, Assembler, BinaryPacket, DecodePacketError, Packet,
};
use edge_protocol::websocket::{
    DecodeFrameError, Decoded, Decoder, Message, Opcode, put_frame_header,
};
use serde_json::value::RawValue;

pub use engine_io_v3::engine_io_v3_payload;
pub use proxy_protocol::proxy_protocol;
pub use webtransport::webtransport_stream;

const PAYLOAD_BYTES_MAX: usize = 4096;
const JSON_DEPTH_MAX: usize = 64;
const BOUNDS: MessageBounds =
    MessageBounds { bytes_max: PAYLOAD_BYTES_MAX, json_depth_max: JSON_DEPTH_MAX };

/// The first byte says in what chunks the rest arrives. A stream means the same in chunks and at
/// once, and no message exceeds the limit.
pub fn websocket_frame(data: &[u8]) {
    let Some((&chunk_len, stream)) = data.split_first() else { return };

    let at_once = read_in_chunks(stream, stream.len());
    let in_chunks = read_in_chunks(stream, usize::from(chunk_len));

    assert_eq!(at_once, in_chunks);
}

/// The two views of a packet agree.
pub fn engine_io_packet(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };

    match engine_io::receive_probe(text) {
        Ok(Probe::Ask) => assert_eq!(text, "2probe"),
        Ok(Probe::Upgrade) => {
            assert_eq!(engine_io::Packet::decode(text), Ok(engine_io::Packet::Upgrade));
        }
        Err(_) => {}
    }
    match (engine_io::Packet::decode(text), engine_io::receive(text)) {
        (Ok(engine_io::Packet::Message(data)), received) => {
            assert_eq!(received, Ok(Received::Message(data)));
            assert_eq!(format!("4{data}"), text);
        }
        (Ok(engine_io::Packet::Pong(data)), received) => {
            assert_eq!(received, Ok(Received::Pong));
            assert_eq!(format!("3{data}"), text);
        }
        (Ok(engine_io::Packet::Ping(data)), received) => {
            assert_eq!(received, Err(engine_io::DecodePacketError::PingFromClient));
            assert_eq!(format!("2{data}"), text);
        }
        (Ok(engine_io::Packet::Binary(data)), received) => {
            assert_eq!(received, Ok(Received::Binary(data)));
            if let Ok(bytes) = data.decode(PAYLOAD_BYTES_MAX) {
                assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
                assert_eq!(STANDARD.encode(bytes), text[1..].replace('\n', ""));
            }
        }
        (Ok(engine_io::Packet::Close), received) => assert_eq!(received, Ok(Received::Closed)),
        (
            Ok(engine_io::Packet::Open | engine_io::Packet::Upgrade | engine_io::Packet::Noop),
            received,
        ) => assert_eq!(received, Ok(Received::Ignored)),
        (Err(error), received) => assert_eq!(received, Err(error)),
    }
}

/// As the body of a POST, the input means what its parts mean up to the first that ends the session.
/// As frames of the server, it is refused or makes the payload that was foretold.
pub fn engine_io_payload(data: &[u8]) {
    let mut received = payload::receive(data);
    let mut sent = Payload::new();
    let mut expected = Vec::new();
    for part in data.split(|&byte| byte == 0x1E) {
        let part = str::from_utf8(part).map_err(|_| engine_io::DecodePacketError::NotUtf8);
        let meaning = part.and_then(engine_io::receive);
        assert_eq!(received.next(), Some(meaning));
        match meaning {
            Ok(Received::Message(text)) => {
                push(&mut sent, Opcode::Text, format!("4{text}").as_bytes());
                expected.push(format!("4{text}"));
            }
            Ok(Received::Binary(base64)) => {
                if let Ok(bytes) = base64.decode(PAYLOAD_BYTES_MAX) {
                    push(&mut sent, Opcode::Binary, &bytes);
                    expected.push(format!("b{}", STANDARD.encode(bytes)));
                }
            }
            Ok(Received::Pong | Received::Ignored) => {}
            Ok(Received::Closed) | Err(_) => {
                assert_eq!(received.next(), None);
                break;
            }
        }
    }
    assert_eq!(received.next(), None);
    assert_eq!(sent.into_body(), expected.join("\u{1e}").as_bytes());

    let mut payload = Payload::new();
    push(&mut payload, Opcode::Text, b"6");
    let foretold = payload.len_with(data);
    match payload.push(data) {
        Ok(()) => assert_eq!(foretold, Ok(payload.len())),
        Err(error) => {
            assert_eq!(foretold, Err(error));
            assert_eq!(payload.into_body(), b"6");
        }
    }
}

fn push(payload: &mut Payload, opcode: Opcode, bytes: &[u8]) {
    let mut frame = Vec::new();
    put_frame_header(&mut frame, opcode, bytes.len());
    frame.extend(bytes);
    let foretold = payload.len_with(&frame);
    payload.push(&frame).unwrap();
    assert_eq!(foretold, Ok(payload.len()));
}

/// What is decoded is JSON and means the same after another turn; and what serde takes for an
/// array, we take for one.
pub fn socket_io_packet(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };

    match Packet::decode(text, JSON_DEPTH_MAX) {
        Ok(Packet::Event { namespace, ack_id, name, args, attachments }) => {
            let args = format!("[{args}]");
            assert!(is_json(&args));
            let frame =
                socket_io::encode_event_frame(namespace, &name, args.as_bytes(), ack_id).unwrap();
            let again = message_of_frame(&frame);
            let expected_args = args[1..args.len() - 1].trim_ascii();
            assert_eq!(
                Packet::decode(&again, JSON_DEPTH_MAX),
                Ok(Packet::Event { namespace, ack_id, name, args: expected_args, attachments })
            );
        }
        Ok(Packet::Ack { namespace, ack_id, args, attachments: _ }) => {
            let args = format!("[{args}]");
            assert!(is_json(&args));
            let frame = socket_io::encode_ack_frame(namespace, ack_id, args.as_bytes()).unwrap();
            assert!(matches!(
                Packet::decode(&message_of_frame(&frame), JSON_DEPTH_MAX),
                Ok(Packet::Ack { ack_id: again, .. }) if again == ack_id
            ));
        }
        Ok(Packet::Connect { auth: Some(auth), .. }) => assert!(is_json(auth)),
        Ok(
            Packet::Connect { auth: None, .. }
            | Packet::Disconnect { .. }
            | Packet::EmptyEvent { .. }
            | Packet::UnaddressedAck { .. }
            | Packet::Incomplete { .. },
        )
        | Err(_) => {}
    }

    // The whole input as the payload of an ack, next to another implementation of JSON.
    let is_array = is_json(text) && text.trim_ascii_start().starts_with('[');
    if !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) {
        let decoded = Packet::decode(&format!("3/,1{text}"), usize::MAX).map(|_| ());
        let expected = if is_array { Ok(()) } else { Err(DecodePacketError::BadPayload) };
        assert_eq!(decoded, expected);
    }
}

/// The input is messages with U+001E between them: binary after a `b`, otherwise text. Packets take
/// all that was sent and no more than the limit, and mean the same after another turn.
pub fn socket_io_binary(data: &[u8]) {
    let mut assembler = Assembler::default();
    let mut bytes_taken = 0;
    for message in data.split(|&byte| byte == 0x1E) {
        if let Some(attachment) = message.strip_prefix(b"b") {
            bytes_taken += attachment.len();
            match assembler.binary(attachment.to_vec().into()) {
                Ok(Some(packet)) => {
                    assert!(assembler.is_idle());
                    assert!(bytes_taken <= PAYLOAD_BYTES_MAX);
                    takes_another_turn(&packet);
                }
                Ok(None) => assert!(!assembler.is_idle()),
                Err(_) => return assert!(assembler.is_idle()),
            }
        } else if let Ok(text) = str::from_utf8(message) {
            let is_binary = text.starts_with(['5', '6']);
            bytes_taken = text.len();
            match assembler.text(text, BOUNDS) {
                Ok(packet) => {
                    assert_eq!(is_binary, matches!(packet, Packet::Incomplete { .. }));
                    assert_eq!(is_binary, !assembler.is_idle());
                }
                Err(_) => return assert!(assembler.is_idle()),
            }
        }
    }
}

fn takes_another_turn(packet: &BinaryPacket) {
    let frames = match packet.packet() {
        Packet::Event { namespace, ack_id, name, args, attachments } => {
            let args = format!("[{args}]");
            assert!(is_json(&args));
            let args = args.as_bytes();
            socket_io::encode_event_frames(namespace, &name, args, ack_id, attachments).unwrap()
        }
        Packet::Ack { namespace, ack_id, args, attachments } => {
            let args = format!("[{args}]");
            assert!(is_json(&args));
            socket_io::encode_ack_frames(namespace, ack_id, args.as_bytes(), attachments).unwrap()
        }
        Packet::Connect { .. }
        | Packet::Disconnect { .. }
        | Packet::EmptyEvent { .. }
        | Packet::UnaddressedAck { .. }
        | Packet::Incomplete { .. } => panic!("{packet:?}"),
    };
    let mut payloads = payloads_of_frames(&frames).into_iter();
    let text = str::from_utf8(payloads.next().unwrap()).unwrap().strip_prefix('4').unwrap();

    let bounds = MessageBounds { bytes_max: frames.len(), ..BOUNDS };
    let mut assembler = Assembler::default();
    assert!(matches!(assembler.text(text, bounds), Ok(Packet::Incomplete { .. })));
    let mut again = None;
    for (index, attachment) in payloads.enumerate() {
        assert!(again.is_none() && index < ATTACHMENTS_MAX);
        again = assembler.binary(attachment.to_vec().into()).unwrap();
    }
    assert_eq!(again.as_ref(), Some(packet));
}

/// The input is frames with U+001E between them: binary after a `b`, otherwise text. What is taken is
/// JSON and so are the parts that are passed on; no message exceeds the limit with its attachments.
pub fn plain_json_message(data: &[u8]) {
    let mut assembler = plain_json::Assembler::default();
    let mut bytes_taken = 0;
    for frame in data.split(|&byte| byte == 0x1E) {
        if let Some(attachment) = frame.strip_prefix(b"b") {
            bytes_taken += attachment.len();
            match assembler.binary(attachment.to_vec().into()) {
                Ok(Some(message)) => {
                    assert!(assembler.is_idle() && bytes_taken <= PAYLOAD_BYTES_MAX);
                    check_plain_json(&message.message());
                }
                Ok(None) => {}
                Err(_) => assert!(assembler.is_idle()),
            }
        } else if let Ok(text) = str::from_utf8(frame) {
            let was_idle = assembler.is_idle();
            bytes_taken = text.len();
            match assembler.text(text, BOUNDS) {
                Ok(message) => {
                    assert!(was_idle && is_json(text));
                    check_plain_json(&message);
                }
                Err(refusal) => {
                    assert!(refusal.id.is_none_or(|id| is_json(&id)));
                    let is_not_json = refusal.error == plain_json::DecodeMessageError::NotJson;
                    assert!(!was_idle || is_not_json != is_json(text));
                }
            }
        }
    }

    // The input as the arguments of a backend, which are no more to be trusted.
    for frame in [
        plain_json::encode_event_frames("event", data, Some(1), &[]),
        plain_json::encode_answer_frames(b"7", data, &[]),
    ] {
        let (Ok(frame), Ok(text)) = (frame, str::from_utf8(data)) else { continue };
        if is_json(text) {
            assert!(is_json(text_of_frame(&frame)));
        }
    }
}

fn check_plain_json(message: &plain_json::Message<'_>) {
    match message {
        plain_json::Message::Request(request) => {
            assert!(request.data.is_none_or(is_json));
            assert!(request.id.is_none_or(is_json));
            assert!(request.attachments.len() <= ATTACHMENTS_MAX);
        }
        plain_json::Message::Answer(answer) => {
            assert!(is_json(&answer.arg));
            assert!(answer.attachments.len() <= ATTACHMENTS_MAX);
        }
        plain_json::Message::Incomplete { id } => assert!(id.is_none_or(is_json)),
    }
}

/// A message, so that it can be kept.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn read_in_chunks(stream: &[u8], chunk_len: usize) -> (Vec<Seen>, Result<(), DecodeFrameError>) {
    let mut decoder = Decoder::default();
    let mut buffer = Vec::new();
    let mut seen = Vec::new();
    for chunk in stream.chunks(chunk_len.max(1)) {
        buffer.extend_from_slice(chunk);
        loop {
            let buffered_len = buffer.len();
            let consumed = match decoder.decode(&mut buffer, PAYLOAD_BYTES_MAX) {
                Err(error) => return (seen, Err(error)),
                Ok(Decoded::Incomplete { needed }) => {
                    assert!(needed > buffered_len && needed <= PAYLOAD_BYTES_MAX + 14);
                    break;
                }
                Ok(Decoded::Frame { consumed, message }) => {
                    seen.extend(message.map(keep));
                    consumed
                }
            };
            assert!(consumed <= buffered_len);
            buffer.drain(..consumed);
        }
    }
    (seen, Ok(()))
}

fn keep(message: Message<'_>) -> Seen {
    match message {
        Message::Text(text) => {
            assert!(text.len() <= PAYLOAD_BYTES_MAX);
            Seen::Text(text.to_owned())
        }
        Message::Binary(bytes) => {
            assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
            Seen::Binary(bytes.to_vec())
        }
        Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
        Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
        Message::Close(code) => Seen::Close(code),
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn text_of_frame(frame: &[u8]) -> &str {
    let payloads = payloads_of_frames(frame);
    assert_eq!(payloads.len(), 1);
    str::from_utf8(payloads[0]).unwrap()
}

fn payloads_of_frames(mut frames: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while !frames.is_empty() {
        let (header_len, payload_len) = match frames[1] {
            126 => (4, u64::from(u16::from_be_bytes([frames[2], frames[3]]))),
            127 => (10, u64::from_be_bytes(frames[2..10].try_into().unwrap())),
            len => (2, u64::from(len)),
        };
        let (frame, rest) = frames.split_at(header_len + payload_len as usize);
        payloads.push(&frame[header_len..]);
        frames = rest;
    }
    payloads
}

fn message_of_frame(frame: &[u8]) -> String {
    text_of_frame(frame).strip_prefix('4').unwrap().to_owned()
}
