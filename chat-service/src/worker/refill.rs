//! Gives sockets that did not keep up what they missed, part by part, as each of them asks for the next.

use std::sync::Arc;

use super::{PAGE_BYTES_MAX, Refill, Worker, catch_up::missed};
use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    edge_link::{Audience, Emit},
    request::PAGE_ENTRIES_MAX,
    room_log::{Limit, Page, Position, Range, ReadError, RoomLog},
    room_rules::Deed,
};

/// About what an event takes of the edge's room besides its payload.
const ENTRY_OVERHEAD_BYTES: usize = 256;

impl Refill {
    /// Most bytes of payload in the answer.
    pub(crate) fn bytes_max(&self) -> usize {
        usize::try_from(self.bytes_max).unwrap_or(usize::MAX).min(PAGE_BYTES_MAX)
    }

    fn limit(&self) -> Limit {
        let bytes = self.bytes_max();
        Limit { count: (bytes / ENTRY_OVERHEAD_BYTES).clamp(1, PAGE_ENTRIES_MAX), bytes }
    }
}

impl<L: RoomLog> Worker<L> {
    /// The edge gives the socket nothing of this room until it has the answer, so there is always one. What is logged from
    /// here on comes behind it.
    pub(super) async fn handle_refill(&mut self, refill: Refill, now_ms: u64) {
        let limit = refill.limit();
        let Refill { mut ticket, socket, room: key, after, bytes_max: _ } = refill;
        if ticket.outbox().is_closed() {
            return;
        }
        let position = after.parse::<Position>().map_err(|_| ReadError::Gap);
        let page = match position {
            // It has left meanwhile.
            _ if !self.is_member(&key, socket.key) => Ok(Page { entries: Vec::new(), more: false }),
            // It is given nothing of what was there before.
            Ok(_) if !socket.may(Deed::History, &key) => Err(ReadError::Gap),
            Ok(position) => self.log.read(&key, Range::After(position), limit, now_ms).await,
            Err(error) => Err(error),
        };
        let misses = page.is_err();
        let Page { entries, more } = page.unwrap_or_else(|_error| {
            self.metrics.gaps.increment(1);
            let room = Some(key.name_for_clients());
            let args = client_view::exception(&ClientError::MISSED_EVENTS, room);
            let (event, except_users) = (EXCEPTION, &[][..]);
            let emit = Emit { event, args, volatile: false, position: None, except_users };
            let handles = vec![socket.key.handle];
            let audience = Audience::Sockets { realm: key.realm(), handles };
            ticket.instructions.emit(audience, &emit);
            Page { entries: Vec::new(), more: false }
        });
        let given = entries.last().map(|last| last.position);
        let stands_at = if more { given } else { self.log.end(&key).await.ok().or(given) };
        if misses {
            let users = vec![Arc::clone(&socket.user)];
            self.note_gap(&key, users, stands_at, now_ms).await;
        }
        // Where nobody can tell, the edge is answered its own words, and asks no more.
        let stands_at = stands_at.map_or_else(|| after.clone(), |position| position.to_string());
        let own = entries.iter().filter(|entry| entry.is_for(&socket.user));
        let events = own.map(|entry| (&missed(&key, entry)).into()).collect();
        ticket.instructions.refill(
            socket.key,
            (key.name_for_edges(), after),
            events,
            (stands_at, more),
        );
        self.effects.finish_ticket(ticket);
    }
}
