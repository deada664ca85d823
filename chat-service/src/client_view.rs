//! What clients are shown: the JSON of events and of answers.
//!
//! Each function returns the JSON text of an array, as events and acknowledgements carry their arguments.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    client_error::ClientError,
    retained::Value,
    room_log::{Durability, Entry, Position},
    user::User,
};

/// Most bytes of profiles in one list. How many users it may have is a setting.
pub(crate) const LISTED_USERS_BYTES_MAX: usize = 128 * 1024;

/// The event that tells who came and went.
pub(crate) const PRESENCE: &str = "presence";
/// The event of a message, also when another service publishes one.
pub(crate) const MESSAGE: &str = "message";
/// The event that tells who is typing.
pub(crate) const TYPING: &str = "typing";
/// The event that carries an error nobody waits for.
pub(crate) const EXCEPTION: &str = "exception";

/// The fields that the log adds to what it carries; a payload must not have them.
pub(crate) const ENTRY_FIELDS: [&str; 5] = ["id", "room", "at", "position", "event"];

/// The answer to `join`.
#[derive(Debug)]
pub(crate) struct JoinedView<'a> {
    pub(crate) room: &'a str,
    pub(crate) position: Position,
    /// Absent for who may not see them.
    pub(crate) members: Option<Members<'a>>,
    /// Present where a room may have latest values.
    pub(crate) latest: Option<Vec<&'a Value>>,
    /// Present when the client said where it was.
    pub(crate) recovery: Option<Recovery>,
}

/// Who is in a room.
#[derive(Debug)]
pub(crate) enum Members<'a> {
    /// Each of them.
    Listed(Vec<&'a RawValue>),
    /// So many that they are counted and not listed.
    Counted(usize),
}

/// What the client missed.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// All of it.
    Complete(Vec<Arc<Entry>>),
    /// It cannot be told completely, and so not at all.
    Impossible,
}

/// An entry of the log: what members get when it is appended, and again in every history.
pub(crate) fn entry(room: &str, entry: &Entry) -> Bytes {
    let mut json = vec![b'['];
    write_entry(&mut json, room, entry);
    json.push(b']');
    json.into()
}

/// The object of an entry, as text.
pub(crate) fn entry_object(room: &str, entry: &Entry) -> String {
    let mut json = Vec::new();
    write_entry(&mut json, room, entry);
    String::from_utf8(json).expect("a payload was checked to be JSON text before it was appended")
}

/// What an event that an application declares carries. `fields` is the inside of a JSON object. `room` says where it was sent,
/// unless the log will.
pub(crate) fn declared(
    room: Option<&str>,
    user: Option<&User>,
    fields: &str,
    trace: Option<&str>,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct View<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<&'a str>,
    }
    let mut json = to_json(&View { room, user: user.map(User::profile), trace });
    if !fields.is_empty() {
        json.pop();
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend(fields.as_bytes());
        json.push(b'}');
    }
    json
}

/// The arguments of an event that carries one object.
pub(crate) fn array(object: &[u8]) -> Bytes {
    [b"[", object, b"]"].concat().into()
}

/// What a message carries besides what the log adds. `text` is a JSON string already.
pub(crate) fn message_payload(user: &User, text: &RawValue, trace: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        user: &'a RawValue,
        text: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<&'a str>,
    }
    to_json(&View { user: user.profile(), text, trace }).into()
}

pub(crate) fn joined(view: &JoinedView<'_>) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        room: &'a str,
        position: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<&'a [&'a RawValue]>,
        #[serde(flatten)]
        counted: Option<CountedView>,
    }
    let JoinedView { room, position, members, latest, recovery } = view;
    let position = position.to_string();
    let (members, counted) = match members {
        None => (None, None),
        Some(Members::Listed(profiles)) => (Some(&profiles[..]), None),
        Some(Members::Counted(count)) => {
            (Some(&[][..]), Some(CountedView { count: *count, more: true }))
        }
    };
    let mut json = vec![b'['];
    json.extend(to_json(&View { room, position, members, counted }));
    if let Some(latest) = latest {
        json.pop();
        write_latest(&mut json, latest);
        json.push(b'}');
    }
    if let Some(recovery) = recovery {
        json.pop();
        match recovery {
            Recovery::Complete(entries) => {
                json.extend(b",\"recovered\":true,\"messages\":");
                write_entries(&mut json, room, entries);
            }
            Recovery::Impossible => json.extend(b",\"recovered\":false,\"messages\":[]"),
        }
        json.push(b'}');
    }
    json.push(b']');
    json.into()
}

