//! Between the contract's messages and this service's own types.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proto::chat::v1::{self as wire, publish_request::Target as WireTarget};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use service_kit::trace::TraceParent;

use super::{PAGE_BYTES_MAX, PRESENT_USERS_MAX, request_error::RequestError};
use crate::{
    client_view::{self, ENTRY_FIELDS, MESSAGE},
    declared_events::{Audience, Data, DeclaredEvent, Retain, Sender},
    event_name::{EVENT_NAME_BYTES_MAX, RESERVED_BY_CLIENTS},
    namespaces::Namespaces,
    request::PAGE_ENTRIES_MAX,
    room_key::{Realm, RoomKey, SUBJECT_BYTES_MAX, is_namespace, is_tenant},
    room_log::{Author, Limit, Position, Publication, PublicationId, Range},
    socket_registry::Cursor,
    worker::{
        DeliveredPage, DeliveredTo, History, LatestOf, Presence, Publish, Published, RoomSummary,
        Rooms,
    },
};

const NAMESPACE_DEFAULT: &str = "/chat";
const DATA_BYTES_MAX: usize = 128 * 1024;
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
const EXCEPT_USERS_MAX: usize = 64;
const ISSUER_BYTES_MAX: usize = 512;
const PAGE_ENTRIES_DEFAULT: usize = 50;
const DELIVERED_USERS_DEFAULT: usize = 100;
const DELIVERED_USERS_MAX: usize = 1000;
const ROOMS_DEFAULT: usize = 100;
const ROOMS_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct PublishRequest {
    tenant: String,
    pub(super) namespace: Cow<'static, str>,
    pub(super) target: Target,
    pub(super) event: Arc<str>,
    /// JSON text of an object.
    data: Bytes,
    volatile: bool,
    idempotency_key: Option<Box<str>>,
    pub(super) except_users: Box<[Box<str>]>,
    /// What its namespace declares of the event, and what leaves of the data.
    declared: Option<(Arc<DeclaredEvent>, Data)>,
}

#[derive(Debug)]
pub(super) enum Target {
    Room(RoomKey),
    User {
        subject: String,
        /// Empty: of whatever issuer.
        issuer: String,
    },
    /// What is kept for a user.
    Inbox(RoomKey),
    Everyone,
}

#[derive(Debug)]
pub(super) struct WatchSocketsRequest {
    /// None: of all.
    pub(super) tenant: Option<String>,
    pub(super) namespace: Cow<'static, str>,
    pub(super) cursor: Option<Cursor>,
}

impl TryFrom<wire::PublishRequest> for PublishRequest {
    type Error = RequestError;

    fn try_from(request: wire::PublishRequest) -> Result<Self, RequestError> {
        let wire::PublishRequest {
            namespace,
            target,
            event,
            data,
            volatile,
            idempotency_key,
            except_users,
            tenant,
            user_issuer,
        } = request;
        let (tenant, namespace) = (checked_tenant(tenant)?, namespace_or_default(namespace)?);
        let realm = Realm { tenant: &tenant, namespace: &namespace };
        let is_for_user = matches!(target, Some(WireTarget::User(_)));
        if user_issuer.len() > if is_for_user { ISSUER_BYTES_MAX } else { 0 } {
            return Err(RequestError::UserIssuer);
        }
        let target = match target.ok_or(RequestError::Target)? {
            WireTarget::Room(room) => Target::Room(RoomKey::parse_room(realm, &room)?),
            WireTarget::User(subject) if is_subject(&subject) => {
                Target::User { subject, issuer: user_issuer }
            }
            WireTarget::User(_) => return Err(RequestError::User),
            WireTarget::Everyone(true) => Target::Everyone,
            WireTarget::Everyone(false) => return Err(RequestError::Target),
        };
        let is_logged = matches!(target, Target::Room(_)) && !volatile;
        let is_to_one = matches!(target, Target::User { .. });
        let may_be_logged = is_logged || is_to_one && !volatile;
        if idempotency_key.len() > IDEMPOTENCY_KEY_BYTES_MAX
            || (!idempotency_key.is_empty() && !may_be_logged)
        {
            return Err(RequestError::IdempotencyKey);
        }
        let are_users = except_users.iter().all(|user| is_subject(user));
        if except_users.len() > if is_to_one { 0 } else { EXCEPT_USERS_MAX } || !are_users {
            return Err(RequestError::ExceptUsers);
        }
        check_data(&data, is_logged)?;
        Ok(Self {
            tenant,
            namespace,
            target,
            event: event_name(event)?,
            data: data.into(),
            volatile,
            idempotency_key: (!idempotency_key.is_empty()).then(|| idempotency_key.into()),
            except_users: except_users.into_iter().map(String::into_boxed_str).collect(),
            declared: None,
        })
    }
}

