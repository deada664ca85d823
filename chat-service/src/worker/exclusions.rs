//! Puts users out of rooms, and keeps them out.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{BanPage, Bans, KeepOut, PutOut, Worker, fan_out::Cause};
use crate::{
    client_error::ClientError,
    client_view::{self, EXCEPTION},
    edge_link::{Audience, Emit, Instructions, Ticket},
    exclusions::{Ban, TooManyError, Who},
    room::{Left, Parting},
    room_key::RoomKey,
    room_log::{KeptExclusions, LogFailed, RoomLog},
    socket::{LinkKey, Socket, SocketKey},
};

/// Why nobody was put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum KeepOutError {
    #[error(transparent)]
    TooMany(#[from] TooManyError),
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

impl<L: RoomLog> Worker<L> {
    /// Takes in what earlier lives of this service have kept.
    pub(super) fn load_exclusions(&mut self) {
        let kept = self.log.exclusions().map(KeptExclusions::take_loaded);
        for (room, who, exclusion) in kept.unwrap_or_default() {
            self.exclusions.load(room, who, exclusion);
        }
        self.show_exclusions(0);
    }

    /// Takes those concerned out of the room, on whatever link they are. On each of these links the order to do so stands before
    /// whatever is sent into the room later.
    pub(super) async fn keep_out(
        &mut self,
        KeepOut { room: key, who, ban, reason }: KeepOut,
        now_ms: u64,
    ) -> Result<PutOut, KeepOutError> {
        self.check_keeping()?;
        let count_before = self.exclusions.count();
        let is_ban = ban.is_some();
        let noted = match ban {
            Some(until_ms) => {
                let ban = Ban { since_ms: now_ms, until_ms, reason: reason.clone() };
                self.exclusions.ban(&key, &who, ban, now_ms)
            }
            None => self.exclusions.kick(&key, &who, &reason, now_ms),
        };
        noted.inspect_err(|_| self.metrics.exclusions_refused.increment(1))?;
        self.show_exclusions(count_before);
        let counter = if is_ban { &self.metrics.bans } else { &self.metrics.kicks };
        counter.increment(1);
        self.save_exclusion(&key, &who);

        let position = self.log.end(&key).await.ok();
        let members = self.members_that_are(&key, &who);
        let error = if is_ban { ClientError::BANNED } else { ClientError::KICKED };
        self.order_out((&key, &who), &members, (&error, &reason));
        for socket in &members {
            let left = self.take_out(socket, &key);
            self.unfollow(&key, &socket.user, now_ms).await;
            self.handle_left(&key, left, &mut Cause::Other(String::new()));
        }
        Ok(PutOut { sockets: members.len(), position, is_on_disk: self.keeps_exclusions() })
    }

    /// Sends the order over each link. It also names sockets that are not in the room as far as is known here, and may be by
    /// the time it arrives: they have moved from another edge, and what they did there is not told yet.
    fn order_out(
        &mut self,
        (key, who): (&RoomKey, &Who),
        members: &[Arc<Socket>],
        (error, reason): (&ClientError, &str),
    ) {
        let mut orders = BTreeMap::<LinkKey, (Vec<SocketKey>, Vec<u64>)>::new();
        for socket in members {
            let (all, told) = orders.entry(socket.key.link).or_default();
            all.push(socket.key);
            told.push(socket.key.handle);
        }
        for socket in self.registry.of(key.realm(), who) {
            let (all, _) = orders.entry(socket.key.link).or_default();
            if !all.contains(&socket.key) {
                all.push(socket.key);
            }
        }
        for (link, (all, told)) in orders {
            let Some(outbox) = self.links.get(&link).map(|link| link.outbox.clone()) else {
                continue;
            };
            let mut instructions = Instructions::default();
            for socket in all {
                instructions.leave(socket, key);
            }
            if !told.is_empty() {
                tell_out(&mut instructions, key, told, (error, reason));
            }
            self.effects.send(&outbox, instructions);
        }
    }

    fn members_that_are(&self, key: &RoomKey, who: &Who) -> Vec<Arc<Socket>> {
        let Some(room) = self.rooms.get(key) else { return Vec::new() };
        let mut found = Vec::new();
        for (link_key, _) in room.links() {
            let Some(link) = self.links.get(&link_key) else { continue };
            let stays = room.handles(link_key).into_iter();
            let sockets = stays.filter_map(|handle| Some(&link.sockets.get(&handle)?.socket));
            found.extend(sockets.filter(|socket| who.is(socket)).cloned());
        }
        found
    }

    /// Lets a user in again; tells whether it was banned.
    pub(super) fn unban(
        &mut self,
        key: &RoomKey,
        who: &Who,
        now_ms: u64,
    ) -> Result<bool, KeepOutError> {
        self.check_keeping()?;
        let count_before = self.exclusions.count();
        let was_banned = self.exclusions.unban(key, who, now_ms);
        self.show_exclusions(count_before);
        self.save_exclusion(key, who);
        Ok(was_banned)
    }

    pub(super) fn list_bans(&self, asked: &Bans, now_ms: u64) -> BanPage {
        let mut bans = self.exclusions.bans(&asked.room, asked.after.as_ref(), now_ms);
        let page = bans.by_ref().take(asked.limit);
        let listed = page.map(|(subject, issuer, ban)| {
            (Who::User { subject: subject.into(), issuer: issuer.into() }, ban.clone())
        });
        let listed = listed.collect();
        BanPage { bans: listed, more: bans.next().is_some() }
    }

    /// Why a socket may not join, if it may not. `repeated_since_ms` is set if it may have joined before this process was.
    pub(super) fn refusal_of_join(
        &self,
        key: &RoomKey,
        socket: &Socket,
        (repeated_since_ms, now_ms): (Option<u64>, u64),
    ) -> Option<ClientError> {
        if self.exclusions.ban_of(key, &socket.user, now_ms).is_some() {
            return Some(ClientError::BANNED);
        }
        // A join that came before the kick does not undo it.
        let since_ms = repeated_since_ms?;
        let kick = self.exclusions.kick_of(key, socket, now_ms)?;
        (since_ms <= kick.at_ms).then_some(ClientError::KICKED)
    }

    /// Notes that a socket has joined by itself.
    pub(super) fn note_return(&mut self, key: &RoomKey, socket: &Socket, now_ms: u64) {
        let count_before = self.exclusions.count();
        for who in self.exclusions.note_return(key, socket, now_ms) {
            self.save_exclusion(key, &who);
        }
        self.show_exclusions(count_before);
    }

    /// Why a socket does not come back into a room that its edge, or its client, says it was in; with the reason that was given.
    pub(super) fn refusal_of_return(
        &self,
        key: &RoomKey,
        socket: &Socket,
        now_ms: u64,
    ) -> Option<(ClientError, Box<str>)> {
        if let Some(ban) = self.exclusions.ban_of(key, &socket.user, now_ms) {
            return Some((ClientError::BANNED, ban.reason.clone()));
        }
        let kick = self.exclusions.kick_of(key, socket, now_ms)?;
        Some((ClientError::KICKED, kick.reason.clone()))
    }

    /// Does not let a socket back in: it was put out, and its edge does not know. What it was before, on an earlier life of its
    /// link, is out of the room as well.
    pub(super) fn refuse_return(
        &mut self,
        mut ticket: Ticket,
        (socket, key): (&Socket, &RoomKey),
        earlier: Option<SocketKey>,
        (error, reason): (&ClientError, &str),
    ) {
        ticket.instructions.leave(socket.key, key);
        let told = vec![socket.key.handle];
        tell_out(&mut ticket.instructions, key, told, (error, reason));
        self.metrics.returns_refused.increment(1);
        if let Some(earlier) = earlier {
            let room = self.rooms.get_mut(key);
            let left = room.map_or(Left::Never, |room| room.handle_leave(earlier, Parting::Final));
            self.handle_left(key, left, &mut Cause::Event(&mut ticket));
        }
        self.effects.finish_ticket(ticket);
    }

    pub(super) fn expire_exclusions(&mut self, now_ms: u64) {
        let count_before = self.exclusions.count();
        for (key, who) in self.exclusions.expire(now_ms) {
            self.save_exclusion(&key, &who);
        }
        self.show_exclusions(count_before);
    }

    /// The gauge is shared with the other workers.
    fn show_exclusions(&self, count_before: usize) {
        let count = self.exclusions.count();
        if count != count_before {
            self.metrics.exclusions.increment(count as f64 - count_before as f64);
        }
    }

    fn keeps_exclusions(&self) -> bool {
        self.log.exclusions().is_some()
    }

    fn check_keeping(&self) -> Result<(), LogFailed> {
        self.log.exclusions().map_or(Ok(()), KeptExclusions::check)
    }

    fn save_exclusion(&self, key: &RoomKey, who: &Who) {
        if let Some(kept) = self.log.exclusions() {
            kept.keep(key, who, self.exclusions.get(key, who));
        }
    }
}

fn tell_out(
    instructions: &mut Instructions,
    key: &RoomKey,
    handles: Vec<u64>,
    (error, reason): (&ClientError, &str),
) {
    let args = client_view::put_out(error, key.name_for_clients(), reason);
    let emit = Emit { event: EXCEPTION, args, volatile: false, position: None, except_users: &[] };
    instructions.emit(Audience::Sockets { realm: key.realm(), handles }, &emit);
}
