//! What an edge says, in this service's own words.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use proto::{
    auth::v1::{Capability, Identity},
    edge::v1::{self as wire, edge_event::Kind},
};
use service_kit::trace::TraceParent;
use thiserror::Error;

use crate::{
    room_key::is_namespace,
    room_log::EventName,
    socket::{Recovery, RecoveryKey},
    user::{User, UserError},
    worker::Departure,
};

/// Longest name of a link, an edge or a socket, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Most namespaces of one link.
const NAMESPACES_MAX: usize = 64;

/// What an event in the backlog costs besides its texts: an estimate.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// The first frame of a stream.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) edge_id: String,
    pub(super) link_id: Box<str>,
    /// The life of the backend that the edge remembers; empty on its first stream.
    pub(super) backend_id: String,
    pub(super) received: u64,
    pub(super) namespaces: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) seq: u64,
    pub(super) ack: u64,
    /// By the edge's clock.
    pub(super) sent_ms: u64,
    pub(super) events: Vec<Event>,
}

#[derive(Debug)]
pub(super) struct Event {
    /// The socket's handle.
    pub(super) socket: u64,
    pub(super) trace: Option<TraceParent>,
    pub(super) kind: EventKind,
    /// What it takes of the backlog.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum EventKind {
    Opened {
        who: Box<Introduction>,
        /// The client wants to go on with the socket that it had.
        reentry: Option<Reentry>,
    },
    Announced {
        who: Box<Introduction>,
        memberships: Vec<Membership>,
        is_suspended: bool,
    },
    /// A client has recovered its connection on this link.
    Recovered {
        who: Box<Introduction>,
        memberships: Vec<Membership>,
    },
    Suspended,
    /// Its client is back. One that has moved here may have joined and left rooms where it was since it was opened.
    Resumed(Resumed),
    /// Its client has brought another token.
    Refreshed {
        who: Renewed,
    },
    /// A client that the edge let come without a token.
    Unidentified,
    /// It was not given everything, as it did not keep up, and has room again.
    CatchUp {
        room: String,
        position: String,
        bytes_max: u32,
    },
    /// What some sockets were given in a room has arrived.
    Delivered {
        sockets: Vec<u64>,
        room: String,
        position: String,
    },
    /// No announcement follows.
    AllAnnounced,
    Closed {
        reason: String,
        departure: Departure,
    },
    Client(Sent),
    /// Something about answers from clients, which this service never asks for.
    Unasked,
}

/// Which socket it is, and who it speaks for.
#[derive(Debug)]
pub(super) struct Introduction {
    /// Its public id.
    pub(super) socket_id: Arc<str>,
    pub(super) namespace: String,
    pub(super) user: Result<User, UserError>,
    /// What its token says that the user may do.
    pub(super) capabilities: Vec<Capability>,
    /// Where its client may come back.
    pub(super) recovery: Option<Recovery>,
}

/// Its client is back.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) who: Renewed,
    pub(super) joined: Vec<String>,
    pub(super) left: Vec<String>,
}

/// What another token says of the user of a socket.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) tenant: String,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) capabilities: Vec<Capability>,
}

/// What a client knows of the socket that it had.
#[derive(Debug)]
pub(super) struct Reentry {
    pub(super) key: RecoveryKey,
    /// The life of a link by which it was given an event last.
    pub(super) memory: u32,
    /// How many emits with a position had come by it.
    pub(super) delivered: u64,
}

/// What a client has sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) args: Bytes,
    pub(super) ack_id: Option<u64>,
    /// By the edge's clock.
    pub(super) deadline_ms: u64,
    /// What the edge calls it.
    pub(super) id: Option<EventName>,
    /// Present if an earlier life of this service may have carried it out: since when, by the edge's clock.
    pub(super) repeated_since_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Membership {
    pub(super) room: String,
    pub(super) position: String,
}

/// Why a frame cannot be understood. It is a fault of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    #[error("the first frame must have a hello, no number and no events")]
    NoHello,
    #[error("the hello must name the link, in at most 128 bytes, and from 1 to 64 namespaces")]
    BadHello,
    #[error("only the first frame may have a hello")]
    SecondHello,
    #[error("a frame with events must be numbered")]
    NotNumbered,
    #[error("an event has no kind")]
    NoKind,
    #[error("a socket has no id, or one of more than 128 bytes")]
    BadSocketId,
}

