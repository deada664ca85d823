//! Several events to one room at once: whoever can take them all gets them by one write of the same bytes.

use bytes::Bytes;
use edge_protocol::socket_io::EncodeError;
use proto::edge::v1::{Audience, Emit, Instruction, instruction::Kind};
use smallvec::SmallVec;

use super::{Delivery, Encoded, Outcome};
use crate::{
    connection::FRAMES_BYTES_MAX,
    shard::{LinkKey, Shard, SocketKey, Wire},
    socket::Stage,
};

/// Most events that are written together.
const EMITS_MAX: usize = 64;

/// The frames of some events, in one wire format.
#[derive(Default)]
struct Frames {
    each: SmallVec<[Bytes; 16]>,
    joined: Vec<u8>,
}

impl Frames {
    /// Takes the frames of the events, as long as there is room and they can be encoded.
    fn of<'a, 'e: 'a>(
        encoded: impl Iterator<Item = &'a mut Encoded<'e>>,
        encode: impl Fn(&'a mut Encoded<'e>) -> Result<&'a Bytes, EncodeError>,
        bytes_max: usize,
    ) -> Self {
        let mut frames = Self::default();
        for frame in encoded.map_while(|one| encode(one).ok()) {
            if frames.joined.len() + frame.len() > bytes_max {
                break;
            }
            frames.joined.extend_from_slice(frame);
            frames.each.push(frame.clone());
        }
        frames
    }
}

impl Shard {
    /// Carries out the emits that stand first, where there are more than one and all are for the same room, and what stands
    /// between them; returns how many instructions that was, or 0 if they are to be carried out one by one.
    pub(in crate::shard) fn emit_burst(
        &mut self,
        link: LinkKey,
        instructions: &[Instruction],
    ) -> usize {
        let Some((audience, _)) = instructions.first().and_then(to_one_room) else { return 0 };
        let Some(namespace) = self.namespace(&audience.namespace) else { return 0 };
        // What is put behind an event for those who recover depends on those before it.
        if self.recovers(namespace) {
            return 0;
        }
        let is_in_between = |one: &&Instruction| {
            matches!(one.kind, Some(Kind::Handled(_)))
                || to_one_room(one).is_some_and(|(other, emit)| {
                    is_same_room(audience, other) && !self.is_spared(emit)
                })
        };
        let burst = instructions.iter().take_while(is_in_between);
        let burst = burst.enumerate().filter_map(|(index, one)| {
            let (audience, emit) = to_one_room(one)?;
            let delivery = Delivery { link, namespace, audience, emit, ack_id: None };
            Some((index, &one.traceparent, delivery))
        });
        let burst: SmallVec<[_; 16]> = burst.take(EMITS_MAX).collect();
        if burst.len() < 2 {
            return 0;
        }
        let mut encoded: SmallVec<[Encoded<'_>; 4]> =
            burst.iter().map(|(.., delivery)| self.encoded(delivery)).collect();
        let bytes_max = FRAMES_BYTES_MAX.min(self.common.collapse_bytes());
        let frames = Frames::of(encoded.iter_mut(), Encoded::socket_io, bytes_max);
        let count = frames.each.len();
        let Some((last, ..)) = count.checked_sub(1).and_then(|last| burst.get(last)) else {
            return 0;
        };
        if count < 2 {
            return 0;
        }
        encoded.truncate(count);

        let rest = self.write_burst(&mut encoded, &frames, bytes_max);
        for (index, (one, (_, traceparent, delivery))) in encoded.iter_mut().zip(&burst).enumerate()
        {
            self.common.gathering.set(index + 1 < count);
            self.note_position(link, delivery.emit);
            let span = self.deliver_span(traceparent);
            let recipients =
                rest.everyone - rest.sockets.iter().filter(|one| one.1 <= index).count();
            let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
            let mut outcome = Outcome { recipients, ..Outcome::default() };
            for (socket, _) in rest.sockets.iter().filter(|one| one.1 <= index) {
                let Some(recipient) = self.recipient(*socket) else { continue };
                outcome.is_unencodable |= self.write(&recipient, one, &mut outcome).is_err();
            }
            self.conclude(delivery, outcome, span);
        }
        self.common.gathering.set(false);
        let carried_out = last + 1;
        for one in instructions.iter().take(carried_out) {
            if let Some(Kind::Handled(_)) = one.kind {
                self.carry_out(link, one);
            }
        }
        carried_out
    }

    /// Writes all frames to those members of the room to whom nothing stands in the way; returns the others.
    fn write_burst(&self, encoded: &mut [Encoded<'_>], frames: &Frames, bytes_max: usize) -> Rest {
        let mut rest = Rest::default();
        let mut plain_json = None;
        let room = encoded.first().and_then(|one| {
            Some((one.emit.audience.as_ref()?.rooms.first()?, self.namespace(one.namespace)?))
        });
        let Some((room, namespace)) = room else { return rest };
        for key in self.rooms.in_room(namespace, room) {
            let Some(socket) = self.sockets.get(key.index()) else { continue };
            let entry = self.connections.get(socket.connection.index as usize);
            let entry = entry.filter(|entry| entry.serial == socket.connection.serial);
            let (Some(entry), Stage::Live) = (entry, &socket.stage) else { continue };
            let taken = match &entry.wire {
                Wire::SocketIo(_) => entry.connection.send_frames(&frames.each, &frames.joined),
                Wire::PlainJson(_) => {
                    let frames = plain_json.get_or_insert_with(|| {
                        Frames::of(encoded.iter_mut(), Encoded::plain_json, bytes_max)
                    });
                    entry.connection.send_frames(&frames.each, &frames.joined)
                }
                Wire::SocketIo2(_) => 0,
            };
            rest.everyone += 1;
            if taken < encoded.len() {
                rest.sockets.push((*key, taken));
            }
        }
        rest
    }
}

/// Those who have not been given all events of a burst.
#[derive(Default)]
struct Rest {
    /// How many there are with the others.
    everyone: usize,
    /// Each with how many of the events it has.
    sockets: Vec<(SocketKey, usize)>,
}

/// An emit to all of one room that is nothing more than that.
fn to_one_room(instruction: &Instruction) -> Option<(&Audience, &Emit)> {
    let Some(Kind::Emit(emit)) = &instruction.kind else { return None };
    let audience = emit.audience.as_ref()?;
    let Audience {
        namespace: _,
        // Only users are looked up by these: a room has its tenant in its name.
        tenant: _,
        users_issuer: _,
        rooms,
        sockets,
        users,
        everyone,
        except_rooms,
        except_sockets,
        except_users,
    } = audience;
    let is_plain = rooms.len() == 1
        && sockets.is_empty()
        && users.is_empty()
        && !everyone
        && except_rooms.is_empty()
        && except_sockets.is_empty()
        && except_users.is_empty()
        && emit.ask.is_none()
        && emit.attachments.is_empty();
    is_plain.then_some((audience, emit))
}

fn is_same_room(one: &Audience, other: &Audience) -> bool {
    one.namespace == other.namespace && one.rooms == other.rooms
}