pub(crate) fn left(room: &str) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        room: &'a str,
    }
    to_json(&[View { room }]).into()
}

/// The answer to `message`.
pub(crate) fn posted(entry: &Entry, durability: Durability) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        id: &'a str,
        position: String,
        at: u64,
        durability: &'static str,
    }
    let Entry { position, at_ms, .. } = entry;
    to_json(&[View {
        id: &entry.id(),
        position: position.to_string(),
        at: *at_ms,
        durability: durability.label(),
    }])
    .into()
}

/// The answer to an event that is kept for another.
pub(crate) fn kept(entry: &Entry, durability: Durability) -> Bytes {
    #[derive(Serialize)]
    struct View {
        at: u64,
        durability: &'static str,
    }
    to_json(&[View { at: entry.at_ms, durability: durability.label() }]).into()
}

/// The answer to an event that has nothing to tell.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"[{}]")
}

pub(crate) fn history(room: &str, entries: &[Arc<Entry>], more: bool) -> Bytes {
    let mut json = b"[{\"messages\":".to_vec();
    write_entries(&mut json, room, entries);
    json.extend(b",\"more\":");
    json.extend(if more { &b"true"[..] } else { b"false" });
    json.extend(b"}]");
    json.into()
}

/// The answer to `presence`: the first of the users, and how many there are.
pub(crate) fn users(users: &[&RawValue], count: usize) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        users: &'a [&'a RawValue],
        count: usize,
        #[serde(skip_serializing_if = "is_false")]
        more: bool,
    }
    to_json(&[View { users, count, more: users.len() < count }]).into()
}

/// The event `presence`: who has come and gone.
pub(crate) fn presence(room: &str, joined: &[&User], left: &[&User], count: usize) -> Bytes {
    to_json(&[PresenceView {
        joined: joined.iter().map(|user| user.profile()).collect(),
        left: left.iter().map(|user| user.profile()).collect(),
        ..PresenceView::new(room, count)
    }])
    .into()
}

/// The event `presence`: all who are there, whatever was told before.
pub(crate) fn presence_list(room: &str, users: &[&RawValue]) -> Bytes {
    to_json(&[PresenceView { users: Some(users), ..PresenceView::new(room, users.len()) }]).into()
}

/// The event `presence`: how many there are, and no longer who.
pub(crate) fn presence_count(room: &str, count: usize) -> Bytes {
    to_json(&[PresenceView { more: true, ..PresenceView::new(room, count) }]).into()
}

/// `joined` and `left` are always there: clients that know nothing else go on undisturbed.
#[derive(Serialize)]
struct PresenceView<'a> {
    room: &'a str,
    joined: Vec<&'a RawValue>,
    left: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [&'a RawValue]>,
    count: usize,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
}

impl<'a> PresenceView<'a> {
    fn new(room: &'a str, count: usize) -> Self {
        Self { room, joined: Vec::new(), left: Vec::new(), users: None, count, more: false }
    }
}

#[derive(Serialize)]
struct CountedView {
    count: usize,
    more: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The event `typing`.
pub(crate) fn typing(room: &str, user: &User, typing: bool) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        room: &'a str,
        user: &'a RawValue,
        typing: bool,
    }
    to_json(&[View { room, user: user.profile(), typing }]).into()
}

/// The answer to an event that was not carried out.
pub(crate) fn error(error: &ClientError) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        error: ErrorView<'a>,
    }
    to_json(&[View { error: ErrorView::new(error) }]).into()
}

/// The event `exception`. `room` says where, when the client did not name one itself.
pub(crate) fn exception(error: &ClientError, room: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        status: &'static str,
        #[serde(flatten)]
        error: ErrorView<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
    }
    to_json(&[View { status: "error", error: ErrorView::new(error), room }]).into()
}

/// The event `exception` for a socket that is in a room no more.
pub(crate) fn put_out(error: &ClientError, room: &str, reason: &str) -> Bytes {
    #[derive(Serialize)]
    struct View<'a> {
        status: &'static str,
        #[serde(flatten)]
        error: ErrorView<'a>,
        room: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
    }
    to_json(&[View { status: "error", error: ErrorView::new(error), room, reason }]).into()
}

