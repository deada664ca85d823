//! Answers each case on standard input with what our decoders and encoders make of it.
//!
//! A case is a line of JSON, and so is its answer; bytes are in base64. `tests/interop/parsers/`
//! asks the reference parsers the same.
//!
//! ```sh
//! echo '{"socketIo":[{"text":"21[\"hello\",{}]"}]}' | cargo run -p edge-protocol --example codec-pipe
//! ```

use std::error::Error;
use std::io::{self, BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edge_protocol::MessageBounds;
use edge_protocol::engine_io::payload::{self, Payload};
use edge_protocol::engine_io::{self, Base64Text, Received};
use edge_protocol::socket_io::{self, AssembleError, Assembler, EncodeError, Packet};
use serde::Deserialize;
use serde_json::{Value, json};

/// Above all that a case holds: the reference parsers know no such limit.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// As deep as an edge takes JSON by default.
const BOUNDS: MessageBounds = MessageBounds { bytes_max: PAYLOAD_BYTES_MAX, json_depth_max: 64 };

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Case {
    /// A text frame.
    EngineIo(String),
    /// The body of a POST, in base64.
    Payload(String),
    /// The messages of one session.
    SocketIo(Vec<Message>),
    /// What a server sends.
    Encode(Outgoing),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Message {
    Text(String),
    Binary(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Outgoing {
    Connect {
        namespace: String,
        sid: String,
    },
    ConnectError {
        namespace: String,
        message: String,
        data: Option<String>,
    },
    Disconnect {
        namespace: String,
    },
    Event {
        namespace: String,
        name: String,
        args: String,
        ack_id: Option<u64>,
        attachments: Vec<String>,
    },
    Ack {
        namespace: String,
        args: String,
        ack_id: u64,
        attachments: Vec<String>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut stdin = io::stdin().lock();
    let mut line = String::new();
    while stdin.read_line(&mut line)? > 0 {
        let answer = match serde_json::from_str(&line)? {
            Case::EngineIo(text) => engine_io_packet(&text),
            Case::Payload(body) => engine_io_payload(&STANDARD.decode(body)?),
            Case::SocketIo(messages) => socket_io_messages(&messages)?,
            Case::Encode(outgoing) => encode(outgoing)?,
        };
        writeln!(stdout, "{answer}")?;
        line.clear();
        // Whoever waits for answers sends nothing more until they have come.
        stdout.flush()?;
    }
    Ok(())
}

fn engine_io_packet(text: &str) -> Value {
    match engine_io::Packet::decode(text) {
        Ok(engine_io::Packet::Open) => json!({"type": "open"}),
        Ok(engine_io::Packet::Close) => json!({"type": "close"}),
        Ok(engine_io::Packet::Ping(data)) => json!({"type": "ping", "data": data}),
        Ok(engine_io::Packet::Pong(data)) => json!({"type": "pong", "data": data}),
        Ok(engine_io::Packet::Message(data)) => json!({"type": "message", "data": data}),
        Ok(engine_io::Packet::Upgrade) => json!({"type": "upgrade"}),
        Ok(engine_io::Packet::Noop) => json!({"type": "noop"}),
        Ok(engine_io::Packet::Binary(data)) => binary(data),
        Err(error) => refused(error),
    }
}

/// Ends as a session does: with the first packet that closes it.
fn engine_io_payload(body: &[u8]) -> Value {
    let mut answers = Vec::new();
    for received in payload::receive(body) {
        let answer = match received {
            Ok(Received::Message(data)) => json!({"type": "message", "data": data}),
            Ok(Received::Binary(data)) => binary(data),
            Ok(Received::Pong) => json!({"type": "pong"}),
            Ok(Received::Ignored) => json!({"type": "ignored"}),
            Ok(Received::Closed) => json!({"type": "closed"}),
            Err(error) => refused(error),
        };
        let is_refused = answer.get("refused").is_some();
        answers.push(answer);
        if is_refused {
            break;
        }
    }
    Value::Array(answers)
}

fn binary(data: Base64Text<'_>) -> Value {
    match data.decode(PAYLOAD_BYTES_MAX) {
        Ok(bytes) => json!({"type": "binary", "data": STANDARD.encode(bytes)}),
        Err(error) => refused(error),
    }
}

/// One answer for each message. After one that is refused the same assembler goes on.
fn socket_io_messages(messages: &[Message]) -> Result<Value, Box<dyn Error>> {
    let mut assembler = Assembler::default();
    let mut answers = Vec::new();
    for message in messages {
        let answer = match message {
            Message::Text(text) => match assembler.text(text, BOUNDS) {
                Ok(packet) => socket_io_packet(&packet)?,
                Err(error) => refused_packet(error),
            },
            Message::Binary(data) => match assembler.binary(STANDARD.decode(data)?.into()) {
                Ok(Some(packet)) => socket_io_packet(&packet.packet())?,
                Ok(None) => json!({"type": "incomplete"}),
                Err(error) => refused_packet(error),
            },
        };
        answers.push(answer);
    }
    Ok(Value::Array(answers))
}

fn socket_io_packet(packet: &Packet<'_>) -> Result<Value, Box<dyn Error>> {
    let again = sent_again(packet).map_or(Ok(Value::Null), sent)?;
    Ok(match packet {
        Packet::Connect { namespace, auth } => {
            json!({"type": "connect", "namespace": namespace, "auth": auth})
        }
        Packet::Disconnect { namespace } => json!({"type": "disconnect", "namespace": namespace}),
        Packet::Event { namespace, ack_id, name, args, attachments } => json!({
            "type": "event",
            "namespace": namespace,
            "ackId": ack_id.map(|id| id.to_string()),
            "name": name,
            "args": args,
            "attachments": in_base64(attachments),
            "again": again,
        }),
        Packet::EmptyEvent { namespace } => json!({"type": "emptyEvent", "namespace": namespace}),
        Packet::Ack { namespace, ack_id, args, attachments } => json!({
            "type": "ack",
            "namespace": namespace,
            "ackId": ack_id.to_string(),
            "args": args,
            "attachments": in_base64(attachments),
            "again": again,
        }),
        Packet::UnaddressedAck { namespace } => {
            json!({"type": "unaddressedAck", "namespace": namespace})
        }
        Packet::Incomplete { namespace: _ } => json!({"type": "incomplete"}),
    })
}

/// Encodes a packet of a client as if the server sent it.
fn sent_again(packet: &Packet<'_>) -> Option<Result<Vec<u8>, EncodeError>> {
    match packet {
        Packet::Event { namespace, ack_id, name, args, attachments } => {
            let args = format!("[{args}]");
            let args = args.as_bytes();
            Some(socket_io::encode_event_frames(namespace, name, args, *ack_id, attachments))
        }
        Packet::Ack { namespace, ack_id, args, attachments } => {
            let args = format!("[{args}]");
            Some(socket_io::encode_ack_frames(namespace, *ack_id, args.as_bytes(), attachments))
        }
        Packet::Connect { .. }
        | Packet::Disconnect { .. }
        | Packet::EmptyEvent { .. }
        | Packet::UnaddressedAck { .. }
        | Packet::Incomplete { .. } => None,
    }
}

fn encode(outgoing: Outgoing) -> Result<Value, Box<dyn Error>> {
    sent(match outgoing {
        Outgoing::Connect { namespace, sid } => {
            Ok(socket_io::encode_connect_frame(&namespace, &sid, None))
        }
        Outgoing::ConnectError { namespace, message, data } => {
            let data = data.as_deref().map(str::as_bytes);
            Ok(socket_io::encode_connect_error_frame(&namespace, &message, data))
        }
        Outgoing::Disconnect { namespace } => Ok(socket_io::encode_disconnect_frame(&namespace)),
        Outgoing::Event { namespace, name, args, ack_id, attachments } => {
            let attachments = from_base64(attachments)?;
            let args = args.as_bytes();
            socket_io::encode_event_frames(&namespace, &name, args, ack_id, &attachments)
        }
        Outgoing::Ack { namespace, args, ack_id, attachments } => {
            let attachments = from_base64(attachments)?;
            socket_io::encode_ack_frames(&namespace, ack_id, args.as_bytes(), &attachments)
        }
    })
}

/// Tells what is sent over WebSocket, each frame for itself, and what on long-polling.
fn sent(frames: Result<Vec<u8>, EncodeError>) -> Result<Value, Box<dyn Error>> {
    let frames = match frames {
        Ok(frames) => frames,
        Err(error) => return Ok(refused(error)),
    };
    let mut payload = Payload::new();
    let body = match payload.push(&frames) {
        Ok(()) => json!(String::from_utf8(payload.into_body())?),
        Err(error) => refused(error),
    };
    Ok(json!({"messages": messages(&frames)?, "body": body}))
}

/// Takes the server's frames apart without our own decoder, which reads those of clients.
fn messages(mut frames: &[u8]) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut messages = Vec::new();
    while let [first, second, rest @ ..] = frames {
        let (len, rest) = match (second, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [0, 0, 0, 0, a, b, c, d, rest @ ..]) => {
                (u32::from_be_bytes([*a, *b, *c, *d]) as usize, rest)
            }
            (len, rest) => (usize::from(*len), rest),
        };
        let (payload, rest) = rest.split_at_checked(len).ok_or("frame is cut off")?;
        messages.push(match first {
            0x81 => json!({"text": str::from_utf8(payload)?}),
            0x82 => json!({"binary": STANDARD.encode(payload)}),
            _ => return Err("frame is neither text nor binary".into()),
        });
        frames = rest;
    }
    Ok(messages)
}

fn in_base64(attachments: &[Bytes]) -> Vec<String> {
    attachments.iter().map(|attachment| STANDARD.encode(attachment)).collect()
}

fn from_base64(attachments: Vec<String>) -> Result<Vec<Vec<u8>>, base64::DecodeError> {
    attachments.into_iter().map(|attachment| STANDARD.decode(attachment)).collect()
}

fn refused_packet(error: AssembleError) -> Value {
    match error {
        AssembleError::Packet(error) => refused(error),
        AssembleError::AttachmentExpected
        | AssembleError::AttachmentUnexpected
        | AssembleError::TooLarge => refused(error),
    }
}

fn refused(error: impl std::fmt::Debug) -> Value {
    json!({"refused": format!("{error:?}")})
}
