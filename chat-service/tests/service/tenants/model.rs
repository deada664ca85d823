//! Does steps at random on behalf of several parties that use the same names, and looks at whatever comes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proto::{
    chat::v1::{
        BanRequest, DeliveredToRequest, HistoryRequest, KickRequest, PresenceRequest,
        PublishRequest, RoomsRequest, UnbanRequest, UserId, chat_service_client::ChatServiceClient,
        kick_request::Who, publish_request::Target,
    },
    edge::v1::{Audience, EdgeEvent, Emit, Instruction, edge_event::Kind, instruction},
};

use tonic::transport::Channel;

use super::identity;
use crate::{
    edge::{Edge, catch_up, closed, event, opened, resumed, suspended},
    running::Running,
};

/// Whose things must stay their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Party {
    pub(super) tenant: &'static str,
    pub(super) issuer: &'static str,
}

/// Two tenants besides the default one, one of which has two issuers. The names of tenants are those of rooms and users, too.
pub(super) const PARTIES: [Party; 4] = [
    Party { tenant: "", issuer: "test" },
    Party { tenant: "a", issuer: "test" },
    Party { tenant: "a", issuer: "other" },
    Party { tenant: "ann", issuer: "test" },
];

const USERS: [&str; 2] = ["ann", "a"];
const ROOMS: [&str; 3] = ["a", "ann", "lobby"];
/// How much each link sends at a time.
const EVENTS_PER_STEP: usize = 100;

/// Marks what a tenant said, and what is for one of its issuers alone.
const TAINT: &str = "said-by<";
const PRIVATE: &str = "only-for<";

impl Party {
    pub(super) fn taint(self) -> String {
        format!("{TAINT}{}>", self.tenant)
    }

    /// For what goes to one user.
    fn private(self) -> String {
        format!("{TAINT}{}>{PRIVATE}{}>", self.tenant, self.issuer)
    }
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A client as its edge knows it.
struct Client {
    party: Party,
    user: &'static str,
    rooms: HashSet<String>,
}

struct Link {
    edge: Edge,
    clients: HashMap<u64, Client>,
    next_handle: u64,
}

/// The service's links and clients, and how much of what has reached whom.
pub(super) struct World {
    random: Random,
    links: Vec<Link>,
    chat: ChatServiceClient<Channel>,
    /// A ban that is lifted with the next step.
    ban: Option<UnbanRequest>,
    reached: BTreeMap<String, BTreeSet<Party>>,
    /// Events of clients and calls of services so far.
    pub(super) operations: usize,
}

impl World {
    pub(super) async fn start(service: &Running, random: Random) -> Self {
        let mut links = Vec::new();
        for id in ["one", "two"] {
            let edge = service.edge(id).await;
            links.push(Link { edge, clients: HashMap::new(), next_handle: 1 });
        }
        let chat = service.chat().await;
        let (reached, operations) = (BTreeMap::new(), 0);
        let mut world = Self { random, links, chat, ban: None, reached, operations };
        for link in 0..2 {
            for (party, user) in PARTIES.iter().flat_map(|party| USERS.map(|user| (*party, user))) {
                let opening = world.open(link, party, user);
                world.links[link].edge.send(vec![opening]).await;
            }
        }
        world
    }

    fn open(&mut self, link: usize, party: Party, user: &'static str) -> EdgeEvent {
        let link = &mut self.links[link];
        let handle = link.next_handle;
        link.next_handle += 1;
        link.clients.insert(handle, Client { party, user, rooms: HashSet::new() });
        let mut opening = opened(handle, "/chat", user, None);
        let Some(Kind::Opened(opened)) = &mut opening.kind else { panic!("{opening:?}") };
        opened.identity = Some(identity(&party, user));
        opening
    }

