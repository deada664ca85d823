//! Logs and relays events, and keeps the latest values of those that an application wants kept.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use service_kit::trace::TraceParent;

use super::{PAGE_BYTES_MAX, Worker, fan_out::Cause};
use crate::{
    client_error::ClientError,
    client_event::ClientEvent,
    client_view,
    declared_events::{Data, DeclaredEvent, DeclaredEvents},
    edge_link::Emit,
    request::PAGE_ENTRIES_MAX,
    retained::ValueKey,
    room_key::RoomKey,
    room_log::{
        AppendError, Appended, Author, Durability, Entry, Limit, Publication, PublicationId, Range,
        ReadError, RoomLog, Unreadable,
    },
    telemetry,
};

const PAGE: Limit = Limit { count: PAGE_ENTRIES_MAX, bytes: PAGE_BYTES_MAX };

/// The latest value of which event something becomes, and which of its values.
pub(crate) type LatestOf = (Arc<DeclaredEvent>, ValueKey);

impl<L: RoomLog> Worker<L> {
    /// Relays an event of a member to the room.
    pub(super) async fn relay(
        &mut self,
        event: &mut ClientEvent,
        room: RoomKey,
        (declared, data, id): (Arc<DeclaredEvent>, Data, Option<Box<str>>),
        now_ms: u64,
    ) {
        let socket = Arc::clone(&event.socket);
        let Data { fields, key } = data;
        // A suspended socket may have sent this before its user left: nothing would ever take the value away.
        let is_kept = |key: &ValueKey| match key {
            ValueKey::User(user) => self.rooms.get(&room).is_some_and(|room| room.sees(user)),
            ValueKey::Single | ValueKey::Field(_) => true,
        };
        let key = declared.value_key(key, Some(&socket.user)).filter(is_kept);
        let latest_of = key.map(|key| (Arc::clone(&declared), key));
        self.metrics.count_declared(declared.number);
        if declared.is_logged {
            let trace = self.shown_trace(event);
            let payload =
                client_view::declared(None, Some(&socket.user), &fields, trace.as_deref());
            let author = Author::User(Arc::clone(&socket.user));
            let name = Arc::clone(&declared.name);
            let publication = Publication {
                author,
                id: id.map(PublicationId::Own),
                repeated_since_ms: event.repeated_since_ms,
                event: name,
                payload: payload.into(),
                except_users: Box::default(),
            };
            return self.post(event, &room, (publication, latest_of), now_ms).await;
        }
        if latest_of.is_some() && self.load_latest(&room, now_ms).await.is_err() {
            return event.refuse(&self.metrics, &ClientError::UNREADABLE);
        }
        let object =
            client_view::declared(Some(room.name_for_clients()), Some(&socket.user), &fields, None);
        let args = client_view::array(&object);
        let except = (!declared.echoes).then_some(socket.key);
        let volatile = latest_of.is_none();
        let emit = Emit {
            event: &declared.name,
            args: args.clone(),
            volatile,
            position: None,
            except_users: &[],
        };
        self.fan_out(&room, &emit, except, &mut Cause::Event(&mut event.ticket));
        if let Some((declared, key)) = latest_of {
            self.retained.keep(&room, (&declared, key), (&args, &[]));
        }
        event.answer(&self.metrics, client_view::done);
    }

    /// Logs what a member says, and answers with its place in the log.
    pub(super) async fn post(
        &mut self,
        event: &mut ClientEvent,
        room: &RoomKey,
        (mut publication, latest_of): (Publication, Option<LatestOf>),
        now_ms: u64,
    ) {
        let durability = self.log.durability(room);
        let forgets = durability == Durability::Memory;
        if forgets && event.repeated_since_ms.is_some() {
            return event.refuse(&self.metrics, &ClientError::UNCERTAIN);
        }
        // The name of an event is good for nothing in a log that cannot be asked when the event comes again.
        let name = event.name.filter(|_| !forgets).map(PublicationId::Event);
        publication.id = publication.id.or(name);

        let (trace, said) = (event.trace(), (publication, latest_of));
        let cause = &mut Cause::Event(&mut event.ticket);
        match self.log_and_deliver(room, said, cause, (trace, now_ms)).await {
            Ok(Some(entry)) => event.answer(&self.metrics, || {
                // Where it stands would tell how much another has been sent.
                if room.is_inbox() {
                    client_view::kept(&entry, durability)
                } else {
                    client_view::posted(&entry, durability)
                }
            }),
            Ok(None) => event.refuse(&self.metrics, &ClientError::UNCERTAIN),
            Err(AppendError::Failed(_)) => {
                event.refuse(&self.metrics, &ClientError::LOG_FAILED);
            }
            Err(AppendError::Unreadable(_)) => {
                event.refuse(&self.metrics, &ClientError::UNREADABLE);
            }
        }
    }

