//! Reads what clients ask for out of the arguments of their events.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    client_error::ClientError,
    client_view::{MESSAGE, TYPING},
    declared_events::{Address, Audience, Data, DeclaredEvent, From, Sender},
    room_key::{OWN_INBOX, ROOM_NAME_BYTES_MAX, RoomKey, RoomKeyError, SUBJECT_BYTES_MAX},
    room_log::{Position, Range},
    room_rules::Deed,
    socket::Socket,
};

/// Longest text of a message, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16_384;

/// Longest id that a client may give a message, in bytes.
pub(crate) const MESSAGE_ID_BYTES_MAX: usize = 128;

/// Most entries in one answer.
pub(crate) const PAGE_ENTRIES_MAX: usize = 1000;

/// How many entries a client gets that does not say.
const PAGE_ENTRIES_DEFAULT: usize = 50;

/// What a client asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Something in one room.
    InRoom(Request),
    /// To have something sent to sockets wherever they are.
    Direct(Direct),
}

/// An event that an application declares, and that goes to no room.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) event: Arc<DeclaredEvent>,
    pub(crate) data: Data,
    /// The user whom it is for, where the client says so.
    pub(crate) subject: Option<String>,
}

/// What a client asks for, in one room.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) room: RoomKey,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Join {
        /// Where the client was when it left.
        since: Option<Position>,
    },
    Leave,
    Message {
        /// A JSON string, as the client wrote it.
        text: Box<RawValue>,
        id: Option<Box<str>>,
    },
    Typing {
        typing: bool,
    },
    History {
        range: Range,
        count: usize,
    },
    Presence,
    /// An event that an application declares.
    Declared {
        event: Arc<DeclaredEvent>,
        data: Data,
        id: Option<Box<str>>,
    },
}

#[derive(Deserialize)]
struct RoomBody<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JoinBody<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MessageBody<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TypingBody<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    typing: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct HistoryBody<'a> {
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
}

impl Request {
    /// Reads the event `name` of a socket with these arguments, the JSON text of an array whose first element is the body.
    /// Fields that are not asked for may hold anything, at any depth.
    pub(crate) fn parse(socket: &Socket, name: &str, args: &[u8]) -> Result<Self, ClientError> {
        match name {
            "join" => join(socket, args),
            "leave" => {
                let room = room_or_inbox(socket, Some(room_or_object(args)?))?;
                Ok(Self { room, action: Action::Leave })
            }
            "message" => message(socket, args),
            "typing" => typing(socket, args),
            "history" => history(socket, args),
            "presence" => {
                let room = room(socket, Some(room_or_object(args)?))?;
                Ok(Self { room, action: Action::Presence })
            }
            _ => Err(ClientError::UNKNOWN_EVENT),
        }
    }
}

impl Request {
    /// What a socket's user would do and may not. Everybody may leave.
    fn forbidden(&self, socket: &Socket) -> Option<Deed<'_>> {
        let deed = match &self.action {
            Action::Leave => return None,
            Action::Join { .. } => Deed::Join,
            Action::History { .. } => Deed::History,
            Action::Presence => Deed::Presence,
            Action::Message { .. } => Deed::Publish(MESSAGE),
            Action::Typing { .. } => Deed::Publish(TYPING),
            Action::Declared { event, .. } if self.room.is_inbox() => {
                let may_send = socket.may_send_directly(&event.name);
                return (!may_send).then_some(Deed::Publish(&event.name));
            }
            Action::Declared { event, .. } => Deed::Publish(&event.name),
        };
        (!socket.may(deed, &self.room)).then_some(deed)
    }
}