    /// Some events on each link at once, and a question of a service.
    pub(super) async fn step(&mut self) {
        for link in 0..self.links.len() {
            let mut events = Vec::new();
            for _ in 0..EVENTS_PER_STEP {
                self.add_event(link, &mut events);
            }
            self.operations += events.len();
            self.links[link].edge.send(events).await;
        }
        let party = self.random.pick(&PARTIES);
        self.publish(party).await;
        self.ask(party).await;
        if let Some(unban) = self.ban.take() {
            self.chat.unban(unban).await.unwrap();
        }
        for party in PARTIES {
            self.put_out(party).await;
        }
        // What was published, asked, and put out.
        self.operations += 1 + 5 + PARTIES.len();
        for link in 0..self.links.len() {
            self.links[link].edge.wait_until_acknowledged().await;
            self.look(link);
        }
    }

    fn add_event(&mut self, link: usize, events: &mut Vec<EdgeEvent>) {
        let mut handles: Vec<u64> = self.links[link].clients.keys().copied().collect();
        handles.sort_unstable();
        let handle = self.random.pick(&handles);
        let Client { party, user, .. } = &self.links[link].clients[&handle];
        let (party, user) = (*party, *user);
        let (room, other) = (self.random.pick(&ROOMS), self.random.pick(&USERS));
        let (said, private) = (party.taint(), party.private());
        let (name, args) = match self.random.below(17) {
            0..=2 => ("join", format!(r#"["{room}"]"#)),
            3 => ("leave", format!(r#"["{room}"]"#)),
            4 | 5 => ("message", format!(r#"[{{"room":"{room}","text":"{said}"}}]"#)),
            6 => ("typing", format!(r#"[{{"room":"{room}","typing":true}}]"#)),
            7 => {
                let limit = 1 + self.random.below(10);
                ("history", format!(r#"[{{"room":"{room}","limit":{limit}}}]"#))
            }
            8 => ("presence", format!(r#"["{room}"]"#)),
            9 => ("price", format!(r#"[{{"room":"{room}","n":"{said}"}}]"#)),
            10 => ("cursor", format!(r#"[{{"room":"{room}","n":"{said}"}}]"#)),
            // Inboxes are those of one issuer, whoever writes to them.
            11 => ("mail", format!(r#"[{{"user":"sub-{other}","n":"{said}"}}]"#)),
            12 => ("poke", format!(r#"[{{"user":"sub-{other}","n":"{private}"}}]"#)),
            13 => ("shout", format!(r#"[{{"n":"{said}"}}]"#)),
            14 => ("read", format!(r#"[{{"n":"{private}"}}]"#)),
            15 => match self.random.below(2) {
                0 => ("join", r#"["@me"]"#.to_owned()),
                _ => ("history", r#"[{"room":"@me","limit":10}]"#.to_owned()),
            },
            _ => return self.add_change(link, (handle, party, user), events),
        };
        events.push(event(handle, Some(1), name, &args));
    }

    /// A client comes back as another socket, loses its connection, or asks for what it missed.
    fn add_change(
        &mut self,
        link: usize,
        (handle, party, user): (u64, Party, &'static str),
        events: &mut Vec<EdgeEvent>,
    ) {
        match self.random.below(4) {
            0 => {
                events.push(closed(handle));
                self.links[link].clients.remove(&handle);
                events.push(self.open(link, party, user));
            }
            1 => {
                events.push(suspended(handle));
                let mut back = resumed(handle, user);
                let Some(Kind::Resumed(resumed)) = &mut back.kind else { panic!("{back:?}") };
                resumed.identity = Some(identity(&party, user));
                events.push(back);
            }
            // Whatever room it says, its own or another's: the first entry of none has this position.
            _ => {
                let tenant = self.random.pick(&PARTIES).tenant;
                let room = self.random.pick(&ROOMS);
                let room = match tenant {
                    "" => room.to_owned(),
                    tenant => format!("\u{1}{tenant}\u{1}{room}"),
                };
                let mine = &self.links[link].clients[&handle];
                if mine.rooms.contains(&room) || mine.party.tenant != tenant {
                    events.push(catch_up(handle, &room, "x", 1 << 20));
                }
            }
        }
    }

    async fn publish(&mut self, party: Party) {
        let room = self.random.pick(&ROOMS).to_owned();
        let user = format!("sub-{}", self.random.pick(&USERS));
        let (target, event, text, user_issuer) = match self.random.below(4) {
            0 => (Target::Room(room), "message", party.taint(), ""),
            1 => (Target::User(user), "poke", party.private(), party.issuer),
            2 => (Target::User(user), "mail", party.taint(), ""),
            _ => (Target::Everyone(true), "shout", party.taint(), ""),
        };
        let field = if event == "message" { "text" } else { "n" };
        let request = PublishRequest {
            target: Some(target),
            event: event.to_owned(),
            data: format!(r#"{{"{field}":"{text}"}}"#),
            tenant: party.tenant.to_owned(),
            user_issuer: user_issuer.to_owned(),
            ..Default::default()
        };
        self.chat.publish(request).await.unwrap();
    }

    /// One user of the party is put out of a room, or kept out of it for a step.
    async fn put_out(&mut self, party: Party) {
        let room = self.random.pick(&ROOMS).to_owned();
        let (tenant, issuer) = (party.tenant.to_owned(), party.issuer.to_owned());
        let subject = format!("sub-{}", self.random.pick(&USERS));
        let (user, reason) = (UserId { issuer, subject }, party.private());
        if self.ban.is_some() || self.random.below(4) > 0 {
            let who = Some(Who::User(user));
            let kick = KickRequest { room, tenant, who, reason, ..KickRequest::default() };
            self.chat.kick(kick).await.unwrap();
        } else {
            let unban = UnbanRequest { room, tenant, user: Some(user), ..UnbanRequest::default() };
            let UnbanRequest { room, tenant, user, .. } = unban.clone();
            let ban = BanRequest { room, tenant, user, reason, ..BanRequest::default() };
            self.chat.ban(ban).await.unwrap();
            self.ban = Some(unban);
        }
    }

    /// Services that ask on behalf of one tenant learn nothing of the others.
    async fn ask(&mut self, party: Party) {
        let (tenant, mut chat) = (party.tenant.to_owned(), self.chat.clone());
        let room = self.random.pick(&ROOMS).to_owned();
        let mut heard = String::new();
        let asked =
            HistoryRequest { room: room.clone(), tenant: tenant.clone(), ..Default::default() };
        heard += &format!("{:?}", chat.history(asked).await.unwrap().into_inner());
        let asked =
            PresenceRequest { room: room.clone(), tenant: tenant.clone(), ..Default::default() };
        heard += &format!("{:?}", chat.presence(asked).await.unwrap().into_inner());
        let inbox_of = format!("sub-{}", self.random.pick(&USERS));
        let asked = HistoryRequest { inbox_of, tenant: tenant.clone(), ..Default::default() };
        heard += &format!("{:?}", chat.history(asked).await.unwrap().into_inner());
        let asked = DeliveredToRequest { room, tenant: tenant.clone(), ..Default::default() };
        let _users = chat.delivered_to(asked).await.unwrap();
        let asked = RoomsRequest { tenant, ..Default::default() };
        for room in chat.rooms(asked).await.unwrap().into_inner().rooms {
            assert!(ROOMS.contains(&&*room.name), "{room:?}");
        }
        self.check("service", &heard, party);
    }

    /// Looks at what has come over a link.
    fn look(&mut self, link: usize) {
        for instruction in self.links[link].edge.take_instructions() {
            self.carry_out(link, instruction);
        }
    }

    fn carry_out(&mut self, link: usize, instruction: Instruction) {
        use instruction::Kind;
        let clients = &mut self.links[link].clients;
        match instruction.kind.unwrap() {
            Kind::Join(join) => {
                for client in join.sockets.iter().filter_map(|handle| clients.get(handle)) {
                    assert!(is_of(&join.room, client.party), "{join:?}");
                }
                for handle in join.sockets {
                    if let Some(client) = clients.get_mut(&handle) {
                        client.rooms.insert(join.room.clone());
                    }
                }
            }
            Kind::Leave(leave) => {
                for handle in leave.sockets {
                    if let Some(client) = clients.get_mut(&handle) {
                        client.rooms.remove(&leave.room);
                    }
                }
            }
            Kind::Emit(emit) => self.emit(link, &emit),
            Kind::Acknowledge(ack) => {
                if let Some(client) = clients.get(&ack.socket) {
                    let party = client.party;
                    self.check("answer", str::from_utf8(&ack.args).unwrap(), party);
                }
            }
            Kind::Refill(refill) => {
                let Some(client) = clients.get(&refill.socket) else { return };
                assert!(is_of(&refill.room, client.party), "{refill:?}");
                let party = client.party;
                for emit in refill.events {
                    self.check("refill", str::from_utf8(&emit.args).unwrap(), party);
                }
            }
            Kind::Accept(_) | Kind::Handled(_) => {}
            other @ (Kind::Refuse(_) | Kind::Disconnect(_) | Kind::Close(_) | Kind::Recall(_)) => {
                panic!("{other:?}")
            }
        }
    }

    /// Gives an event to whom an edge gives it.
    fn emit(&mut self, link: usize, emit: &Emit) {
        let audience = emit.audience.as_ref().unwrap();
        assert!(audience.except_rooms.is_empty() && audience.except_users.is_empty());
        let clients = self.links[link].clients.iter();
        let given = clients.filter(|(handle, client)| is_in(audience, **handle, client));
        let parties: BTreeSet<Party> = given.map(|(_, client)| client.party).collect();
        for party in parties {
            self.check(&emit.event, str::from_utf8(&emit.args).unwrap(), party);
        }
    }

    fn check(&mut self, what: &str, text: &str, party: Party) {
        let marks = |mark: &'static str| {
            text.split(mark).skip(1).map(|rest| rest.split('>').next().unwrap())
        };
        for tenant in marks(TAINT) {
            assert_eq!(tenant, party.tenant, "{what} of another tenant: {text}");
        }
        for issuer in marks(PRIVATE) {
            assert_eq!(issuer, party.issuer, "{what} of another issuer: {text}");
        }
        let shows_prefix =
            text.contains('\u{1}') || text.contains("\\u0001") || text.contains("\\u{1}");
        assert!(!shows_prefix, "{what} shows how tenants are told apart: {text}");
        if text.contains(TAINT) {
            self.reached.entry(what.to_owned()).or_default().insert(party);
        }
    }

    /// Everything that can reach somebody has reached every party that can have it.
    pub(super) async fn finish(mut self) {
        for link in 0..self.links.len() {
            self.links[link].edge.wait_until_acknowledged().await;
            self.look(link);
        }
        let all = BTreeSet::from(PARTIES);
        for what in [
            "message",
            "typing",
            "price",
            "cursor",
            "poke",
            "shout",
            "read",
            "presence",
            "exception",
            "answer",
        ] {
            assert_eq!(self.reached.get(what), Some(&all), "{what}");
        }
        let with_inboxes = all.iter().copied().filter(|party| party.issuer == "test").collect();
        assert_eq!(self.reached.get("mail"), Some(&with_inboxes));
    }
}

fn is_of(room: &str, party: Party) -> bool {
    match party.tenant {
        "" => !room.starts_with('\u{1}'),
        tenant => room.starts_with(&format!("\u{1}{tenant}\u{1}")),
    }
}

/// Whether an edge gives a client what is for an audience, by the contract.
fn is_in(audience: &Audience, handle: u64, client: &Client) -> bool {
    let Audience { everyone, rooms, users, sockets, except_sockets, tenant, users_issuer, .. } =
        audience;
    let is_of_tenant = *tenant == client.party.tenant;
    let is_theirs = users_issuer.is_empty() || *users_issuer == client.party.issuer;
    let is_user = is_theirs && users.contains(&format!("sub-{}", client.user));
    let is_named = is_of_tenant && (*everyone || is_user)
        || rooms.iter().any(|room| client.rooms.contains(room))
        || sockets.contains(&handle);
    is_named && !except_sockets.contains(&handle)
}
