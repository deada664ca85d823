//! What the server writes, as its clients read it.

use edge_protocol::engine_io::{NOOP_TEXT_FRAME, PING_TEXT_FRAME, PROBE_ANSWER_TEXT_FRAME};
use edge_protocol::socket_io::{
    ATTACHMENTS_MAX, EncodeError, encode_ack_frame, encode_ack_frames, encode_connect_error_frame,
    encode_connect_frame, encode_disconnect_frame, encode_event_frame, encode_event_frames,
    encode_recoverable_event_frames,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{server_packet, server_text};

#[test]
fn frames_are_those_of_the_reference_server() {
    let event = |namespace, name, args: &str, ack_id| {
        server_text(encode_event_frame(namespace, name, args.as_bytes(), ack_id).unwrap())
    };
    let recoverable = |namespace, args: &str| {
        let none: [&[u8]; 0] = [];
        let frames =
            encode_recoverable_event_frames(namespace, "foo", args.as_bytes(), "o-1", &none);
        server_text(frames.unwrap())
    };
    let ack = |namespace, ack_id, args: &str| {
        server_text(encode_ack_frame(namespace, ack_id, args.as_bytes()).unwrap())
    };

    let cases = [
        (event("/", "foo", "[]", None), r#"42["foo"]"#),
        (event("/", "foo", "[ ]", None), r#"42["foo"]"#),
        (event("/", "foo", "[1,\"MzUPkW0\"]", None), r#"42["foo",1,"MzUPkW0"]"#),
        (
            event("/chat", "welcome", r#"[{"sub":"alice"}]"#, None),
            r#"42/chat,["welcome",{"sub":"alice"}]"#,
        ),
        (event("/chat", "ask", "[null]", Some(12)), r#"42/chat,12["ask",null]"#),
        (event("/", "ask", "[]", Some(0)), r#"420["ask"]"#),
        (event("/", "a\"\\\n\u{1}é", "[]", None), r#"42["a\"\\\n\u0001é"]"#),
        (ack("/", 1, r#"[{"p":1}]"#), r#"431[{"p":1}]"#),
        (ack("/chat", 7, "[]"), "43/chat,7[]"),
        (ack("/chat", u64::MAX, "[1]"), "43/chat,18446744073709551615[1]"),
        (server_text(encode_connect_frame("/", "s1", None)), r#"40{"sid":"s1"}"#),
        (server_text(encode_connect_frame("/chat", "s1", None)), r#"40/chat,{"sid":"s1"}"#),
        (
            server_text(encode_connect_frame("/chat", "s1", Some("p1"))),
            r#"40/chat,{"sid":"s1","pid":"p1"}"#,
        ),
        (recoverable("/", "[]"), r#"42["foo","o-1"]"#),
        (recoverable("/chat", "[1,[2] ]"), r#"42/chat,["foo",1,[2],"o-1"]"#),
        (
            server_text(encode_connect_error_frame("/nope", "Invalid namespace", None)),
            r#"44/nope,{"message":"Invalid namespace"}"#,
        ),
        (
            server_text(encode_connect_error_frame("/", "no \"way\"", Some(br#"{"code":1}"#))),
            r#"44{"message":"no \"way\"","data":{"code":1}}"#,
        ),
        (server_text(encode_disconnect_frame("/")), "41"),
        (server_text(encode_disconnect_frame("/chat")), "41/chat,"),
        (server_text(PING_TEXT_FRAME.to_vec()), "2"),
        (server_text(PROBE_ANSWER_TEXT_FRAME.to_vec()), "3probe"),
        (server_text(NOOP_TEXT_FRAME.to_vec()), "6"),
    ];

    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
}

#[test]
fn arguments_must_look_like_an_array() {
    for args in ["", "[", "]", "{}", "null", " []", "[] "] {
        assert_eq!(
            encode_event_frame("/", "e", args.as_bytes(), None),
            Err(EncodeError::NotAnArray),
            "{args:?}"
        );
        assert_eq!(
            encode_ack_frame("/", 1, args.as_bytes()),
            Err(EncodeError::NotAnArray),
            "{args:?}"
        );
    }
}

#[test]
fn payloads_are_not_touched() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for payload in [r#"["\ud800",1e400 , {"a":1,"a":2}]"#, &deep] {
        let ack = server_text(encode_ack_frame("/", 1, payload.as_bytes()).unwrap());
        assert_eq!(ack, format!("431{payload}"));

        let event = server_text(encode_event_frame("/", "e", payload.as_bytes(), None).unwrap());
        assert_eq!(event, format!(r#"42["e",{}"#, &payload[1..]));
    }
}

#[test]
fn binary_frames_are_those_of_the_reference_server() {
    let event = |namespace, args: &str, ack_id, attachments: &[&[u8]]| {
        let frames = encode_event_frames(namespace, "blob", args.as_bytes(), ack_id, attachments);
        server_packet(frames.unwrap())
    };
    let ack = |namespace, ack_id, args: &str, attachments: &[&[u8]]| {
        let frames = encode_ack_frames(namespace, ack_id, args.as_bytes(), attachments);
        server_packet(frames.unwrap())
    };
    let placeholder = r#"[{"_placeholder":true,"num":0}]"#;
    let two = r#"[{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}]}]"#;

    let cases = [
        (
            event("/chat", placeholder, None, &[&[1, 2]]),
            (r#"451-/chat,["blob",{"_placeholder":true,"num":0}]"#, vec![vec![1, 2]]),
        ),
        (
            event("/", placeholder, Some(12), &[&[]]),
            (r#"451-12["blob",{"_placeholder":true,"num":0}]"#, vec![vec![]]),
        ),
        (
            event("/", "[]", None, &[b"x".as_slice(); 10]),
            (r#"4510-["blob"]"#, vec![vec![b'x']; 10]),
        ),
        (
            event("/", placeholder, None, &[]),
            (r#"42["blob",{"_placeholder":true,"num":0}]"#, vec![]),
        ),
        (
            ack("/chat", 3, placeholder, &[&[1, 2]]),
            (r#"461-/chat,3[{"_placeholder":true,"num":0}]"#, vec![vec![1, 2]]),
        ),
        (
            ack("/chat", 3, two, &[&[2], &[1]]),
            (
                r#"462-/chat,3[{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}]}]"#,
                vec![vec![2], vec![1]],
            ),
        ),
        (ack("/", 0, "[]", &[]), ("430[]", vec![])),
    ];

    for ((text, attachments), (expected_text, expected_attachments)) in cases {
        assert_eq!(text, expected_text);
        assert_eq!(attachments, expected_attachments);
    }
}

#[test]
fn without_attachments_the_frame_is_that_of_a_text_packet() {
    let none: [&[u8]; 0] = [];

    assert_eq!(
        encode_event_frames("/chat", "a", b"[1]", Some(7), &none),
        encode_event_frame("/chat", "a", b"[1]", Some(7))
    );
    assert_eq!(encode_ack_frames("/chat", 7, b"[1]", &none), encode_ack_frame("/chat", 7, b"[1]"));
}

#[test]
fn more_attachments_than_clients_take_are_not_encoded() {
    let too_many = [b"x"; ATTACHMENTS_MAX + 1];

    assert_eq!(
        encode_event_frames("/", "a", b"[]", None, &too_many),
        Err(EncodeError::TooManyAttachments)
    );
    assert_eq!(encode_ack_frames("/", 1, b"[]", &too_many), Err(EncodeError::TooManyAttachments));
    assert_eq!(encode_event_frames("/", "a", b"{}", None, &[b"x"]), Err(EncodeError::NotAnArray));
    assert_eq!(encode_ack_frames("/", 1, b"[\"\xff\"]", &[b"x"]), Err(EncodeError::NotUtf8));
}

/// Reads `42/chat,7[…]` as the protocol document describes it.
fn parse(text: &str) -> (&str, &str, Option<u64>, Value) {
    let (packet_type, rest) = text.split_at(2);
    let (namespace, rest) = match rest.find(',') {
        Some(comma) if rest.starts_with('/') => (&rest[..comma], &rest[comma + 1..]),
        Some(_) | None => ("/", rest),
    };
    let json_at = rest.find('[').unwrap();
    let ack_id = (json_at > 0).then(|| rest[..json_at].parse().unwrap());
    (packet_type, namespace, ack_id, serde_json::from_str(&rest[json_at..]).unwrap())
}

proptest! {
    #[test]
    fn a_client_reads_the_event_that_was_meant(
        namespace in prop_oneof![Just("/".to_owned()), "/[^,]{1,20}"],
        name in any::<String>(),
        ack_id in any::<Option<u64>>(),
        words in prop::collection::vec(any::<String>(), 0..5),
        length in prop_oneof![0usize..300, 65_000usize..66_000],
    ) {
        let mut args: Vec<Value> = words.into_iter().map(Value::from).collect();
        args.push(Value::from("x".repeat(length)));
        let mut expected = vec![Value::from(name.as_str())];
        expected.extend(args.iter().cloned());

        let frame =
            encode_event_frame(&namespace, &name, json!(args).to_string().as_bytes(), ack_id);

        let text = server_text(frame.unwrap());
        prop_assert_eq!(parse(&text), ("42", namespace.as_str(), ack_id, Value::from(expected)));
    }

    #[test]
    fn a_client_reads_the_ack_that_was_meant(
        namespace in prop_oneof![Just("/".to_owned()), "/[^,]{1,20}"],
        ack_id in any::<u64>(),
        words in prop::collection::vec(any::<String>(), 0..5),
    ) {
        let frame = encode_ack_frame(&namespace, ack_id, json!(words).to_string().as_bytes());

        let text = server_text(frame.unwrap());
        prop_assert_eq!(parse(&text), ("43", namespace.as_str(), Some(ack_id), json!(words)));
    }

    #[test]
    fn a_client_reads_why_it_was_refused(message in any::<String>(), socket_id in any::<String>()) {
        let refusal = server_text(encode_connect_error_frame("/a", &message, Some(b"[1]")));
        let connected = server_text(encode_connect_frame("/a", &socket_id, None));

        let body = |text: &str| serde_json::from_str::<Value>(text.split_once(',').unwrap().1).unwrap();
        prop_assert_eq!(body(&refusal), json!({"message": message, "data": [1]}));
        prop_assert_eq!(body(&connected), json!({"sid": socket_id}));
    }
}