    /// Logs an event and sends it to everyone in the room, unless it was logged before. Returns nothing where nobody can tell
    /// whether it was.
    pub(super) async fn log_and_deliver(
        &mut self,
        room: &RoomKey,
        (publication, latest_of): (Publication, Option<LatestOf>),
        cause: &mut Cause<'_>,
        (trace, now_ms): (Option<TraceParent>, u64),
    ) -> Result<Option<Arc<Entry>>, AppendError> {
        let append_span = telemetry::append_span(&self.tracer, trace);
        let appended = self.log.append(room, publication, now_ms).await;
        drop(append_span);
        match appended? {
            Appended::New(entry) => {
                let args = self.deliver(room, &entry, cause);
                // Where they are not known now, they will be found in the log, this one too.
                if let Some((declared, key)) = latest_of
                    && self.load_latest(room, now_ms).await.is_ok()
                {
                    self.retained.note_unconfirmed(room);
                    let kept = (&args, &*entry.except_users);
                    self.retained.keep(room, (&declared, key), kept);
                }
                Ok(Some(entry))
            }
            Appended::Repeated(entry) => Ok(Some(entry)),
            Appended::Unknown => Ok(None),
        }
    }

    /// Sends a new entry to everyone in the room; returns what was sent.
    fn deliver(&mut self, room: &RoomKey, entry: &Entry, cause: &mut Cause<'_>) -> Bytes {
        self.metrics.logged.increment(1);
        let args = client_view::entry(room.name_for_clients(), entry);
        let emit = Emit {
            event: &entry.event,
            args: args.clone(),
            volatile: false,
            position: Some((room, entry.position)),
            except_users: &entry.except_users,
        };
        self.fan_out(room, &emit, None, cause);
        args
    }

    /// Sees to it that the latest values of a room are known: those that are in its log, where this process has not looked
    /// yet. Where that cannot be read, they stay unknown.
    pub(super) async fn load_latest(
        &mut self,
        room: &RoomKey,
        now_ms: u64,
    ) -> Result<(), Unreadable> {
        let Some(events) = self.namespaces.events(room.namespace()) else { return Ok(()) };
        if !events.retain_any() || self.retained.knows(room) {
            return Ok(());
        }
        let events = Arc::clone(events);
        let mut found = Vec::new();
        if events.retain_logged() {
            let mut seen = HashSet::new();
            let mut range = Range::Newest;
            loop {
                let page = match self.log.read(room, range, PAGE, now_ms).await {
                    Ok(page) => page,
                    Err(ReadError::Gap) => break,
                    Err(ReadError::Unreadable(unreadable)) => return Err(unreadable),
                };
                let entries = page.entries.iter().rev();
                found.extend(entries.filter_map(|entry| {
                    let latest_of = latest_of(&events, entry)?;
                    let is_latest = seen.insert((latest_of.0.number, latest_of.1.clone()));
                    is_latest.then(|| (latest_of, Arc::clone(entry)))
                }));
                match page.entries.first() {
                    Some(first) if page.more => range = Range::Before(first.position),
                    Some(_) | None => break,
                }
            }
        }
        self.retained.begin(room);
        for ((declared, key), entry) in found.into_iter().rev() {
            let args = client_view::entry(room.name_for_clients(), &entry);
            self.retained.keep(room, (&declared, key), (&args, &entry.except_users));
        }
        Ok(())
    }
}

/// Which latest value an entry of the log is.
fn latest_of(events: &DeclaredEvents, entry: &Entry) -> Option<LatestOf> {
    let declared = events.get(&entry.event).filter(|declared| declared.is_logged)?;
    let key = declared.key_of(&entry.payload);
    Some((Arc::clone(declared), declared.value_key(key, None)?))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, path::Path, time::Duration};

    use super::*;
    use crate::{
        namespaces::{NamespaceSettings, Namespaces},
        room_log::{MemoryRoomLog, Retention},
        user::User,
        worker::tests::settings,
    };

    const EVENTS: &str = r#"
        [namespace."/".event.price]
        audience = "room"
        logged = true
        retain = { key = "symbol" }
        schema = { required = ["symbol"], properties = { symbol = true } }
    "#;

    fn worker(namespaces: Namespaces) -> Worker<MemoryRoomLog> {
        let namespaces = Arc::new(namespaces);
        let log = MemoryRoomLog::new(1, Arc::clone(&namespaces), usize::MAX);
        Worker::new(log, settings(namespaces))
    }

    fn namespaces() -> Namespaces {
        let count_max = NonZeroUsize::new(10_000).unwrap();
        let retention = Retention { count_max, age_max: Duration::from_secs(60) };
        Namespaces::parse(
            Path::new("ns.toml"),
            EVENTS,
            NamespaceSettings { retention, durability: Durability::Memory },
        )
        .unwrap()
    }

    #[tokio::test]
    async fn latest_values_are_found_again_in_the_log() {
        let mut worker = worker(namespaces());
        let room = RoomKey::parse("/", "market").unwrap();
        for number in 0..2500 {
            let payload = format!(r#"{{"n":{number},"symbol":"{}"}}"#, number.min(3));
            let author = Author::Service;
            let event = if number % 2 == 0 { "price" } else { "message" };
            let publication = Publication {
                author,
                id: None,
                repeated_since_ms: None,
                event: event.into(),
                payload: payload.into(),
                except_users: Box::default(),
            };
            worker.log.append(&room, publication, 0).await.unwrap();
        }

        worker.load_latest(&room, 0).await.unwrap();
        let ann = User::parse("ann", "test", b"{}").unwrap();

        let values = worker.retained.latest(&room, &ann);
        let texts: Vec<_> =
            values.map(|value| String::from_utf8(value.object.to_vec()).unwrap()).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        for (text, number) in texts.iter().zip([0, 2, 2498]) {
            assert!(text.contains(&format!(r#""n":{number},"#)), "{texts:?}");
        }
    }
}
