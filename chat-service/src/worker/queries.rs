//! Answers other services.

use std::collections::HashMap;

use service_kit::trace::TraceParent;

use super::{
    History, Presence, Present, Publish, Published, Query, RoomSummary, Rooms, Worker,
    effects::Reply, fan_out::Cause,
};
use crate::{
    edge_link::Emit,
    room_log::{AppendError, LogFailed, RoomLog, Unreadable},
};

impl<L: RoomLog> Worker<L> {
    pub(super) async fn handle_query(&mut self, query: Query, now_ms: u64) {
        let reply = match query {
            Query::Publish(publish, asker) => {
                Reply::Published(asker, self.publish(publish, now_ms).await)
            }
            Query::History(History { room, range, limit }, asker) => {
                Reply::History(asker, self.log.read(&room, range, limit, now_ms).await)
            }
            Query::Presence(presence, asker) => Reply::Present(asker, self.present(&presence)),
            Query::Rooms(rooms, asker) => Reply::Rooms(asker, self.rooms_after(&rooms).await),
            Query::Delivered(asked, asker) => {
                Reply::Delivered(asker, self.delivered_to(asked, now_ms).await)
            }
            Query::KeepOut(keep_out, asker) => {
                Reply::PutOut(asker, self.keep_out(keep_out, now_ms).await)
            }
            Query::Unban(room, who, asker) => {
                Reply::Unbanned(asker, self.unban(&room, &who, now_ms))
            }
            Query::Bans(asked, asker) => Reply::Bans(asker, self.list_bans(&asked, now_ms)),
        };
        self.effects.reply(reply);
    }

    async fn publish(&mut self, publish: Publish, now_ms: u64) -> Result<Published, AppendError> {
        match publish {
            Publish::Logged { room, publication, latest_of, trace } => {
                let cause = &mut Cause::Other(traceparent(trace));
                let said = (publication, latest_of);
                let logged = self.log_and_deliver(&room, said, cause, (trace, now_ms)).await?;
                // Of what other services publish, nothing comes again over a link.
                let entry = logged.ok_or(LogFailed)?;
                Ok(Published::Logged(entry, self.log.durability(&room)))
            }
            Publish::Volatile { room, event, args, except_users, latest_of, trace } => {
                if latest_of.is_some() {
                    self.load_latest(&room, now_ms).await?;
                }
                let emit = Emit {
                    event: &event,
                    args: args.clone(),
                    volatile: latest_of.is_none(),
                    position: None,
                    except_users: &except_users,
                };
                self.fan_out(&room, &emit, None, &mut Cause::Other(traceparent(trace)));
                if let Some((declared, key)) = latest_of {
                    self.retained.keep(&room, (&declared, key), (&args, &except_users));
                }
                Ok(Published::Volatile)
            }
        }
    }

    fn present(&self, presence: &Presence) -> Present {
        let Some(room) = self.rooms.get(&presence.room) else { return Present::default() };
        let mut bytes = 0;
        let listed = room.users().take(presence.users_max).take_while(|(user, _)| {
            bytes += user.subject().len() + user.profile().get().len();
            bytes <= presence.bytes_max
        });
        let users = listed.map(|(user, sockets)| {
            (user.subject().to_owned(), user.profile().get().to_owned(), sockets)
        });
        Present { users: users.collect(), count: room.user_count() }
    }

    /// Looks at every room of this worker: rooms are found by name all day, and listed once in a while.
    async fn rooms_after(&self, rooms: &Rooms) -> Result<Vec<RoomSummary>, Unreadable> {
        let mut ends: HashMap<_, _> = self.log.rooms(rooms.realm()).await?.into_iter().collect();
        for room in self.rooms.keys().filter(|room| room.is_in(rooms.realm())) {
            if !room.is_inbox() && !ends.contains_key(room) {
                ends.insert(room.clone(), self.log.end(room).await?);
            }
        }
        ends.retain(|room, _| room.name_for_services() > rooms.after.as_str());
        let mut found: Vec<_> = ends.into_iter().collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        found.truncate(rooms.limit);

        let summary = |(key, position)| {
            let room = self.rooms.get(&key);
            RoomSummary {
                name: key.name_for_services().to_owned(),
                users: room.map_or(0, |room| room.user_count()),
                sockets: room.map_or(0, |room| room.socket_count()),
                position,
            }
        };
        Ok(found.into_iter().map(summary).collect())
    }
}

fn traceparent(trace: Option<TraceParent>) -> String {
    trace.map(|trace| trace.to_string()).unwrap_or_default()
}
