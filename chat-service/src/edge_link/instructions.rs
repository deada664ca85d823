//! Instructions for one link, in the words of the contract. Each is encoded as it is made, and never again.

use bytes::{BufMut, Bytes};
use prost::Message;
use proto::edge::v1::{self as wire, instruction::Kind};
use smallvec::SmallVec;

use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    room_key::{Realm, RoomKey},
    room_log::{EventName, Position},
    socket::{Socket, SocketKey},
};

/// What stands before an instruction in a frame: number and type of the field `BackendFrame.instructions`.
const FIELD_KEY: u8 = 4 << 3 | 2;

/// Longest key and length of such a field, in bytes: an instruction has less than 4 GiB.
const FIELD_HEAD_BYTES_MAX: usize = 1 + 5;

/// What the edge is to do, in order. All of it stems from one event, and carries its trace.
#[derive(Debug, Default)]
pub(crate) struct Instructions {
    traceparent: String,
    /// As the fields of a frame.
    encoded: Vec<u8>,
    /// Most are one.
    list: SmallVec<[Instruction; 1]>,
}

/// One of them.
#[derive(Debug)]
struct Instruction {
    /// Where its field ends.
    end: usize,
    note: Note,
}

/// What this side needs to know of an instruction.
#[derive(Debug)]
pub(super) enum Note {
    Nothing,
    /// It answers an event, or stands for the answer.
    Answer,
    /// It may be dropped.
    Volatile,
    /// An emit of what stands in the log of a room. No position if it is not for all who are there.
    Logged {
        room: RoomKey,
        position: Option<Position>,
    },
    Join {
        handle: u64,
        room: RoomKey,
        position: Position,
    },
    Leave {
        handle: u64,
        room: RoomKey,
    },
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
        self.push(Kind::Accept(wire::Accept { socket: socket.handle }), Note::Nothing);
    }

    /// Lets a socket in as the one that it was before, whose public id this is.
    pub(crate) fn recall(&mut self, socket: SocketKey, id: &str) {
        let (socket, socket_id) = (socket.handle, id.to_owned());
        self.push(Kind::Recall(wire::Recall { socket, socket_id }), Note::Nothing);
    }

    pub(crate) fn refuse(&mut self, socket: u64, message: &str, data: &'static [u8]) {
        let (message, data) = (message.to_owned(), data.into());
        self.push(Kind::Refuse(wire::Refuse { socket, message, data }), Note::Nothing);
    }

    pub(crate) fn close(&mut self, socket: u64) {
        self.push(Kind::Close(wire::Close { sockets: vec![socket] }), Note::Nothing);
    }

    pub(crate) fn join(&mut self, socket: SocketKey, room: &RoomKey, position: Position) {
        let join = wire::Join {
            sockets: vec![socket.handle],
            room: room.name_for_edges().to_owned(),
            position: position.to_string(),
        };
        let note = Note::Join { handle: socket.handle, room: room.clone(), position };
        self.push(Kind::Join(join), note);
    }

    pub(crate) fn leave(&mut self, socket: SocketKey, room: &RoomKey) {
        let leave =
            wire::Leave { sockets: vec![socket.handle], room: room.name_for_edges().to_owned() };
        self.push(Kind::Leave(leave), Note::Leave { handle: socket.handle, room: room.clone() });
    }

    pub(crate) fn emit(&mut self, audience: Audience<'_>, emit: &Emit<'_>) {
        let note = match emit.position {
            // What goes to some of them only is what these had missed: they stand elsewhere than the others.
            Some((room, position)) => {
                let is_for_all = !matches!(audience, Audience::Sockets { .. });
                Note::Logged { room: room.clone(), position: is_for_all.then_some(position) }
            }
            None if emit.volatile => Note::Volatile,
            None => Note::Nothing,
        };
        let audience = wire::Audience { except_users: excepted(emit), ..audience.into() };
        self.push(Kind::Emit(wire::Emit { audience: Some(audience), ..emit.into() }), note);
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
        let (socket, room) = (socket.handle, room.to_owned());
        let refill = wire::Refill { socket, room, after, events, position, more };
        self.push(Kind::Refill(refill), Note::Nothing);
    }

    pub(crate) fn acknowledge(&mut self, socket: SocketKey, ack_id: u64, args: Bytes) {
        let (socket, attachments) = (socket.handle, Vec::new());
        let acknowledge = wire::Acknowledge { socket, ack_id, args, attachments };
        self.push(Kind::Acknowledge(acknowledge), Note::Answer);
    }

    /// An event that waits for no answer has had its effects.
    pub(crate) fn handled(&mut self, event: &EventName) {
        let handled = wire::Handled { event_id: event.to_vec().into() };
        self.push(Kind::Handled(handled), Note::Answer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether these end with the answer to what they stem from, or with what stands for it, and are no more than so many.
    pub(super) fn is_answer(&self, count_max: usize) -> bool {
        let ends_with_answer =
            matches!(self.list.last(), Some(last) if matches!(last.note, Note::Answer));
        self.list.len() <= count_max && ends_with_answer
    }

    pub(crate) fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// What they take of an outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The instructions, each as a field of a frame.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &Note)> {
        let mut rest = &*self.encoded;
        let mut start = 0;
        self.list.iter().map(move |Instruction { end, note }| {
            let (field, behind) = rest.split_at(end - start);
            (rest, start) = (behind, *end);
            (field, note)
        })
    }

    fn push(&mut self, kind: Kind, note: Note) {
        let traceparent = std::mem::take(&mut self.traceparent);
        let instruction = wire::Instruction { traceparent, kind: Some(kind) };
        // The vector would else grow several times over the first of them.
        self.encoded.reserve(FIELD_HEAD_BYTES_MAX + instruction.encoded_len());
        self.encoded.put_u8(FIELD_KEY);
        instruction.encode_length_delimited(&mut self.encoded).expect("a vector grows");
        self.traceparent = instruction.traceparent;
        self.list.push(Instruction { end: self.encoded.len(), note });
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