impl Asked {
    /// What a socket's user would do and may not.
    pub(crate) fn forbidden(&self, socket: &Socket) -> Option<Deed<'_>> {
        match self {
            Self::InRoom(request) => request.forbidden(socket),
            Self::Direct(Direct { event, .. }) => {
                let may_send = socket.may_send_directly(&event.name);
                (!may_send).then_some(Deed::Publish(&event.name))
            }
        }
    }

    /// Reads an event that an application declares.
    pub(crate) fn parse_declared(
        socket: &Socket,
        event: &Arc<DeclaredEvent>,
        args: &[u8],
    ) -> Result<Self, ClientError> {
        if event.from == From::Services {
            return Err(ClientError::NOT_FROM_CLIENTS);
        }
        let read = event.read(body(args)?, Sender::Client);
        let (data, Address { room: name, user, id }) =
            read.map_err(|error| ClientError::invalid_payload(error.to_string()))?;
        let event = Arc::clone(event);
        let subject = match event.audience {
            Audience::User => {
                let subject = string("user", required("user", user)?)?;
                bounded("user", &subject, SUBJECT_BYTES_MAX)?;
                Some(subject)
            }
            Audience::Room | Audience::Sender | Audience::Everyone => None,
        };
        let room = match &subject {
            _ if event.audience == Audience::Room => room(socket, name)?,
            Some(subject) if event.goes_to_inbox() => inbox(socket, subject)?,
            Some(_) | None => return Ok(Self::Direct(Direct { event, data, subject })),
        };
        let action = Action::Declared { event, data, id: message_id(id)? };
        Ok(Self::InRoom(Request { room, action }))
    }
}

fn join(socket: &Socket, args: &[u8]) -> Result<Request, ClientError> {
    let body = body(args)?;
    if is_string(body) {
        let room = room_or_inbox(socket, Some(body))?;
        return Ok(Request { room, action: Action::Join { since: None } });
    }
    let JoinBody { room: name, since } = object(body, "a room's name or an object")?;
    let room = room_or_inbox(socket, name)?;
    Ok(Request { room, action: Action::Join { since: position("since", since)? } })
}

/// The name of a room, where it is the body or stands in it.
fn room_or_object(args: &[u8]) -> Result<&RawValue, ClientError> {
    let body = body(args)?;
    if is_string(body) {
        return Ok(body);
    }
    let RoomBody { room } = object(body, "a room's name or an object")?;
    required("room", room)
}

fn message(socket: &Socket, args: &[u8]) -> Result<Request, ClientError> {
    let MessageBody { room: name, text, id } = object(body(args)?, "an object")?;
    let room = room(socket, name)?;

    let text = required("text", text)?;
    bounded("text", &string("text", text)?, TEXT_BYTES_MAX)?;
    let id = message_id(id)?;
    Ok(Request { room, action: Action::Message { text: text.to_owned(), id } })
}

fn message_id(id: Option<&RawValue>) -> Result<Option<Box<str>>, ClientError> {
    let Some(id) = id else { return Ok(None) };
    let id = string("id", id)?;
    bounded("id", &id, MESSAGE_ID_BYTES_MAX)?;
    Ok(Some(id.into_boxed_str()))
}

fn typing(socket: &Socket, args: &[u8]) -> Result<Request, ClientError> {
    let TypingBody { room: name, typing } = object(body(args)?, "an object")?;
    let room = room(socket, name)?;
    let typing = value("typing", required("typing", typing)?, "true or false")?;
    Ok(Request { room, action: Action::Typing { typing } })
}

fn history(socket: &Socket, args: &[u8]) -> Result<Request, ClientError> {
    let HistoryBody { room: name, before, after, limit } = object(body(args)?, "an object")?;
    let room = room_or_inbox(socket, name)?;
    let range = match (position("before", before)?, position("after", after)?) {
        (Some(_), Some(_)) => {
            return Err(ClientError::invalid_payload("before and after exclude each other"));
        }
        (Some(before), None) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (None, None) => Range::Newest,
    };
    let count = match limit {
        Some(limit) => {
            const EXPECTED: &str = "a whole number from 1 to 1000";
            let count = value("limit", limit, EXPECTED)?;
            if !(1..=PAGE_ENTRIES_MAX).contains(&count) {
                return Err(must_be("limit", EXPECTED));
            }
            count
        }
        None => PAGE_ENTRIES_DEFAULT,
    };
    Ok(Request { room, action: Action::History { range, count } })
}

