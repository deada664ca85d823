//! Text frames of a client, one after the other, up to what the gateway must do.

use std::borrow::Cow;
use std::collections::HashMap;

use edge_protocol::engine_io::{self, Received};
use edge_protocol::socket_io::{
    Action, DecodePacketError, NAMESPACES_MAX, Packet, Session, Violation,
};
use proptest::prelude::*;

use crate::client::JSON_DEPTH_MAX;

/// Why a connection is closed.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    EngineIo(engine_io::DecodePacketError),
    SocketIo(DecodePacketError),
    Violation(Violation),
}

const NOTHING: Result<Action<'static, u32>, Closed> = Ok(Action::Nothing);
const NOT_CONNECTED: Result<Action<'static, u32>, Closed> =
    Err(Closed::Violation(Violation::NotConnected));
const ALREADY_CONNECTED: Result<Action<'static, u32>, Closed> =
    Err(Closed::Violation(Violation::AlreadyConnected));

fn receive<'a>(session: &mut Session<u32>, text: &'a str) -> Result<Action<'a, u32>, Closed> {
    match engine_io::receive(text).map_err(Closed::EngineIo)? {
        Received::Message(message) => {
            let packet = Packet::decode(message, JSON_DEPTH_MAX).map_err(Closed::SocketIo)?;
            session.handle(packet).map_err(Closed::Violation)
        }
        Received::Binary(_) | Received::Pong | Received::Ignored | Received::Closed => {
            Ok(Action::Nothing)
        }
    }
}

/// A session that is in `/chat` with socket 1.
fn in_chat() -> Session<u32> {
    let mut session = Session::new();
    receive(&mut session, "40/chat,").unwrap();
    assert!(session.connected("/chat", 1));
    session
}

