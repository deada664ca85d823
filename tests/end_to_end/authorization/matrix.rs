//! Does the deeds of the matrix on real connections, and compares what each wire holds with what was meant.

use std::{collections::HashSet, fs};

use proto::chat::v1::{
    BanRequest, KickRequest, UnbanRequest, UserId, chat_service_client::ChatServiceClient,
    kick_request::Who,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{
    DEEDS, ISSUERS, MEMBERSHIPS, Membership, NAMESPACES, ROOMLESS, ROOMS, TENANTS, answer_meant,
    capabilities, is_meant,
};
use crate::support::{AUDIENCE, Cluster, Packet, SocketIoClient, TokenMint, sign_with_secret};

const SECRET: &str = "only-for-tests-0123456789-abcdefghij";

fn issuer(tenant: &str) -> &'static str {
    if tenant == "partner" { "https://partner.example" } else { "https://id.example" }
}

async fn enter(cluster: &Cluster, tenant: &str, role: &str, subject: &str) -> SocketIoClient {
    let mut claims = TokenMint::claims_but(subject, "iss", json!(issuer(tenant)));
    claims["aud"] = json!(AUDIENCE);
    claims["name"] = json!(format!("{subject} of {tenant}"));
    claims["org"] = json!(tenant);
    claims["roles"] = json!([role]);
    claims["may"] = capabilities(role);
    let mut client = SocketIoClient::open(cluster.clients).await;
    let token = sign_with_secret(SECRET.as_bytes(), &claims);
    client.connect("/chat", &json!({"token": token})).await.expect("a good token is let in");
    client
}