impl PublishRequest {
    pub(super) fn realm(&self) -> Realm<'_> {
        Realm { tenant: &self.tenant, namespace: &self.namespace }
    }

    /// Holds it to what its namespace declares, if it declares events.
    pub(super) fn hold_to_declaration(
        mut self,
        namespaces: &Namespaces,
    ) -> Result<Self, RequestError> {
        let events = namespaces.events(&self.namespace);
        let Some(event) = events.and_then(|events| events.get(&self.event)) else {
            if events.is_some() && &*self.event != MESSAGE {
                return Err(RequestError::Undeclared);
            }
            // Without a declaration, nothing is kept for a user.
            let is_to_one = matches!(self.target, Target::User { .. });
            if is_to_one && self.idempotency_key.is_some() {
                return Err(RequestError::IdempotencyKey);
            }
            return Ok(self);
        };
        match (event.audience, &self.target) {
            (Audience::Room, Target::Room(_))
            | (Audience::User | Audience::Sender, Target::User { .. })
            | (Audience::Everyone, Target::Everyone) => {}
            (Audience::Room | Audience::User | Audience::Sender | Audience::Everyone, _) => {
                return Err(RequestError::DeclaredTarget);
            }
        }
        if event.is_logged && self.volatile {
            return Err(RequestError::DeclaredLogged);
        }
        if !event.is_logged && self.idempotency_key.is_some() {
            return Err(RequestError::IdempotencyKey);
        }
        if event.retain == Some(Retain::ByUser) {
            return Err(RequestError::OfUsers);
        }
        let body: &RawValue = serde_json::from_slice(&self.data).map_err(|_| RequestError::Data)?;
        let read = event.read(body, Sender::Service);
        let (data, _) = read.map_err(|error| RequestError::DeclaredData(error.to_string()))?;
        self.volatile = !event.is_logged;
        if let (true, Target::User { subject, issuer }) = (event.goes_to_inbox(), &self.target) {
            if !issuer.is_empty() && !events.is_some_and(|events| events.inboxes.are_of(issuer)) {
                return Err(RequestError::NoInbox);
            }
            let inbox = RoomKey::inbox(self.realm(), subject);
            self.target = Target::Inbox(inbox.map_err(|_| RequestError::InboxUser)?);
        }
        self.declared = Some((Arc::clone(event), data));
        Ok(self)
    }

    /// The arguments of an event that stands in no log: JSON text of an array.
    pub(super) fn args(&self) -> Bytes {
        let room = match &self.target {
            Target::Room(room) => Some(room.name_for_services()),
            Target::User { .. } | Target::Inbox(_) | Target::Everyone => None,
        };
        client_view::array(&self.object(room))
    }

    /// What the event carries. `room` says where it was sent, unless the log will.
    fn object(&self, room: Option<&str>) -> Bytes {
        match &self.declared {
            Some((_, data)) => client_view::declared(room, None, &data.fields, None).into(),
            None => self.data.clone(),
        }
    }

    fn latest_of(&self) -> Option<LatestOf> {
        let (event, data) = self.declared.as_ref()?;
        Some((Arc::clone(event), event.value_key(data.key.clone(), None)?))
    }

    pub(super) fn to_room(&self, room: &RoomKey, trace: Option<TraceParent>) -> Publish {
        let (room, event) = (room.clone(), Arc::clone(&self.event));
        let latest_of = self.latest_of();
        if self.volatile {
            let (args, except_users) = (self.args(), self.except_users.clone());
            return Publish::Volatile { room, event, args, except_users, latest_of, trace };
        }
        let publication = Publication {
            author: Author::Service,
            id: self.idempotency_key.clone().map(PublicationId::Own),
            repeated_since_ms: None,
            event,
            payload: self.object(None),
            except_users: self.except_users.clone(),
        };
        Publish::Logged { room, publication, latest_of, trace }
    }
}

