//! Any packets with attachments, and messages in any order.

use edge_protocol::socket_io::{
    ATTACHMENTS_MAX, AssembleError, Assembler, DecodePacketError, encode_ack_frames,
    encode_event_frames,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{BOUNDS, LIMIT, server_packet};
use crate::socket_io_binary::{
    Closed,
    Sent::{Binary, Text},
    Server,
};

/// An argument, as a program has it before it is sent.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Json(Value),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Tree {
    /// What a client sends in place of it, with what it puts aside.
    fn taken_apart(&self, attachments: &mut Vec<Vec<u8>>) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Bytes(bytes) => {
                attachments.push(bytes.clone());
                json!({"_placeholder": true, "num": attachments.len() - 1})
            }
            Self::List(items) => items.iter().map(|item| item.taken_apart(attachments)).collect(),
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), value.taken_apart(attachments)))
                    .collect(),
            ),
        }
    }
}

/// What another client makes of arguments with placeholders: JSON with bytes as text.
fn put_together(value: &Value, attachments: &[Vec<u8>]) -> Value {
    match value {
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            let num = object["num"].as_u64().unwrap() as usize;
            Value::from(attachments[num].escape_ascii().to_string())
        }
        Value::Object(object) => Value::Object(
            object
                .iter()
                .map(|(key, value)| (key.clone(), put_together(value, attachments)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(|item| put_together(item, attachments)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Json(Value::Null)),
        any::<i64>().prop_map(|number| Tree::Json(number.into())),
        any::<String>().prop_map(|text| Tree::Json(text.into())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Tree::Bytes),
        (65_530usize..65_540).prop_map(|len| Tree::Bytes(vec![7; len])),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::List),
            prop::collection::hash_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    })
}