#[test]
fn a_client_connects_talks_and_leaves() {
    let mut session = Session::new();
    assert!(session.is_idle());

    assert_eq!(
        receive(&mut session, r#"40/chat,{"token":"t"}"#),
        Ok(Action::Connect { namespace: "/chat", auth: Some(r#"{"token":"t"}"#) })
    );
    assert!(!session.is_idle());
    assert_eq!(session.sockets().count(), 0);

    assert!(session.opening("/chat", 1));
    assert_eq!(session.sockets().collect::<Vec<_>>(), [1]);

    assert!(session.connected("/chat", 1));
    assert_eq!(
        receive(&mut session, r#"42/chat,7["message",1]"#),
        Ok(Action::Event {
            socket: 1,
            ack_id: Some(7),
            name: Cow::Borrowed("message"),
            args: "1",
            attachments: &[]
        })
    );
    assert_eq!(
        receive(&mut session, "43/chat,8[2]"),
        Ok(Action::Ack { socket: 1, ack_id: 8, args: "2", attachments: &[] })
    );
    assert_eq!(receive(&mut session, "41/chat,"), Ok(Action::Disconnect { socket: 1 }));
    assert!(session.is_idle());
}

#[test]
fn every_violation_closes_the_connection_with_its_reason() {
    let engine_io = |error| Err(Closed::EngineIo(error));
    let socket_io = |error| Err(Closed::SocketIo(error));
    let cases = [
        // Engine.IO
        ("", engine_io(engine_io::DecodePacketError::Empty)),
        ("2", engine_io(engine_io::DecodePacketError::PingFromClient)),
        ("2probe", engine_io(engine_io::DecodePacketError::PingFromClient)),
        ("7", engine_io(engine_io::DecodePacketError::UnknownType)),
        ("9", engine_io(engine_io::DecodePacketError::UnknownType)),
        ("abc", engine_io(engine_io::DecodePacketError::UnknownType)),
        // Socket.IO
        ("4", socket_io(DecodePacketError::Empty)),
        ("4x", socket_io(DecodePacketError::UnknownType)),
        ("47", socket_io(DecodePacketError::UnknownType)),
        ("48", socket_io(DecodePacketError::UnknownType)),
        (r#"44/chat,{"message":"x"}"#, socket_io(DecodePacketError::ConnectErrorFromClient)),
        (r#"42/chat,["connect"]"#, socket_io(DecodePacketError::ReservedEvent)),
        ("42/chat,[]", socket_io(DecodePacketError::BadPayload)),
        ("42/chat,{}", socket_io(DecodePacketError::BadPayload)),
        (r#"42/chat,["echo",1"#, socket_io(DecodePacketError::BadPayload)),
        ("40/other,[1]", socket_io(DecodePacketError::BadPayload)),
        (r#"40/other,"s""#, socket_io(DecodePacketError::BadPayload)),
        ("43/chat,99{}", socket_io(DecodePacketError::BadPayload)),
        ("41/chat,{}", socket_io(DecodePacketError::BadPayload)),
        // Namespaces
        ("40/chat,", ALREADY_CONNECTED),
        (r#"42["echo",1]"#, NOT_CONNECTED),
        (r#"42/other,["echo",1]"#, NOT_CONNECTED),
        (r#"42/CHAT,["echo",1]"#, NOT_CONNECTED),
        ("42", NOT_CONNECTED),
        ("430[]", NOT_CONNECTED),
        ("43", NOT_CONNECTED),
        ("41", NOT_CONNECTED),
        ("41/other,", NOT_CONNECTED),
    ];

    for (text, expected) in cases {
        assert_eq!(receive(&mut in_chat(), text), expected, "{text}");
    }
}

#[test]
fn nothing_is_taken_before_connect() {
    for text in [r#"42["echo",1]"#, r#"42/chat,["echo",1]"#, "42/chat,", "41/chat,", "41", "430[]"]
    {
        assert_eq!(receive(&mut Session::new(), text), NOT_CONNECTED, "{text}");
    }
}

#[test]
fn what_is_odd_but_harmless_is_tolerated() {
    for text in ["0", "1", "3", "3x", "5", "6", "42/chat,", "42/chat", "42/chat,5", "43/chat,[1]"] {
        assert_eq!(receive(&mut in_chat(), text), NOTHING, "{text}");
    }
    assert_eq!(
        receive(&mut in_chat(), r#"42/chat,[1,"x"]"#),
        Ok(Action::Event {
            socket: 1,
            ack_id: None,
            name: Cow::Borrowed("1"),
            args: r#""x""#,
            attachments: &[]
        })
    );
    assert_eq!(
        receive(&mut in_chat(), "43/chat,99"),
        Ok(Action::Ack { socket: 1, ack_id: 99, args: "", attachments: &[] })
    );
}

#[test]
fn nothing_overtakes_the_answer_to_connect() {
    let mut asked_for = Session::new();
    receive(&mut asked_for, "40/chat,").unwrap();
    let mut opening = Session::new();
    receive(&mut opening, "40/chat,").unwrap();
    opening.opening("/chat", 1);

    for mut session in [asked_for, opening] {
        assert_eq!(receive(&mut session, r#"42/chat,["a"]"#), NOT_CONNECTED);
        assert_eq!(receive(&mut session, "42/chat,"), NOT_CONNECTED);
        assert_eq!(receive(&mut session, "43/chat,1[]"), NOT_CONNECTED);
        assert_eq!(receive(&mut session, "40/chat,"), ALREADY_CONNECTED);
        assert!(session.connected("/chat", 1), "a violation changes nothing");
    }
}

#[test]
fn a_disconnect_cancels_what_was_asked_for() {
    let mut session = Session::new();

    receive(&mut session, "40/chat,").unwrap();
    assert_eq!(receive(&mut session, "41/chat,"), NOTHING);
    assert!(!session.opening("/chat", 1));
    assert!(!session.connected("/chat", 1));
    assert!(session.is_idle());

    receive(&mut session, "40/chat,").unwrap();
    assert!(session.opening("/chat", 2));
    assert_eq!(receive(&mut session, "41/chat,"), Ok(Action::Disconnect { socket: 2 }));
    assert!(!session.connected("/chat", 2));
    assert!(session.is_idle());
}

#[test]
fn an_answer_for_a_socket_of_the_past_connects_nobody() {
    let mut session = Session::new();
    receive(&mut session, "40/chat,").unwrap();
    session.opening("/chat", 1);
    receive(&mut session, "41/chat,").unwrap();
    receive(&mut session, "40/chat,").unwrap();
    session.opening("/chat", 2);

    assert!(!session.connected("/chat", 1));
    assert_eq!(receive(&mut session, r#"42/chat,["a"]"#), NOT_CONNECTED);

    assert!(session.connected("/chat", 2));
    assert_eq!(session.sockets().collect::<Vec<_>>(), [2]);
    assert!(!session.opening("/chat", 3));
    assert!(!session.connected("/chat", 3));
}

#[test]
fn after_a_refusal_or_a_disconnect_the_client_may_ask_again() {
    let mut session = Session::new();
    receive(&mut session, "40/chat,").unwrap();

    session.refused("/chat");
    assert!(session.is_idle());
    assert_eq!(receive(&mut session, r#"42/chat,["a"]"#), NOT_CONNECTED);

    assert!(receive(&mut session, "40/chat,").is_ok());
    session.connected("/chat", 1);
    receive(&mut session, "41/chat,").unwrap();
    assert_eq!(receive(&mut session, r#"42/chat,["a"]"#), NOT_CONNECTED);
    assert!(receive(&mut session, "40/chat,").is_ok());
}

#[test]
fn namespaces_of_one_session_do_not_touch_each_other() {
    let mut session = in_chat();
    receive(&mut session, "40").unwrap();
    session.connected("/", 2);

    assert_eq!(receive(&mut session, "41"), Ok(Action::Disconnect { socket: 2 }));
    assert_eq!(
        receive(&mut session, r#"42/chat,["a"]"#),
        Ok(Action::Event {
            socket: 1,
            ack_id: None,
            name: Cow::Borrowed("a"),
            args: "",
            attachments: &[]
        })
    );
}

#[test]
fn a_session_has_a_bounded_number_of_namespaces() {
    let mut session = Session::new();
    let mut connect = |index: usize| {
        let text = format!("40/{index},");
        receive(&mut session, &text).map(|action| matches!(action, Action::Connect { .. }))
    };

    for index in 0..NAMESPACES_MAX {
        assert_eq!(connect(index), Ok(true));
    }
    assert_eq!(connect(NAMESPACES_MAX), Ok(false));
    assert_eq!(
        receive(&mut session, "40/more,"),
        Ok(Action::TooManyNamespaces { namespace: "/more" })
    );
    assert_eq!(receive(&mut session, r#"42/more,["a"]"#), NOT_CONNECTED);

    session.refused("/0");
    assert_eq!(
        receive(&mut session, "40/more,"),
        Ok(Action::Connect { namespace: "/more", auth: None })
    );
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Disconnect,
    Event,
    Opening(u32),
    Connected(u32),
    Refused,
}

/// A model of one namespace: `None`, asked for (no socket), opening or connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    AskedFor,
    Opening(u32),
    Connected(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Connect),
        Just(Step::Disconnect),
        Just(Step::Event),
        (0..3u32).prop_map(Step::Opening),
        (0..3u32).prop_map(Step::Connected),
        Just(Step::Refused),
    ]
}

/// Takes the step in the model; returns what the session must answer, as text.
fn expected(model: &mut HashMap<&str, Model>, namespace: &'static str, step: Step) -> &'static str {
    match (step, model.get(namespace).copied()) {
        (Step::Connect, Some(_)) => "violation",
        (Step::Connect, None) => {
            model.insert(namespace, Model::AskedFor);
            "connect"
        }
        (Step::Event, Some(Model::Connected(_))) => "event",
        (Step::Event | Step::Disconnect, None) => "violation",
        (Step::Event, Some(Model::AskedFor | Model::Opening(_))) => "violation",
        (Step::Disconnect, Some(was)) => {
            model.remove(namespace);
            if was == Model::AskedFor { "nothing" } else { "disconnect" }
        }
        (Step::Opening(socket), Some(Model::AskedFor)) => {
            model.insert(namespace, Model::Opening(socket));
            "true"
        }
        (Step::Connected(socket), Some(was))
            if was == Model::AskedFor || was == Model::Opening(socket) =>
        {
            model.insert(namespace, Model::Connected(socket));
            "true"
        }
        (Step::Opening(_) | Step::Connected(_), _) => "false",
        (Step::Refused, _) => {
            model.remove(namespace);
            "nothing"
        }
    }
}

fn actual(session: &mut Session<u32>, namespace: &'static str, step: Step) -> &'static str {
    let packet = match step {
        Step::Connect => Packet::Connect { namespace, auth: None },
        Step::Disconnect => Packet::Disconnect { namespace },
        Step::Event => {
            Packet::Event { namespace, ack_id: None, name: "a".into(), args: "", attachments: &[] }
        }
        Step::Opening(socket) => {
            return if session.opening(namespace, socket) { "true" } else { "false" };
        }
        Step::Connected(socket) => {
            return if session.connected(namespace, socket) { "true" } else { "false" };
        }
        Step::Refused => {
            session.refused(namespace);
            return "nothing";
        }
    };
    match session.handle(packet) {
        Ok(Action::Connect { .. }) => "connect",
        Ok(Action::TooManyNamespaces { .. }) => "too many",
        Ok(Action::Event { .. }) => "event",
        Ok(Action::Ack { .. }) => "ack",
        Ok(Action::Disconnect { .. }) => "disconnect",
        Ok(Action::Nothing) => "nothing",
        Err(_) => "violation",
    }
}

proptest! {
    #[test]
    fn any_schedule_agrees_with_the_model(
        steps in prop::collection::vec((prop::sample::select(vec!["/", "/a", "/b"]), any_step()), 1..100)
    ) {
        let mut session = Session::new();
        let mut model = HashMap::new();

        for (namespace, step) in steps {
            let expected = expected(&mut model, namespace, step);
            prop_assert_eq!(actual(&mut session, namespace, step), expected);

            let mut sockets: Vec<u32> = session.sockets().collect();
            let mut known: Vec<u32> = model
                .values()
                .filter_map(|state| match state {
                    Model::Opening(socket) | Model::Connected(socket) => Some(*socket),
                    Model::AskedFor => None,
                })
                .collect();
            sockets.sort_unstable();
            known.sort_unstable();
            prop_assert_eq!(sockets, known);
            prop_assert_eq!(session.is_idle(), model.is_empty());
        }
    }
}
