//! Clients that keep track of a room by what they are told, whatever happens to them, to links and to time.

mod latest;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto::edge::v1::{Emit as WireEmit, instruction::Kind};
use tokio::{runtime::Builder, time};

use super::*;
use crate::{
    client_event::ClientEvent,
    edge_link::Outbox,
    request::{Action, Request},
    room::Arrival,
    room_log::{
        MemoryRoomLog,
        contract::{COUNT_MAX, keeping, room},
    },
    socket::{LinkKey, Socket},
    worker::{Command, Departure, Restore, WorkerSettings, tests::settings},
};

const GRACE: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(10);
const LIST_MAX: usize = 4;

/// What a client makes of what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum View {
    Listed(BTreeSet<String>),
    Counted(usize),
}

/// A socket of an edge, and its client.
struct Client {
    socket: Arc<Socket>,
    user: u8,
    is_suspended: bool,
    /// While it is in the room.
    view: Option<View>,
    /// It was on a link that lost its life, and has not been told since who is there.
    may_have_missed: bool,
}

/// An edge with one link, over the lives of the link.
struct Edge {
    outbox: Outbox,
    clients: BTreeMap<u64, Client>,
    /// Lives whose sockets are still in the room.
    earlier: Vec<LinkKey>,
}

struct World {
    worker: Worker<MemoryRoomLog>,
    edges: Vec<Edge>,
    next_handle: u64,
    next_link: u64,
}

#[derive(Debug, Clone)]
enum Step {
    /// A user comes with a new socket to an edge.
    Come(usize, u8),
    Leave(usize, usize),
    Close(usize, usize, Departure),
    Suspend(usize, usize),
    Resume(usize, usize),
    /// Says something that is kept while its user is there. Of a suspended client that is what has come late.
    Point(usize, usize),
    /// A link loses its life, and its edge announces its sockets. What was on its way is lost.
    Break(usize),
    /// An edge is gone with all its sockets.
    Kill(usize),
    EarlierLivesEnd(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (edge, client) = (0_usize..2, 0_usize..4);
    let one = (edge.clone(), client);
    let departure = prop_oneof![Just(Departure::Said), Just(Departure::Lost)];
    prop_oneof![
        4 => (edge.clone(), 0_u8..8).prop_map(|(edge, user)| Step::Come(edge, user)),
        1 => one.clone().prop_map(|(edge, client)| Step::Leave(edge, client)),
        2 => (one.clone(), departure).prop_map(|((edge, client), how)| Step::Close(edge, client, how)),
        2 => one.clone().prop_map(|(edge, client)| Step::Suspend(edge, client)),
        2 => one.clone().prop_map(|(edge, client)| Step::Resume(edge, client)),
        2 => one.prop_map(|(edge, client)| Step::Point(edge, client)),
        1 => edge.clone().prop_map(Step::Break),
        1 => edge.clone().prop_map(Step::Kill),
        1 => edge.prop_map(Step::EarlierLivesEnd),
        3 => (1_u64..4000).prop_map(Step::Wait),
    ]
}

impl World {
    fn new() -> Self {
        let presence =
            PresenceTerms { grace: GRACE, list_max: LIST_MAX, settled_at: Instant::now() + LEASE };
        let settings = WorkerSettings { presence, ..settings(latest::namespaces()) };
        let worker = Worker::new(MemoryRoomLog::new(1, keeping(COUNT_MAX), usize::MAX), settings);
        let mut world = Self { worker, edges: Vec::new(), next_handle: 1, next_link: 1 };
        for _ in 0..2 {
            let outbox = world.new_outbox();
            let (clients, earlier) = (BTreeMap::new(), Vec::new());
            world.edges.push(Edge { outbox, clients, earlier });
        }
        world
    }

    fn new_outbox(&mut self) -> Outbox {
        self.next_link += 1;
        Outbox::new(LinkKey(self.next_link))
    }