/// Objects that are often placeholders and more often nearly so.
fn nearly_placeholders() -> impl Strategy<Value = Value> {
    let scalar = prop::sample::select(vec![
        json!(true),
        json!(false),
        json!(null),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(0.5),
        json!("0"),
        json!("true"),
    ]);
    scalar.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec!["_placeholder", "num", "a"]).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn are_placeholders_in_range(value: &Value, count: u64) -> bool {
    match value {
        Value::Object(object) => {
            let is_placeholder = object.get("_placeholder") == Some(&Value::Bool(true));
            let num = object.get("num").and_then(Value::as_u64);
            (!is_placeholder || num.is_some_and(|num| num < count))
                && object.values().all(|value| are_placeholders_in_range(value, count))
        }
        Value::Array(items) => items.iter().all(|item| are_placeholders_in_range(item, count)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn any_message() -> impl Strategy<Value = (Option<&'static str>, Vec<u8>)> {
    let text = prop::sample::select(vec![
        r#"2["a"]"#,
        r#"31[]"#,
        r#"51-["a"]"#,
        r#"52-["a",{"_placeholder":true,"num":1}]"#,
        r#"52-["a",{"_placeholder":true,"num":2}]"#,
        r#"61-1[]"#,
        r#"62-1[]"#,
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        text.prop_map(|text| (Some(text), Vec::new())),
        bytes.prop_map(|bytes| (None, bytes)),
    ]
}

proptest! {
    #[test]
    fn what_one_client_sends_another_gets(
        namespace in prop_oneof![Just("/"), Just("/chat")],
        ack_id in any::<Option<u64>>(),
        tree in prop::collection::vec(any_tree(), 0..3),
        is_event in any::<bool>(),
    ) {
        let mut attachments = Vec::new();
        let args = Tree::List(tree).taken_apart(&mut attachments);
        prop_assume!((1..=ATTACHMENTS_MAX).contains(&attachments.len()));
        let mut payload = args.as_array().unwrap().clone();
        let ack_id = if is_event { ack_id } else { Some(ack_id.unwrap_or_default()) };
        if is_event {
            payload.insert(0, "name".into());
        }
        let text = format!(
            "{}{}-{}{}{}",
            if is_event { '5' } else { '6' },
            attachments.len(),
            if namespace == "/" { "" } else { "/chat," },
            ack_id.map_or_else(String::new, |ack_id| ack_id.to_string()),
            Value::from(payload.clone()),
        );

        let mut server = Server::new();
        server.receive(Text(&text), LIMIT * 2).unwrap();
        for attachment in &attachments {
            prop_assert!(!server.assembler.is_idle());
            server.receive(Binary(attachment), LIMIT * 2).unwrap();
        }
        prop_assert!(server.assembler.is_idle());
        prop_assert_eq!(server.got.len(), 1);
        let got = server.got.remove(0);
        prop_assert_eq!(got.ack_id, ack_id);
        prop_assert_eq!(got.name.as_deref(), is_event.then_some("name"));

        let args_sent = format!("[{}]", got.args);
        let frames = match &got.name {
            Some(name) => encode_event_frames(
                namespace, name, args_sent.as_bytes(), ack_id, &got.attachments,
            ),
            None => encode_ack_frames(
                namespace, ack_id.unwrap(), args_sent.as_bytes(), &got.attachments,
            ),
        };
        let (text_got, attachments_got) = server_packet(frames.unwrap());
        prop_assert_eq!(&text_got, &format!("4{text}"));
        let json_at = text_got.find('[').unwrap();
        let payload_got: Value = serde_json::from_str(&text_got[json_at..]).unwrap();
        prop_assert_eq!(
            put_together(&payload_got, &attachments_got),
            put_together(&payload.into(), &attachments)
        );
    }

    #[test]
    fn placeholders_are_checked_as_the_rule_says(
        arg in nearly_placeholders(),
        attachment_count in 1u64..3,
    ) {
        let text = format!(r#"5{attachment_count}-["a",{arg}]"#);

        let taken = Assembler::default().text(&text, BOUNDS).map(|_| ());

        let bad = AssembleError::Packet(DecodePacketError::BadPlaceholder);
        let is_in_range = are_placeholders_in_range(&arg, attachment_count);
        prop_assert_eq!(taken, if is_in_range { Ok(()) } else { Err(bad) });
    }

    /// The model knows how many attachments are awaited and how many bytes they may have.
    #[test]
    fn any_order_of_messages_agrees_with_the_rules(
        messages in prop::collection::vec(any_message(), 1..40)
    ) {
        let limit = 50;
        let mut server = Server::new();
        let (mut awaited_count, mut bytes_left) = (0usize, 0);

        for (text, bytes) in &messages {
            let expected = match text {
                Some(_) if awaited_count > 0 => Err(AssembleError::AttachmentExpected),
                Some(text) if text.contains(r#""num":2"#) => {
                    Err(AssembleError::Packet(DecodePacketError::BadPlaceholder))
                }
                Some(text) => {
                    if text.starts_with(['5', '6']) {
                        awaited_count = text[1..2].parse().unwrap();
                        bytes_left = limit - text.len();
                    }
                    Ok(())
                }
                None if awaited_count == 0 => Err(AssembleError::AttachmentUnexpected),
                None if bytes.len() > bytes_left => Err(AssembleError::TooLarge),
                None => {
                    awaited_count -= 1;
                    bytes_left -= bytes.len();
                    Ok(())
                }
            };
            if expected.is_err() {
                awaited_count = 0;
            }

            let sent = text.map_or(Binary(bytes), Text);
            prop_assert_eq!(server.receive(sent, limit), expected.map_err(Closed::Assemble));
            prop_assert_eq!(server.assembler.is_idle(), awaited_count == 0);
        }
    }

    #[test]
    fn nearly_a_binary_packet_never_panics(
        text in "[56][0-9]{0,3}-?(/[a-z]{0,3},?)?[0-9]{0,3}\\[\"a\"[\\[\\]{}\",:0-9a-z\\\\u é]{0,20}\\]?",
        attachment in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut assembler = Assembler::default();
        let _taken = assembler.text(&text, BOUNDS);
        let _packet = assembler.binary(attachment.into());
    }
}
