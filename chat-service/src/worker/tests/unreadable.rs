//! What becomes of those in a room whose log is there and cannot be read.

mod brought_back;
mod delivered;

use std::path::Path;

use proto::edge::v1::instruction::Kind;
use tokio::sync::oneshot;

use super::*;
use crate::{
    client_event::ClientEvent,
    namespaces::NamespaceSettings,
    request::{Action, Request},
    retained::ValueKey,
    room::Arrival,
    room_log::{
        Retention,
        contract::{AGE_MAX, COUNT_MAX, publication, room},
    },
    socket::{ROOMS_PER_SOCKET_MAX, Socket},
    user::User,
};

const EVENTS: &str = r#"
    [namespace."/chat".event.topic]
    audience = "room"
    logged = true
    retain = true
    schema = { required = ["topic"], properties = { topic = true } }

    [namespace."/chat".event.mood]
    audience = "room"
    retain = true
    schema = { required = ["mood"], properties = { mood = true } }
"#;

/// A worker, and one link with one socket.
struct World {
    worker: Worker<FragileLog>,
    outbox: Outbox,
    socket: Arc<Socket>,
}

impl World {
    fn new() -> Self {
        Self::with(EVENTS, Durability::DiskFsync)
    }

    fn with(terms: &str, durability: Durability) -> Self {
        let retention = Retention { count_max: COUNT_MAX, age_max: AGE_MAX };
        let settings = NamespaceSettings { retention, durability };
        let namespaces =
            Arc::new(Namespaces::parse(Path::new("ns.toml"), terms, settings).unwrap());
        let outbox = Outbox::new(LinkKey(1));
        let user = User::parse("ann", "test", br#"{"id":"ann"}"#).unwrap();
        let key = SocketKey { link: outbox.link(), handle: 1 };
        let events = namespaces.events("/chat").cloned();
        let socket = Socket::new(key, "ann-1".into(), "/chat".into(), user)
            .with_events(events)
            .in_open_rooms();
        Self { worker: fragile_worker(&namespaces), outbox, socket: Arc::new(socket) }
    }

    /// Has the log unreadable from now on, or readable again.
    fn damage(&self, damage: Damage) {
        self.worker.log.set_damage(damage);
    }

    /// Carries out a command; returns what the edge is told, a line for each instruction.
    async fn tell(&mut self, command: Command) -> Vec<String> {
        self.worker.handle(command, 0).await;
        self.worker.commit().await;
        self.told()
    }

    fn told(&self) -> Vec<String> {
        let instructions = self.outbox.take_confirmed().into_iter();
        let text = |args: &[u8]| String::from_utf8(args.to_vec()).unwrap();
        let line = |kind: Kind| match kind {
            Kind::Emit(emit) => format!("{} {}", emit.event, text(&emit.args)),
            Kind::Acknowledge(ack) => format!("ack {}", text(&ack.args)),
            Kind::Refill(refill) => {
                format!(
                    "refill after {} to {}, more: {}",
                    refill.after, refill.position, refill.more
                )
            }
            Kind::Join(join) => format!("join at {}", join.position),
            Kind::Accept(_)
            | Kind::Refuse(_)
            | Kind::Leave(_)
            | Kind::Disconnect(_)
            | Kind::Close(_)
            | Kind::Recall(_)
            | Kind::Handled(_) => panic!("{kind:?}"),
        };
        instructions.map(|instruction| line(instruction.kind.unwrap())).collect()
    }

    async fn ask(&mut self, action: Action) -> Vec<String> {
        let event = ClientEvent {
            socket: Arc::clone(&self.socket),
            ticket: self.outbox.extra_ticket(),
            ack_id: Some(1),
            deadline: Instant::now() + Duration::from_secs(3600),
            name: None,
            repeated_since_ms: None,
            span: None,
        };
        self.tell(Command::Client(event, Box::new(Request { room: room(), action }))).await
    }

    async fn join(&mut self, since: Option<Position>) -> Vec<String> {
        self.ask(Action::Join { since }).await
    }

    /// Logs something of a service in the room.
    async fn publish(&mut self, text: &str) -> Result<Position, AppendError> {
        let (asker, answer) = oneshot::channel();
        let publication = publication(text);
        let publish = Publish::Logged { room: room(), publication, latest_of: None, trace: None };
        self.worker.handle(Command::Query(Box::new(Query::Publish(publish, asker))), 0).await;
        self.worker.commit().await;
        match answer.await.unwrap()? {
            Published::Logged(entry, _) => Ok(entry.position),
            Published::Volatile => panic!("it is logged"),
        }
    }

    /// The edge announces the socket, which stands at a position; then it is led through the log.
    async fn restore(&mut self, position: Position) -> Vec<String> {
        self.restore_socket(Arc::clone(&self.socket), position).await
    }

    async fn restore_socket(&mut self, socket: Arc<Socket>, position: Position) -> Vec<String> {
        let restore = Restore {
            ticket: self.outbox.extra_ticket(),
            socket,
            room: room(),
            position: Some(Ok(position)),
            earlier: None,
            arrival: Arrival::Present,
            is_told: false,
        };
        self.tell(Command::Restore(Box::new(restore))).await
    }

    /// One of another user, on the same link.
    fn other_socket(&self, handle: u64) -> Arc<Socket> {
        let user = User::parse("bob", "test", br#"{"id":"bob"}"#).unwrap();
        let key = SocketKey { link: self.outbox.link(), handle };
        Arc::new(Socket::new(key, "bob-1".into(), "/chat".into(), user).in_open_rooms())
    }

    async fn catch_up(&mut self) -> Vec<String> {
        let catch_up = CatchUp { ticket: self.outbox.extra_ticket(), room: room() };
        self.tell(Command::CatchUp(Box::new(catch_up))).await
    }

    /// Asks for what came after a position.
    async fn refill(&mut self, after: Position) -> Vec<String> {
        let refill = Refill {
            ticket: self.outbox.extra_ticket(),
            socket: Arc::clone(&self.socket),
            room: room(),
            after: after.to_string(),
            bytes_max: 1000,
        };
        self.tell(Command::Refill(Box::new(refill))).await
    }

    fn is_catching_up(&self) -> bool {
        self.worker.links.values().any(|link| !link.catching_up.is_empty())
    }

    fn is_member(&self) -> bool {
        self.worker.is_member(&room(), self.socket.key)
    }
}

fn is_refused(told: &[String]) -> bool {
    told.len() == 1 && told[0].starts_with(r#"ack [{"error":{"code":"unavailable","#)
}

fn is_told_of_gap(told: &[String]) -> bool {
    told.len() == 1 && told[0].starts_with(r#"exception [{"status":"error","code":"gap","#)
}

#[tokio::test]
async fn a_join_is_refused_and_leaves_nothing_behind() {
    let mut world = World::new();
    let since = world.publish("missed").await.unwrap();
    for (damage, since) in
        [(Damage::All, None), (Damage::All, Some(since)), (Damage::Entries, Some(since))]
    {
        world.damage(damage);

        let told = world.join(since).await;

        assert!(is_refused(&told), "{told:?}");
        assert!(world.worker.rooms.is_empty() && world.worker.links.is_empty());
        assert!((0..ROOMS_PER_SOCKET_MAX).all(|_| world.socket.take_room()));
        (0..ROOMS_PER_SOCKET_MAX).for_each(|_| world.socket.give_room_back());
    }
    world.damage(Damage::Nothing);
    assert!(world.join(Some(since)).await.last().unwrap().contains(r#""recovered":true"#));
}

#[tokio::test]
async fn a_member_that_joins_again_is_refused_and_stays_one() {
    let mut world = World::new();
    world.join(None).await;
    world.damage(Damage::All);

    let told = world.join(None).await;

    assert!(is_refused(&told), "{told:?}");
    assert!(world.is_member());
    let told = world.ask(Action::Typing { typing: true }).await;
    assert_eq!(told, ["ack [{}]"]);
}

#[tokio::test]
async fn a_join_that_cannot_be_told_the_latest_values_is_refused() {
    let mut world = World::new();
    world.damage(Damage::Entries);

    let told = world.join(None).await;

    assert!(is_refused(&told), "{told:?}");
    assert!(!world.worker.retained.knows(&room()) && world.worker.rooms.is_empty());
}

#[tokio::test]
async fn what_is_said_and_asked_in_it_is_refused() {
    let mut world = World::new();
    let position = world.publish("first").await.unwrap();
    world.join(None).await;
    world.damage(Damage::Entries);
    let text = serde_json::value::to_raw_value("hi").unwrap();

    let message = world.ask(Action::Message { text, id: None }).await;
    let history = world.ask(Action::History { range: Range::After(position), count: 9 }).await;

    assert!(is_refused(&message) && is_refused(&history), "{message:?} {history:?}");
    assert_eq!(world.publish("second").await.unwrap_err(), Unreadable.into());
    assert_eq!(world.told(), [""; 0]);
}

#[tokio::test]
async fn latest_values_stay_unknown_until_they_can_be_read() {
    let mut world = World::new();
    let events = world.worker.namespaces.events("/chat").cloned().unwrap();
    let [topic, mood] = ["topic", "mood"].map(|name| Arc::clone(events.get(name).unwrap()));
    let logged = Publication {
        event: "topic".into(),
        payload: r#"{"topic":"tea"}"#.into(),
        ..publication("")
    };
    world.worker.log.append(&room(), logged, 0).await.unwrap();
    assert_eq!(topic.value_key(None, None), Some(ValueKey::Single));
    let unlogged = |asker| {
        let publish = Publish::Volatile {
            room: room(),
            event: Arc::clone(&mood.name),
            args: r#"[{"mood":"calm"}]"#.into(),
            except_users: Box::default(),
            latest_of: Some((Arc::clone(&mood), ValueKey::Single)),
            trace: None,
        };
        Command::Query(Box::new(Query::Publish(publish, asker)))
    };
    world.damage(Damage::Entries);
    let (asker, answer) = oneshot::channel();
    world.tell(unlogged(asker)).await;
    assert!(matches!(answer.await.unwrap(), Err(AppendError::Unreadable(_))));
    assert!(!world.worker.retained.knows(&room()));

    world.damage(Damage::Nothing);
    let (asker, answer) = oneshot::channel();
    world.tell(unlogged(asker)).await;
    assert!(matches!(answer.await.unwrap(), Ok(Published::Volatile)));

    let joined = world.join(None).await;
    let (_, latest) = joined.last().unwrap().split_once(r#""latest":"#).unwrap();
    assert!(latest.contains("tea") && latest.contains("calm"), "{latest}");
}

#[tokio::test]
async fn a_socket_that_did_not_keep_up_is_told_and_asks_no_more() {
    let mut world = World::new();
    let seen = world.publish("seen").await.unwrap();
    let end = world.publish("missed").await.unwrap();
    world.join(None).await;
    for (damage, stands_at) in [(Damage::Entries, end), (Damage::All, seen)] {
        world.damage(damage);

        let told = world.refill(seen).await;

        assert!(is_told_of_gap(&told[..1]), "{told:?}");
        assert_eq!(told[1..], [format!("refill after {seen} to {stands_at}, more: false")]);
    }
}

#[tokio::test]
async fn a_socket_that_was_given_the_rest_stands_behind_it_where_the_end_cannot_be_read() {
    let mut world = World::new();
    let seen = world.publish("seen").await.unwrap();
    let given = world.publish("missed").await.unwrap();
    world.join(None).await;
    world.damage(Damage::Ends);

    let told = world.refill(seen).await;

    assert_eq!(told, [format!("refill after {seen} to {given}, more: false")]);
}

#[tokio::test]
async fn a_list_of_rooms_is_whole_or_refused() {
    let mut world = World::new();
    world.publish("first").await.unwrap();
    for (damage, expected) in [(Damage::All, Err(Unreadable)), (Damage::Entries, Ok(1))] {
        world.damage(damage);
        let (asker, answer) = oneshot::channel();
        let (tenant, namespace) = (String::new(), "/chat".to_owned());
        let rooms = Rooms { tenant, namespace, after: String::new(), limit: 9 };

        world.tell(Command::Query(Box::new(Query::Rooms(rooms, asker)))).await;

        assert_eq!(answer.await.unwrap().map(|rooms| rooms.len()), expected);
    }
}
