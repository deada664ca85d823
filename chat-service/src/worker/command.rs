//! What a worker can be asked to do.

use std::sync::Arc;

use bytes::Bytes;
use service_kit::trace::TraceParent;
use tokio::sync::oneshot;

use super::{KeepOutError, LatestOf};
use crate::{
    client_event::ClientEvent,
    deliveries::Stretch,
    edge_link::Ticket,
    exclusions::{Ban, Who},
    request::Request,
    room::Arrival,
    room_key::{Realm, RoomKey},
    room_log::{
        AppendError, Durability, Entry, Limit, Page, ParsePositionError, Position, Publication,
        Range, ReadError, Unreadable,
    },
    room_rules::Capabilities,
    socket::{LinkKey, Socket, SocketKey},
    user::User,
};

#[derive(Debug)]
pub(crate) enum Command {
    /// A client's event in one room.
    Client(ClientEvent, Box<Request>),
    Restore(Box<Restore>),
    /// A socket is gone: it leaves all its rooms.
    SocketClosed(Ticket, SocketKey, Departure),
    /// A socket has lost its client, who may come back.
    SocketSuspended(Ticket, SocketKey),
    /// He has.
    SocketResumed(Ticket, SocketKey),
    /// Its client has brought another token, by which its user may do other things.
    SocketRefreshed(Ticket, Arc<Socket>),
    /// Its client has brought another token, which counts when the socket was given what it missed.
    SocketNarrowed(Ticket, Arc<Socket>, Arc<Capabilities>),
    /// A socket has come from another link, where it stays until this is done, and was in a room there. What was sent to it
    /// until now it brings with it.
    SocketMoved(Ticket, Arc<Socket>, RoomKey),
    /// One that has moved had left a room where it was before.
    SocketLeft(Ticket, Arc<Socket>, RoomKey),
    CatchUp(Box<CatchUp>),
    Refill(Box<Refill>),
    Delivered(Box<Delivered>),
    /// A link is gone: its sockets leave all their rooms.
    LinkGone(LinkKey),
    Query(Box<Query>),
}

/// Takes a socket into a room where it has been all along. What it missed follows with [`CatchUp`].
#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) ticket: Ticket,
    pub(crate) socket: Arc<Socket>,
    pub(crate) room: RoomKey,
    /// The last that the socket was given; none in a room without a log.
    pub(crate) position: Option<Result<Position, ParsePositionError>>,
    /// What it was before: on an earlier life of its link, if this process has seen that, or on another link.
    pub(crate) earlier: Option<SocketKey>,
    pub(crate) arrival: Arrival,
    /// Its edge does not know that it is in the room.
    pub(crate) is_told: bool,
}

/// How a socket has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Its client has said so, or a service has.
    Said,
    /// Its client may be back in a moment, with another one.
    Lost,
}

/// Gives the restored sockets of a link in one room a part of what they missed, and tells the outbox whether it was all.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) ticket: Ticket,
    pub(crate) room: RoomKey,
}

/// Gives a socket that did not keep up a part of what it missed in a room.
#[derive(Debug)]
pub(crate) struct Refill {
    pub(crate) ticket: Ticket,
    pub(crate) socket: Arc<Socket>,
    pub(crate) room: RoomKey,
    /// What it was given last, as the edge says it.
    pub(crate) after: String,
    /// How much the edge takes now.
    pub(crate) bytes_max: u32,
}

/// Users have got what they were given of a room's log.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) ticket: Ticket,
    pub(crate) room: RoomKey,
    /// Up to there, as the edge says it.
    pub(crate) position: String,
    pub(crate) users: Vec<Arc<User>>,
}

