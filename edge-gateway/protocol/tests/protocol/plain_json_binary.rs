//! Plain JSON with attachments, both ways.

use std::borrow::Cow;

use bytes::Bytes;
use edge_protocol::plain_json::{
    ATTACHMENTS_MAX, Answer, Assembler, DecodeMessageError, EncodeError, Message, Refusal, Request,
    encode_answer_frames, encode_event_frames,
};
use proptest::prelude::*;

use crate::client::{BOUNDS, JSON_DEPTH_MAX, bounds, nested, server_packet};

const ONE: &str = r#"{"event":"a","data":{"_placeholder":true,"num":0},"attachments":1,"id":7}"#;

fn refusal(id: Option<&str>, error: DecodeMessageError) -> Refusal<'static> {
    Refusal { id: id.map(|id| Cow::Owned(id.to_owned())), error }
}

#[test]
fn a_request_waits_for_its_attachments() {
    let text = r#"{"event":"a","data":[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}],"attachments":2,"id":"x"}"#;
    let mut assembler = Assembler::default();

    let incomplete = assembler.text(text, BOUNDS);
    assert_eq!(incomplete, Ok(Message::Incomplete { id: Some(r#""x""#) }));
    assert_eq!(assembler.binary("zero".into()), Ok(None));
    assert!(!assembler.is_idle());
    let message = assembler.binary("one".into()).unwrap().unwrap();

    assert!(assembler.is_idle());
    let request = Request {
        event: "a".into(),
        data: Some(r#"[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#),
        id: Some(r#""x""#),
        attachments: &["zero".into(), "one".into()],
    };
    assert_eq!(message.message(), Message::Request(request));
}

#[test]
fn an_answer_waits_for_its_attachments() {
    let mut assembler = Assembler::default();
    let text = r#"{"id":7,"data":{"_placeholder":true,"num":0},"attachments":1}"#;

    assert_eq!(assembler.text(text, BOUNDS), Ok(Message::Incomplete { id: None }));
    let message = assembler.binary("bytes".into()).unwrap().unwrap();

    let arg = Cow::Borrowed(r#"{"_placeholder":true,"num":0}"#);
    let answer = Answer { id: 7, arg, attachments: &["bytes".into()] };
    assert_eq!(message.message(), Message::Answer(answer));
}

#[test]
fn what_looks_like_a_placeholder_is_data_where_nothing_is_attached() {
    for text in [
        r#"{"event":"a","data":{"_placeholder":true,"num":0}}"#,
        r#"{"event":"a","data":{"_placeholder":true,"num":0},"attachments":0}"#,
    ] {
        let mut assembler = Assembler::default();
        assert!(matches!(assembler.text(text, BOUNDS), Ok(Message::Request(_))), "{text}");
        assert!(assembler.is_idle());
    }
}

#[test]
fn the_attachments_of_a_refused_message_are_skipped() {
    let deep = nested(JSON_DEPTH_MAX + 1);
    let deep = format!(r#"{{"event":"a","data":{deep},"attachments":2,"id":7}}"#);
    for (text, error) in [
        (
            r#"{"event":"a","data":{"_placeholder":true,"num":2},"attachments":2,"id":7}"#,
            DecodeMessageError::BadPlaceholder,
        ),
        (&deep, DecodeMessageError::TooDeep),
        (r#"{"event":5,"attachments":2,"id":7}"#, DecodeMessageError::BadEvent),
        (r#"{"id":7,"attachments":2}"#, DecodeMessageError::MissingEvent),
    ] {
        let mut assembler = Assembler::default();

        assert_eq!(assembler.text(text, BOUNDS), Err(refusal(Some("7"), error)), "{text}");
        assert_eq!(assembler.binary("zero".into()), Ok(None));
        assert!(!assembler.is_idle());
        assert_eq!(assembler.binary("one".into()), Ok(None));
        assert!(assembler.text(r#"{"event":"b"}"#, BOUNDS).is_ok());
    }
}

#[test]
fn a_text_in_place_of_an_attachment_refuses_the_message_that_waits() {
    let mut assembler = Assembler::default();
    assembler.text(ONE, BOUNDS).unwrap();

    let refused = assembler.text(r#"{"event":"b","id":8}"#, BOUNDS);

    assert_eq!(refused, Err(refusal(Some("7"), DecodeMessageError::AttachmentMissing)));
    assert!(assembler.is_idle());
}

#[test]
fn a_message_is_no_larger_with_its_attachments_than_without() {
    let limit = bounds(ONE.len() + 5);
    let mut assembler = Assembler::default();
    assembler.text(ONE, limit).unwrap();
    assert!(assembler.binary("12345".into()).unwrap().is_some());

    assembler.text(ONE, limit).unwrap();
    let refused = assembler.binary("123456".into());

    assert_eq!(refused, Err(refusal(Some("7"), DecodeMessageError::TooLarge)));
    assert!(assembler.is_idle());
}

#[test]
fn a_message_that_is_given_up_names_its_request() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.give_up(), None);
    assembler.text(ONE, BOUNDS).unwrap();

    let given_up = assembler.give_up();

    assert_eq!(given_up, Some(refusal(Some("7"), DecodeMessageError::AttachmentMissing)));
    let unexpected = refusal(None, DecodeMessageError::AttachmentUnexpected);
    assert_eq!(assembler.binary("late".into()), Err(unexpected));
}

#[test]
fn a_client_is_told_how_many_frames_follow() {
    let args = br#"[{"_placeholder":true,"num":0}]"#;
    let attachments = [Bytes::from_static(b"zero"), Bytes::new()];
    let sent = vec![b"zero".to_vec(), Vec::new()];

    let event = server_packet(encode_event_frames("a", args, Some(3), &attachments).unwrap());
    let answer = server_packet(encode_answer_frames(b"7", args, &attachments).unwrap());

    let data = r#"{"_placeholder":true,"num":0}"#;
    let text = format!(r#"{{"event":"a","data":{data},"id":3,"attachments":2}}"#);
    assert_eq!(event, (text, sent.clone()));
    assert_eq!(answer, (format!(r#"{{"id":7,"data":{data},"attachments":2}}"#), sent));
}

#[test]
fn there_are_no_more_attachments_than_clients_take() {
    let attachments = vec![Bytes::new(); ATTACHMENTS_MAX + 1];

    assert!(encode_event_frames("a", b"[]", None, &attachments[1..]).is_ok());
    let error = Err(EncodeError::TooManyAttachments);
    assert_eq!(encode_event_frames("a", b"[]", None, &attachments), error);
    assert_eq!(encode_answer_frames(b"1", b"[]", &attachments), error);
}

proptest! {
    #[test]
    fn attachments_arrive_as_they_were_sent(
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=ATTACHMENTS_MAX),
    ) {
        let sent: Vec<Bytes> = sent.into_iter().map(Bytes::from).collect();
        let frames = encode_event_frames("a", b"[1]", None, &sent).unwrap();
        let (text, attachments) = server_packet(frames);
        let mut assembler = Assembler::default();

        let mut message = None;
        prop_assert!(assembler.text(&text, BOUNDS).is_ok());
        for attachment in attachments {
            prop_assert!(message.is_none());
            message = assembler.binary(attachment.into()).unwrap();
        }

        let message = message.unwrap();
        let request =
            Request { event: "a".into(), data: Some("1"), id: None, attachments: &sent };
        prop_assert_eq!(message.message(), Message::Request(request));
    }
}
