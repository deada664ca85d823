//! Streams of WebTransport: what a client's bytes mean, and what a client gets.

use edge_protocol::engine_io::webtransport::{
    FromWebSocket, Header, Kind, NotServerFrames, Opening, ToWebSocket, put_header,
    receive_opening, split_header,
};
use edge_protocol::websocket::{Decoded, Decoder, Message, Opcode, close_frame, put_frame_header};
use proptest::prelude::*;

const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// Headers as the reference encoder writes them.
fn headers() -> Vec<(Header, Vec<u8>)> {
    let header = |kind, payload_bytes| Header { kind, payload_bytes };
    vec![
        (header(Kind::Text, 1), vec![0x01]),
        (header(Kind::Text, 125), vec![0x7D]),
        (header(Kind::Text, 126), vec![0x7E, 0, 126]),
        (header(Kind::Text, 65_535), vec![0x7E, 0xFF, 0xFF]),
        (header(Kind::Text, 65_536), vec![0x7F, 0, 0, 0, 0, 0, 1, 0, 0]),
        (header(Kind::Binary, 1), vec![0x81]),
        (header(Kind::Binary, 125), vec![0xFD]),
        (header(Kind::Binary, 126), vec![0xFE, 0, 126]),
        (header(Kind::Binary, u64::MAX), [vec![0xFF], vec![0xFF; 8]].concat()),
    ]
}

#[test]
fn headers_are_those_of_the_reference() {
    for (header, bytes) in headers() {
        let mut out = Vec::new();
        put_header(&mut out, header);

        assert_eq!(out, bytes);
        let followed = [&bytes[..], b"x"].concat();
        assert_eq!(split_header(&followed), Some((header, &b"x"[..])));
        for len in 0..bytes.len() {
            assert_eq!(split_header(&bytes[..len]), None);
        }
    }
}

#[test]
fn a_first_packet_opens_what_the_reference_opens() {
    let upgrade = |sid: &str| Ok(Opening::Upgrade { sid: sid.to_owned() });
    let cases = [
        ("0", Ok(Opening::New)),
        (r#"0{"sid":"abc"}"#, upgrade("abc")),
        (r#"0 {"other":[1],"sid":"a\u0062c"}"#, upgrade("abc")),
        (r#"0{"sid":""}"#, upgrade("")),
    ];
    for (text, expected) in cases {
        assert_eq!(receive_opening(text), expected, "{text:?}");
    }
    for text in ["", "1", "2probe", "4", "0x", "0{}", "0[]", "0null", r#"0{"sid":1}"#, "é"] {
        assert!(receive_opening(text).is_err(), "{text:?}");
    }
}

/// The messages of a client, as the edge's decoder of WebSocket frames finds them.
fn translated(pieces: &[&[u8]]) -> Vec<(Kind, Vec<u8>)> {
    let mut to_websocket = ToWebSocket::default();
    let mut frames = Vec::new();
    for piece in pieces {
        to_websocket.translate(piece, &mut frames);
    }
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    let mut rest = &mut frames[..];
    while let Ok(Decoded::Frame { consumed, message }) = decoder.decode(rest, PAYLOAD_BYTES_MAX) {
        match message {
            Some(Message::Text(text)) => messages.push((Kind::Text, text.as_bytes().to_vec())),
            Some(Message::Binary(bytes)) => messages.push((Kind::Binary, bytes.to_vec())),
            other => panic!("{other:?}"),
        }
        rest = &mut rest[consumed..];
    }
    messages
}

#[test]
fn an_empty_frame_becomes_a_text_that_is_no_packet() {
    assert_eq!(translated(&[b"\x00"]), [(Kind::Text, vec![])]);
    assert_eq!(translated(&[b"\x80"]), [(Kind::Text, vec![])]);
    assert_eq!(translated(&[b"\x7E\0\0"]), [(Kind::Text, vec![])]);
}

#[test]
fn a_frame_that_is_too_large_is_announced_as_large_as_it_is() {
    let mut frames = Vec::new();

    ToWebSocket::default().translate(b"\xFF\0\0\0\0\0\x0F\x42\x41", &mut frames);

    assert_eq!(frames, b"\x82\xFF\0\0\0\0\0\x0F\x42\x41\0\0\0\0");
}

#[test]
fn only_between_frames_does_a_client_close_in_good_order() {
    for (input, closes) in [(&b""[..], true), (b"\x014", true), (b"\x024", false), (b"\x7E", false)]
    {
        let mut to_websocket = ToWebSocket::default();
        to_websocket.translate(input, &mut Vec::new());
        let mut frames = Vec::new();

        to_websocket.close(&mut frames);

        assert_eq!(frames, if closes { &b"\x88\x82\0\0\0\0\x03\xE8"[..] } else { b"" });
    }
}

#[test]
fn control_frames_and_empty_ones_do_not_reach_a_client() {
    let mut from_websocket = FromWebSocket::default();
    let mut out = Vec::new();

    from_websocket.translate(b"\x8A\x02ab\x81\x00\x81\x014\x89\x00", &mut out).unwrap();
    assert!(!from_websocket.is_closed());
    from_websocket.translate(&close_frame(1000), &mut out).unwrap();
    from_websocket.translate(b"\x81\x014", &mut out).unwrap();

    assert!(from_websocket.is_closed());
    assert_eq!(out, b"\x014");
}

#[test]
fn what_the_server_never_writes_is_refused() {
    for frames in [&b"\x01\x014"[..], b"\x80\x014", b"\x81\x81", b"\xC1\x01", b"\x83\x00"] {
        let translated = FromWebSocket::default().translate(frames, &mut Vec::new());

        assert_eq!(translated, Err(NotServerFrames), "{frames:?}");
    }
}

fn messages() -> impl Strategy<Value = Vec<(Kind, Vec<u8>)>> {
    let text = ".{1,200}".prop_map(|text| (Kind::Text, text.into_bytes()));
    let size = prop_oneof![1..300_usize, 65_530..65_540_usize];
    let binary = size.prop_map(|size| (Kind::Binary, vec![0xA5; size]));
    prop::collection::vec(prop_oneof![text, binary], 0..6)
}

proptest! {
    #[test]
    fn messages_arrive_whatever_the_pieces(sent in messages(), piece_len in 1..70_000_usize) {
        let mut stream = Vec::new();
        for (kind, payload) in &sent {
            put_header(&mut stream, Header { kind: *kind, payload_bytes: payload.len() as u64 });
            stream.extend_from_slice(payload);
        }

        let pieces: Vec<_> = stream.chunks(piece_len).collect();

        prop_assert_eq!(translated(&pieces), sent);
    }

    #[test]
    fn a_client_gets_what_was_sent_whatever_the_pieces(
        sent in messages(),
        piece_len in 1..70_000_usize,
    ) {
        let (mut frames, mut expected) = (Vec::new(), Vec::new());
        for (kind, payload) in &sent {
            let opcode = if *kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
            put_frame_header(&mut frames, opcode, payload.len());
            frames.extend_from_slice(payload);
            put_header(&mut expected, Header { kind: *kind, payload_bytes: payload.len() as u64 });
            expected.extend_from_slice(payload);
        }

        let (mut from_websocket, mut out) = (FromWebSocket::default(), Vec::new());
        for piece in frames.chunks(piece_len) {
            from_websocket.translate(piece, &mut out).unwrap();
        }

        prop_assert_eq!(out, expected);
    }
}
