//! Carries out what clients ask for.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Link, PAGE_BYTES_MAX, Worker, deliveries::Coming, fan_out::Cause};
use crate::{
    audit,
    client_error::ClientError,
    client_event::ClientEvent,
    client_view::{self, JoinedView, MESSAGE, Recovery, TYPING},
    edge_link::Emit,
    request::{Action, PAGE_ENTRIES_MAX, Request},
    room::{Arrival, Joined},
    room_key::RoomKey,
    room_log::{
        Author, Limit, Page, Position, Publication, PublicationId, Range, ReadError, RoomLog,
        Unreadable,
    },
    room_rules::Deed,
    user::User,
};

/// All that may stand in one answer.
const WHOLE_PAGE: Limit = Limit { count: PAGE_ENTRIES_MAX, bytes: PAGE_BYTES_MAX };

impl<L: RoomLog> Worker<L> {
    pub(super) async fn handle_client(
        &mut self,
        mut event: ClientEvent,
        request: Request,
        now_ms: u64,
    ) {
        // The client was told `unavailable` by its edge, or will be when its link is back.
        if event.ticket.outbox().is_closed() {
            return;
        }
        if event.is_expired(Instant::now()) {
            event.expire(&self.metrics);
        } else {
            self.carry_out(&mut event, request, now_ms).await;
        }
        self.effects.finish_event(event);
    }

    async fn carry_out(&mut self, event: &mut ClientEvent, request: Request, now_ms: u64) {
        let Request { room, action } = request;
        // What is kept for a user comes from others.
        let is_for_inbox = room.is_inbox() && matches!(action, Action::Declared { .. });
        let may_act = is_for_inbox || self.is_member(&room, event.socket.key);
        match action {
            Action::Join { since } => {
                self.join(event, room, since, now_ms).await;
                event.end_repeats();
            }
            Action::Leave => {
                self.leave(event, &room, now_ms).await;
                event.end_repeats();
            }
            Action::Message { .. }
            | Action::Typing { .. }
            | Action::History { .. }
            | Action::Presence
            | Action::Declared { .. }
                if !may_act =>
            {
                // Who is banned is no member, so that members are not looked for among the bans.
                let is_banned = self.exclusions.ban_of(&room, &event.socket.user, now_ms).is_some();
                let error = if is_banned { ClientError::BANNED } else { ClientError::NOT_A_MEMBER };
                event.refuse(&self.metrics, &error);
            }
            Action::Declared { event: ref declared, .. }
                if event.repeated_since_ms.is_some() && declared.is_volatile() =>
            {
                event.refuse(&self.metrics, &ClientError::UNCERTAIN);
            }
            Action::Message { text, id } => self.message(event, room, (text, id), now_ms).await,
            Action::Typing { typing } => self.typing(event, &room, typing),
            Action::History { range, count } => {
                self.history(event, &room, (range, count), now_ms).await;
            }
            Action::Presence => self.presence(event, &room),
            Action::Declared { event: declared, data, id } => {
                self.relay(event, room, (declared, data, id), now_ms).await;
            }
        }
    }

    /// Joining again is no error: it tells where the room is now, and what was missed.
    async fn join(
        &mut self,
        event: &mut ClientEvent,
        key: RoomKey,
        since: Option<Position>,
        now_ms: u64,
    ) {
        let socket = Arc::clone(&event.socket);
        let when = (event.repeated_since_ms, now_ms);
        if let Some(error) = self.refusal_of_join(&key, &socket, when) {
            return event.refuse(&self.metrics, &error);
        }
        let may_look_back = socket.may(Deed::History, &key);
        let events = socket.events.as_ref().filter(|_| may_look_back && !key.is_inbox());
        let has_latest = events.is_some_and(|events| events.retain_any());
        let missed = since.filter(|_| may_look_back);
        let entry = self.read_entry((&key, &socket.user), (missed, has_latest), now_ms).await;
        let Ok((position, recovery)) = entry else {
            return event.refuse(&self.metrics, &ClientError::UNREADABLE);
        };
        // What was there before is not told to who may not know of it.
        let recovery = recovery.or_else(|| since.map(|_| Recovery::Impossible));
        if !self.is_member(&key, socket.key) && !socket.take_room() {
            // As often as a socket may join. Those that repeat within a second are one line.
            audit::limited(&socket.user, "rooms");
            return event.refuse(&self.metrics, &ClientError::ROOM_LIMIT);
        }

        let joined = self.room(&key).handle_join(socket.key, &socket.user, Arrival::Present);
        // Who is in already and asks for nothing from before is still owed what has not reached it.
        if joined != Joined::Already || since.is_some() {
            event.ticket.instructions.join(socket.key, &key, position);
        }
        if joined != Joined::Already {
            let link = self.links.entry(socket.key.link);
            let link = link.or_insert_with(|| Link::new(event.ticket.outbox()));
            link.note_membership(&socket, &key);
            link.join_catching_up(socket.key, &key, Some(position));
            self.note_sight(&key, &socket);
        }
        let coming = match (since, &recovery) {
            (Some(since), Some(Recovery::Complete(_))) => Some(Coming::Since(since)),
            (Some(_), _) => Some(Coming::From(position)),
            (None, _) => (joined != Joined::Already).then_some(Coming::From(position)),
        };
        if let Some(coming) = coming {
            self.follow(&key, &socket.user, coming, now_ms).await;
        }
        self.note_return(&key, &socket, now_ms);
        if joined == Joined::User {
            let cause = &mut Cause::Event(&mut event.ticket);
            self.tell_joined(&key, &socket.user, Some(socket.key), cause);
        }
        let room = &self.rooms[&key];
        event.answer(&self.metrics, || {
            let may_see = socket.may(Deed::Presence, &key);
            let members = may_see.then(|| self.members(&key, room));
            let latest = has_latest.then(|| self.retained.latest(&key, &socket.user).collect());
            client_view::joined(&JoinedView {
                room: key.name_for_clients(),
                position,
                members,
                latest,
                recovery,
            })
        });
    }