fn room_or_inbox(
    realm: Realm<'_>,
    (room, inbox_of): (&str, &str),
) -> Result<RoomKey, RequestError> {
    match (room, inbox_of) {
        (room, "") => Ok(RoomKey::parse_room(realm, room)?),
        ("", subject) => RoomKey::inbox(realm, subject).map_err(|_| RequestError::InboxOf),
        _ => Err(RequestError::InboxOf),
    }
}

pub(super) fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len())
}

impl From<Published> for wire::PublishResponse {
    fn from(published: Published) -> Self {
        match published {
            Published::Logged(entry, durability) => Self {
                id: entry.id().into_owned(),
                position: entry.position.to_string(),
                durability: durability.label().to_owned(),
            },
            Published::Volatile => Self::default(),
        }
    }
}

impl TryFrom<wire::HistoryRequest> for History {
    type Error = RequestError;

    fn try_from(request: wire::HistoryRequest) -> Result<Self, RequestError> {
        let wire::HistoryRequest { namespace, room, before, after, limit, inbox_of, tenant } =
            request;
        let position = |text: &str| text.parse::<Position>().map_err(|_| RequestError::Position);
        let range = match (&*before, &*after) {
            ("", "") => Range::Newest,
            (before, "") => Range::Before(position(before)?),
            ("", after) => Range::After(position(after)?),
            _ => return Err(RequestError::BeforeAndAfter),
        };
        let (tenant, namespace) = (checked_tenant(tenant)?, namespace_or_default(namespace)?);
        let realm = Realm { tenant: &tenant, namespace: &namespace };
        let room = room_or_inbox(realm, (&room, &inbox_of))?;
        let count = limit_or(limit, PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX)?;
        Ok(Self { room, range, limit: Limit { count, bytes: PAGE_BYTES_MAX } })
    }
}

impl TryFrom<wire::PresenceRequest> for Presence {
    type Error = RequestError;

    fn try_from(request: wire::PresenceRequest) -> Result<Self, RequestError> {
        let wire::PresenceRequest { namespace, room, tenant } = request;
        let (tenant, namespace) = (checked_tenant(tenant)?, namespace_or_default(namespace)?);
        let room = RoomKey::parse_room(Realm { tenant: &tenant, namespace: &namespace }, &room)?;
        Ok(Self { room, users_max: PRESENT_USERS_MAX, bytes_max: PAGE_BYTES_MAX })
    }
}

impl TryFrom<wire::RoomsRequest> for Rooms {
    type Error = RequestError;

    fn try_from(request: wire::RoomsRequest) -> Result<Self, RequestError> {
        let wire::RoomsRequest { namespace, after, limit, tenant } = request;
        let (tenant, namespace) =
            (checked_tenant(tenant)?, namespace_or_default(namespace)?.into_owned());
        let limit = limit_or(limit, ROOMS_DEFAULT, ROOMS_MAX)?;
        Ok(Self { tenant, namespace, after, limit })
    }
}

impl TryFrom<wire::DeliveredToRequest> for DeliveredTo {
    type Error = RequestError;