impl TryFrom<wire::EdgeFrame> for Hello {
    type Error = FrameError;

    fn try_from(frame: wire::EdgeFrame) -> Result<Self, FrameError> {
        let wire::EdgeFrame { seq: 0, hello: Some(hello), events, .. } = frame else {
            return Err(FrameError::NoHello);
        };
        if !events.is_empty() {
            return Err(FrameError::NoHello);
        }
        let wire::Hello { edge_id, link_id, backend_id, received, namespaces } = hello;
        let names_fit = !link_id.is_empty()
            && [&edge_id, &link_id, &backend_id].iter().all(|name| name.len() <= NAME_BYTES_MAX);
        let namespaces_fit = (1..=NAMESPACES_MAX).contains(&namespaces.len())
            && namespaces.iter().all(|namespace| is_namespace(namespace));
        if !names_fit || !namespaces_fit {
            return Err(FrameError::BadHello);
        }
        Ok(Self { edge_id, link_id: link_id.into(), backend_id, received, namespaces })
    }
}

impl TryFrom<wire::EdgeFrame> for Frame {
    type Error = FrameError;

    fn try_from(frame: wire::EdgeFrame) -> Result<Self, FrameError> {
        let wire::EdgeFrame { seq, ack, hello, events, sent_ms } = frame;
        if hello.is_some() {
            return Err(FrameError::SecondHello);
        }
        if seq == 0 && !events.is_empty() {
            return Err(FrameError::NotNumbered);
        }
        // To collect results, a vector begins small and grows.
        let mut read = Vec::with_capacity(events.len());
        for event in events {
            read.push(event.try_into()?);
        }
        Ok(Self { seq, ack, sent_ms, events: read })
    }
}

impl TryFrom<wire::EdgeEvent> for Event {
    type Error = FrameError;

    fn try_from(event: wire::EdgeEvent) -> Result<Self, FrameError> {
        let contents = match &event.kind {
            // Most events are such, and to ask how long their encoding is would be to go through all their fields.
            Some(Kind::Event(event)) => event.name.len() + event.args.len(),
            _ => event.encoded_len(),
        };
        let bytes = EVENT_OVERHEAD_BYTES + contents;
        let wire::EdgeEvent { socket, traceparent, kind } = event;
        let kind = match kind.ok_or(FrameError::NoKind)? {
            Kind::Opened(opened) => (*opened).try_into()?,
            Kind::Closed(wire::SocketClosed { reason, rooms: _ }) => {
                EventKind::Closed { departure: departure(&reason), reason }
            }
            // No event of this service takes binary parts; as a field that is not known, they are ignored.
            Kind::Event(wire::ClientEvent {
                name,
                args,
                ack_id,
                deadline_ms,
                attachments: _,
                id,
                repeated,
                received_ms,
            }) => EventKind::Client(Sent {
                name,
                args,
                ack_id,
                deadline_ms,
                id: id.as_ref().try_into().ok(),
                repeated_since_ms: repeated.then_some(received_ms),
            }),
            Kind::Suspended(wire::SocketSuspended { reason: _ }) => EventKind::Suspended,
            // It is the same user, and the others know its profile.
            Kind::Resumed(resumed) => {
                let wire::SocketResumed { identity, joined, left } = *resumed;
                let joined = joined.into_iter().map(|membership| membership.room).collect();
                EventKind::Resumed(Resumed {
                    who: identity.unwrap_or_default().into(),
                    joined,
                    left,
                })
            }
            Kind::Refreshed(refreshed) => {
                let wire::SocketRefreshed { identity } = *refreshed;
                EventKind::Refreshed { who: identity.unwrap_or_default().into() }
            }
            Kind::CatchUp(wire::CatchUp { room, position, bytes_max }) => {
                EventKind::CatchUp { room, position, bytes_max }
            }
            Kind::Delivered(wire::Delivered { sockets, room, position }) => {
                EventKind::Delivered { sockets, room, position }
            }
            Kind::AllAnnounced(wire::AllAnnounced {}) => EventKind::AllAnnounced,
            Kind::Ack(_) | Kind::AckFinished(_) => EventKind::Unasked,
        };
        Ok(Self { socket, trace: TraceParent::parse(&traceparent), kind, bytes })
    }
}

impl TryFrom<wire::SocketOpened> for EventKind {
    type Error = FrameError;