/// One line for each thing that a client was told, but for answers.
fn told(frames: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for frame in frames {
        let packet = Packet::parse(frame);
        let (event, body) = packet.event().unwrap_or_else(|| panic!("no event: {frame}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let room = text(&body["room"]);
        let users = |field: &str| body[field].as_array().cloned().unwrap_or_default();
        match event {
            "presence" => {
                let joined = users("joined").into_iter().map(|user| ("joined", user));
                let left = users("left").into_iter().map(|user| ("left", user));
                lines.extend(
                    joined.chain(left).map(|(how, user)| format!("{how} {room} {}", user["name"])),
                );
            }
            "typing" => lines.push(format!("typing {room} {}", body["user"]["name"])),
            "exception" => lines.push(format!("exception {room} {}", text(&body["code"]))),
            _ => lines.push(format!("{event} {room} {}", text(&body["text"]))),
        }
    }
    lines.sort_unstable();
    lines
}

/// Of each tenant two devices of a user that are in each room that anybody can be in, and a client that is in none.
struct Observers {
    tenant: &'static str,
    witnesses: [SocketIoClient; 2],
    stranger: SocketIoClient,
}

/// The system, those who look on, and what they should have been told since they last looked.
pub(super) struct Matrix {
    cluster: Cluster,
    chat: ChatServiceClient<Channel>,
    observers: Vec<Observers>,
    to_witness: Vec<String>,
    to_stranger: Vec<String>,
    to_actor: Vec<String>,
    /// The texts of messages that were granted.
    granted: HashSet<String>,
    pub(super) cells: usize,
    pub(super) denied: usize,
    _files: TempDir,
}

/// Who does something, and where.
struct Actor {
    tenant: &'static str,
    role: &'static str,
    client: SocketIoClient,
    room: &'static str,
    membership: Membership,
    is_in: bool,
}

impl Matrix {
    pub(super) async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        fs::write(path("secret"), SECRET).unwrap();
        fs::write(path("issuers.toml"), ISSUERS).unwrap();
        fs::write(path("namespaces.toml"), NAMESPACES).unwrap();
        let cluster = Cluster::builder()
            .with_closed_rooms()
            .without_secret()
            .auth(format!("--auth-issuers-file={}", path("issuers.toml").display()))
            .chat(format!("--chat-namespaces-file={}", path("namespaces.toml").display()))
            .chat("--chat-presence-grace=0s")
            .chat("--chat-joins-per-second=10000")
            .chat("--chat-joins-burst=10000")
            .edge("--edge-events-per-second", 100_000)
            .edge("--edge-events-burst", 100_000)
            .start()
            .await;
        let mut observers = Vec::new();
        for tenant in TENANTS {
            let mut witnesses = [
                enter(&cluster, tenant, "moderator", "witness").await,
                enter(&cluster, tenant, "moderator", "witness").await,
            ];
            for witness in &mut witnesses {
                for room in ROOMS.into_iter().filter(|room| *room != "vault") {
                    let answer = witness.request("join", json!(room)).await;
                    assert!(answer["error"].is_null(), "{tenant} {room}: {answer}");
                }
                witness.unread_events().await;
            }
            let stranger = enter(&cluster, tenant, "guest", "stranger").await;
            observers.push(Observers { tenant, witnesses, stranger });
        }
        let chat = ChatServiceClient::connect(format!("http://{}", cluster.chat)).await.unwrap();
        Self {
            cluster,
            chat,
            observers,
            to_witness: Vec::new(),
            to_stranger: Vec::new(),
            to_actor: Vec::new(),
            granted: HashSet::new(),
            cells: 0,
            denied: 0,
            _files: files,
        }
    }

    /// All that a role of a tenant does.
    pub(super) async fn try_role(&mut self, tenant: &'static str, role: &'static str) {
        let client = enter(&self.cluster, tenant, role, role).await;
        let (room, membership) = ("", Membership::Never);
        let mut actor = Actor { tenant, role, client, room, membership, is_in: false };
        for deed in ROOMLESS {
            self.cell(&mut actor, deed).await;
        }
        self.look(&mut actor, "without a room").await;
        for room in ROOMS {
            (actor.room, actor.is_in) = (room, false);
            self.try_room(&mut actor).await;
        }
        actor.client.close().await;
    }

    /// Has an actor do one thing, and notes what should come of it.
    async fn cell(&mut self, actor: &mut Actor, deed: &str) {
        let Actor { tenant, role, room, membership, .. } = *actor;
        let cell = format!("{tenant} {role} {deed} {room} {membership:?}");
        let mark = format!("{tenant}-{}", self.cells);
        self.cells += 1;
        let body = match deed {
            "join" | "presence" => json!(room),
            "message" | "wave" => json!({"room": room, "text": mark}),
            "typing" => json!({"room": room, "typing": true}),
            "history" => json!({"room": room}),
            "nudge" => json!({"user": "witness", "text": mark}),
            _ => json!({"text": mark}),
        };
        let answer = actor.client.request(deed, body).await;
        let expected = answer_meant(is_meant(tenant, role, deed, room), deed, membership);
        if let Some(code) = expected {
            self.denied += 1;
            let error = answer.as_object().filter(|answer| answer.len() == 1);
            assert_eq!(error.map(|error| &error["error"]["code"]), Some(&json!(code)), "{cell}");
            return;
        }
        assert!(answer["error"].is_null(), "{cell}: {answer}");
        let name = json!(format!("{role} of {tenant}"));
        match deed {
            "message" => {
                let line = format!("message {room} {mark}");
                self.to_witness.push(line.clone());
                self.to_actor.push(line);
                self.granted.insert(mark);
            }
            // What is not kept goes to the others.
            "wave" => self.to_witness.push(format!("wave {room} {mark}")),
            "typing" => self.to_witness.push(format!("typing {room} {name}")),
            "alarm" => {
                let line = format!("alarm  {mark}");
                self.to_stranger.push(line.clone());
                self.to_witness.push(line);
            }
            "nudge" => self.to_witness.push(format!("nudge  {mark}")),
            "join" => self.joined(actor, &answer, &cell),
            "history" => self.looked_back(tenant, &answer, &cell),
            _ => assert_are_of(tenant, &answer["users"], &cell),
        }
    }

    fn joined(&mut self, actor: &mut Actor, answer: &Value, cell: &str) {
        let Actor { tenant, role, room, .. } = *actor;
        let may_see = is_meant(tenant, role, "presence", room);
        assert_eq!(answer["members"].is_array(), may_see, "{cell}: {answer}");
        if may_see {
            assert_are_of(tenant, &answer["members"], cell);
        }
        if !actor.is_in {
            let name = json!(format!("{role} of {tenant}"));
            self.to_witness.push(format!("joined {room} {name}"));
        }
        actor.is_in = true;
    }

    /// What is kept of a room is what was granted, and its tenant's own.
    fn looked_back(&self, tenant: &str, answer: &Value, cell: &str) {
        for entry in answer["messages"].as_array().unwrap() {
            let text = entry["text"].as_str().unwrap();
            let is_own = text.starts_with(tenant) && self.granted.contains(text);
            assert!(is_own, "{cell}: {entry}");
        }
    }

    /// Makes an actor the kind of member that is tried next.
    async fn become_member(&mut self, actor: &mut Actor, membership: Membership) {
        actor.membership = membership;
        let Actor { tenant, role, room, .. } = *actor;
        let issuer = issuer(tenant).to_owned();
        let user = UserId { issuer, subject: role.to_owned() };
        let (room_name, tenant_name) = (room.to_owned(), tenant.to_owned());
        match membership {
            Membership::Never => return,
            Membership::Member => {
                assert!(actor.is_in, "it has joined");
                return;
            }
            Membership::Left => {
                actor.client.request("leave", json!(room)).await;
            }
            Membership::Kicked => {
                let who = Some(Who::User(user));
                let (room, tenant) = (room_name, tenant_name);
                let request = KickRequest { room, tenant, who, ..KickRequest::default() };
                assert_eq!(self.chat.kick(request).await.unwrap().into_inner().sockets, 1);
                self.to_actor.push(format!("exception {room} kicked", room = actor.room));
            }
            Membership::Banned => {
                let (room, tenant, user) = (room_name, tenant_name, Some(user));
                let request = BanRequest { room, tenant, user, ..BanRequest::default() };
                self.chat.ban(request).await.unwrap();
                if actor.is_in {
                    self.to_actor.push(format!("exception {room} banned", room = actor.room));
                }
            }
        }
        if actor.is_in {
            let name = json!(format!("{role} of {tenant}"));
            self.to_witness.push(format!("left {room} {name}"));
        }
        actor.is_in = false;
    }

    /// All that one actor does in one room, and who was told of it.
    async fn try_room(&mut self, actor: &mut Actor) {
        let may_join = is_meant(actor.tenant, actor.role, "join", actor.room);
        let is_reachable =
            |membership| may_join || [Membership::Never, Membership::Banned].contains(&membership);
        for membership in MEMBERSHIPS.into_iter().filter(|one| is_reachable(*one)) {
            self.become_member(actor, membership).await;
            for deed in DEEDS {
                self.cell(actor, deed).await;
            }
            self.look(actor, &format!("{} {membership:?}", actor.room)).await;
        }
        let (room, tenant) = (actor.room.to_owned(), actor.tenant.to_owned());
        let user =
            Some(UserId { issuer: issuer(&tenant).to_owned(), subject: actor.role.to_owned() });
        self.chat.unban(UnbanRequest { room, tenant, user, ..Default::default() }).await.unwrap();
    }

    /// Each wire holds what was granted, and not a byte more.
    async fn look(&mut self, actor: &mut Actor, place: &str) {
        let place = format!("{} {} {place}", actor.tenant, actor.role);
        for expected in [&mut self.to_witness, &mut self.to_stranger, &mut self.to_actor] {
            expected.sort_unstable();
        }
        let mut to_actor = told(&actor.client.unread_events().await);
        let is_presence = |line: &String| line.starts_with("joined ") || line.starts_with("left ");
        let may_see =
            actor.room.is_empty() || is_meant(actor.tenant, actor.role, "presence", actor.room);
        to_actor.retain(|line| !(may_see && is_presence(line)));
        assert_eq!(to_actor, self.to_actor, "{place}: to the actor");
        for observers in &mut self.observers {
            let Observers { tenant, witnesses, stranger } = observers;
            let is_own = *tenant == actor.tenant;
            let [one, two] = witnesses;
            let unread =
                tokio::join!(one.unread_events(), two.unread_events(), stranger.unread_events());
            let nothing = Vec::new();
            let expected = |lines| if is_own { lines } else { &nothing };
            for unread in [unread.0, unread.1] {
                assert_eq!(&told(&unread), expected(&self.to_witness), "{place}: to {tenant}");
            }
            let stranger = told(&unread.2);
            assert_eq!(&stranger, expected(&self.to_stranger), "{place}: outside, {tenant}");
        }
        for told in [&mut self.to_witness, &mut self.to_stranger, &mut self.to_actor] {
            told.clear();
        }
    }
}

/// Lists of users hold those of one tenant.
fn assert_are_of(tenant: &str, users: &Value, cell: &str) {
    for user in users.as_array().unwrap() {
        let name = user["name"].as_str().unwrap();
        assert!(name.ends_with(&format!(" of {tenant}")), "{cell}: {users}");
    }
}
