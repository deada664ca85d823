//! Version 3 of Engine.IO and how clients of Socket.IO 2 enter namespaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_protocol::engine_io::payload::PushFramesError;
use edge_protocol::engine_io::v3::payload::{self, Body, Payload};
use edge_protocol::engine_io::v3::{
    BinaryForm, MalformedFrames, PONG_TEXT_FRAME, ReceiveError, Received,
};
use edge_protocol::engine_io::{Base64Text, DecodePacketError, NOOP_TEXT_FRAME, PING_TEXT_FRAME};
use edge_protocol::socket_io::v2::{self, Connect};
use edge_protocol::socket_io::{NAMESPACE_BYTES_MAX, encode_event_frame, encode_event_frames};
use edge_protocol::websocket::{Opcode, PING_FRAME, close_frame, put_frame_header};
use proptest::prelude::*;

use crate::client::{BINARY, LIMIT, TEXT, server_payloads, server_text};

fn message(text: &str) -> Result<Received<'_>, ReceiveError> {
    Ok(Received::Message(text))
}

#[test]
fn bodies_mean_what_they_mean_to_the_reference_server() {
    let base64 = |text| Ok(Received::Base64(Base64Text::new(text)));
    let unknown = Err(DecodePacketError::UnknownType.into());
    let bad_length = Err(ReceiveError::BadLength);
    let cases: [(&str, &[_]); 24] = [
        ("6:4hello", &[message("hello")]),
        ("6:4test16:4test26:4test3", &[message("test1"), message("test2"), message("test3")]),
        ("6:4hello10:b4AQIDBA==", &[message("hello"), base64("AQIDBA==")]),
        ("18:40/chat?token=abc,", &[message("0/chat?token=abc,")]),
        ("1:2", &[Ok(Received::Ping)]),
        ("6:2probe", &[Ok(Received::Ping)]),
        ("1:1", &[Ok(Received::Closed)]),
        ("1:01:51:6", &[Ok(Received::Ignored), Ok(Received::Ignored), Ok(Received::Ignored)]),
        // A character beyond U+FFFF counts twice, as in JavaScript; others count once.
        ("4:4é…x", &[message("é…x")]),
        ("3:4😀", &[message("😀")]),
        ("2:4😀", &[bad_length]),
        ("3:4😀…", &[message("😀"), bad_length]),
        ("6:4é😀…x2:40", &[message("é😀…x"), message("0")]),
        ("0:", &[]),
        ("0:2:40", &[message("0")]),
        ("", &[bad_length]),
        ("abc", &[bad_length]),
        (":40", &[bad_length]),
        ("3:40", &[bad_length]),
        ("-1:40", &[bad_length]),
        ("2:4012", &[message("0"), bad_length]),
        // Nothing counts after what ends the session.
        ("1:12:40", &[Ok(Received::Closed)]),
        ("2:401:32:40", &[message("0"), Err(ReceiveError::PongFromClient)]),
        ("1:72:40", &[unknown]),
    ];

    for (body, expected) in cases {
        assert_eq!(payload::receive(body.as_bytes()).collect::<Vec<_>>(), expected, "{body:?}");
    }
}

#[test]
fn binary_bodies_mean_what_they_mean_to_the_reference_server() {
    let bad_length = Err(ReceiveError::BadLength);
    let cases: [(&[u8], &[_]); 12] = [
        (
            b"\0\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04",
            &[message("hello"), Ok(Received::Binary(&[1, 2, 3, 4]))],
        ),
        (b"\0\x01\x02\xff4hello world", &[message("hello world")]),
        // Here texts have their length in bytes.
        (b"\0\x02\xff4\xc3\xa9", &[Err(ReceiveError::Packet(DecodePacketError::NotUtf8))]),
        (b"\0\x03\xff4\xc3\xa9", &[message("é")]),
        (b"", &[]),
        (b"\x01\x01\xff\x04", &[Ok(Received::Binary(&[]))]),
        (b"\x01\x02\xff\x02\x01", &[Err(ReceiveError::NotMessage)]),
        (b"\0\x03\xff4\xff\xfe", &[Err(ReceiveError::Packet(DecodePacketError::NotUtf8))]),
        (b"\x02\x01\xff4", &[bad_length]),
        (b"\0\xff4", &[bad_length]),
        (b"\0\x0a\xff4", &[bad_length]),
        (b"\0\x09\xff4", &[bad_length]),
    ];

    for (body, expected) in cases {
        let received: Vec<_> = payload::receive_binary(body).collect();
        assert_eq!(received, expected, "{}", body.escape_ascii());
    }
}