    fn try_from(request: wire::DeliveredToRequest) -> Result<Self, RequestError> {
        let wire::DeliveredToRequest {
            namespace,
            room,
            behind,
            users,
            after,
            limit,
            inbox_of,
            tenant,
        } = request;
        let (tenant, namespace) = (checked_tenant(tenant)?, namespace_or_default(namespace)?);
        let realm = Realm { tenant: &tenant, namespace: &namespace };
        let room = room_or_inbox(realm, (&room, &inbox_of))?;
        let behind = if behind.is_empty() {
            None
        } else {
            Some(behind.parse().map_err(|_| RequestError::Behind)?)
        };
        if users.len() > DELIVERED_USERS_MAX || !users.iter().all(|user| is_subject(user)) {
            return Err(RequestError::Users);
        }
        // It is asked for by name, even where it has never been there.
        let users = if room.is_inbox() && users.is_empty() { vec![inbox_of] } else { users };
        let limit = limit_or(limit, DELIVERED_USERS_DEFAULT, DELIVERED_USERS_MAX)?;
        Ok(Self { room, behind, users, after, limit })
    }
}

impl From<DeliveredPage> for wire::DeliveredToResponse {
    fn from(page: DeliveredPage) -> Self {
        let DeliveredPage { users, more, incomplete } = page;
        let users = users.into_iter().map(|user| {
            let (stretch, delivered_at_unix_ms) = user.delivered.unzip();
            wire::DeliveredUser {
                subject: user.subject,
                position: stretch.map(|one| one.end.to_string()).unwrap_or_default(),
                since: stretch.map(|one| one.after.to_string()).unwrap_or_default(),
                delivered_at_unix_ms: delivered_at_unix_ms.unwrap_or_default(),
                sockets: count(user.sockets),
            }
        });
        Self { users: users.collect(), more, incomplete }
    }
}

impl TryFrom<wire::WatchSocketsRequest> for WatchSocketsRequest {
    type Error = RequestError;

    fn try_from(request: wire::WatchSocketsRequest) -> Result<Self, RequestError> {
        let wire::WatchSocketsRequest { namespace, cursor, tenant, all_tenants } = request;
        if all_tenants && !tenant.is_empty() {
            return Err(RequestError::TenantAndAll);
        }
        let tenant = if all_tenants { None } else { Some(checked_tenant(tenant)?) };
        let cursor = if cursor.is_empty() {
            None
        } else {
            Some(cursor.parse().map_err(|_| RequestError::Cursor)?)
        };
        Ok(Self { tenant, namespace: namespace_or_default(namespace)?, cursor })
    }
}

impl From<RoomSummary> for wire::RoomSummary {
    fn from(summary: RoomSummary) -> Self {
        let RoomSummary { name, users, sockets, position } = summary;
        Self { name, users: count(users), sockets: count(sockets), position: position.to_string() }
    }
}

/// A number of users or sockets, which stay far below the bound.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn namespace_or_default(name: String) -> Result<Cow<'static, str>, RequestError> {
    if name.is_empty() {
        return Ok(Cow::Borrowed(NAMESPACE_DEFAULT));
    }
    if is_namespace(&name) { Ok(name.into()) } else { Err(RequestError::Namespace) }
}

/// Empty names the default one.
pub(super) fn checked_tenant(tenant: String) -> Result<String, RequestError> {
    if is_tenant(&tenant) { Ok(tenant) } else { Err(RequestError::Tenant) }
}

pub(super) fn limit_or(limit: u32, default: usize, max: usize) -> Result<usize, RequestError> {
    match usize::try_from(limit) {
        Ok(0) => Ok(default),
        Ok(limit) if limit <= max => Ok(limit),
        Ok(_) | Err(_) => Err(RequestError::Limit),
    }
}

fn event_name(event: String) -> Result<Arc<str>, RequestError> {
    if event.is_empty() {
        return Ok(MESSAGE.into());
    }
    if event.len() > EVENT_NAME_BYTES_MAX {
        return Err(RequestError::Event);
    }
    if RESERVED_BY_CLIENTS.contains(&&*event) {
        return Err(RequestError::ReservedEvent);
    }
    Ok(event.into())
}