#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl<'a> ErrorView<'a> {
    fn new(error: &'a ClientError) -> Self {
        let ClientError { code, message, retry_after } = error;
        // Rounded up: whoever waits for so long is not refused again.
        let retry_after_ms = retry_after.map(|duration| {
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        });
        Self { code: code.label(), message, retryable: code.is_retryable(), retry_after_ms }
    }
}

/// The profiles of the first of the users, as many as one list may have.
pub(crate) fn listed_profiles<'a>(
    users: impl Iterator<Item = &'a User>,
    list_max: usize,
) -> Vec<&'a RawValue> {
    let mut bytes = 0;
    users
        .map(User::profile)
        .take(list_max)
        .take_while(|profile| {
            bytes += profile.get().len() + 1;
            bytes <= LISTED_USERS_BYTES_MAX
        })
        .collect()
}

fn write_latest(json: &mut Vec<u8>, values: &[&Value]) {
    json.extend(b",\"latest\":[");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend(b"{\"event\":");
        json.extend(to_json(&*value.event));
        json.extend(b",\"data\":");
        json.extend(&value.object);
        json.push(b'}');
    }
    json.push(b']');
}

fn write_entries(json: &mut Vec<u8>, room: &str, entries: &[Arc<Entry>]) {
    json.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write_entry(json, room, entry);
    }
    json.push(b']');
}

