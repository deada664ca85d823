//! Puts users out of rooms, and keeps them out, as other services ask for it.

use proto::chat::v1 as wire;
use service_kit::audit::AuditEvent;
use thiserror::Error;
use tonic::Status;

use super::{AskError, ChatGrpc, convert, request_error::RequestError};
use crate::{
    audit,
    exclusions::{Ban, REASON_BYTES_MAX, TooManyError, Who},
    room_key::{Realm, RoomKey},
    room_log::Durability,
    worker::{BanPage, Bans, KeepOut, KeepOutError, PutOut, Query},
};

const SOCKET_ID_BYTES_MAX: usize = 128;
const ISSUER_BYTES_MAX: usize = 512;
const BANS_DEFAULT: usize = 100;
const BANS_MAX: usize = 1000;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ExclusionRequestError {
    #[error("who is missing: user or socket_id")]
    Nobody,
    #[error("user must have an issuer of from 1 to 512 bytes and a subject of from 1 to 256")]
    User,
    #[error("socket_id must have from 1 to 128 bytes")]
    SocketId,
    #[error("reason must have at most 256 bytes, none of them control characters")]
    Reason,
    #[error("until_unix_ms has passed")]
    Until,
}

impl From<ExclusionRequestError> for Status {
    fn from(error: ExclusionRequestError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<KeepOutError> for Status {
    fn from(error: KeepOutError) -> Self {
        match error {
            KeepOutError::TooMany(TooManyError::All | TooManyError::OfRoom) => {
                Self::resource_exhausted(error.to_string())
            }
            KeepOutError::Failed(_) => Self::unavailable(error.to_string()),
        }
    }
}

impl ChatGrpc {
    pub(super) async fn put_out(
        &self,
        keep_out: KeepOut,
        call: AuditEvent,
    ) -> Result<PutOut, Status> {
        let (worker, who) = (self.workers.of(&keep_out.room), keep_out.who.clone());
        let put_out = self.ask(worker, |reply| Query::KeepOut(keep_out, reply)).await??;
        audit::done(call, &who);
        Ok(put_out)
    }

    pub(super) async fn lift_ban(
        &self,
        request: wire::UnbanRequest,
        call: AuditEvent,
    ) -> Result<bool, Status> {
        let wire::UnbanRequest { namespace, room, user, tenant } = request;
        let room = room_key(namespace, &room, tenant)?;
        let who = user_of(user.ok_or(ExclusionRequestError::Nobody)?)?;
        let (worker, user) = (self.workers.of(&room), who.clone());
        let was_banned = self.ask(worker, |reply| Query::Unban(room, user, reply)).await??;
        audit::done(call, &who);
        Ok(was_banned)
    }

    pub(super) async fn bans(&self, request: wire::ListBansRequest) -> Result<BanPage, Status> {
        let wire::ListBansRequest { namespace, room, after, limit, tenant } = request;
        let room = room_key(namespace, &room, tenant)?;
        let after = after.map(user_of).transpose()?;
        let limit = convert::limit_or(limit, BANS_DEFAULT, BANS_MAX)?;
        let (worker, asked) = (self.workers.of(&room), Bans { room, after, limit });
        self.ask(worker, |reply| Query::Bans(asked, reply)).await.map_err(AskError::into)
    }
}

pub(super) fn kick(request: wire::KickRequest) -> Result<KeepOut, Status> {
    let wire::KickRequest { namespace, room, who, reason, tenant } = request;
    let room = room_key(namespace, &room, tenant)?;
    let who = match who.ok_or(ExclusionRequestError::Nobody)? {
        wire::kick_request::Who::User(user) => user_of(user)?,
        wire::kick_request::Who::SocketId(id) if (1..=SOCKET_ID_BYTES_MAX).contains(&id.len()) => {
            Who::Socket(id.into())
        }
        wire::kick_request::Who::SocketId(_) => return Err(ExclusionRequestError::SocketId.into()),
    };
    Ok(KeepOut { room, who, ban: None, reason: checked_reason(reason)? })
}

pub(super) fn ban(request: wire::BanRequest, now_ms: u64) -> Result<KeepOut, Status> {
    let wire::BanRequest { namespace, room, user, until_unix_ms, reason, tenant } = request;
    let room = room_key(namespace, &room, tenant)?;
    let who = user_of(user.ok_or(ExclusionRequestError::Nobody)?)?;
    let until_ms = (until_unix_ms != 0).then_some(until_unix_ms);
    if until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
        return Err(ExclusionRequestError::Until.into());
    }
    Ok(KeepOut { room, who, ban: Some(until_ms), reason: checked_reason(reason)? })
}

fn room_key(namespace: String, room: &str, tenant: String) -> Result<RoomKey, RequestError> {
    let (tenant, namespace) =
        (convert::checked_tenant(tenant)?, convert::namespace_or_default(namespace)?);
    let realm = Realm { tenant: &tenant, namespace: &namespace };
    Ok(RoomKey::parse_room(realm, room)?)
}

fn user_of(user: wire::UserId) -> Result<Who, ExclusionRequestError> {
    let wire::UserId { issuer, subject } = user;
    if !(1..=ISSUER_BYTES_MAX).contains(&issuer.len()) || !convert::is_subject(&subject) {
        return Err(ExclusionRequestError::User);
    }
    Ok(Who::User { subject: subject.into(), issuer: issuer.into() })
}

fn checked_reason(reason: String) -> Result<Box<str>, ExclusionRequestError> {
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(ExclusionRequestError::Reason);
    }
    Ok(reason.into())
}

