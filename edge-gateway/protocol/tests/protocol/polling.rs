//! Bodies of requests and answers, for clients that poll.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_protocol::engine_io::payload::{self, Payload, PushFramesError};
use edge_protocol::engine_io::{
    Base64Text, DecodePacketError, NOOP_TEXT_FRAME, PING_TEXT_FRAME, Received,
};
use edge_protocol::socket_io::{
    Assembler, Packet, encode_ack_frame, encode_connect_frame, encode_event_frame,
    encode_event_frames,
};
use edge_protocol::websocket::{
    Opcode, PING_FRAME, close_frame, frame_header_len, put_frame_header, put_pong,
};
use proptest::prelude::*;

use crate::client::{BINARY, BOUNDS, LIMIT, TEXT, server_payloads};

fn message(text: &str) -> Result<Received<'_>, DecodePacketError> {
    Ok(Received::Message(text))
}

#[test]
fn bodies_mean_what_they_mean_to_the_reference_server() {
    let binary = |text| Ok(Received::Binary(Base64Text::new(text)));
    let ignored = Ok(Received::Ignored);
    let empty = Err(DecodePacketError::Empty);
    let unknown = Err(DecodePacketError::UnknownType);
    let ping = Err(DecodePacketError::PingFromClient);
    let cases: [(&str, &[_]); 26] = [
        ("", &[empty]),
        ("40", &[message("0")]),
        ("abc", &[unknown]),
        ("4abc", &[message("abc")]),
        ("7", &[unknown]),
        ("40\u{1e}", &[message("0"), empty]),
        ("\u{1e}40", &[empty]),
        ("40\u{1e}\u{1e}40", &[message("0"), empty]),
        ("\u{1e}", &[empty]),
        ("2", &[ping]),
        ("2probe", &[ping]),
        ("3", &[Ok(Received::Pong)]),
        ("3x", &[Ok(Received::Pong)]),
        ("5", &[ignored]),
        ("6", &[ignored]),
        ("0{}", &[ignored]),
        ("1", &[Ok(Received::Closed)]),
        ("bAQID", &[binary("AQID")]),
        ("b", &[binary("")]),
        ("b!!!", &[binary("!!!")]),
        (
            "42/chat,1[\"echo\",1]\u{1e}42/chat,2[\"echo\",2]",
            &[message("2/chat,1[\"echo\",1]"), message("2/chat,2[\"echo\",2]")],
        ),
        ("41/chat,", &[message("1/chat,")]),
        ("3\u{1e}6\u{1e}40", &[Ok(Received::Pong), ignored, message("0")]),
        // Nothing counts after what ends the session.
        ("40\u{1e}1\u{1e}42[\"a\"]", &[message("0"), Ok(Received::Closed)]),
        ("40\u{1e}2\u{1e}42[\"a\"]", &[message("0"), ping]),
        ("40\u{1e}x\u{1e}42[\"a\"]", &[message("0"), unknown]),
    ];

    for (body, expected) in cases {
        assert_eq!(payload::receive(body.as_bytes()).collect::<Vec<_>>(), expected, "{body:?}");
    }
}