fn check_data(data: &str, is_logged: bool) -> Result<(), RequestError> {
    if data.len() > DATA_BYTES_MAX {
        return Err(RequestError::Data);
    }
    let fields: BTreeMap<String, IgnoredAny> =
        serde_json::from_str(data).map_err(|_| RequestError::Data)?;
    if is_logged && ENTRY_FIELDS.iter().any(|field| fields.contains_key(*field)) {
        return Err(RequestError::DataField);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish() -> wire::PublishRequest {
        wire::PublishRequest {
            target: Some(WireTarget::Room("lobby".to_owned())),
            data: "{\"n\":1}".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_publication_goes_to_chat_as_a_message_unless_it_says_otherwise() {
        let request = PublishRequest::try_from(publish()).unwrap();

        assert_eq!((&*request.namespace, &*request.event), ("/chat", "message"));
        assert_eq!(&request.args()[..], b"[{\"n\":1}]");
    }

    #[test]
    fn says_what_is_wrong_with_a_publication() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(PublishRequest::try_from(wire::PublishRequest { data: deep, ..publish() }).is_ok());

        let user = Some(WireTarget::User("ann".to_owned()));
        for (request, error) in [
            (wire::PublishRequest { target: None, ..publish() }, RequestError::Target),
            (
                wire::PublishRequest { target: Some(WireTarget::Everyone(false)), ..publish() },
                RequestError::Target,
            ),
            (
                wire::PublishRequest { target: Some(WireTarget::Room(String::new())), ..publish() },
                RequestError::Room,
            ),
            (
                wire::PublishRequest { target: Some(WireTarget::User(String::new())), ..publish() },
                RequestError::User,
            ),
            (
                wire::PublishRequest { namespace: "chat".to_owned(), ..publish() },
                RequestError::Namespace,
            ),
            (wire::PublishRequest { event: "x".repeat(257), ..publish() }, RequestError::Event),
            (
                wire::PublishRequest { event: "disconnect".to_owned(), ..publish() },
                RequestError::ReservedEvent,
            ),
            (wire::PublishRequest { data: String::new(), ..publish() }, RequestError::Data),
            (wire::PublishRequest { data: "[]".to_owned(), ..publish() }, RequestError::Data),
            (wire::PublishRequest { data: "{}x".to_owned(), ..publish() }, RequestError::Data),
            (
                wire::PublishRequest { data: " ".repeat(DATA_BYTES_MAX) + "{}", ..publish() },
                RequestError::Data,
            ),
            (
                wire::PublishRequest { data: "{\"\\u0061t\":1}".to_owned(), ..publish() },
                RequestError::DataField,
            ),
            (
                wire::PublishRequest { idempotency_key: "x".repeat(129), ..publish() },
                RequestError::IdempotencyKey,
            ),
            (
                wire::PublishRequest {
                    idempotency_key: "x".to_owned(),
                    volatile: true,
                    ..publish()
                },
                RequestError::IdempotencyKey,
            ),
            (
                wire::PublishRequest {
                    idempotency_key: "x".to_owned(),
                    target: user,
                    volatile: true,
                    ..publish()
                },
                RequestError::IdempotencyKey,
            ),
        ] {
            assert_eq!(PublishRequest::try_from(request).unwrap_err(), error);
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_request_for_history() {
        let position = "__________8AAAAAAAAAAQAAAAA".to_owned();
        let history = || wire::HistoryRequest { room: "lobby".to_owned(), ..Default::default() };
        assert_eq!(History::try_from(history()).unwrap().limit.count, 50);

        for (request, error) in [
            (wire::HistoryRequest { limit: 1001, ..history() }, RequestError::Limit),
            (wire::HistoryRequest { after: "x".to_owned(), ..history() }, RequestError::Position),
            (
                wire::HistoryRequest { after: position.clone(), before: position, ..history() },
                RequestError::BeforeAndAfter,
            ),
            (wire::HistoryRequest { room: "a\nb".to_owned(), ..history() }, RequestError::Room),
        ] {
            assert_eq!(History::try_from(request).unwrap_err(), error);
        }
    }
}