    fn try_from(opened: wire::SocketOpened) -> Result<Self, FrameError> {
        let wire::SocketOpened {
            namespace,
            socket_id,
            identity,
            announced,
            memberships,
            handshake: _,
            suspended: is_suspended,
            recovered,
            recoverability,
            reentry,
        } = opened;
        // The edge lets clients in there without a token; here nobody is let in without a name.
        let Some(identity) = identity else { return Ok(Self::Unidentified) };
        if socket_id.is_empty() || socket_id.len() > NAME_BYTES_MAX {
            return Err(FrameError::BadSocketId);
        }
        let user = User::parse_of(
            &identity.tenant,
            (&identity.subject, &identity.issuer),
            &identity.profile,
        );
        let recovery = recoverability.and_then(|wire::Recoverability { key, window_ms }| {
            Some(Recovery { key: recovery_key(&key)?, window: Duration::from_millis(window_ms) })
        });
        let (socket_id, capabilities) = (socket_id.into(), identity.capabilities);
        let who = Box::new(Introduction { socket_id, namespace, user, capabilities, recovery });
        if !announced && !recovered {
            let reentry = reentry.and_then(|wire::Reentry { key, memory, delivered }| {
                Some(Reentry { key: recovery_key(&key)?, memory, delivered })
            });
            return Ok(Self::Opened { who, reentry });
        }
        let memberships = memberships
            .into_iter()
            .map(|wire::Membership { room, position }| Membership { room, position })
            .collect();
        Ok(if recovered {
            Self::Recovered { who, memberships }
        } else {
            Self::Announced { who, memberships, is_suspended }
        })
    }
}

impl From<Identity> for Renewed {
    fn from(Identity { tenant, subject, issuer, capabilities, .. }: Identity) -> Self {
        Self { tenant, subject, issuer, capabilities }
    }
}

/// A key of another length names nothing.
fn recovery_key(bytes: &[u8]) -> Option<RecoveryKey> {
    bytes.try_into().ok().map(RecoveryKey)
}

/// Who has left the namespace in so many words is gone. A connection that has ended, in good order or not, may have been
/// that of a page that is loaded anew.
fn departure(reason: &str) -> Departure {
    match reason {
        "client_disconnect" | "server_disconnect" | "disconnected_by_backend" => Departure::Said,
        _ => Departure::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> wire::Hello {
        wire::Hello {
            edge_id: "edge-1".to_owned(),
            link_id: "link-1".to_owned(),
            backend_id: String::new(),
            received: 0,
            namespaces: vec!["/chat".to_owned()],
        }
    }

    fn first(hello: wire::Hello) -> Result<Hello, FrameError> {
        wire::EdgeFrame { hello: Some(hello), ..Default::default() }.try_into()
    }

    #[test]
    fn the_first_frame_is_a_hello_that_names_the_link_and_its_namespaces() {
        assert_eq!(first(hello()).unwrap().namespaces, ["/chat"]);

        for bad in [
            wire::Hello { link_id: String::new(), ..hello() },
            wire::Hello { link_id: "x".repeat(129), ..hello() },
            wire::Hello { namespaces: Vec::new(), ..hello() },
            wire::Hello { namespaces: vec!["chat".to_owned()], ..hello() },
        ] {
            assert_eq!(first(bad).unwrap_err(), FrameError::BadHello);
        }
        let numbered = wire::EdgeFrame { seq: 1, hello: Some(hello()), ..Default::default() };
        assert_eq!(Hello::try_from(numbered).unwrap_err(), FrameError::NoHello);
        assert_eq!(Hello::try_from(wire::EdgeFrame::default()).unwrap_err(), FrameError::NoHello);
    }

    #[test]
    fn tells_what_is_wrong_with_a_frame() {
        let event =
            wire::EdgeEvent { kind: Some(Kind::Opened(Default::default())), ..Default::default() };
        for (frame, error) in [
            (
                wire::EdgeFrame { hello: Some(hello()), ..Default::default() },
                FrameError::SecondHello,
            ),
            (
                wire::EdgeFrame { events: vec![event], ..Default::default() },
                FrameError::NotNumbered,
            ),
            (
                wire::EdgeFrame { seq: 1, events: vec![Default::default()], ..Default::default() },
                FrameError::NoKind,
            ),
        ] {
            assert_eq!(Frame::try_from(frame).unwrap_err(), error);
        }
    }
}