impl PutOut {
    pub(super) fn durability(&self) -> String {
        let durability = if self.is_on_disk { Durability::DiskFsync } else { Durability::Memory };
        durability.label().to_owned()
    }
}

impl From<PutOut> for wire::KickResponse {
    fn from(put_out: PutOut) -> Self {
        let durability = put_out.durability();
        let position = put_out.position.map(|position| position.to_string()).unwrap_or_default();
        Self { sockets: convert::count(put_out.sockets), position, durability }
    }
}

impl From<PutOut> for wire::BanResponse {
    fn from(put_out: PutOut) -> Self {
        let wire::KickResponse { sockets, position, durability } = put_out.into();
        Self { sockets, position, durability }
    }
}

impl From<BanPage> for wire::ListBansResponse {
    fn from(page: BanPage) -> Self {
        let bans = page.bans.into_iter().filter_map(|(who, ban)| {
            let Who::User { subject, issuer } = who else { return None };
            let Ban { since_ms, until_ms, reason } = ban;
            Some(wire::BannedUser {
                user: Some(wire::UserId { issuer: issuer.into(), subject: subject.into() }),
                until_unix_ms: until_ms.unwrap_or_default(),
                reason: reason.into(),
                since_unix_ms: since_ms,
            })
        });
        Self { bans: bans.collect(), more: page.more }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn user(issuer: &str, subject: &str) -> Option<wire::UserId> {
        Some(wire::UserId { issuer: issuer.to_owned(), subject: subject.to_owned() })
    }

    fn banned() -> wire::BanRequest {
        let (room, user) = ("lobby".to_owned(), user("test", "ann"));
        wire::BanRequest { room, user, ..Default::default() }
    }

    #[test]
    fn says_what_is_wrong_with_a_ban() {
        let longest = "x".repeat(REASON_BYTES_MAX);
        let fitting = wire::BanRequest { reason: longest.clone(), until_unix_ms: 6, ..banned() };
        assert_eq!(ban(fitting, 5).unwrap().ban, Some(Some(6)));
        assert_eq!(ban(banned(), 5).unwrap().ban, Some(None));
        let of_tenant = wire::BanRequest { tenant: "acme".to_owned(), ..banned() };
        assert_eq!(ban(of_tenant, 5).unwrap().room.tenant(), "acme");
        let (issuer, subject) = ("i".repeat(ISSUER_BYTES_MAX), "s".repeat(256));
        ban(wire::BanRequest { user: user(&issuer, &subject), ..banned() }, 5).unwrap();

        for (request, code) in [
            (wire::BanRequest { user: None, ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { user: user("", "ann"), ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { user: user("test", ""), ..banned() }, Code::InvalidArgument),
            (
                wire::BanRequest { user: user(&(issuer + "i"), "ann"), ..banned() },
                Code::InvalidArgument,
            ),
            (
                wire::BanRequest { user: user("test", &(subject + "s")), ..banned() },
                Code::InvalidArgument,
            ),
            (wire::BanRequest { reason: longest + "x", ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { reason: "a\nb".to_owned(), ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { until_unix_ms: 5, ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { room: "@ann".to_owned(), ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { namespace: "x".to_owned(), ..banned() }, Code::InvalidArgument),
            (wire::BanRequest { tenant: "a\nb".to_owned(), ..banned() }, Code::InvalidArgument),
        ] {
            assert_eq!(ban(request, 5).unwrap_err().code(), code);
        }
    }

    #[test]
    fn a_kick_names_a_user_or_a_socket() {
        let room = "lobby".to_owned();
        let kicked = |who| wire::KickRequest { room: room.clone(), who, ..Default::default() };
        let id = |bytes| Some(wire::kick_request::Who::SocketId("x".repeat(bytes)));

        let longest = kick(kicked(id(SOCKET_ID_BYTES_MAX))).unwrap().who;
        assert_eq!(longest, Who::Socket("x".repeat(SOCKET_ID_BYTES_MAX).into()));
        for who in [None, id(0), id(SOCKET_ID_BYTES_MAX + 1)] {
            assert_eq!(kick(kicked(who)).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
