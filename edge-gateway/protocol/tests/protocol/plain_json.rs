//! Plain JSON, both ways.

use std::borrow::Cow;

use edge_protocol::plain_json::{
    Answer, Assembler, DecodeMessageError, EVENT_NAME_BYTES_MAX, EncodeError, ID_BYTES_MAX,
    Message, Refusal, Request, encode_answer_frames, encode_event_frames,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{BOUNDS, JSON_DEPTH_MAX, nested, server_text};

fn decode(text: &str) -> Result<Message<'_>, Refusal<'_>> {
    Assembler::default().text(text, BOUNDS)
}

fn request<'a>(event: &'a str, data: Option<&'a str>, id: Option<&'a str>) -> Message<'a> {
    Message::Request(Request { event: Cow::Borrowed(event), data, id, attachments: &[] })
}

#[test]
fn requests_are_decoded() {
    let cases = [
        (r#"{"event":"a"}"#, request("a", None, None)),
        (r#"{"event":""}"#, request("", None, None)),
        (r#"{"event":"a","data":null}"#, request("a", Some("null"), None)),
        (r#"{"event":"a","data":{"b":[1]},"id":7}"#, request("a", Some(r#"{"b":[1]}"#), Some("7"))),
        (r#"{"id":"x","data":1,"event":"a"}"#, request("a", Some("1"), Some(r#""x""#))),
        (r#"{"event":"a","id":-1.5e3}"#, request("a", None, Some("-1.5e3"))),
        (" {\n\"event\" : \"a\" , \"data\" : [ 1 ] } ", request("a", Some("[ 1 ]"), None)),
        (r#"{"event":"\u0061\n"}"#, request("a\n", None, None)),
        (r#"{"\u0065vent":"a","d\u0061ta":2}"#, request("a", Some("2"), None)),
        (r#"{"event":1,"event":"a","data":1,"data":2}"#, request("a", Some("2"), None)),
        (r#"{"event":"a","more":{"event":"b"},"\ud800":1}"#, request("a", None, None)),
        (r#"{"event":"connect"}"#, request("connect", None, None)),
        (r#"{"event":"a","id":"\ud800"}"#, request("a", None, Some(r#""\ud800""#))),
    ];

    for (text, expected) in cases {
        assert_eq!(decode(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    let long_name = format!(r#"{{"event":"{}"}}"#, "n".repeat(EVENT_NAME_BYTES_MAX + 1));
    let long_escaped = format!(r#"{{"event":"{}"}}"#, r"\u006e".repeat(EVENT_NAME_BYTES_MAX + 1));
    let long_id = format!(r#"{{"event":"a","id":"{}"}}"#, "n".repeat(ID_BYTES_MAX - 1));
    let long_number = format!(r#"{{"event":"a","id":{}}}"#, "1".repeat(ID_BYTES_MAX + 1));
    let cases = [
        ("", DecodeMessageError::NotJson),
        ("hello", DecodeMessageError::NotJson),
        ("{", DecodeMessageError::NotJson),
        (r#"{"event":"a""#, DecodeMessageError::NotJson),
        (r#"{"event":"a"}}"#, DecodeMessageError::NotJson),
        (r#"{"event":"a",}"#, DecodeMessageError::NotJson),
        (r#"{"event" "a"}"#, DecodeMessageError::NotJson),
        (r#"{event:"a"}"#, DecodeMessageError::NotJson),
        (r#"{"event":"a","data":[1}"#, DecodeMessageError::NotJson),
        ("[", DecodeMessageError::NotJson),
        ("1 2", DecodeMessageError::NotJson),
        ("null", DecodeMessageError::NotAnObject),
        ("1", DecodeMessageError::NotAnObject),
        (r#""x""#, DecodeMessageError::NotAnObject),
        (r#"[{"event":"a"}]"#, DecodeMessageError::NotAnObject),
        ("{}", DecodeMessageError::MissingEvent),
        (r#"{"data":1}"#, DecodeMessageError::MissingEvent),
        (r#"{"Event":"a"}"#, DecodeMessageError::MissingEvent),
        (r#"{"event":null}"#, DecodeMessageError::BadEvent),
        (r#"{"event":1}"#, DecodeMessageError::BadEvent),
        (r#"{"event":["a"]}"#, DecodeMessageError::BadEvent),
        (r#"{"event":"a","event":1}"#, DecodeMessageError::BadEvent),
        (r#"{"event":"\ud800"}"#, DecodeMessageError::BadEvent),
        (&long_name, DecodeMessageError::EventTooLong),
        (&long_escaped, DecodeMessageError::EventTooLong),
        (r#"{"event":"a","id":null}"#, DecodeMessageError::BadId),
        (r#"{"event":"a","id":true}"#, DecodeMessageError::BadId),
        (r#"{"event":"a","id":{}}"#, DecodeMessageError::BadId),
        (r#"{"event":"a","id":[1]}"#, DecodeMessageError::BadId),
        (&long_id, DecodeMessageError::IdTooLong),
        (&long_number, DecodeMessageError::IdTooLong),
    ];

    for (text, error) in cases {
        assert_eq!(decode(text).unwrap_err().error, error, "{text}");
    }
}

#[test]
fn answers_to_our_events_are_told_from_requests() {
    let cases = [
        (r#"{"id":7,"data":{"a":1}}"#, 7, r#"{"a":1}"#),
        (r#"{"data":null,"id":0}"#, 0, "null"),
        (r#"{"id":7,"error":{"code":"x"}}"#, 7, r#"{"error":{"code":"x"}}"#),
        (r#"{"id":7,"data":1,"error":"x"}"#, 7, r#"{"error":"x"}"#),
        (r#"{"id":7,"data":1,"error":null}"#, 7, "1"),
        (r#"{"id":18446744073709551615,"data":1}"#, u64::MAX, "1"),
    ];

    for (text, id, arg) in cases {
        let answer = Answer { id, arg: Cow::Borrowed(arg), attachments: &[] };
        assert_eq!(decode(text), Ok(Message::Answer(answer)), "{text}");
    }
}

#[test]
fn a_refusal_has_the_id_of_the_request_if_that_can_be_read() {
    let cases = [
        (r#"{"id":7}"#, Some("7"), DecodeMessageError::MissingEvent),
        (r#"{"id":7,"error":null}"#, Some("7"), DecodeMessageError::MissingEvent),
        (r#"{"id":"x","data":1}"#, Some(r#""x""#), DecodeMessageError::MissingEvent),
        (r#"{"id":-7,"data":1}"#, Some("-7"), DecodeMessageError::MissingEvent),
        (r#"{"id":7.0,"data":1}"#, Some("7.0"), DecodeMessageError::MissingEvent),
        (
            r#"{"id":18446744073709551616,"data":1}"#,
            Some("18446744073709551616"),
            DecodeMessageError::MissingEvent,
        ),
        (r#"{"event":5,"id":7}"#, Some("7"), DecodeMessageError::BadEvent),
        (
            r#"{"event":"a","id":7,"attachments":11}"#,
            Some("7"),
            DecodeMessageError::BadAttachmentCount,
        ),
        (
            r#"{"event":"a","id":7,"attachments":-1}"#,
            Some("7"),
            DecodeMessageError::BadAttachmentCount,
        ),
        (
            r#"{"event":"a","id":7,"attachments":"1"}"#,
            Some("7"),
            DecodeMessageError::BadAttachmentCount,
        ),
        (
            r#"{"event":"a","id":7,"attachments":null}"#,
            Some("7"),
            DecodeMessageError::BadAttachmentCount,
        ),
        (r#"{"event":"a","id":{}}"#, None, DecodeMessageError::BadId),
        (r#"{"event":"a","id":7}}"#, None, DecodeMessageError::NotJson),
        // The id of an answer is one of ours, and would name another request of the client.
        (r#"{"data":1,"id":7,"attachments":11}"#, None, DecodeMessageError::BadAttachmentCount),
    ];

    for (text, id, error) in cases {
        let refusal = Refusal { id: id.map(Cow::Borrowed), error };
        assert_eq!(decode(text), Err(refusal), "{text}");
    }
}

#[test]
fn an_event_that_asks_has_an_id_of_ours() {
    let asking = |args: &str| {
        server_text(encode_event_frames("a", args.as_bytes(), Some(u64::MAX), &[]).unwrap())
    };

    assert_eq!(asking("[]"), r#"{"event":"a","id":18446744073709551615}"#);
    assert_eq!(asking("[1]"), r#"{"event":"a","data":1,"id":18446744073709551615}"#);
}

#[test]
fn names_and_ids_may_be_as_long_as_their_bounds() {
    let name = "n".repeat(EVENT_NAME_BYTES_MAX);
    let id = format!("\"{}\"", "n".repeat(ID_BYTES_MAX - 2));

    let text = format!(r#"{{"event":"{name}","id":{id}}}"#);
    assert_eq!(decode(&text), Ok(request(&name, None, Some(&id))));

    let text = format!(r#"{{"event":"{}"}}"#, r"\u006e".repeat(EVENT_NAME_BYTES_MAX));
    assert_eq!(decode(&text), Ok(request(&name, None, None)));
}

#[test]
fn data_passes_as_the_client_wrote_it() {
    let deep = nested(JSON_DEPTH_MAX);
    for data in ["1e400", r#""\ud800""#, r#"{"a":1, "a":2}"#, "12345678901234567890", &deep] {
        let text = format!(r#"{{"event":"a","data":{data}}}"#);
        assert_eq!(decode(&text), Ok(request("a", Some(data), None)));
    }
}

#[test]
fn members_are_nested_so_deep_and_no_deeper() {
    let too_deep = nested(JSON_DEPTH_MAX + 1);
    let far_too_deep = "[".repeat(100_000) + &"]".repeat(100_000);

    for member in ["data", "error", "ignored"] {
        let with =
            |value: &str| format!(r#"{{"event":"a","id":7,"b":{},"{member}":{value}}}"#, nested(2));
        assert!(decode(&with(&nested(JSON_DEPTH_MAX))).is_ok(), "{member}");
        for value in [&too_deep, &far_too_deep] {
            let text = with(value);
            let refusal = Refusal { id: Some("7".into()), error: DecodeMessageError::TooDeep };
            assert_eq!(decode(&text), Err(refusal), "{member}");
        }
    }
    let answer = |data: &str| format!(r#"{{"id":7,"data":{data}}}"#);
    assert!(decode(&answer(&nested(JSON_DEPTH_MAX))).is_ok());
    let refusal = Refusal { id: None, error: DecodeMessageError::TooDeep };
    assert_eq!(decode(&answer(&too_deep)), Err(refusal));
}

#[test]
fn events_carry_their_arguments_as_data() {
    let cases = [
        ("[]", r#"{"event":"a"}"#),
        ("[ ]", r#"{"event":"a"}"#),
        ("[null]", r#"{"event":"a","data":null}"#),
        (r#"[ {"b":[1,2]} ]"#, r#"{"event":"a","data":{"b":[1,2]}}"#),
        ("[[1,2]]", r#"{"event":"a","data":[1,2]}"#),
        ("[1,2]", r#"{"event":"a","data":[1,2]}"#),
    ];

    for (args, expected) in cases {
        assert_eq!(
            server_text(encode_event_frames("a", args.as_bytes(), None, &[]).unwrap()),
            expected
        );
    }
    assert_eq!(
        server_text(encode_event_frames("\"\n", b"[]", None, &[]).unwrap()),
        r#"{"event":"\"\n"}"#
    );
}

#[test]
fn an_answer_is_data_or_an_error() {
    let cases = [
        ("[]", r#"{"id":7,"data":null}"#),
        ("[1]", r#"{"id":7,"data":1}"#),
        ("[1,2]", r#"{"id":7,"data":1}"#),
        (r#"[{"a":1}]"#, r#"{"id":7,"data":{"a":1}}"#),
        (r#"[{"error":{"code":"x"}}]"#, r#"{"id":7,"error":{"code":"x"}}"#),
        (r#"[ { "error" : {"code":"x"} } ]"#, r#"{"id":7,"error":{"code":"x"}}"#),
        (r#"[{"error":{}},1]"#, r#"{"id":7,"error":{}}"#),
        (r#"[{"error":{},"a":1}]"#, r#"{"id":7,"data":{"error":{},"a":1}}"#),
        (r#"[{"a":1,"error":{}}]"#, r#"{"id":7,"data":{"a":1,"error":{}}}"#),
        (r#"[{"error":"x"}]"#, r#"{"id":7,"data":{"error":"x"}}"#),
        (r#"[{"error":null}]"#, r#"{"id":7,"data":{"error":null}}"#),
        (r#"[{"errors":{}}]"#, r#"{"id":7,"data":{"errors":{}}}"#),
        (r#"["error"]"#, r#"{"id":7,"data":"error"}"#),
        ("[{}]", r#"{"id":7,"data":{}}"#),
    ];

    for (args, expected) in cases {
        let frame = encode_answer_frames(b"7", args.as_bytes(), &[]).unwrap();
        assert_eq!(server_text(frame), expected, "{args}");
    }
    assert_eq!(
        server_text(encode_answer_frames(br#""x""#, b"[1]", &[]).unwrap()),
        r#"{"id":"x","data":1}"#
    );
}

#[test]
fn arguments_must_be_an_array() {
    for args in ["", "1", "{}", "[", "[x]", "[1 2]"] {
        assert_eq!(
            encode_event_frames("a", args.as_bytes(), None, &[]),
            Err(EncodeError::NotAnArray)
        );
        assert_eq!(encode_answer_frames(b"1", args.as_bytes(), &[]), Err(EncodeError::NotAnArray));
    }
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(
        event in "\\PC{0,60}",
        data in prop::option::of(prop::collection::vec(any::<String>(), 0..4)),
        id in prop::option::of(prop_oneof![
            any::<i64>().prop_map(Value::from),
            "[a-z\"é]{0,20}".prop_map(Value::from),
        ]),
    ) {
        prop_assume!(event.len() <= EVENT_NAME_BYTES_MAX);
        let mut sent = json!({ "event": event });
        if let Some(data) = &data {
            sent["data"] = json!(data);
        }
        if let Some(id) = &id {
            sent["id"] = id.clone();
        }
        let text = sent.to_string();

        let Ok(Message::Request(request)) = decode(&text) else { panic!("{text}") };

        let parse = |raw: Option<&str>| raw.map(|raw| serde_json::from_str::<Value>(raw).unwrap());
        prop_assert_eq!(request.event.as_ref(), &event);
        prop_assert_eq!(parse(request.data), data.map(|data| json!(data)));
        prop_assert_eq!(parse(request.id), id);
    }

    #[test]
    fn a_client_reads_the_event_that_was_meant(
        event in any::<String>(),
        args in prop::collection::vec(any::<String>(), 0..4),
    ) {
        let frame = encode_event_frames(&event, json!(args).to_string().as_bytes(), None, &[]).unwrap();

        let read: Value = serde_json::from_str(&server_text(frame)).unwrap();
        let expected = match args.as_slice() {
            [] => json!({ "event": event }),
            [only] => json!({ "event": event, "data": only }),
            several => json!({ "event": event, "data": several }),
        };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), args in prop::collection::vec(any::<u8>(), 0..40)) {
        let _decoded = decode(&text);
        let _encoded = encode_answer_frames(b"1", &args, &[]);
        let _encoded = encode_answer_frames(b"1", &[b"[", &args[..], b"]"].concat(), &[]);
    }

    #[test]
    fn nearly_a_request_never_panics(text in "\\{(\"(event|data|id|\\\\u0065)\":?[\\[\\]{}\",:0-9a-z\\\\ é]{0,8},?){0,4}\\}?") {
        let _decoded = decode(&text);
    }
}