    /// The handle of one of the clients of an edge.
    fn handle(&self, edge: usize, client: usize, is_it: impl Fn(&Client) -> bool) -> Option<u64> {
        let clients = self.edges[edge].clients.iter().filter(|(_, client)| is_it(client));
        clients.map(|(handle, _)| *handle).nth(client)
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Come(edge, user) => self.come(edge, user).await,
            Step::Leave(edge, client) => {
                let Some(handle) = self.handle(edge, client, |one| !one.is_suspended) else {
                    return;
                };
                self.ask(edge, handle, Action::Leave).await;
                self.edges[edge].clients.remove(&handle);
            }
            Step::Close(edge, client, departure) => {
                let Some(handle) = self.handle(edge, client, |_| true) else { return };
                let client = self.edges[edge].clients.remove(&handle).unwrap();
                let ticket = self.edges[edge].outbox.extra_ticket();
                self.do_now(Command::SocketClosed(ticket, client.socket.key, departure)).await;
            }
            Step::Suspend(edge, client) => {
                let Some(handle) = self.handle(edge, client, |one| !one.is_suspended) else {
                    return;
                };
                self.suspend(edge, handle, true).await;
            }
            Step::Resume(edge, client) => {
                let Some(handle) = self.handle(edge, client, |one| one.is_suspended) else {
                    return;
                };
                self.suspend(edge, handle, false).await;
            }
            Step::Point(edge, client) => {
                let Some(handle) = self.handle(edge, client, |_| true) else { return };
                let action = self.pointing();
                self.ask(edge, handle, action).await;
            }
            Step::Break(edge) => self.lose_life(edge).await,
            Step::Kill(edge) => {
                let gone = self.edges[edge].outbox.link();
                self.edges[edge].clients.clear();
                self.edges[edge].outbox = self.new_outbox();
                self.do_now(Command::LinkGone(gone)).await;
            }
            Step::EarlierLivesEnd(edge) => {
                for link in std::mem::take(&mut self.edges[edge].earlier) {
                    self.do_now(Command::LinkGone(link)).await;
                }
            }
            Step::Wait(ms) => self.wait(Duration::from_millis(ms)).await,
        }
    }

    async fn come(&mut self, edge: usize, user: u8) {
        let handle = self.next_handle;
        self.next_handle += 1;
        let key = SocketKey { link: self.edges[edge].outbox.link(), handle };
        let profile = format!("{{\"id\":\"{user}\"}}");
        let identity = User::parse(&user.to_string(), "test", profile.as_bytes()).unwrap();
        let socket = Arc::new(
            Socket::new(key, "x".into(), room().namespace().into(), identity).in_open_rooms(),
        );
        let (is_suspended, may_have_missed) = (false, false);
        let client = Client { socket, user, is_suspended, view: None, may_have_missed };
        self.edges[edge].clients.insert(handle, client);
        self.ask(edge, handle, Action::Join { since: None }).await;
    }

    async fn ask(&mut self, edge: usize, handle: u64, action: Action) {
        let socket = Arc::clone(&self.edges[edge].clients[&handle].socket);
        let ticket = self.edges[edge].outbox.extra_ticket();
        let deadline = Instant::now() + Duration::from_secs(3600);
        let (ack_id, span) = (Some(1), None);
        let (name, repeated_since_ms) = (None, None);
        let event = ClientEvent { socket, ticket, ack_id, deadline, name, repeated_since_ms, span };
        let request = Box::new(Request { room: room(), action });
        self.do_now(Command::Client(event, request)).await;
    }

    async fn suspend(&mut self, edge: usize, handle: u64, is_suspended: bool) {
        let client = self.edges[edge].clients.get_mut(&handle).unwrap();
        client.is_suspended = is_suspended;
        let key = client.socket.key;
        let ticket = self.edges[edge].outbox.extra_ticket();
        self.do_now(if is_suspended {
            Command::SocketSuspended(ticket, key)
        } else {
            Command::SocketResumed(ticket, key)
        })
        .await;
    }

