//! Which namespaces a session is in, and what its packets mean there.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Packet;

/// Most namespaces that one session may be in or be asking for.
pub const NAMESPACES_MAX: usize = 16;

/// The namespaces of one session, on the server's side. `S` is what the caller calls a socket by.
///
/// ```text
///  CONNECT ─► asked for ──► opening ──► connected ──► events and acks
///                 └────────────┴────────────┴───────► forgotten: CONNECT may be sent again
/// ```
///
/// The caller moves a namespace on with [`opening`](Self::opening), which may be left out, and
/// [`connected`](Self::connected). [`refused`](Self::refused) or a DISCONNECT of the client makes
/// the session forget it.
///
/// A client is in a namespace only after it has been told so. Until then an event or an ack of its
/// is a [`Violation`], so nothing overtakes authentication; and so is the text of a binary packet,
/// so nobody unknown has us keep attachments.
#[derive(Debug)]
pub struct Session<S> {
    memberships: SmallVec<[Membership<S>; 1]>,
}

#[derive(Debug)]
struct Membership<S> {
    namespace: Box<str>,
    state: State<S>,
}

#[derive(Debug, Clone, Copy)]
enum State<S> {
    AskedFor,
    Opening(S),
    Connected(S),
}

/// What the caller must do about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a, S> {
    /// Find out whether the client may enter `namespace`, then call [`Session::connected`] or
    /// [`Session::refused`].
    Connect {
        /// The namespace, which is asked for from now on.
        namespace: &'a str,
        /// JSON text of an object.
        auth: Option<&'a str>,
    },
    /// Refuse `namespace`: the session has [`NAMESPACES_MAX`] already. Nothing was noted.
    TooManyNamespaces {
        /// The namespace.
        namespace: &'a str,
    },
    /// Pass on an event.
    Event {
        /// Where it comes from.
        socket: S,
        /// Present if the client wants to be answered.
        ack_id: Option<u64>,
        /// What the event is called.
        name: Cow<'a, str>,
        /// JSON text of the arguments, without brackets.
        args: &'a str,
        /// What the placeholders in `args` stand for.
        attachments: &'a [Bytes],
    },
    /// Pass on the answer to an event of ours.
    Ack {
        /// Where it comes from.
        socket: S,
        /// Which event.
        ack_id: u64,
        /// JSON text of the arguments, without brackets.
        args: &'a str,
        /// What the placeholders in `args` stand for.
        attachments: &'a [Bytes],
    },
    /// The client has left; the session has forgotten the socket.
    Disconnect {
        /// The socket, connected or still opening.
        socket: S,
    },
    /// Nothing to do.
    Nothing,
}

/// A packet that is well-formed but out of place. The connection is to be closed, as the reference
/// server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A packet for a namespace that the client is not in (yet, or any more).
    #[error("namespace is not connected")]
    NotConnected,
    /// CONNECT to a namespace that the client is in or is asking for.
    #[error("namespace is connected already")]
    AlreadyConnected,
}

impl<S: Copy + PartialEq> Session<S> {
    /// Returns a session that is in no namespace.
    pub fn new() -> Self {
        Self { memberships: SmallVec::new() }
    }

    /// Decides what a packet of the client means.
    ///
    /// # Errors
    ///
    /// The packet breaks the protocol; the session is as before.
    pub fn handle<'a>(&mut self, packet: Packet<'a>) -> Result<Action<'a, S>, Violation> {
        match packet {
            Packet::Connect { namespace, auth } => self.ask_for(namespace, auth),
            Packet::Disconnect { namespace } => match self.forget(namespace) {
                Some(State::Opening(socket) | State::Connected(socket)) => {
                    Ok(Action::Disconnect { socket })
                }
                Some(State::AskedFor) => Ok(Action::Nothing),
                None => Err(Violation::NotConnected),
            },
            Packet::Event { namespace, ack_id, name, args, attachments } => {
                let socket = self.connected_socket(namespace)?;
                Ok(Action::Event { socket, ack_id, name, args, attachments })
            }
            Packet::Ack { namespace, ack_id, args, attachments } => {
                let socket = self.connected_socket(namespace)?;
                Ok(Action::Ack { socket, ack_id, args, attachments })
            }
            Packet::EmptyEvent { namespace }
            | Packet::UnaddressedAck { namespace }
            | Packet::Incomplete { namespace } => {
                self.connected_socket(namespace)?;
                Ok(Action::Nothing)
            }
        }
    }

    /// Notes that the namespace asked for has got a socket, which is not connected yet. Returns
    /// false if the session does not ask for it (any more): the client has left.
    pub fn opening(&mut self, namespace: &str, socket: S) -> bool {
        match self.state_mut(namespace) {
            Some(state @ State::AskedFor) => {
                *state = State::Opening(socket);
                true
            }
            Some(State::Opening(_) | State::Connected(_)) | None => false,
        }
    }

    /// Notes that the client is in the namespace. Returns false if the session does not ask for it
    /// (any more), or waits for another socket: the client has left, and may have come back.
    pub fn connected(&mut self, namespace: &str, socket: S) -> bool {
        let Some(state) = self.state_mut(namespace) else { return false };
        let is_awaited = match *state {
            State::AskedFor => true,
            State::Opening(known) => known == socket,
            State::Connected(_) => false,
        };
        if is_awaited {
            *state = State::Connected(socket);
        }
        is_awaited
    }

    /// Forgets a namespace that the client was refused, or that it was removed from. It may ask
    /// again.
    pub fn refused(&mut self, namespace: &str) {
        self.forget(namespace);
    }

    /// Returns the sockets of the session, connected and opening ones.
    pub fn sockets(&self) -> impl Iterator<Item = S> + '_ {
        self.memberships.iter().filter_map(|membership| match membership.state {
            State::Opening(socket) | State::Connected(socket) => Some(socket),
            State::AskedFor => None,
        })
    }

    /// Returns whether the session is in no namespace and asks for none.
    pub fn is_idle(&self) -> bool {
        self.memberships.is_empty()
    }

    fn ask_for<'a>(
        &mut self,
        namespace: &'a str,
        auth: Option<&'a str>,
    ) -> Result<Action<'a, S>, Violation> {
        if self.state(namespace).is_some() {
            return Err(Violation::AlreadyConnected);
        }
        if self.memberships.len() >= NAMESPACES_MAX {
            return Ok(Action::TooManyNamespaces { namespace });
        }
        self.memberships.push(Membership { namespace: namespace.into(), state: State::AskedFor });
        Ok(Action::Connect { namespace, auth })
    }

    fn connected_socket(&self, namespace: &str) -> Result<S, Violation> {
        match self.state(namespace) {
            Some(State::Connected(socket)) => Ok(socket),
            Some(State::AskedFor | State::Opening(_)) | None => Err(Violation::NotConnected),
        }
    }

    fn state(&self, namespace: &str) -> Option<State<S>> {
        let mut memberships = self.memberships.iter();
        memberships.find(|known| *known.namespace == *namespace).map(|known| known.state)
    }

    fn state_mut(&mut self, namespace: &str) -> Option<&mut State<S>> {
        let mut memberships = self.memberships.iter_mut();
        memberships.find(|known| *known.namespace == *namespace).map(|known| &mut known.state)
    }

    fn forget(&mut self, namespace: &str) -> Option<State<S>> {
        let index = self.memberships.iter().position(|known| *known.namespace == *namespace)?;
        Some(self.memberships.swap_remove(index).state)
    }
}

impl<S: Copy + PartialEq> Default for Session<S> {
    fn default() -> Self {
        Self::new()
    }
}