    /// Reads all that the answer to a join needs of the log, before anything comes of the join.
    async fn read_entry(
        &mut self,
        (room, user): (&RoomKey, &User),
        (since, has_latest): (Option<Position>, bool),
        now_ms: u64,
    ) -> Result<(Position, Option<Recovery>), Unreadable> {
        let position = self.log.end(room).await?;
        let recovery = match since {
            Some(since) => Some(self.recover((room, user), since, now_ms).await?),
            None => None,
        };
        if has_latest {
            self.load_latest(room, now_ms).await?;
        }
        Ok((position, recovery))
    }

    async fn recover(
        &self,
        (room, user): (&RoomKey, &User),
        since: Position,
        now_ms: u64,
    ) -> Result<Recovery, Unreadable> {
        match self.log.read(room, Range::After(since), WHOLE_PAGE, now_ms).await {
            Ok(Page { mut entries, more: false }) => {
                entries.retain(|entry| entry.is_for(user));
                Ok(Recovery::Complete(entries))
            }
            Ok(_) | Err(ReadError::Gap) => Ok(Recovery::Impossible),
            Err(ReadError::Unreadable(unreadable)) => Err(unreadable),
        }
    }

    /// Leaving a room that the socket is not in is no error: the client asked to be out, and is.
    async fn leave(&mut self, event: &mut ClientEvent, key: &RoomKey, now_ms: u64) {
        let socket = Arc::clone(&event.socket);
        event.ticket.instructions.leave(socket.key, key);
        let left = self.take_out(&socket, key);
        self.unfollow(key, &socket.user, now_ms).await;
        self.handle_left(key, left, &mut Cause::Event(&mut event.ticket));
        event.answer(&self.metrics, || client_view::left(key.name_for_clients()));
    }

    async fn message(
        &mut self,
        event: &mut ClientEvent,
        room: RoomKey,
        (text, id): (Box<RawValue>, Option<Box<str>>),
        now_ms: u64,
    ) {
        let user = &event.socket.user;
        let trace = self.shown_trace(event);
        let payload = client_view::message_payload(user, &text, trace.as_deref());
        let author = Author::User(Arc::clone(user));
        let publication = Publication {
            author,
            id: id.map(PublicationId::Own),
            repeated_since_ms: event.repeated_since_ms,
            event: MESSAGE.into(),
            payload,
            except_users: Box::default(),
        };
        self.post(event, &room, (publication, None), now_ms).await;
    }

    /// The trace that an event is part of, where that is shown to clients.
    pub(super) fn shown_trace(&self, event: &ClientEvent) -> Option<String> {
        let shown = event.trace().filter(|_| self.expose_trace_ids);
        shown.map(|trace| trace.trace_id().to_string())
    }

    fn typing(&mut self, event: &mut ClientEvent, room: &RoomKey, typing: bool) {
        let args = client_view::typing(room.name_for_clients(), &event.socket.user, typing);
        let emit = Emit { event: TYPING, args, volatile: true, position: None, except_users: &[] };
        let socket = event.socket.key;
        self.fan_out(room, &emit, Some(socket), &mut Cause::Event(&mut event.ticket));
        event.answer(&self.metrics, client_view::done);
    }

    async fn history(
        &self,
        event: &mut ClientEvent,
        room: &RoomKey,
        (range, count): (Range, usize),
        now_ms: u64,
    ) {
        let limit = Limit { count, bytes: PAGE_BYTES_MAX };
        match self.read_for(&event.socket.user, (room, range), limit, now_ms).await {
            Ok(page) => event.answer(&self.metrics, || {
                client_view::history(room.name_for_clients(), &page.entries, page.more)
            }),
            Err(ReadError::Gap) => event.refuse(&self.metrics, &ClientError::HISTORY_GAP),
            Err(ReadError::Unreadable(_)) => {
                event.refuse(&self.metrics, &ClientError::UNREADABLE);
            }
        }
    }

    /// Reads on until there is an entry for this user, or no more: an empty page would not tell where to go on.
    async fn read_for(
        &self,
        user: &User,
        (room, mut range): (&RoomKey, Range),
        limit: Limit,
        now_ms: u64,
    ) -> Result<Page, ReadError> {
        loop {
            let Page { mut entries, more } = self.log.read(room, range, limit, now_ms).await?;
            let (first, last) = (entries.first(), entries.last());
            let rest = match range {
                Range::After(_) => last.map(|last| Range::After(last.position)),
                Range::Before(_) | Range::Newest => {
                    first.map(|first| Range::Before(first.position))
                }
            };
            entries.retain(|entry| entry.is_for(user));
            match rest.filter(|_| entries.is_empty() && more) {
                Some(rest) => range = rest,
                None => return Ok(Page { entries, more }),
            }
        }
    }

    fn presence(&self, event: &mut ClientEvent, key: &RoomKey) {
        let room = &self.rooms[key];
        event.answer(&self.metrics, || {
            let users = room.users().map(|(user, _)| user);
            let users = client_view::listed_profiles(users, self.agenda.list_max());
            client_view::users(&users, room.user_count())
        });
    }
}