#[test]
fn a_length_has_a_bound() {
    let too_long = "9".repeat(1000);
    let cases = [
        ("0000000002:40", message("0")),
        ("00000000002:40", Err(ReceiveError::BadLength)),
        (&too_long, Err(ReceiveError::BadLength)),
    ];

    for (body, expected) in cases {
        assert_eq!(payload::receive(body.as_bytes()).collect::<Vec<_>>(), [expected]);
    }
    let long = [&[0; 1000][..], &[0xFF]].concat();
    assert!(payload::receive_binary(&long).all(|received| received.is_err()));
}

#[test]
fn a_poll_gets_what_the_reference_server_sends() {
    let blob = encode_event_frames(
        "/chat",
        "bin",
        "[{\"_placeholder\":true,\"num\":0},\"é😀\"]".as_bytes(),
        None,
        &[[1, 2, 255]],
    );
    let blob = blob.unwrap();
    let text_of_blob = "451-/chat,[\"bin\",{\"_placeholder\":true,\"num\":0},\"é😀\"]";
    let connects = [v2::encode_connect_frame("/"), v2::encode_connect_frame("/chat")].concat();
    let event = encode_event_frame("/chat", "hi", b"[1]", None).unwrap();
    let as_base64 = BinaryForm::Base64.rewrite(&blob).unwrap();
    let as_bytes = BinaryForm::Bytes.rewrite(&blob).unwrap();

    let mut payload = Payload::new();
    for frames in [&connects, &event, &as_base64] {
        payload.push(frames).unwrap();
    }
    let expected = format!("2:408:40/chat,16:42/chat,[\"hi\",1]53:{text_of_blob}6:b4AQL/");
    assert_eq!(payload.into_body(), Body::Text(expected.into()));

    let mut payload = Payload::new();
    for frames in [&event, &as_bytes] {
        payload.push(frames).unwrap();
    }
    let mut expected = b"\0\x01\x06\xff42/chat,[\"hi\",1]\0\x05\x06\xff".to_vec();
    expected.extend(text_of_blob.as_bytes());
    expected.extend(b"\x01\x04\xff\x04\x01\x02\xff");
    assert_eq!(payload.into_body(), Body::Binary(expected));

    let close = close_frame(1000);
    let mut payload = Payload::new();
    for frames in [&PONG_TEXT_FRAME[..], &PING_FRAME, &NOOP_TEXT_FRAME, &close] {
        payload.push(frames).unwrap();
    }
    assert_eq!(payload.into_body(), Body::Text(b"1:31:6".to_vec()));
    assert_eq!(Payload::new().into_body(), Body::Text(Vec::new()));
}

#[test]
fn what_is_no_packet_of_the_server_is_refused_and_changes_nothing() {
    let cases: [(&[u8], PushFramesError); 4] = [
        (b"\x81\x026", PushFramesError::Malformed),
        (b"\x81\x016\x81", PushFramesError::Malformed),
        (b"\x82\0\x81\x81", PushFramesError::NotOnePacket),
        (b"\x82\x01\x04\x81\0", PushFramesError::NotOnePacket),
    ];

    for (frames, error) in cases {
        let mut payload = Payload::new();
        payload.push(&PING_TEXT_FRAME).unwrap();

        assert_eq!(payload.push(frames), Err(error));
        assert_eq!(payload.into_body(), Body::Text(b"1:2".to_vec()));
    }
    for form in [BinaryForm::Bytes, BinaryForm::Base64] {
        assert_eq!(form.rewrite(b"\x82\x02\x01"), Err(MalformedFrames));
        assert_eq!(form.rewrite(b"\x01\x016"), Err(MalformedFrames));
    }
}