/// Joins what the log knows with the payload's own fields. The payload is an object that has none of the former.
fn write_entry(json: &mut Vec<u8>, room: &str, entry: &Entry) {
    let Entry { position, at_ms, event, payload, publication_id: _, except_users: _ } = entry;
    json.reserve(payload.len() + room.len() + 192);

    json.extend(b"{\"room\":");
    json.extend(to_json(room));
    json.extend(b",\"id\":");
    json.extend(to_json(&entry.id()));
    if &**event != MESSAGE {
        json.extend(b",\"event\":");
        json.extend(to_json(&**event));
    }
    let fields = payload.trim_ascii();
    let fields = fields[1..fields.len() - 1].trim_ascii();
    if !fields.is_empty() {
        json.push(b',');
        json.extend(fields);
    }
    write!(json, ",\"at\":{at_ms},\"position\":\"{position}\"}}")
        .expect("writing to memory does not fail");
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("views have no maps with keys other than strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_log::PublicationId;

    fn text(json: &Bytes) -> &str {
        str::from_utf8(json).unwrap()
    }

    fn user() -> User {
        User::parse("sub-1", "iss", br#"{"id":"ann", "name":"Ann"}"#).unwrap()
    }

    fn logged(event: &str, payload: &'static str) -> Entry {
        Entry {
            position: Position { epoch: u64::MAX, offset: 1, tag: 0 },
            at_ms: 12,
            publication_id: None,
            event: event.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            except_users: Box::default(),
        }
    }

    #[test]
    fn a_message_shows_the_profile_and_nothing_else_of_its_sender() {
        let raw: Box<RawValue> = serde_json::from_str(r#""h\u0069 \"you\"""#).unwrap();
        let payload = message_payload(&user(), &raw, Some("0af7"));
        let entry = Entry { payload, ..logged("message", "") };

        assert_eq!(
            text(&super::entry("lob\"by", &entry)),
            concat!(
                r#"[{"room":"lob\"by","id":"__________8AAAAAAAAAAQAAAAA","user":{"id":"ann", "name":"Ann"},"#,
                r#""text":"h\u0069 \"you\"","trace":"0af7","at":12,"position":"__________8AAAAAAAAAAQAAAAA"}]"#
            )
        );
    }

    #[test]
    fn an_entry_of_another_event_names_it() {
        let entry = logged("news", " { \"n\" : 1e400 } ");
        assert_eq!(
            entry_object("a", &entry),
            concat!(
                r#"{"room":"a","id":"__________8AAAAAAAAAAQAAAAA","event":"news","n" : 1e400,"#,
                r#""at":12,"position":"__________8AAAAAAAAAAQAAAAA"}"#
            )
        );
    }

    #[test]
    fn an_entry_without_fields_of_its_own_is_an_object_all_the_same() {
        let entry = Entry {
            publication_id: Some(PublicationId::Own("x".into())),
            ..logged("message", "{ }")
        };
        assert_eq!(
            entry_object("a", &entry),
            r#"{"room":"a","id":"x","at":12,"position":"__________8AAAAAAAAAAQAAAAA"}"#
        );
    }

    #[test]
    fn the_answer_to_join_tells_of_recovery_only_when_it_was_asked_for() {
        let user = user();
        let position = Position { epoch: u64::MAX, offset: 1, tag: 0 };
        let view = |recovery| JoinedView {
            room: "a",
            position,
            members: Some(Members::Listed(listed_profiles([&user].into_iter(), 1))),
            latest: None,
            recovery,
        };
        let plain = r#"[{"room":"a","position":"__________8AAAAAAAAAAQAAAAA","members":[{"id":"ann", "name":"Ann"}]"#;

        assert_eq!(text(&joined(&view(None))), format!("{plain}}}]"));
        assert_eq!(
            text(&joined(&view(Some(Recovery::Impossible)))),
            format!("{plain},\"recovered\":false,\"messages\":[]}}]")
        );
        let unseen = JoinedView { members: None, ..view(None) };
        assert_eq!(text(&joined(&unseen)), format!(r#"[{{"room":"a","position":"{position}"}}]"#));
        let counted = JoinedView { members: Some(Members::Counted(200)), ..view(None) };
        assert_eq!(
            text(&joined(&counted)),
            format!(
                r#"[{{"room":"a","position":"{position}","members":[],"count":200,"more":true}}]"#
            )
        );
        let entry = Arc::new(logged("message", "{}"));
        let object = entry_object("a", &entry);
        assert_eq!(
            text(&joined(&view(Some(Recovery::Complete(vec![entry.clone(), entry]))))),
            format!("{plain},\"recovered\":true,\"messages\":[{object},{object}]}}]")
        );
    }

    #[test]
    fn the_other_answers_and_events_read_as_promised() {
        let user = user();
        let position = "__________8AAAAAAAAAAQAAAAA";
        let entry = logged("message", "{}");
        let profile = r#"{"id":"ann", "name":"Ann"}"#;
        for (json, expected) in [
            (left("a"), r#"[{"room":"a"}]"#.to_owned()),
            (
                posted(&entry, Durability::Memory),
                format!(
                    r#"[{{"id":"{position}","position":"{position}","at":12,"durability":"memory"}}]"#
                ),
            ),
            (done(), "[{}]".to_owned()),
            (history("a", &[], true), r#"[{"messages":[],"more":true}]"#.to_owned()),
            (users(&[user.profile()], 1), format!(r#"[{{"users":[{profile}],"count":1}}]"#)),
            (
                users(&[user.profile()], 7),
                format!(r#"[{{"users":[{profile}],"count":7,"more":true}}]"#),
            ),
            (
                presence("a", &[&user], &[], 2),
                format!(r#"[{{"room":"a","joined":[{profile}],"left":[],"count":2}}]"#),
            ),
            (
                presence_list("a", &[user.profile()]),
                format!(r#"[{{"room":"a","joined":[],"left":[],"users":[{profile}],"count":1}}]"#),
            ),
            (
                presence_count("a", 2),
                r#"[{"room":"a","joined":[],"left":[],"count":2,"more":true}]"#.to_owned(),
            ),
            (typing("a", &user, true), format!(r#"[{{"room":"a","user":{profile},"typing":true}}]"#)),
            (
                error(&ClientError::NOT_A_MEMBER),
                r#"[{"error":{"code":"not_a_member","message":"join the room first","retryable":false}}]"#
                    .to_owned(),
            ),
            (
                exception(&ClientError::UNKNOWN_EVENT, None),
                r#"[{"status":"error","code":"unknown_event","message":"there is no such event","retryable":false}]"#
                    .to_owned(),
            ),
            (
                exception(&ClientError::MISSED_EVENTS, Some("a")),
                concat!(
                    r#"[{"status":"error","code":"gap","message":"events of this room were missed: join it again","#,
                    r#""retryable":false,"room":"a"}]"#
                )
                .to_owned(),
            ),
        ] {
            assert_eq!(text(&json), expected);
        }
    }

    #[test]
    fn a_list_of_users_is_bounded_in_number_and_in_bytes() {
        let large = format!("{{\"id\":\"{}\"}}", "x".repeat(LISTED_USERS_BYTES_MAX / 2 - 100));
        let large = User::parse("large", "iss", large.as_bytes()).unwrap();
        let small = user();

        assert_eq!(listed_profiles([&large; 5].into_iter(), 5).len(), 2);
        assert_eq!(listed_profiles([&small; 5000].into_iter(), 1000).len(), 1000);
    }
}
