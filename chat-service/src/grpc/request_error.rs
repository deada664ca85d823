//! What can be wrong with what other services ask for.

use thiserror::Error;
use tonic::Status;

use crate::room_key::RoomKeyError;

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RequestError {
    #[error(
        "namespace must begin with a slash and have at most 256 bytes, none of them control characters"
    )]
    Namespace,
    #[error("tenant must have at most 128 bytes, none of them control characters")]
    Tenant,
    #[error("user_issuer is only for the target user, and has at most 512 bytes")]
    UserIssuer,
    #[error("tenant and all_tenants exclude each other")]
    TenantAndAll,
    #[error("a target is missing: room, user, or everyone set to true")]
    Target,
    #[error(
        "room must have from 1 to 200 bytes, none of them control characters, and not begin with @"
    )]
    Room,
    #[error("user must have from 1 to 256 bytes")]
    User,
    #[error("user_issuer is not that of the users who have inboxes in the namespace")]
    NoInbox,
    #[error("user must have no control characters where the event is logged")]
    InboxUser,
    #[error(
        "either room or inbox_of is needed; inbox_of has from 1 to 256 bytes, none of them control characters"
    )]
    InboxOf,
    #[error("event must have at most 256 bytes")]
    Event,
    #[error("event must not be a name that Socket.IO reserves")]
    ReservedEvent,
    #[error("data must be a JSON object of at most 131072 bytes")]
    Data,
    #[error("data must not have a field id, room, at, position or event")]
    DataField,
    #[error("idempotency_key must have at most 128 bytes, and is only for what is logged")]
    IdempotencyKey,
    #[error(
        "except_users must be at most 64 subjects of from 1 to 256 bytes, and none for the target user"
    )]
    ExceptUsers,
    #[error("the namespace declares its events, and this is none of them")]
    Undeclared,
    #[error("the event is declared for another kind of target")]
    DeclaredTarget,
    #[error("the event is declared to be logged")]
    DeclaredLogged,
    #[error("the event is of users: its latest value is kept for each of them")]
    OfUsers,
    #[error("data: {0}")]
    DeclaredData(String),
    #[error("before and after exclude each other")]
    BeforeAndAfter,
    #[error("before and after must be positions")]
    Position,
    #[error("behind must be a position")]
    Behind,
    #[error("users must be at most 1000 subjects of from 1 to 256 bytes")]
    Users,
    #[error("cursor must be one that was given out")]
    Cursor,
    #[error("limit must be at most 1000")]
    Limit,
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<RoomKeyError> for RequestError {
    fn from(error: RoomKeyError) -> Self {
        match error {
            RoomKeyError::Namespace => Self::Namespace,
            RoomKeyError::Tenant => Self::Tenant,
            RoomKeyError::Length | RoomKeyError::ControlCharacter | RoomKeyError::Inbox => {
                Self::Room
            }
        }
    }
}
