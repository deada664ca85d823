//! Instructions for one link, in the words of the contract.

use bytes::Bytes;
use prost::Message;
use proto::edge::v1::{self as wire, instruction::Kind};

use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    room_key::{Realm, RoomKey},
    room_log::{EventName, Position},
    socket::{Socket, SocketKey},
};

/// What the edge is to do, in order. All of it stems from one event, and carries its trace.
#[derive(Debug, Default)]
pub(crate) struct Instructions {
    traceparent: String,
    /// Each with its size.
    list: Vec<(wire::Instruction, usize)>,
    bytes: usize,
}

/// An event on its way to clients. Its arguments are encoded once, for however many links.
#[derive(Debug)]
pub(crate) struct Emit<'a> {
    pub(crate) event: &'a str,
    /// JSON text of an array.
    pub(crate) args: Bytes,
    /// May be dropped for a socket that does not keep up.
    pub(crate) volatile: bool,
    /// Where it stands in the log of a room.
    pub(crate) position: Option<(&'a RoomKey, Position)>,
    /// Subjects that do not get it, whatever the audience.
    pub(crate) except_users: &'a [Box<str>],
}

/// Whom an event is for, on one link.
#[derive(Debug)]
pub(crate) enum Audience<'a> {
    /// Whoever is in the room, but for one socket.
    Room { room: &'a RoomKey, except: Option<SocketKey> },
    /// Whoever is in the room, but for these, by their handles.
    RoomBut {
        room: &'a RoomKey,
        /// In ascending order.
        except: Vec<u64>,
    },
    /// These, by their handles.
    Sockets { realm: Realm<'a>, handles: Vec<u64> },
    /// All sockets of a subject and an issuer, or of any where that is empty, but for one.
    User { realm: Realm<'a>, user: (&'a str, &'a str), except: Option<SocketKey> },
    /// All sockets of a tenant, but for one.
    Everyone { realm: Realm<'a>, except: Option<SocketKey> },
}

impl Instructions {
    pub(crate) fn new(traceparent: String) -> Self {
        Self { traceparent, ..Self::default() }
    }

    pub(crate) fn accept(&mut self, socket: SocketKey) {
        self.push(Kind::Accept(wire::Accept { socket: socket.handle }));
    }

    /// Lets a socket in as the one that it was before, whose public id this is.
    pub(crate) fn recall(&mut self, socket: SocketKey, id: &str) {
        let (socket, socket_id) = (socket.handle, id.to_owned());
        self.push(Kind::Recall(wire::Recall { socket, socket_id }));
    }

    pub(crate) fn refuse(&mut self, socket: u64, message: &str, data: &'static [u8]) {
        let (message, data) = (message.to_owned(), data.into());
        self.push(Kind::Refuse(wire::Refuse { socket, message, data }));
    }

    pub(crate) fn close(&mut self, socket: u64) {
        self.push(Kind::Close(wire::Close { sockets: vec![socket] }));
    }

    pub(crate) fn join(&mut self, socket: SocketKey, room: &RoomKey, position: Position) {
        self.push(Kind::Join(wire::Join {
            sockets: vec![socket.handle],
            room: room.name_for_edges().to_owned(),
            position: position.to_string(),
        }));
    }

    pub(crate) fn leave(&mut self, socket: SocketKey, room: &RoomKey) {
        self.push(Kind::Leave(wire::Leave {
            sockets: vec![socket.handle],
            room: room.name_for_edges().to_owned(),
        }));
    }

    pub(crate) fn emit(&mut self, audience: Audience<'_>, emit: &Emit<'_>) {
        let audience = wire::Audience { except_users: excepted(emit), ..audience.into() };
        self.push(Kind::Emit(wire::Emit { audience: Some(audience), ..emit.into() }));
    }

    /// Tells a socket of an error that concerns a room, unasked.
    pub(crate) fn tell(&mut self, socket: &Socket, error: &ClientError, room: &RoomKey) {
        let handles = vec![socket.key.handle];
        let audience = Audience::Sockets { realm: socket.realm(), handles };
        let args = client_view::exception(error, Some(room.name_for_clients()));
        let (event, except_users) = (EXCEPTION, &[][..]);
        self.emit(audience, &Emit { event, args, volatile: false, position: None, except_users });
    }

    /// Gives a socket the next of what it missed in a room, up to a position, and tells whether there is more.
    pub(crate) fn refill(
        &mut self,
        socket: SocketKey,
        (room, after): (&str, String),
        events: Vec<wire::Emit>,
        (position, more): (String, bool),
    ) {
        self.push(Kind::Refill(wire::Refill {
            socket: socket.handle,
            room: room.to_owned(),
            after,
            events,
            position,
            more,
        }));
    }

    pub(crate) fn acknowledge(&mut self, socket: SocketKey, ack_id: u64, args: Bytes) {
        self.push(Kind::Acknowledge(wire::Acknowledge {
            socket: socket.handle,
            ack_id,
            args,
            attachments: Vec::new(),
        }));
    }

    /// An event that waits for no answer has had its effects.
    pub(crate) fn handled(&mut self, event: &EventName) {
        self.push(Kind::Handled(wire::Handled { event_id: event.to_vec().into() }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether these end with the answer to what they stem from, or with what stands for it, and are no more than so many.
    pub(super) fn is_answer(&self, count_max: usize) -> bool {
        let last = self.list.last().and_then(|(last, _)| last.kind.as_ref());
        self.list.len() <= count_max
            && matches!(last, Some(Kind::Acknowledge(_) | Kind::Handled(_)))
    }

    pub(crate) fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// What they take of an outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The instructions, each with its size.
    pub(super) fn into_sized(self) -> impl Iterator<Item = (wire::Instruction, usize)> {
        self.list.into_iter()
    }

    fn push(&mut self, kind: Kind) {
        let traceparent = self.traceparent.clone();
        let instruction = wire::Instruction { traceparent, kind: Some(kind) };
        let bytes = instruction.encoded_len();
        self.bytes += bytes;
        self.list.push((instruction, bytes));
    }
}

fn excepted(emit: &Emit<'_>) -> Vec<String> {
    emit.except_users.iter().map(|subject| subject.to_string()).collect()
}

impl From<&Emit<'_>> for wire::Emit {
    fn from(emit: &Emit<'_>) -> Self {
        let (position, position_room) = match emit.position {
            Some((room, position)) => (position.to_string(), room.name_for_edges().to_owned()),
            None => (String::new(), String::new()),
        };
        Self {
            event: emit.event.to_owned(),
            args: emit.args.clone(),
            volatile: emit.volatile,
            position,
            position_room,
            ..Self::default()
        }
    }
}

impl From<Audience<'_>> for wire::Audience {
    fn from(audience: Audience<'_>) -> Self {
        match audience {
            Audience::Room { room, except } => Self {
                namespace: room.namespace().to_owned(),
                tenant: room.tenant().to_owned(),
                rooms: vec![room.name_for_edges().to_owned()],
                except_sockets: handles(except),
                ..Self::default()
            },
            Audience::RoomBut { room, except } => Self {
                namespace: room.namespace().to_owned(),
                tenant: room.tenant().to_owned(),
                rooms: vec![room.name_for_edges().to_owned()],
                except_sockets: except,
                ..Self::default()
            },
            Audience::Sockets { realm, handles } => Self {
                namespace: realm.namespace.to_owned(),
                tenant: realm.tenant.to_owned(),
                sockets: handles,
                ..Self::default()
            },
            Audience::User { realm, user: (subject, issuer), except } => Self {
                namespace: realm.namespace.to_owned(),
                tenant: realm.tenant.to_owned(),
                users: vec![subject.to_owned()],
                users_issuer: issuer.to_owned(),
                except_sockets: handles(except),
                ..Self::default()
            },
            Audience::Everyone { realm, except } => Self {
                namespace: realm.namespace.to_owned(),
                tenant: realm.tenant.to_owned(),
                everyone: true,
                except_sockets: handles(except),
                ..Self::default()
            },
        }
    }
}

fn handles(socket: Option<SocketKey>) -> Vec<u64> {
    socket.map(|socket| socket.handle).into_iter().collect()
}