    async fn lose_life(&mut self, edge: usize) {
        let outbox = self.new_outbox();
        let earlier = std::mem::replace(&mut self.edges[edge].outbox, outbox.clone()).link();
        self.edges[edge].earlier.push(earlier);
        let handles: Vec<u64> = self.edges[edge].clients.keys().copied().collect();
        for handle in handles {
            let client = self.edges[edge].clients.get_mut(&handle).unwrap();
            let key = SocketKey { link: outbox.link(), handle };
            let identity = User::parse(
                client.socket.user.subject(),
                "test",
                client.socket.user.profile().get().as_bytes(),
            );
            client.socket = Arc::new(
                Socket::new(
                    key,
                    "x".into(),
                    Arc::clone(&client.socket.namespace),
                    identity.unwrap(),
                )
                .in_open_rooms(),
            );
            client.may_have_missed = true;
            let arrival = if client.is_suspended { Arrival::Suspended } else { Arrival::Present };
            let restore = Restore {
                ticket: outbox.extra_ticket(),
                socket: Arc::clone(&client.socket),
                room: room(),
                position: None,
                earlier: Some(SocketKey { link: earlier, handle: key.handle }),
                arrival,
                is_told: false,
            };
            self.do_now(Command::Restore(Box::new(restore))).await;
        }
    }

    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(next) = self.worker.agenda.next_at().filter(|next| *next <= until) {
            time::advance(next.saturating_duration_since(Instant::now())).await;
            self.worker.handle_due(Instant::now());
            self.worker.commit().await;
            self.deliver();
        }
        time::advance(until.saturating_duration_since(Instant::now())).await;
    }

    async fn do_now(&mut self, command: Command) {
        self.worker.handle(command, 0).await;
        self.worker.commit().await;
        self.deliver();
    }

    /// Lets the edges carry out what they are told.
    fn deliver(&mut self) {
        for edge in &mut self.edges {
            for instruction in edge.outbox.take_instructions() {
                let kind = instruction.kind.unwrap();
                if let Kind::Emit(emit) = &kind {
                    edge.emit(emit);
                }
                if let Kind::Acknowledge(ack) = &kind
                    && let Some(client) = edge.clients.get_mut(&ack.socket)
                {
                    client.handle_answer(&ack.args);
                }
            }
        }
    }

    fn truth(&self) -> BTreeSet<String> {
        let clients = self.edges.iter().flat_map(|edge| edge.clients.values());
        clients.filter(|one| !one.is_suspended).map(|one| one.user.to_string()).collect()
    }
}

impl Edge {
    fn emit(&mut self, emit: &WireEmit) {
        if emit.event == latest::POINTER {
            return;
        }
        assert_eq!(emit.event, client_view::PRESENCE);
        let except = &emit.audience.as_ref().unwrap().except_sockets;
        for (handle, client) in &mut self.clients {
            if !except.contains(handle) {
                client.handle_notice(&emit.args);
            }
        }
    }
}

impl Client {
    fn handle_answer(&mut self, args: &[u8]) {
        let answer = &serde_json::from_slice::<serde_json::Value>(args).unwrap()[0];
        if answer["members"].is_array() {
            self.view = Some(match answer["more"].as_bool() {
                Some(true) => View::Counted(answer["count"].as_u64().unwrap().try_into().unwrap()),
                _ => View::Listed(ids(&answer["members"])),
            });
        }
    }

    fn handle_notice(&mut self, args: &[u8]) {
        let notice = &serde_json::from_slice::<serde_json::Value>(args).unwrap()[0];
        let count = usize::try_from(notice["count"].as_u64().unwrap()).unwrap();
        let Some(view) = &mut self.view else { return };
        if notice["users"].is_array() {
            (*view, self.may_have_missed) = (View::Listed(ids(&notice["users"])), false);
        } else if notice["more"] == true {
            (*view, self.may_have_missed) = (View::Counted(count), false);
        } else if let View::Listed(users) = view {
            for user in ids(&notice["joined"]) {
                assert!(users.insert(user) || self.may_have_missed, "told twice: {notice}");
            }
            for user in ids(&notice["left"]) {
                assert!(users.remove(&user) || self.may_have_missed, "never told: {notice}");
            }
            assert!(users.len() == count || self.may_have_missed, "miscounted: {notice} {users:?}");
        } else {
            assert!(self.may_have_missed, "it cannot know who was there: {notice}");
        }
    }
}

fn ids(users: &serde_json::Value) -> BTreeSet<String> {
    users.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// At each moment a client that has missed nothing has been told of each change once, and when everything has settled
    /// every client has it right.
    #[test]
    fn whoever_applies_what_it_is_told_to_what_it_was_told_first_knows_who_is_there(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;
            }
            for edge in [0, 1] {
                world.take(&Step::EarlierLivesEnd(edge)).await;
            }
            world.wait(LEASE + GRACE + 2 * NOTICE_INTERVAL).await;

            let truth = world.truth();
            assert!(world.worker.agenda.next_at().is_none());
            for client in world.edges.iter().flat_map(|edge| edge.clients.values()) {
                let right = match client.view.as_ref().unwrap() {
                    View::Listed(users) => *users == truth,
                    View::Counted(count) => *count == truth.len(),
                };
                assert!(right, "{:?} is not {truth:?}", client.view);
            }
        });
    }
}