/// What other services ask for. Whoever has stopped waiting for the answer has no claim to it.
#[derive(Debug)]
pub(crate) enum Query {
    Publish(Publish, oneshot::Sender<Result<Published, AppendError>>),
    History(History, oneshot::Sender<Result<Page, ReadError>>),
    Presence(Presence, oneshot::Sender<Present>),
    Rooms(Rooms, oneshot::Sender<Result<Vec<RoomSummary>, Unreadable>>),
    Delivered(DeliveredTo, oneshot::Sender<Result<DeliveredPage, ReadError>>),
    KeepOut(KeepOut, oneshot::Sender<Result<PutOut, KeepOutError>>),
    Unban(RoomKey, Who, oneshot::Sender<Result<bool, KeepOutError>>),
    Bans(Bans, oneshot::Sender<BanPage>),
}

/// Puts somebody out of a room.
#[derive(Debug)]
pub(crate) struct KeepOut {
    pub(crate) room: RoomKey,
    pub(crate) who: Who,
    /// Not to be let in again until then, or ever if there is no such time.
    pub(crate) ban: Option<Option<u64>>,
    pub(crate) reason: Box<str>,
}

#[derive(Debug)]
pub(crate) struct PutOut {
    pub(crate) sockets: usize,
    /// Where the room's log ended, if that can be read.
    pub(crate) position: Option<Position>,
    /// It survives this process that they are out.
    pub(crate) is_on_disk: bool,
}

/// Asks who is banned from a room.
#[derive(Debug)]
pub(crate) struct Bans {
    pub(crate) room: RoomKey,
    /// Only behind this user.
    pub(crate) after: Option<Who>,
    pub(crate) limit: usize,
}

#[derive(Debug)]
pub(crate) struct BanPage {
    pub(crate) bans: Vec<(Who, Ban)>,
    pub(crate) more: bool,
}

#[derive(Debug)]
pub(crate) enum Publish {
    Logged {
        room: RoomKey,
        publication: Publication,
        latest_of: Option<LatestOf>,
        trace: Option<TraceParent>,
    },
    /// May be dropped on its way, unless it becomes a latest value.
    Volatile {
        room: RoomKey,
        event: Arc<str>,
        args: Bytes,
        except_users: Box<[Box<str>]>,
        latest_of: Option<LatestOf>,
        trace: Option<TraceParent>,
    },
}

#[derive(Debug)]
pub(crate) enum Published {
    Logged(Arc<Entry>, Durability),
    Volatile,
}

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) room: RoomKey,
    pub(crate) range: Range,
    pub(crate) limit: Limit,
}

#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) room: RoomKey,
    pub(crate) users_max: usize,
    /// Of profiles and subjects.
    pub(crate) bytes_max: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Subject, profile, number of sockets.
    pub(crate) users: Vec<(String, String, usize)>,
    pub(crate) count: usize,
}

/// How far has a room's log reached its users?
#[derive(Debug)]
pub(crate) struct DeliveredTo {
    pub(crate) room: RoomKey,
    /// Only users who were to get the entry at this position and have not.
    pub(crate) behind: Option<Position>,
    /// Only these subjects; all if none.
    pub(crate) users: Vec<String>,
    /// Only subjects behind this one.
    pub(crate) after: String,
    pub(crate) limit: usize,
}

#[derive(Debug, Default)]
pub(crate) struct DeliveredPage {
    pub(crate) users: Vec<DeliveredUser>,
    pub(crate) more: bool,
    pub(crate) incomplete: bool,
}

#[derive(Debug)]
pub(crate) struct DeliveredUser {
    pub(crate) subject: String,
    /// What it has got, and when the last of it is known to have arrived.
    pub(crate) delivered: Option<(Stretch, u64)>,
    pub(crate) sockets: usize,
}

/// Asks one worker for its share.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    pub(crate) tenant: String,
    pub(crate) namespace: String,
    pub(crate) after: String,
    pub(crate) limit: usize,
}

impl Rooms {
    pub(crate) fn realm(&self) -> Realm<'_> {
        Realm { tenant: &self.tenant, namespace: &self.namespace }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RoomSummary {
    pub(crate) name: String,
    pub(crate) users: usize,
    pub(crate) sockets: usize,
    pub(crate) position: Position,
}
