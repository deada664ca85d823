//! What is said on a link, in the terms of the contract, and how much room it takes up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{
    auth::v1::Identity as WireIdentity,
    edge::v1::{
        BackendFrame, EdgeEvent, Handshake, Membership, SocketOpened, edge_event::Kind, instruction,
    },
};

use crate::{session_id, socket::Identity};

/// What an event takes up in a queue besides its contents.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// Names for the events of one link: they count up from a random number, which no other link comes near.
#[derive(Debug)]
pub(super) struct EventNames {
    next: u128,
}

impl EventNames {
    pub(super) fn random() -> Self {
        Self { next: session_id::random_number() }
    }

    pub(super) fn next(&mut self) -> Bytes {
        let name = Bytes::copy_from_slice(&self.next.to_be_bytes());
        self.next = self.next.wrapping_add(1);
        name
    }
}

/// The number that names a client's event. Those of a link rise in the order in which the events are sent, also again.
pub(super) fn number_of(event: &EdgeEvent) -> Option<u128> {
    match &event.kind {
        Some(Kind::Event(event)) => number(&event.id),
        _ => None,
    }
}

/// The number that is a name.
pub(super) fn number(name: &[u8]) -> Option<u128> {
    name.try_into().ok().map(u128::from_be_bytes)
}

/// Tells the times of one link, in milliseconds since it was made. Nobody sets it.
#[derive(Debug)]
pub(super) struct LinkClock {
    since: Instant,
}

impl LinkClock {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now }
    }

    pub(super) fn ms(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.since))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far a life of a business service has brought a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EmitCount {
    /// `Welcome.memory` of that life; 0 if it remembers nothing.
    pub(crate) memory: u32,
    /// How many emits with a position it has sent.
    pub(crate) count: u64,
}

impl EmitCount {
    /// Its form behind an offset.
    pub(crate) fn to_suffix(self) -> String {
        format!(".{:x}.{}", self.memory, self.count)
    }

    /// Takes it off an offset.
    pub(crate) fn split_off(offset: &str) -> (&str, Option<Self>) {
        let Some((own, suffix)) = offset.split_once('.') else { return (offset, None) };
        let parsed = suffix.split_once('.').and_then(|(memory, count)| {
            let memory = u32::from_str_radix(memory, 16).ok().filter(|memory| *memory != 0)?;
            Some(Self { memory, count: count.parse().ok()? })
        });
        (own, parsed)
    }
}

/// What a socket joined and left while it moved between links.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    pub(crate) joined: Vec<Membership>,
    pub(crate) left: Vec<String>,
}

/// Tells a business service of a socket.
pub(crate) fn opened(
    namespace: &str,
    public_id: &str,
    identity: Option<&Identity>,
) -> SocketOpened {
    SocketOpened {
        namespace: namespace.to_owned(),
        socket_id: public_id.to_owned(),
        identity: identity.map(wire_identity),
        ..SocketOpened::default()
    }
}

pub(super) fn wire_identity(identity: &Identity) -> WireIdentity {
    WireIdentity {
        subject: identity.subject.as_ref().to_owned(),
        issuer: identity.issuer.as_ref().to_owned(),
        tenant: identity.tenant.as_ref().to_owned(),
        profile: identity.profile.clone(),
        expires_at_unix_ms: identity.expires_at_unix_ms,
        capabilities: identity.capabilities.as_deref().cloned().unwrap_or_default(),
    }
}

/// `args` are the elements of a JSON list; the contract wants the list.
pub(crate) fn json_list(args: &str) -> Bytes {
    let mut list = Vec::with_capacity(args.len() + 2);
    list.push(b'[');
    list.extend_from_slice(args.as_bytes());
    list.push(b']');
    list.into()
}

pub(super) fn event(socket: u64, kind: Kind) -> EdgeEvent {
    EdgeEvent { socket, traceparent: String::new(), kind: Some(kind) }
}

fn bytes_of(attachments: &[Bytes]) -> usize {
    attachments.iter().map(Bytes::len).sum()
}

pub(super) fn event_bytes(event: &EdgeEvent) -> usize {
    let contents = match &event.kind {
        Some(Kind::Event(event)) => {
            event.name.len() + event.args.len() + bytes_of(&event.attachments)
        }
        Some(Kind::Ack(ack)) => ack.args.len() + bytes_of(&ack.attachments),
        Some(Kind::Opened(opened)) => {
            membership_bytes(&opened.memberships)
                + opened.identity.as_ref().map_or(0, identity_bytes)
                + opened.handshake.as_ref().map_or(0, handshake_bytes)
                + opened.recoverability.as_ref().map_or(0, |one| one.key.len())
                + opened.reentry.as_ref().map_or(0, |one| one.key.len())
        }
        Some(Kind::Closed(closed)) => closed.rooms.iter().map(String::len).sum(),
        Some(Kind::Resumed(resumed)) => {
            resumed.identity.as_ref().map_or(0, identity_bytes)
                + membership_bytes(&resumed.joined)
                + resumed.left.iter().map(String::len).sum::<usize>()
        }
        Some(Kind::Refreshed(refreshed)) => refreshed.identity.as_ref().map_or(0, identity_bytes),
        Some(Kind::Delivered(delivered)) => {
            delivered.room.len() + delivered.position.len() + size_of_val(&*delivered.sockets)
        }
        Some(Kind::CatchUp(catch_up)) => catch_up.room.len() + catch_up.position.len(),
        Some(Kind::Suspended(_) | Kind::AckFinished(_) | Kind::AllAnnounced(_)) | None => 0,
    };
    contents + EVENT_OVERHEAD_BYTES
}

fn identity_bytes(identity: &WireIdentity) -> usize {
    let capabilities = identity.capabilities.iter();
    let patterns = capabilities.flat_map(|one| one.rooms.iter().chain(&one.events));
    let patterns = patterns.map(|text| text.len() + size_of::<String>()).sum::<usize>();
    identity.profile.len() + patterns
}

fn membership_bytes(memberships: &[Membership]) -> usize {
    memberships.iter().map(|one| one.room.len() + one.position.len()).sum()
}

fn handshake_bytes(handshake: &Handshake) -> usize {
    let fields = handshake.query.iter().chain(&handshake.headers);
    let fields: usize = fields.map(|field| field.name.len() + field.value.len()).sum();
    handshake.auth.len() + handshake.address.len() + fields
}

/// What a frame's instructions carry.
pub(crate) fn payload_bytes(frame: &BackendFrame) -> usize {
    let instructions = frame.instructions.iter().filter_map(|one| one.kind.as_ref());
    let bytes = instructions.map(|kind| match kind {
        instruction::Kind::Emit(emit) => emit.args.len() + bytes_of(&emit.attachments),
        instruction::Kind::Refill(refill) => {
            refill.events.iter().map(|emit| emit.args.len() + bytes_of(&emit.attachments)).sum()
        }
        instruction::Kind::Acknowledge(ack) => ack.args.len() + bytes_of(&ack.attachments),
        instruction::Kind::Accept(_)
        | instruction::Kind::Recall(_)
        | instruction::Kind::Refuse(_)
        | instruction::Kind::Join(_)
        | instruction::Kind::Leave(_)
        | instruction::Kind::Handled(_)
        | instruction::Kind::Disconnect(_)
        | instruction::Kind::Close(_) => 0,
    });
    bytes.sum()
}
