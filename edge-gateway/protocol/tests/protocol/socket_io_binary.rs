//! Packets with attachments: what a client may send, one message after the other.

use std::borrow::Cow;

use edge_protocol::socket_io::{
    ATTACHMENTS_MAX, Action, AssembleError, Assembler, DecodePacketError, Packet, Session,
    Violation,
};

use crate::client::{BOUNDS, JSON_DEPTH_MAX, LIMIT, bounds, nested};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

use Sent::{Binary, Text};

/// An event, or an ack if it has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) name: Option<String>,
    pub(crate) ack_id: Option<u64>,
    pub(crate) args: String,
    pub(crate) attachments: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Assemble(AssembleError),
    Violation(Violation),
}

fn malformed(error: DecodePacketError) -> Closed {
    Closed::Assemble(AssembleError::Packet(error))
}

fn event(ack_id: Option<u64>, name: &str, args: &str, attachments: &[&[u8]]) -> Got {
    Got { name: Some(name.to_owned()), ack_id, ..ack(0, args, attachments) }
}

fn ack(ack_id: u64, args: &str, attachments: &[&[u8]]) -> Got {
    let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
    Got { name: None, ack_id: Some(ack_id), args: args.to_owned(), attachments }
}

/// The server's end of a session that is in `/chat` and in `/`.
pub(crate) struct Server {
    session: Session<u32>,
    pub(crate) assembler: Assembler,
    pub(crate) got: Vec<Got>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let mut session = Session::new();
        for namespace in ["/", "/chat"] {
            session.handle(Packet::Connect { namespace, auth: None }).unwrap();
            session.connected(namespace, 1);
        }
        Self { session, assembler: Assembler::default(), got: Vec::new() }
    }

    pub(crate) fn receive(&mut self, sent: Sent<'_>, limit: usize) -> Result<(), Closed> {
        match sent {
            Text(text) => {
                let packet = self.assembler.text(text, bounds(limit)).map_err(Closed::Assemble)?;
                self.handle(packet)
            }
            Binary(bytes) => {
                let attachment = bytes.to_vec().into();
                match self.assembler.binary(attachment).map_err(Closed::Assemble)? {
                    Some(packet) => self.handle(packet.packet()),
                    None => Ok(()),
                }
            }
        }
    }

    fn handle(&mut self, packet: Packet<'_>) -> Result<(), Closed> {
        let (name, ack_id, args, attachments) =
            match self.session.handle(packet).map_err(Closed::Violation)? {
                Action::Event { name, ack_id, args, attachments, .. } => {
                    (Some(name.into_owned()), ack_id, args, attachments)
                }
                Action::Ack { ack_id, args, attachments, .. } => {
                    (None, Some(ack_id), args, attachments)
                }
                Action::Connect { .. }
                | Action::TooManyNamespaces { .. }
                | Action::Disconnect { .. }
                | Action::Nothing => return Ok(()),
            };
        let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
        self.got.push(Got { name, ack_id, args: args.to_owned(), attachments });
        Ok(())
    }
}