/// The first argument.
fn body(args: &[u8]) -> Result<&RawValue, ClientError> {
    match serde_json::from_slice(args) {
        Ok(FirstArgument(Some(body))) => Ok(body),
        Ok(FirstArgument(None)) => Err(ClientError::invalid_payload("the event has no body")),
        Err(_) => Err(ClientError::invalid_payload("the arguments are not a JSON array")),
    }
}

fn is_string(body: &RawValue) -> bool {
    body.get().starts_with('"')
}

fn object<'a, T: Deserialize<'a>>(
    body: &'a RawValue,
    expected: &'static str,
) -> Result<T, ClientError> {
    if !body.get().starts_with('{') {
        return Err(must_be("the body", expected));
    }
    serde_json::from_str(body.get())
        .map_err(|_| ClientError::invalid_payload("the body names a field twice"))
}

fn room(socket: &Socket, name: Option<&RawValue>) -> Result<RoomKey, ClientError> {
    room_named(socket, &string("room", required("room", name)?)?)
}

fn room_named(socket: &Socket, name: &str) -> Result<RoomKey, ClientError> {
    RoomKey::parse_room(socket.realm(), name).map_err(|error| match error {
        RoomKeyError::Length => length("room", ROOM_NAME_BYTES_MAX),
        RoomKeyError::Namespace | RoomKeyError::Tenant | RoomKeyError::ControlCharacter => {
            ClientError::invalid_payload("room must not contain control characters")
        }
        RoomKeyError::Inbox if name == OWN_INBOX => {
            ClientError::invalid_payload("an inbox can be joined, left and read, and no more")
        }
        RoomKeyError::Inbox => ClientError::invalid_payload("room must not begin with @"),
    })
}

/// A room, or the socket's own inbox.
fn room_or_inbox(socket: &Socket, name: Option<&RawValue>) -> Result<RoomKey, ClientError> {
    let name = string("room", required("room", name)?)?;
    if name != OWN_INBOX {
        return room_named(socket, &name);
    }
    let inbox = socket.inbox();
    inbox.ok_or_else(|| ClientError::invalid_payload("room: the user has no inbox here"))
}

/// The inbox of a user that an event is for, who may be anybody.
fn inbox(socket: &Socket, subject: &str) -> Result<RoomKey, ClientError> {
    let inbox = RoomKey::inbox(socket.realm(), subject);
    inbox.map_err(|_| ClientError::invalid_payload("user must not contain control characters"))
}

fn position(field: &str, value: Option<&RawValue>) -> Result<Option<Position>, ClientError> {
    let Some(value) = value else { return Ok(None) };
    let text = string(field, value)?;
    text.parse().map(Some).map_err(|_| must_be(field, "a position"))
}

fn required<'a>(field: &str, value: Option<&'a RawValue>) -> Result<&'a RawValue, ClientError> {
    value.ok_or_else(|| ClientError::invalid_payload(format!("{field} is missing")))
}

fn string(field: &str, raw: &RawValue) -> Result<String, ClientError> {
    value(field, raw, "a string")
}

fn bounded(field: &str, text: &str, bytes_max: usize) -> Result<(), ClientError> {
    if text.is_empty() || text.len() > bytes_max { Err(length(field, bytes_max)) } else { Ok(()) }
}

fn value<T: DeserializeOwned>(
    field: &str,
    raw: &RawValue,
    expected: &str,
) -> Result<T, ClientError> {
    serde_json::from_str(raw.get()).map_err(|_| must_be(field, expected))
}

fn must_be(field: &str, expected: &str) -> ClientError {
    ClientError::invalid_payload(format!("{field} must be {expected}"))
}

fn length(field: &str, bytes_max: usize) -> ClientError {
    ClientError::invalid_payload(format!("{field} must have from 1 to {bytes_max} bytes"))
}

