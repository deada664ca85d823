//! What the codecs do for each event.

use edge_protocol::{
    MessageBounds,
    engine_io::{self, Received, payload::Payload},
    plain_json, socket_io,
    websocket::{Decoded, Decoder, Message},
};
use instructions::{Named, Work, client_frame};

const BYTES_MAX: usize = 1_000_000;
const BOUNDS: MessageBounds = MessageBounds { bytes_max: BYTES_MAX, json_depth_max: 64 };
const DATA: &str = r#"{"room":"lobby","text":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"}"#;

/// Everything that is counted.
pub(crate) fn all() -> [Named; 7] {
    let named = |name, prepare| Named { name, times: 2000, prepare };
    [
        named("decode-event", || decode_socket_io(DATA)),
        named("decode-event-16k", || {
            decode_socket_io(&format!(r#"{{"room":"lobby","text":"{}"}}"#, "é".repeat(8000)))
        }),
        named("decode-plain-json", decode_plain_json),
        named("encode-event", encode_socket_io),
        named("encode-ack", encode_ack),
        named("encode-plain-json", encode_plain_json),
        named("body-of-a-poll", body_of_a_poll),
    ]
}

/// From the bytes of a frame to its text, which is handed on. Reading unmasks in place, so each time begins with a copy.
fn decode(text: &str, mut read: impl FnMut(&str) -> usize + 'static) -> Work {
    let frame = client_frame(text);
    let mut input = frame.clone();
    let mut decoder = Decoder::default();
    Box::new(move || {
        input.copy_from_slice(&frame);
        match decoder.decode(&mut input, BYTES_MAX) {
            Ok(Decoded::Frame { message: Some(Message::Text(text)), .. }) => read(text),
            _ => 0,
        }
    })
}

fn decode_socket_io(data: &str) -> Work {
    let text = format!(r#"42/chat,7["message",{data}]"#);
    decode(&text, |text| {
        let Ok(Received::Message(message)) = engine_io::receive(text) else { return 0 };
        match socket_io::Assembler::default().text(message, BOUNDS) {
            Ok(socket_io::Packet::Event { args, .. }) => args.len(),
            _ => 0,
        }
    })
}

fn decode_plain_json() -> Work {
    let text = format!(r#"{{"event":"message","data":{DATA},"id":7}}"#);
    decode(&text, |text| usize::from(plain_json::Assembler::default().text(text, BOUNDS).is_ok()))
}

fn encode_socket_io() -> Work {
    let args = format!("[{DATA}]").into_bytes();
    Box::new(move || {
        socket_io::encode_event_frame("/chat", "message", &args, None)
            .map_or(0, |frame| frame.len())
    })
}

fn encode_ack() -> Work {
    let args = format!("[{DATA}]").into_bytes();
    Box::new(move || socket_io::encode_ack_frame("/chat", 12, &args).map_or(0, |frame| frame.len()))
}

fn encode_plain_json() -> Work {
    let args = format!("[{DATA}]").into_bytes();
    Box::new(move || {
        plain_json::encode_event_frames("message", &args, None, &[])
            .map_or(0, |frames| frames.len())
    })
}

/// Ten events that have waited for a poll.
fn body_of_a_poll() -> Work {
    let args = format!("[{DATA}]").into_bytes();
    let frames = socket_io::encode_event_frame("/chat", "message", &args, None).unwrap_or_default();
    Box::new(move || {
        let mut payload = Payload::new();
        let pushed = (0..10).filter(|_| payload.push(&frames).is_ok()).count();
        pushed + payload.into_body().len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_does_what_it_says() {
        let done: Vec<_> = all().into_iter().map(|named| (named.prepare)()()).collect();

        let args = DATA.len();
        let event = r#"xx42/chat,["message",]"#.len() + 2 + args;
        assert_eq!(done[0], args);
        assert!(done[1] > 16_000, "{done:?}");
        assert_eq!(done[2], 1);
        assert_eq!(done[3], event);
        assert!(done[4..].iter().all(|done| *done > args), "{done:?}");
        let body = 10 * (event - 4) + 9;
        assert_eq!(done[6], 10 + body);
    }
}