fn receive_all(sent: &[Sent<'_>]) -> Result<Vec<Got>, Closed> {
    let mut server = Server::new();
    for &sent in sent {
        server.receive(sent, LIMIT)?;
    }
    assert!(server.assembler.is_idle(), "the input ends with a whole packet");
    Ok(server.got)
}

const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

#[test]
fn events_arrive_with_their_attachments() {
    let cases: [(&[Sent<'_>], Got); 7] = [
        (
            &[Text(r#"51-/chat,["blob",{"_placeholder":true,"num":0}]"#), Binary(&[1, 2])],
            event(None, "blob", PLACEHOLDER, &[&[1, 2]]),
        ),
        (
            &[Text(r#"51-/chat,3["echo",{"_placeholder":true,"num":0}]"#), Binary(&[1, 2])],
            event(Some(3), "echo", PLACEHOLDER, &[&[1, 2]]),
        ),
        (
            &[Text(r#"51-["m",{"_placeholder":true,"num":0}]"#), Binary(&[1, 2, 3])],
            event(None, "m", PLACEHOLDER, &[&[1, 2, 3]]),
        ),
        (
            &[
                Text(
                    r#"52-/chat,3["echo",{"a":{"_placeholder":true,"num":1},"b":[{"_placeholder":true,"num":0}]}]"#,
                ),
                Binary(&[1]),
                Binary(&[2]),
            ],
            event(
                Some(3),
                "echo",
                r#"{"a":{"_placeholder":true,"num":1},"b":[{"_placeholder":true,"num":0}]}"#,
                &[&[1], &[2]],
            ),
        ),
        (
            &[Text(r#"51-/chat,3["echo",{"_placeholder":true,"num":0}]"#), Binary(&[])],
            event(Some(3), "echo", PLACEHOLDER, &[&[]]),
        ),
        // An attachment may be used twice, or not at all.
        (
            &[
                Text(
                    r#"52-/chat,3["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
                ),
                Binary(&[1]),
                Binary(&[2]),
            ],
            event(
                Some(3),
                "echo",
                r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}"#,
                &[&[1], &[2]],
            ),
        ),
        (&[Text(r#"51-/chat,1["echo",1]"#), Binary(&[1])], event(Some(1), "echo", "1", &[&[1]])),
    ];

    for (sent, expected) in cases {
        assert_eq!(receive_all(sent), Ok(vec![expected]), "{sent:?}");
    }
}

#[test]
fn acks_arrive_with_their_attachments() {
    let cases: [(&[Sent<'_>], Got); 2] = [
        (
            &[Text(r#"61-/chat,99[{"_placeholder":true,"num":0}]"#), Binary(&[1])],
            ack(99, PLACEHOLDER, &[&[1]]),
        ),
        (&[Text("61-7"), Binary(&[1])], ack(7, "", &[&[1]])),
    ];

    for (sent, expected) in cases {
        assert_eq!(receive_all(sent), Ok(vec![expected]), "{sent:?}");
    }
}

#[test]
fn a_placeholder_in_a_text_packet_is_data_like_any_other() {
    let sent = [
        Text(r#"2/chat,1["echo",{"_placeholder":true,"num":0}]"#),
        Text(r#"3/chat,1[{"_placeholder":true,"num":7}]"#),
    ];

    assert_eq!(
        receive_all(&sent),
        Ok(vec![
            event(Some(1), "echo", PLACEHOLDER, &[]),
            ack(1, r#"{"_placeholder":true,"num":7}"#, &[])
        ])
    );
}

#[test]
fn one_packet_comes_after_the_other() {
    let sent = [Text(r#"51-["a"]"#), Binary(b"x"), Text(r#"2["b"]"#), Text("61-1[]"), Binary(b"y")];

    assert_eq!(
        receive_all(&sent),
        Ok(vec![event(None, "a", "", &[b"x"]), event(None, "b", "", &[]), ack(1, "", &[b"y"])])
    );
}

#[test]
fn what_no_client_may_send_is_refused_with_its_reason() {
    let bad_count = malformed(DecodePacketError::BadAttachmentCount);
    let bad_placeholder = malformed(DecodePacketError::BadPlaceholder);
    let bad_payload = malformed(DecodePacketError::BadPayload);
    let cases = [
        (r#"50-/chat,1["echo",1]"#, bad_count),
        (r#"50-["a"]"#, bad_count),
        (r#"5/chat,1["echo",1]"#, bad_count),
        (r#"5-/chat,1["echo",1]"#, bad_count),
        (r#"5x-/chat,1["echo",1]"#, bad_count),
        (r#"51/chat,1["echo",1]"#, bad_count),
        (r#"5+1-["a"]"#, bad_count),
        (r#"51.0-["a"]"#, bad_count),
        (r#"5-1-["a"]"#, bad_count),
        (r#"511-/chat,1["echo",{"_placeholder":true,"num":0}]"#, bad_count),
        (r#"5599999-["a"]"#, bad_count),
        (r#"599999999999999999999999-["a"]"#, bad_count),
        ("5", bad_count),
        ("60-7[]", bad_count),
        (r#"51-/chat,1["echo",{"_placeholder":true,"num":1}]"#, bad_placeholder),
        (r#"51-/chat,1["echo",{"_placeholder":true,"num":-1}]"#, bad_placeholder),
        (r#"51-/chat,1["echo",{"_placeholder":true,"num":"0"}]"#, bad_placeholder),
        (r#"51-/chat,1["echo",{"_placeholder":true}]"#, bad_placeholder),
        (r#"51-["x",{"_placeholder":true,"num":"splice"}]"#, bad_placeholder),
        (r#"51-["x",{"_placeholder":true,"num":1e9}]"#, bad_placeholder),
        (r#"61-7[{"_placeholder":true,"num":1}]"#, bad_placeholder),
        (r#"51-["x",{"_placeholder":true,"num":NaN}]"#, bad_payload),
        (r#"51-[{"_placeholder":true,"num":0}]"#, bad_payload),
        (r#"51-[{"toString":"x"}]"#, bad_payload),
        ("51-[]", bad_payload),
        ("51-/chat,", bad_payload),
        (r#"51-["a""#, bad_payload),
        ("61-7{}", bad_payload),
        (r#"51-["connect"]"#, malformed(DecodePacketError::ReservedEvent)),
        (r#"5118446744073709551616-["a"]"#, bad_count),
        (r#"51-18446744073709551616["a"]"#, malformed(DecodePacketError::BadAckId)),
        ("61-[]", malformed(DecodePacketError::BadAckId)),
        (r#"51-/other,["a"]"#, Closed::Violation(Violation::NotConnected)),
        ("61-/CHAT,1[]", Closed::Violation(Violation::NotConnected)),
    ];

    for (text, expected) in cases {
        assert_eq!(receive_all(&[Text(text)]), Err(expected), "{text}");
    }
}

#[test]
fn as_many_attachments_are_taken_as_the_reference_takes() {
    for count in 1..=ATTACHMENTS_MAX {
        let text = format!(r#"5{count}-["a",{{"_placeholder":true,"num":{}}}]"#, count - 1);
        let mut sent = vec![Text(&text)];
        sent.resize(count + 1, Binary(b"x"));

        assert_eq!(receive_all(&sent).unwrap()[0].attachments.len(), count);
    }
}

#[test]
fn text_and_attachments_must_not_change_places() {
    let announced = Text(r#"51-/chat,1["echo",{"_placeholder":true,"num":0}]"#);
    let expected = Closed::Assemble(AssembleError::AttachmentExpected);
    let unexpected = Closed::Assemble(AssembleError::AttachmentUnexpected);
    let cases: [(&[Sent<'_>], _); 7] = [
        (&[announced, Text(r#"2/chat,2["echo",2]"#)], expected),
        (&[announced, Text("")], expected),
        (&[announced, announced], expected),
        (&[Text(r#"52-["a"]"#), Binary(b"x"), Text("1")], expected),
        (&[Binary(&[1])], unexpected),
        (&[Text(r#"2["a"]"#), Binary(&[1])], unexpected),
        (&[announced, Binary(&[1]), Binary(&[2])], unexpected),
    ];

    for (sent, expected) in cases {
        assert_eq!(receive_all(sent), Err(expected), "{sent:?}");
    }
}

#[test]
fn nothing_is_kept_for_who_is_not_connected() {
    let mut session = Session::<u32>::new();
    let mut assembler = Assembler::default();

    let packet = assembler.text(r#"51-/chat,["a"]"#, BOUNDS).unwrap();

    assert_eq!(packet, Packet::Incomplete { namespace: "/chat" });
    assert_eq!(session.handle(packet), Err(Violation::NotConnected));
}

#[test]
fn a_packet_whose_socket_leaves_before_its_attachments_is_a_violation() {
    let mut server = Server::new();
    server.receive(Text(r#"51-/chat,["a"]"#), LIMIT).unwrap();

    server.session.refused("/chat");

    assert_eq!(
        server.receive(Binary(b"x"), LIMIT),
        Err(Closed::Violation(Violation::NotConnected))
    );
}

#[test]
fn the_limit_is_for_a_packet_with_all_its_attachments() {
    let text = r#"52-["a"]"#;
    let limit = text.len() + 5;
    let receive = |attachments: [&[u8]; 2]| {
        let mut server = Server::new();
        server.receive(Text(text), limit)?;
        attachments.into_iter().try_for_each(|bytes| server.receive(Binary(bytes), limit))
    };
    let too_large = Err(Closed::Assemble(AssembleError::TooLarge));

    assert_eq!(receive([b"12", b"345"]), Ok(()));
    assert_eq!(receive([b"12345", b""]), Ok(()));
    assert_eq!(receive([b"12", b"3456"]), too_large);
    assert_eq!(receive([b"123456", b""]), too_large);
    assert_eq!(Server::new().receive(Text(text), text.len()), Ok(()));
    assert_eq!(Server::new().receive(Text(text), text.len() - 1), too_large);
}

#[test]
fn arguments_of_binary_packets_are_nested_no_deeper_than_others() {
    let deepest = nested(JSON_DEPTH_MAX);
    let too_deep = nested(JSON_DEPTH_MAX + 1);
    let error = AssembleError::Packet(DecodePacketError::TooDeep);

    for packet in [r#"51-/chat,["a",0,{}]"#, "61-/chat,7[0,{}]"] {
        let with = |payload: &str| packet.replace("{}", payload);
        let mut assembler = Assembler::default();
        let taken = assembler.text(&with(&deepest), BOUNDS).map(|_| ());
        assert_eq!(taken, Ok(()), "{packet}");

        let mut assembler = Assembler::default();
        assert_eq!(assembler.text(&with(&too_deep), BOUNDS), Err(error), "{packet}");
        assert!(assembler.is_idle(), "{packet}");
    }
}

#[test]
fn after_a_refusal_nothing_is_kept() {
    let refused: [fn(&mut Assembler); 3] = [
        |assembler| assert!(assembler.text("2", BOUNDS).is_err()),
        |assembler| assert!(assembler.text(r#"51-["a"]"#, BOUNDS).is_err()),
        |assembler| assert!(assembler.binary(vec![0; LIMIT].into()).is_err()),
    ];

    for refused in refused {
        let mut assembler = Assembler::default();
        assembler.text(r#"52-["a"]"#, BOUNDS).unwrap();
        assert!(!assembler.is_idle());

        refused(&mut assembler);

        assert!(assembler.is_idle());
    }
}

#[test]
fn a_name_with_escapes_survives_the_wait() {
    let mut assembler = Assembler::default();
    assembler.text(r#"51-["\u0061\/é",1]"#, BOUNDS).unwrap();

    let packet = assembler.binary(vec![1].into()).unwrap().unwrap();

    assert_eq!(
        packet.packet(),
        Packet::Event {
            namespace: "/",
            ack_id: None,
            name: Cow::Borrowed("a/é"),
            args: "1",
            attachments: &[vec![1].into()],
        }
    );
}