/// The first element of an array, unread. The others may be anything.
struct FirstArgument<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for FirstArgument<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;

        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = FirstArgument<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let first = array.next_element()?;
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FirstArgument(first))
            }
        }

        deserializer.deserialize_seq(ArrayVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        socket::{LinkKey, SocketKey},
        user::User,
    };

    const POSITION: &str = "__________8AAAAAAAAAAQAAAAA";

    fn socket() -> Socket {
        let key = SocketKey { link: LinkKey(1), handle: 1 };
        let user = User::parse("ann", "test", b"{}").unwrap();
        Socket::new(key, "ann-1".into(), "/chat".into(), user)
    }

    fn parse(name: &str, args: &str) -> Result<Request, ClientError> {
        Request::parse(&socket(), name, args.as_bytes())
    }

    fn refusal(name: &str, args: &str) -> String {
        let error = parse(name, args).unwrap_err();
        assert_eq!(error.code.label(), "invalid_payload", "{args}");
        error.message.into_owned()
    }

    #[test]
    fn a_room_may_be_named_by_a_string_or_in_an_object() {
        for name in ["join", "leave", "presence"] {
            for args in [r#"["lobby"]"#, r#"[{"room":"lobby"}]"#, r#"["l\u006fbby",{"more":[]}]"#] {
                assert_eq!(
                    parse(name, args).unwrap().room.name_for_clients(),
                    "lobby",
                    "{name} {args}"
                );
            }
        }
    }

    #[test]
    fn reads_every_field_of_a_message() {
        let request = parse("message", r#"[{"text":"a\nb","id":"one","room":"lobby"}]"#).unwrap();

        let Action::Message { text, id } = request.action else { panic!("{request:?}") };
        assert_eq!((text.get(), id.as_deref()), (r#""a\nb""#, Some("one")));
    }

    #[test]
    fn a_field_that_is_null_counts_as_left_out() {
        let args = r#"[{"room":"lobby","before":null,"after":null,"limit":null}]"#;
        let request = parse("history", args).unwrap();

        assert!(matches!(request.action, Action::History { range: Range::Newest, count: 50 }));
    }

    #[test]
    fn reads_positions_and_limits() {
        let args = format!(r#"[{{"room":"lobby","after":"{POSITION}","limit":1000}}]"#);
        let request = parse("history", &args).unwrap();

        let Action::History { range: Range::After(position), count: 1000 } = request.action else {
            panic!("{request:?}")
        };
        assert_eq!(position.to_string(), POSITION);
    }

    #[test]
    fn an_unknown_event_is_told_as_such() {
        assert_eq!(parse("shout", "[]").unwrap_err(), ClientError::UNKNOWN_EVENT);
        assert_eq!(parse("Join", r#"["lobby"]"#).unwrap_err(), ClientError::UNKNOWN_EVENT);
    }

    #[test]
    fn says_which_field_is_wrong() {
        let long_room = format!(r#"["{}"]"#, "x".repeat(201));
        let long_text = format!(r#"[{{"room":"a","text":"{}"}}]"#, "x".repeat(TEXT_BYTES_MAX + 1));
        let long_id = format!(r#"[{{"room":"a","text":"b","id":"{}"}}]"#, "x".repeat(129));
        let both = format!(r#"[{{"room":"a","before":"{POSITION}","after":"{POSITION}"}}]"#);
        for (name, args, expected) in [
            ("join", "[]", "the event has no body"),
            ("join", "{}", "the arguments are not a JSON array"),
            ("join", "[", "the arguments are not a JSON array"),
            ("join", "[1]", "the body must be a room's name or an object"),
            ("join", "[null]", "the body must be a room's name or an object"),
            ("join", "[[\"lobby\"]]", "the body must be a room's name or an object"),
            ("join", "[{}]", "room is missing"),
            ("join", r#"[{"room":7}]"#, "room must be a string"),
            ("join", r#"[""]"#, "room must have from 1 to 200 bytes"),
            ("join", &long_room, "room must have from 1 to 200 bytes"),
            ("join", r#"["a\u0000b"]"#, "room must not contain control characters"),
            ("join", r#"["@bob"]"#, "room must not begin with @"),
            ("join", r#"["@ann"]"#, "room must not begin with @"),
            ("leave", r#"[{"room":"@me "}]"#, "room must not begin with @"),
            ("join", r#"["@me"]"#, "room: the user has no inbox here"),
            (
                "message",
                r#"[{"room":"@me","text":"b"}]"#,
                "an inbox can be joined, left and read, and no more",
            ),
            ("presence", r#"["@me"]"#, "an inbox can be joined, left and read, and no more"),
            ("join", r#"["\ud800"]"#, "room must be a string"),
            ("join", r#"[{"room":"a","since":1}]"#, "since must be a string"),
            ("join", r#"[{"room":"a","since":"x"}]"#, "since must be a position"),
            ("join", r#"[{"room":"a","room":"b"}]"#, "the body names a field twice"),
            ("leave", "[true]", "the body must be a room's name or an object"),
            ("message", r#"["lobby"]"#, "the body must be an object"),
            ("message", r#"[{"text":"hi"}]"#, "room is missing"),
            ("message", r#"[{"room":"a"}]"#, "text is missing"),
            ("message", r#"[{"room":"a","text":{}}]"#, "text must be a string"),
            ("message", r#"[{"room":"a","text":""}]"#, "text must have from 1 to 16384 bytes"),
            ("message", &long_text, "text must have from 1 to 16384 bytes"),
            ("message", r#"[{"room":"a","text":"b","id":5}]"#, "id must be a string"),
            ("message", r#"[{"room":"a","text":"b","id":""}]"#, "id must have from 1 to 128 bytes"),
            ("message", &long_id, "id must have from 1 to 128 bytes"),
            ("typing", r#"[{"room":"a"}]"#, "typing is missing"),
            ("typing", r#"[{"room":"a","typing":1}]"#, "typing must be true or false"),
            ("history", r#"[{"room":"a","before":"x"}]"#, "before must be a position"),
            ("history", r#"[{"room":"a","after":[]}]"#, "after must be a string"),
            ("history", &both, "before and after exclude each other"),
            (
                "history",
                r#"[{"room":"a","limit":0}]"#,
                "limit must be a whole number from 1 to 1000",
            ),
            (
                "history",
                r#"[{"room":"a","limit":1001}]"#,
                "limit must be a whole number from 1 to 1000",
            ),
            (
                "history",
                r#"[{"room":"a","limit":1.5}]"#,
                "limit must be a whole number from 1 to 1000",
            ),
            (
                "history",
                r#"[{"room":"a","limit":-1}]"#,
                "limit must be a whole number from 1 to 1000",
            ),
            ("presence", "[{}]", "room is missing"),
        ] {
            assert_eq!(refusal(name, args), expected, "{name} {args}");
        }
    }

    #[test]
    fn bytes_that_are_not_unicode_are_refused() {
        assert!(Request::parse(&socket(), "join", b"[\"\xff\"]").is_err());
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));

        assert!(
            parse("message", &format!(r#"[{{"room":"a","text":"b","x":{deep}}},{deep}]"#)).is_ok()
        );
        assert_eq!(refusal("message", &format!("[{deep}]")), "the body must be an object");
        let in_field = format!(r#"[{{"room":{deep},"text":"b"}}]"#);
        assert_eq!(refusal("message", &in_field), "room must be a string");
        let in_limit = format!(r#"[{{"room":"a","limit":{deep}}}]"#);
        assert_eq!(refusal("history", &in_limit), "limit must be a whole number from 1 to 1000");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_repeats_the_payload(
            name in "join|leave|message|typing|history|presence",
            marker in "[A-Z]{12}",
            shape in 0_usize..6,
        ) {
            let args = match shape {
                0 => format!("[\"\\u0000{marker}\"]"),
                1 => format!("[{{\"room\":{{\"{marker}\":1}}}}]"),
                2 => format!("[{{\"room\":\"a\",\"text\":[\"{marker}\"],\"typing\":\"{marker}\"}}]"),
                3 => format!("[{{\"room\":\"a\",\"since\":\"{marker}\",\"before\":\"{marker}\"}}]"),
                4 => format!("[{{\"room\":\"a\",\"room\":\"{marker}\"}}]"),
                _ => marker.clone(),
            };
            if let Err(error) = parse(&name, &args) {
                prop_assert!(!error.message.contains(&marker));
            }
        }

        #[test]
        fn never_panics_on_any_bytes(
            name in "join|leave|message|typing|history|presence",
            args in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _parsed = Request::parse(&socket(), &name, &args).is_ok();
        }
    }
}