#[test]
fn connect_may_carry_a_query() {
    let connect = |namespace, query| Some(Connect { namespace, query });
    let long = format!("/{}", "x".repeat(NAMESPACE_BYTES_MAX - 1));
    let cases = [
        ("0/chat?token=t%20k%2B%2F%3D,".to_owned(), connect("/chat", "token=t%20k%2B%2F%3D")),
        ("0/chat?token=a&b=c".to_owned(), connect("/chat", "token=a&b=c")),
        ("0/chat?a?b,".to_owned(), connect("/chat", "a?b")),
        ("0/?a,".to_owned(), connect("/", "a")),
        (format!("0{long}?{long},"), connect(long.as_str(), long.as_str())),
        (format!("0{long}x?a,"), None),
        ("0/chat,".to_owned(), connect("/chat", "")),
        ("0/chat".to_owned(), connect("/chat", "")),
        ("0".to_owned(), connect("/", "")),
        ("0/chat?a,{\"token\":1}".to_owned(), None),
        ("0?a".to_owned(), None),
        ("2/chat?a,[\"b\"]".to_owned(), None),
        (String::new(), None),
    ];

    for (text, expected) in &cases {
        assert_eq!(Connect::decode(text), *expected, "{text:?}");
    }
}

#[test]
fn connects_are_answered_as_by_the_reference_server() {
    let error = |namespace, data: Option<&[u8]>| {
        server_text(v2::encode_connect_error_frame(namespace, "not authorized", data))
    };
    let cases = [
        (server_text(v2::encode_connect_frame("/")), "40"),
        (server_text(v2::encode_connect_frame("/chat")), "40/chat,"),
        (error("/", None), r#"44"not authorized""#),
        (error("/chat", None), r#"44/chat,"not authorized""#),
        (error("/chat", Some(br#"{"code":1}"#)), r#"44/chat,{"code":1}"#),
        (error("/chat", Some(b"[]")), "44/chat,[]"),
        // What is false in JavaScript gives way to the message.
        (error("/chat", Some(b" null ")), r#"44/chat,"not authorized""#),
        (error("/chat", Some(b"0")), r#"44/chat,"not authorized""#),
        (error("/chat", Some(b"\"\"")), r#"44/chat,"not authorized""#),
        (server_text(PONG_TEXT_FRAME.to_vec()), "3"),
    ];

    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
}

/// A packet as the client that sends or gets it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
}

impl Item {
    fn in_text_body(&self) -> String {
        let packet = match self {
            Self::Text(text) => format!("4{text}"),
            Self::Binary(bytes) => format!("b4{}", STANDARD.encode(bytes)),
        };
        format!("{}:{packet}", packet.encode_utf16().count())
    }

    fn in_binary_body(&self) -> Vec<u8> {
        let (kind, packet) = match self {
            Self::Text(text) => (0, [b"4", text.as_bytes()].concat()),
            Self::Binary(bytes) => (1, [&[4][..], bytes].concat()),
        };
        let digits = packet.len().to_string().into_bytes().into_iter().map(|digit| digit - b'0');
        [vec![kind], digits.collect(), vec![0xFF], packet].concat()
    }

    /// As the frame of version 4 that is rewritten.
    fn in_frame(&self) -> Vec<u8> {
        let (opcode, payload) = match self {
            Self::Text(text) => (Opcode::Text, [b"4", text.as_bytes()].concat()),
            Self::Binary(bytes) => (Opcode::Binary, bytes.clone()),
        };
        let mut frame = Vec::new();
        put_frame_header(&mut frame, opcode, payload.len());
        frame.extend(payload);
        frame
    }

    fn of(received: Result<Received<'_>, ReceiveError>) -> Self {
        match received.unwrap() {
            Received::Message(text) => Self::Text(text.to_owned()),
            Received::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Received::Base64(base64) => Self::Binary(base64.decode(LIMIT).unwrap().to_vec()),
            other @ (Received::Ping | Received::Ignored | Received::Closed) => panic!("{other:?}"),
        }
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    let len = prop_oneof![4 => 0usize..300, 1 => 65_530usize..65_540];
    prop_oneof![
        ".{0,40}".prop_map(Item::Text),
        len.clone().prop_map(|len| Item::Text("é😀".repeat(len / 6))),
        len.prop_map(|len| Item::Binary(vec![0xA7; len])),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Item::Binary),
    ]
}

proptest! {
    #[test]
    fn what_a_client_posts_arrives(items in prop::collection::vec(any_item(), 1..8)) {
        let text: String = items.iter().map(Item::in_text_body).collect();
        let binary: Vec<u8> = items.iter().flat_map(Item::in_binary_body).collect();

        let from_text: Vec<_> = payload::receive(text.as_bytes()).map(Item::of).collect();
        let from_binary: Vec<_> = payload::receive_binary(&binary).map(Item::of).collect();

        prop_assert_eq!(&from_text, &items);
        prop_assert_eq!(&from_binary, &items);
    }

    #[test]
    fn a_poll_gets_the_bytes_that_the_reference_server_writes(
        items in prop::collection::vec(any_item(), 1..8)
    ) {
        let has_bytes = items.iter().any(|item| matches!(item, Item::Binary(_)));
        let frames = items.iter().map(Item::in_frame);
        let as_bytes: Vec<_> = frames.map(|one| BinaryForm::Bytes.rewrite(&one).unwrap()).collect();
        let frames: Vec<u8> = items.iter().flat_map(Item::in_frame).collect();
        let as_base64 = BinaryForm::Base64.rewrite(&frames).unwrap();

        let mut payload = Payload::new();
        for frame in &as_bytes {
            payload.push(frame).unwrap();
        }
        if has_bytes {
            let expected = items.iter().flat_map(Item::in_binary_body).collect();
            prop_assert_eq!(payload.into_body(), Body::Binary(expected));
        }
        let mut payload = Payload::new();
        payload.push(&as_base64).unwrap();
        let expected: String = items.iter().map(Item::in_text_body).collect();
        prop_assert_eq!(payload.into_body(), Body::Text(expected.into_bytes()));
    }

    #[test]
    fn a_websocket_gets_the_same_in_either_form(items in prop::collection::vec(any_item(), 1..8)) {
        let frames: Vec<u8> = items.iter().flat_map(Item::in_frame).collect();

        for form in [BinaryForm::Bytes, BinaryForm::Base64] {
            let frames = form.rewrite(&frames).unwrap();
            prop_assert_eq!(frames.capacity(), frames.len());
            let received: Vec<_> = server_payloads(&frames)
                .iter()
                .map(|(opcode, payload)| match *opcode {
                    TEXT => edge_protocol::engine_io::v3::receive(str::from_utf8(payload).unwrap()),
                    BINARY => edge_protocol::engine_io::v3::receive_binary(payload),
                    _ => panic!("{opcode}"),
                })
                .map(Item::of)
                .collect();
            prop_assert_eq!(&received, &items);
        }
    }

    #[test]
    fn arbitrary_bodies_never_panic_and_end(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(payload::receive(&body).count() <= body.len() + 1);
        prop_assert!(payload::receive_binary(&body).count() <= body.len() + 1);
    }

    #[test]
    fn nearly_a_body_never_panics_and_ends(
        text in "[0-9:b4é😀=A]{0,24}",
        binary in prop::collection::vec(
            prop_oneof![0u8..12, Just(0xFF), Just(b'4'), Just(b'2'), any::<u8>()], 0..24,
        ),
    ) {
        for received in payload::receive(text.as_bytes()) {
            if let Ok(Received::Message(part)) = received {
                prop_assert!(text.contains(part));
            }
        }
        prop_assert!(payload::receive_binary(&binary).count() <= binary.len() + 1);
    }
}
