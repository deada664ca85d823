//! What a client may write, and what exactly it means.

use std::borrow::Cow;

use edge_protocol::socket_io::{
    DecodePacketError, EVENT_NAME_BYTES_MAX, NAMESPACE_BYTES_MAX, Packet,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::client::{JSON_DEPTH_MAX, nested};

fn decode(text: &str) -> Result<Packet<'_>, DecodePacketError> {
    Packet::decode(text, JSON_DEPTH_MAX)
}

fn connect<'a>(namespace: &'a str, auth: Option<&'a str>) -> Packet<'a> {
    Packet::Connect { namespace, auth }
}

fn event<'a>(namespace: &'a str, ack_id: Option<u64>, name: &'a str, args: &'a str) -> Packet<'a> {
    Packet::Event { namespace, ack_id, name: Cow::Borrowed(name), args, attachments: &[] }
}

fn ack<'a>(namespace: &'a str, ack_id: u64, args: &'a str) -> Packet<'a> {
    Packet::Ack { namespace, ack_id, args, attachments: &[] }
}

#[test]
fn connects_and_disconnects_are_decoded() {
    let cases = [
        ("0", connect("/", None)),
        ("0{}", connect("/", Some("{}"))),
        (r#"0{"a":1}"#, connect("/", Some(r#"{"a":1}"#))),
        ("0/", connect("/", None)),
        ("0/,", connect("/", None)),
        ("0/,{}", connect("/", Some("{}"))),
        ("01{}", connect("/", Some("{}"))),
        ("0/custom", connect("/custom", None)),
        ("0/chat,", connect("/chat", None)),
        (r#"0/admin,{"token":"123"}"#, connect("/admin", Some(r#"{"token":"123"}"#))),
        (r#"0/admin, {"token":"123"} "#, connect("/admin", Some(r#"{"token":"123"}"#))),
        ("0/chat,5", connect("/chat", None)),
        ("0/chat,5{}", connect("/chat", Some("{}"))),
        ("0/chat,99999999999999999999999{}", connect("/chat", Some("{}"))),
        ("0/chat?a=1,{}", connect("/chat?a=1", Some("{}"))),
        ("0/CHAT,", connect("/CHAT", None)),
        ("0/chat/,", connect("/chat/", None)),
        ("0/é,", connect("/é", None)),
        ("1", Packet::Disconnect { namespace: "/" }),
        ("1/admin,", Packet::Disconnect { namespace: "/admin" }),
        ("1/admin", Packet::Disconnect { namespace: "/admin" }),
        ("1/admin,5", Packet::Disconnect { namespace: "/admin" }),
    ];

    for (text, packet) in cases {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
}

#[test]
fn events_are_decoded() {
    let cases = [
        (r#"2["hello"]"#, event("/", None, "hello", "")),
        (r#"21["ev",1]"#, event("/", Some(1), "ev", "1")),
        (r#"2/chat,["echo",1]"#, event("/chat", None, "echo", "1")),
        (r#"2/chat,0["echo",1]"#, event("/chat", Some(0), "echo", "1")),
        (r#"2/chat,007["echo",1]"#, event("/chat", Some(7), "echo", "1")),
        (
            r#"2/chat,9007199254740993["echo",1]"#,
            event("/chat", Some(9_007_199_254_740_993), "echo", "1"),
        ),
        (r#"218446744073709551615["echo"]"#, event("/", Some(u64::MAX), "echo", "")),
        (r#"2/chat,1["echo",1,2]"#, event("/chat", Some(1), "echo", "1,2")),
        (r#"2/chat,1["echo",[1,2]]"#, event("/chat", Some(1), "echo", "[1,2]")),
        (r#"2/chat, ["echo",1]"#, event("/chat", None, "echo", "1")),
        ("2\n[ \"echo\" , 1 , {\"a\" : 2} ] ", event("/", None, "echo", r#"1 , {"a" : 2}"#)),
        (r#"2[""]"#, event("/", None, "", "")),
        (r#"2["__proto__"]"#, event("/", None, "__proto__", "")),
        (r#"2["message","]"]"#, event("/", None, "message", r#""]""#)),
        (r#"2[1,"x"]"#, event("/", None, "1", r#""x""#)),
        ("2[-1.5e3]", event("/", None, "-1.5e3", "")),
        ("2[1e400,1]", event("/", None, "1e400", "1")),
        (
            r#"2["echo",{"_placeholder":true,"num":0}]"#,
            event("/", None, "echo", r#"{"_placeholder":true,"num":0}"#),
        ),
    ];

    for (text, packet) in cases {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
}

#[test]
fn packets_that_mean_nothing_are_tolerated() {
    let cases = [
        ("2", Packet::EmptyEvent { namespace: "/" }),
        ("2/", Packet::EmptyEvent { namespace: "/" }),
        ("25", Packet::EmptyEvent { namespace: "/" }),
        ("2/chat,", Packet::EmptyEvent { namespace: "/chat" }),
        ("2/chat", Packet::EmptyEvent { namespace: "/chat" }),
        ("2/chat,5", Packet::EmptyEvent { namespace: "/chat" }),
        (r#"2/chat["a"]"#, Packet::EmptyEvent { namespace: r#"/chat["a"]"# }),
        ("3/chat,[1]", Packet::UnaddressedAck { namespace: "/chat" }),
        ("3", Packet::UnaddressedAck { namespace: "/" }),
    ];

    for (text, packet) in cases {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
}

#[test]
fn acks_are_decoded() {
    let cases = [
        ("31[]", ack("/", 1, "")),
        ("31[ ]", ack("/", 1, "")),
        ("30[null]", ack("/", 0, "null")),
        (r#"3/chat,99[1,{"a":[]}]"#, ack("/chat", 99, r#"1,{"a":[]}"#)),
        ("3/chat,99", ack("/chat", 99, "")),
    ];

    for (text, packet) in cases {
        assert_eq!(decode(text), Ok(packet), "{text}");
    }
}

#[test]
fn what_no_client_may_write_is_refused_with_its_reason() {
    let cases = [
        ("", DecodePacketError::Empty),
        ("7", DecodePacketError::UnknownType),
        ("8", DecodePacketError::UnknownType),
        ("x", DecodePacketError::UnknownType),
        ("é", DecodePacketError::UnknownType),
        ("-1[]", DecodePacketError::UnknownType),
        ("4{}", DecodePacketError::ConnectErrorFromClient),
        (r#"4/chat,{"message":"x"}"#, DecodePacketError::ConnectErrorFromClient),
        (r#"51-["m",{"_placeholder":true,"num":0}]"#, DecodePacketError::AttachmentsMissing),
        ("61-7[{}]", DecodePacketError::AttachmentsMissing),
        // CONNECT takes an object or nothing.
        ("0chat,", DecodePacketError::BadPayload),
        ("0/chat,,", DecodePacketError::BadPayload),
        ("0/chat,x", DecodePacketError::BadPayload),
        (r#"0/chat,"s""#, DecodePacketError::BadPayload),
        ("0/chat,[1]", DecodePacketError::BadPayload),
        ("0/chat,null", DecodePacketError::BadPayload),
        ("0/chat,{", DecodePacketError::BadPayload),
        ("0/chat,{}{}", DecodePacketError::BadPayload),
        ("0/chat, ", DecodePacketError::BadPayload),
        // DISCONNECT takes nothing.
        ("1/chat,{}", DecodePacketError::BadPayload),
        (r#"1/chat,"x""#, DecodePacketError::BadPayload),
        // EVENT takes an array that begins with a name.
        ("2/chat,[]", DecodePacketError::BadPayload),
        ("2/chat,{}", DecodePacketError::BadPayload),
        (r#"2/chat,"x""#, DecodePacketError::BadPayload),
        ("2/chat,null", DecodePacketError::BadPayload),
        ("2/chat,[null]", DecodePacketError::BadPayload),
        ("2/chat,[true]", DecodePacketError::BadPayload),
        ("2/chat,[{}]", DecodePacketError::BadPayload),
        (r#"2[{"toString":"x"}]"#, DecodePacketError::BadPayload),
        (r#"2/chat,[["x"]]"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo",1"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo",1]x"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo" 1]"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo",]"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo",01]"#, DecodePacketError::BadPayload),
        (r#"2/chat,["echo"#, DecodePacketError::BadPayload),
        (r#"2/chat,x["echo",1]"#, DecodePacketError::BadPayload),
        (r#"2/chat,1x["echo",1]"#, DecodePacketError::BadPayload),
        (r#"2/chat,-1["echo",1]"#, DecodePacketError::BadPayload),
        ("2/chat, ", DecodePacketError::BadPayload),
        (r#"2["\ud800"]"#, DecodePacketError::EventNameNotUnicode),
        (r#"218446744073709551616["echo"]"#, DecodePacketError::BadAckId),
        (r#"2123456789012345678901234567890["echo",1]"#, DecodePacketError::BadAckId),
        // ACK takes an array.
        ("3/chat,99{}", DecodePacketError::BadPayload),
        ("399null", DecodePacketError::BadPayload),
        ("31[1", DecodePacketError::BadPayload),
        ("31[1]]", DecodePacketError::BadPayload),
        ("3123456789012345678901234567890[]", DecodePacketError::BadAckId),
    ];

    for (text, error) in cases {
        assert_eq!(decode(text), Err(error), "{text}");
    }
}

#[test]
fn reserved_names_are_refused_however_they_are_written() {
    let reserved = [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        r"conn\u0065ct",
        r"\u0064isconnect",
    ];

    for name in reserved {
        let text = format!(r#"2/chat,1["{name}",1]"#);
        assert_eq!(decode(&text), Err(DecodePacketError::ReservedEvent), "{name}");
    }
    for name in ["Connect", "connect ", "connecting", "message", "error"] {
        let text = format!(r#"2["{name}"]"#);
        assert_eq!(decode(&text), Ok(event("/", None, name, "")));
    }
}

#[test]
fn a_name_with_escapes_is_what_the_client_meant() {
    let packet = decode(r#"2["\u0061\/\"\n\ud83c\udf88",1]"#);

    assert_eq!(packet, Ok(event("/", None, "a/\"\n🎈", "1")));
}

#[test]
fn names_and_namespaces_are_bounded() {
    let name = |len| format!(r#"2["{}"]"#, "n".repeat(len));
    let escaped_name = |len| format!(r#"2["{}"]"#, r"\u006e".repeat(len));
    let number = |len| format!("2[{}]", "1".repeat(len));
    let namespace = |len: usize| format!("0/{},", "n".repeat(len - 1));

    for text in [
        name(EVENT_NAME_BYTES_MAX),
        escaped_name(EVENT_NAME_BYTES_MAX),
        number(EVENT_NAME_BYTES_MAX),
    ] {
        assert!(decode(&text).is_ok());
    }
    for text in [
        name(EVENT_NAME_BYTES_MAX + 1),
        escaped_name(EVENT_NAME_BYTES_MAX + 1),
        number(EVENT_NAME_BYTES_MAX + 1),
        name(1_000_000),
    ] {
        assert_eq!(decode(&text), Err(DecodePacketError::EventNameTooLong));
    }
    assert!(decode(&namespace(NAMESPACE_BYTES_MAX)).is_ok());
    for text in [namespace(NAMESPACE_BYTES_MAX + 1), format!("0/{}", "n".repeat(1_000_000))] {
        assert_eq!(decode(&text), Err(DecodePacketError::BadNamespace));
    }
}

#[test]
fn arguments_are_nested_so_deep_and_no_deeper() {
    let deepest = nested(JSON_DEPTH_MAX);
    let too_deep = nested(JSON_DEPTH_MAX + 1);
    let far_too_deep = "[".repeat(100_000) + &"]".repeat(100_000);

    for packet in [r#"2["a",{}]"#, r#"27["a",1,{},2]"#, "37[{}]", "37[{},0]"] {
        let with = |payload: &str| packet.replace("{}", payload);
        assert!(decode(&with(&deepest)).is_ok(), "{packet}");
        for payload in [&too_deep, &far_too_deep] {
            assert_eq!(decode(&with(payload)), Err(DecodePacketError::TooDeep), "{packet}");
        }
    }
    let auth = |inside: &str| format!(r#"0/chat,{{"token":"t","a":{inside}}}"#);
    assert!(decode(&auth(&nested(JSON_DEPTH_MAX - 1))).is_ok());
    for inside in [&deepest, &far_too_deep] {
        assert_eq!(decode(&auth(inside)), Err(DecodePacketError::TooDeep));
    }
}

#[test]
fn what_is_no_json_is_no_json_however_deep_it_is() {
    let unclosed = format!(r#"2["a",{}"#, "[".repeat(100_000));

    assert_eq!(decode(&unclosed), Err(DecodePacketError::BadPayload));
}

#[test]
fn payloads_pass_as_the_client_wrote_them() {
    // One less: below, an object is around it.
    let deep = nested(JSON_DEPTH_MAX - 1);
    let long = format!("\"{}\"", "é".repeat(400_000));
    let payloads = [
        "12345678901234567890",
        "1.0",
        "1e3",
        "-0",
        "1e400",
        "0.1000000000000000055511151231257827",
        r#""\u00e9\/\ud83c\udf88""#,
        r#""\ud800""#,
        r#""\udc00\ud800x""#,
        r#""\u0000\u2028""#,
        "\"\u{2028}\u{7f}é🎈\"",
        r#"{"b":1, "a":2 }"#,
        r#"{"2":1,"1":2,"a":3}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"__proto__":{"x":1}}"#,
        &deep,
        &long,
    ];

    for payload in payloads {
        let text = format!(r#"2/chat,1["echo",{payload}]"#);
        assert_eq!(decode(&text), Ok(event("/chat", Some(1), "echo", payload)));

        let text = format!("3/chat,1[{payload}]");
        assert_eq!(decode(&text), Ok(ack("/chat", 1, payload)));

        let text = format!(r#"0/chat,{{"auth":{payload}}}"#);
        assert!(decode(&text).is_ok());
    }
}

fn any_namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[a-z]{1,8}", "/[^,]{0,20}"]
}

fn any_args() -> impl Strategy<Value = Vec<Value>> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = scalar.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::vec(value, 0..4)
}

fn on_the_wire(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

proptest! {
    #[test]
    fn an_event_arrives_as_it_was_sent(
        namespace in any_namespace(),
        ack_id in any::<Option<u64>>(),
        name in "\\PC{0,60}",
        args in any_args(),
    ) {
        prop_assume!(name.len() <= EVENT_NAME_BYTES_MAX);
        let mut payload = vec![Value::from(name.as_str())];
        payload.extend(args.iter().cloned());
        let ack = ack_id.map_or_else(String::new, |ack_id| ack_id.to_string());
        let text = format!("2{}{ack}{}", on_the_wire(&namespace), Value::from(payload));

        let decoded = decode(&text);

        let Ok(Packet::Event { namespace: n, ack_id: i, name: e, args: a, .. }) = &decoded else {
            return Err(TestCaseError::fail(format!("{text}: {decoded:?}")));
        };
        prop_assert_eq!(*n, &namespace);
        prop_assert_eq!(*i, ack_id);
        prop_assert_eq!(e.as_ref(), &name);
        let decoded_args: Vec<Value> = serde_json::from_str(&format!("[{a}]")).unwrap();
        prop_assert_eq!(decoded_args, args);
    }

    #[test]
    fn an_ack_arrives_as_it_was_sent(
        namespace in any_namespace(),
        ack_id in any::<u64>(),
        args in any_args(),
    ) {
        let text = format!("3{}{ack_id}{}", on_the_wire(&namespace), Value::from(args.clone()));

        let Ok(Packet::Ack { namespace: n, ack_id: i, args: a, .. }) = decode(&text) else {
            return Err(TestCaseError::fail(text));
        };
        prop_assert_eq!(n, &namespace);
        prop_assert_eq!(i, ack_id);
        prop_assert_eq!(serde_json::from_str::<Vec<Value>>(&format!("[{a}]")).unwrap(), args);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _decoded = decode(&text);
    }

    #[test]
    fn nearly_a_packet_never_panics(
        text in "[0-9]{0,2}(/[a-z]{0,3},?)?[0-9]{0,3}[\\[\\]{}\",:0-9a-z\\\\u é]{0,20}"
    ) {
        let _decoded = decode(&text);
    }
}