#[test]
fn a_packet_that_is_not_utf8_ends_the_session() {
    let not_utf8 = Err(DecodePacketError::NotUtf8);
    let cases: [(&[u8], &[_]); 4] = [
        (b"40\xff\xfe", &[not_utf8]),
        (b"40\x1e4\xff\x1e40", &[message("0"), not_utf8]),
        (b"\xff", &[not_utf8]),
        (b"4\xc3\x1e\xa9", &[not_utf8]),
    ];

    for (body, expected) in cases {
        assert_eq!(payload::receive(body).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_binary_event_is_put_together_from_one_body() {
    let body = "451-/chat,[\"blob\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQL/";
    let mut assembler = Assembler::default();
    let mut packet = None;

    for received in payload::receive(body.as_bytes()) {
        match received.unwrap() {
            Received::Message(text) => drop(assembler.text(text, BOUNDS).unwrap()),
            Received::Binary(base64) => {
                packet = assembler.binary(base64.decode(LIMIT).unwrap()).unwrap();
            }
            Received::Pong | Received::Ignored | Received::Closed => panic!("{received:?}"),
        }
    }

    let packet = packet.unwrap();
    let Packet::Event { attachments, .. } = packet.packet() else { panic!("{packet:?}") };
    assert_eq!(attachments, [vec![1, 2, 255]]);
}

#[test]
fn a_poll_gets_what_the_reference_server_sends() {
    let blob = encode_event_frames(
        "/chat",
        "blob",
        br#"[{"_placeholder":true,"num":0}]"#,
        None,
        &[[1, 2, 255]],
    );
    let cases: [(&[Vec<u8>], &str); 7] = [
        (&[], ""),
        (
            &[
                encode_connect_frame("/chat", "s1", None),
                encode_event_frame("/chat", "welcome", b"[1]", None).unwrap(),
            ],
            "40/chat,{\"sid\":\"s1\"}\u{1e}42/chat,[\"welcome\",1]",
        ),
        (&[encode_ack_frame("/chat", 1, b"[1]").unwrap()], "43/chat,1[1]"),
        (&[blob.unwrap()], "451-/chat,[\"blob\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQL/"),
        (&[NOOP_TEXT_FRAME.to_vec()], "6"),
        (&[PING_TEXT_FRAME.to_vec(), NOOP_TEXT_FRAME.to_vec()], "2\u{1e}6"),
        (&[PING_TEXT_FRAME.to_vec(), Vec::new(), close_frame(1001).to_vec()], "2"),
    ];

    for (frames, body) in cases {
        let mut payload = Payload::new();
        for frames in frames {
            payload.push(frames).unwrap();
        }
        assert_eq!(payload.is_empty(), body.is_empty());
        assert_eq!(payload.len(), body.len());
        assert_eq!(payload.into_body(), body.as_bytes());
    }
}

#[test]
fn control_frames_are_left_out() {
    let mut frames = PING_FRAME.to_vec();
    put_pong(&mut frames, b"\x1e");
    frames.extend(NOOP_TEXT_FRAME);
    frames.extend(close_frame(1000));
    let mut payload = Payload::new();

    payload.push(&frames).unwrap();

    assert_eq!(payload.into_body(), b"6");
}

#[test]
fn what_is_no_packet_of_the_server_is_refused_and_changes_nothing() {
    let cases: [(&[u8], PushFramesError); 14] = [
        (b"\x81", PushFramesError::Malformed),
        (b"\x81\x02", PushFramesError::Malformed),
        (b"\x81\x026", PushFramesError::Malformed),
        (b"\x81\x7e\0", PushFramesError::Malformed),
        (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", PushFramesError::Malformed),
        (b"\x81\x81\0\0\0\x006", PushFramesError::Malformed),
        (b"\x01\x016", PushFramesError::Malformed),
        (b"\x80\x016", PushFramesError::Malformed),
        (b"\xc1\x016", PushFramesError::Malformed),
        (b"\x83\x016", PushFramesError::Malformed),
        (b"\x81\x016\x81", PushFramesError::Malformed),
        (b"\x81\0", PushFramesError::NotOnePacket),
        (b"\x81\x054\x1e42x", PushFramesError::NotOnePacket),
        (b"\x81\x016\x81\x02\x1e6", PushFramesError::NotOnePacket),
    ];

    for (frames, error) in cases {
        let mut payload = Payload::new();
        payload.push(&PING_TEXT_FRAME).unwrap();

        assert_eq!(payload.len_with(frames), Err(error), "{}", frames.escape_ascii());
        assert_eq!(payload.push(frames), Err(error));
        assert_eq!(payload.into_body(), b"2");
    }
}

#[test]
fn a_business_service_that_writes_no_json_begins_no_packet() {
    let frame = encode_event_frame("/", "a", b"[\"\x1e41\"]", None).unwrap();

    assert_eq!(Payload::new().push(&frame), Err(PushFramesError::NotOnePacket));

    let name = encode_event_frame("/", "\u{1e}41", b"[]", None).unwrap();
    assert_eq!(Payload::new().push(&name), Ok(()), "what we quote ourselves is escaped");
}

/// A packet as the client that sends or gets it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
}

impl Item {
    fn in_body(&self) -> String {
        match self {
            Self::Text(text) => format!("4{text}"),
            Self::Binary(bytes) => format!("b{}", STANDARD.encode(bytes)),
        }
    }

    fn in_frame(&self) -> Vec<u8> {
        let text;
        let (opcode, payload) = match self {
            Self::Text(message) => {
                text = format!("4{message}");
                (Opcode::Text, text.as_bytes())
            }
            Self::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        };
        let mut frame = Vec::with_capacity(frame_header_len(payload.len()) + payload.len());
        put_frame_header(&mut frame, opcode, payload.len());
        frame.extend(payload);
        frame
    }
}

/// Reads the body of a poll's answer as the protocol document describes it.
fn read_body(body: &str) -> Vec<Item> {
    let read = |packet: &str| match packet.split_at(1) {
        ("4", text) => Item::Text(text.to_owned()),
        ("b", base64) => Item::Binary(STANDARD.decode(base64).unwrap()),
        _ => panic!("{packet:?}"),
    };
    body.split('\u{1e}').map(read).collect()
}

fn any_item() -> impl Strategy<Value = Item> {
    let len = prop_oneof![4 => 0usize..300, 1 => 65_530usize..65_540];
    prop_oneof![
        "[^\u{1e}]{0,40}".prop_map(Item::Text),
        len.clone().prop_map(|len| Item::Text("é".repeat(len / 2))),
        len.prop_map(|len| Item::Binary(vec![0xA7; len])),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Item::Binary),
    ]
}

proptest! {
    #[test]
    fn what_a_client_posts_arrives(items in prop::collection::vec(any_item(), 1..8)) {
        let body: Vec<_> = items.iter().map(Item::in_body).collect();

        let received: Vec<_> = payload::receive(body.join("\u{1e}").as_bytes())
            .map(|received| match received.unwrap() {
                Received::Message(text) => Item::Text(text.to_owned()),
                Received::Binary(base64) => Item::Binary(base64.decode(LIMIT).unwrap().to_vec()),
                other @ (Received::Pong | Received::Ignored | Received::Closed) => {
                    panic!("{other:?}")
                }
            })
            .collect();

        prop_assert_eq!(received, items);
    }

    #[test]
    fn a_poll_gets_the_same_as_a_websocket_however_frames_share_buffers(
        items in prop::collection::vec((any_item(), any::<bool>()), 1..8)
    ) {
        let mut buffers = vec![Vec::new()];
        for (item, is_alone) in &items {
            if *is_alone {
                buffers.push(Vec::new());
            }
            buffers.last_mut().unwrap().extend(item.in_frame());
        }

        let mut payload = Payload::new();
        for frames in &buffers {
            let foretold = payload.len_with(frames);
            payload.push(frames).unwrap();
            prop_assert_eq!(foretold, Ok(payload.len()));
        }

        let body = String::from_utf8(payload.into_body()).unwrap();
        let over_websocket: Vec<_> = server_payloads(&buffers.concat())
            .into_iter()
            .map(|(opcode, payload)| match opcode {
                TEXT => Item::Text(String::from_utf8(payload).unwrap()[1..].to_owned()),
                BINARY => Item::Binary(payload),
                _ => panic!("{opcode}"),
            })
            .collect();
        prop_assert_eq!(&read_body(&body), &over_websocket);
        prop_assert_eq!(over_websocket, items.into_iter().map(|(item, _)| item).collect::<Vec<_>>());
    }

    #[test]
    fn the_input_of_a_client_cannot_begin_a_packet_for_another(
        name in any::<String>(),
        text in any::<String>(),
    ) {
        let args = serde_json::json!([text]).to_string();
        let frame = encode_event_frame("/", &name, args.as_bytes(), None).unwrap();
        let mut payload = Payload::new();

        payload.push(&frame).unwrap();

        prop_assert!(!payload.into_body().contains(&0x1E));
    }

    #[test]
    fn arbitrary_bodies_never_panic_and_end(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(payload::receive(&body).count() <= body.len() + 1);
    }

    #[test]
    fn nearly_a_body_means_what_its_parts_mean(body in "[0-7b\u{1e}A=é]{0,24}") {
        let mut expected = Vec::new();
        for part in body.split('\u{1e}') {
            let received = edge_protocol::engine_io::receive(part);
            expected.push(received);
            if matches!(received, Ok(Received::Closed) | Err(_)) {
                break;
            }
        }

        prop_assert_eq!(payload::receive(body.as_bytes()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn arbitrary_frames_are_taken_whole_or_not_at_all(
        frames in prop::collection::vec(prop_oneof![
            Just(0x81u8), Just(0x82), Just(0x89), Just(0), Just(1), Just(2), Just(126), any::<u8>(),
        ], 0..24)
    ) {
        let mut payload = Payload::new();
        payload.push(&NOOP_TEXT_FRAME).unwrap();
        let foretold = payload.len_with(&frames);

        match payload.push(&frames) {
            Ok(()) => prop_assert_eq!(foretold, Ok(payload.len())),
            Err(error) => {
                prop_assert_eq!(foretold, Err(error));
                prop_assert_eq!(payload.into_body(), b"6");
            }
        }
    }
}
