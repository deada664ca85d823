//! Customers whose rooms, users and events have the same names, from their tokens to the bytes that their clients read.

use std::fs;

use proto::chat::v1::{
    DeliveredToRequest, HistoryRequest, PresenceRequest, PublishRequest, RoomsRequest,
    chat_service_client::ChatServiceClient, publish_request::Target,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::{AUDIENCE, Cluster, SocketIoClient, TokenMint, sign_with_secret};

const SECRET: &str = "only-for-tests-0123456789-abcdefghij";

const ISSUERS: &str = r#"
[[issuer]]
name = "https://a.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"

[[issuer]]
name = "https://b.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"

[[issuer]]
name = "https://many.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"
claims = { tenant = "org" }

[[issuer]]
name = "https://guests.example"
audience = "sockeye"
algorithms = ["HS256"]
hs256_secret_file = "secret"
tenant = "acme"
"#;

const NAMESPACES: &str = r#"
[namespace."/chat"]
inbox_issuer = "https://many.example"
delivery_watermark = true

[namespace."/chat".event.mail]
audience = "user"
from = "clients"
logged = true
rate = { per_second = 100 }
schema = { properties = { text = { type = "string" } } }

[namespace."/chat".event.poke]
audience = "user"
from = "clients"
rate = { per_second = 100 }
schema = { properties = { text = { type = "string" } } }

[namespace."/chat".event.read]
audience = "sender"
schema = { properties = { text = { type = "string" } } }

[namespace."/chat".event.shout]
audience = "everyone"
from = "clients"
rate = { per_second = 100 }
schema = { properties = { text = { type = "string" } } }

[namespace."/chat".event.state]
audience = "room"
retain = true
schema = { properties = { text = { type = "string" } } }
"#;

/// Users of one issuer and tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Party {
    issuer: &'static str,
    org: Option<&'static str>,
    tenant: &'static str,
    /// Marks what its users are sent alone.
    mark: &'static str,
}

const fn party(
    issuer: &'static str,
    org: Option<&'static str>,
    (tenant, mark): (&'static str, &'static str),
) -> Party {
    Party { issuer, org, tenant, mark }
}

/// Two issuers that are tenants of their own, one issuer of two tenants, and another issuer within one of these.
const PARTIES: [Party; 5] = [
    party("https://a.example", None, ("https://a.example", "only<a>")),
    party("https://b.example", None, ("https://b.example", "only<b>")),
    party("https://many.example", Some("acme"), ("acme", "only<acme>")),
    party("https://many.example", Some("zinc"), ("zinc", "only<zinc>")),
    party("https://guests.example", None, ("acme", "only<guests>")),
];

impl Party {
    fn token(&self, subject: &str) -> String {
        let mut claims = TokenMint::claims_but(subject, "iss", json!(self.issuer));
        claims["aud"] = json!(AUDIENCE);
        claims["name"] = json!(self.shared());
        claims["org"] = json!(self.org);
        sign_with_secret(SECRET.as_bytes(), &claims)
    }

    /// Marks what its tenant's users may all see.
    fn shared(&self) -> String {
        format!("of<{}>", self.tenant)
    }

    fn has_inboxes(&self) -> bool {
        self.issuer == "https://many.example"
    }
}

struct Scene {
    cluster: Cluster,
    _files: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        fs::write(path("secret"), SECRET).unwrap();
        fs::write(path("issuers.toml"), ISSUERS).unwrap();
        fs::write(path("namespaces.toml"), NAMESPACES).unwrap();
        let issuers = format!("--auth-issuers-file={}", path("issuers.toml").display());
        let namespaces = format!("--chat-namespaces-file={}", path("namespaces.toml").display());
        let builder = Cluster::builder().without_secret().auth(issuers).chat(namespaces);
        let builder = builder.edge("--edge-confirm-interval", "50ms");
        Self { cluster: builder.on_disk().start().await, _files: files }
    }

    async fn chat(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::connect(format!("http://{}", self.cluster.chat)).await.unwrap()
    }
}

/// A device of ann, who has the same subject everywhere, and all that it has read.
struct Device {
    party: Party,
    client: SocketIoClient,
    answers: Vec<Value>,
}

impl Device {
    async fn open(scene: &Scene, party: Party) -> Self {
        let mut client = SocketIoClient::open(scene.cluster.clients).await;
        let auth = json!({"token": party.token("ann")});
        client.connect("/chat", &auth).await.expect("a good token is let in");
        Self { party, client, answers: Vec::new() }
    }

    async fn request(&mut self, event: &str, data: Value) {
        let answer = self.client.request(event, data).await;
        assert!(answer.get("error").is_none(), "{event}: {answer}");
        self.answers.push(answer);
    }

    /// Everything that its client has read of what others did, and of answers.
    async fn read(mut self) -> String {
        let frames = self.client.unread_events().await.join("\n");
        let answers = self.answers.iter().map(Value::to_string);
        frames + "\n" + &answers.collect::<Vec<_>>().join("\n")
    }
}

async fn talk(device: &mut Device) {
    let Party { mark, .. } = device.party;
    let shared = device.party.shared();
    device.request("join", json!("lobby")).await;
    device.request("message", json!({"room": "lobby", "text": shared})).await;
    device.client.emit("typing", json!({"room": "lobby", "typing": true})).await;
    device.request("state", json!({"room": "lobby", "text": shared})).await;
    device.request("shout", json!({"text": shared})).await;
    device.request("poke", json!({"user": "ann", "text": mark})).await;
    device.request("read", json!({"text": mark})).await;
    if device.party.has_inboxes() {
        device.request("join", json!("@me")).await;
        device.request("mail", json!({"user": "ann", "text": mark})).await;
        device.request("history", json!({"room": "@me"})).await;
    }
    device.request("history", json!({"room": "lobby"})).await;
    device.request("presence", json!("lobby")).await;
    for room in ["\u{1}acme\u{1}lobby", "\u{1}\u{1}lobby", "@ann"] {
        let refusal = device.client.request_error("join", json!(room)).await;
        assert_eq!(refusal, "invalid_payload");
    }
}

/// A service says the same for one party.
async fn publish(chat: &mut ChatServiceClient<Channel>, party: Party) {
    let shared = party.shared();
    let lobby = Target::Room("lobby".to_owned());
    let ann = Target::User("ann".to_owned());
    for (target, event, text, user_issuer) in [
        (lobby, "message", &*shared, ""),
        (Target::Everyone(true), "shout", &*shared, ""),
        (ann, "poke", party.mark, party.issuer),
    ] {
        let request = PublishRequest {
            target: Some(target),
            event: event.to_owned(),
            data: json!({"text": format!("{text} by a service")}).to_string(),
            tenant: party.tenant.to_owned(),
            user_issuer: user_issuer.to_owned(),
            ..PublishRequest::default()
        };
        chat.publish(request).await.unwrap();
    }
}

fn assert_is_its_own(party: Party, text: &str) {
    for other in PARTIES.iter().filter(|other| **other != party) {
        assert!(!text.contains(other.mark), "{party:?} has got what is for {other:?}:\n{text}");
        if other.tenant != party.tenant {
            assert!(!text.contains(&other.shared()), "{party:?} knows of {other:?}:\n{text}");
        }
    }
    assert!(!text.contains("\u{1}") && !text.contains("\\u0001"), "{text}");
}

#[tokio::test]
async fn no_byte_goes_from_one_tenant_or_issuer_to_another() {
    let scene = Scene::start().await;
    let mut devices = Vec::new();
    for party in PARTIES.into_iter().chain(PARTIES) {
        devices.push(Device::open(&scene, party).await);
    }
    for device in &mut devices {
        talk(device).await;
    }
    let mut chat = scene.chat().await;
    for party in PARTIES {
        publish(&mut chat, party).await;
    }

    for device in &mut devices {
        let last = format!("{} by a service", device.party.mark);
        device.client.find(|packet| packet.data[1]["text"] == last).await;
    }
    for (number, device) in devices.into_iter().enumerate() {
        let party = device.party;
        let text = device.read().await;
        assert_is_its_own(party, &text);
        assert!(text.contains(&format!(r#""members":[{{"id":"ann","name":"{}""#, party.shared())));
        // The first device of a party was there when the second one did all this.
        let is_first = number < PARTIES.len();
        let events: &[_] =
            if is_first { &["message", "typing", "shout", "state"] } else { &["message", "shout"] };
        for event in events {
            let frame = text.lines().find(|line| line.contains(&format!(r#"["{event}","#)));
            assert!(frame.is_some_and(|line| line.contains(&party.shared())), "{event}: {text}");
        }
    }
}

#[tokio::test]
async fn services_are_told_of_the_tenant_that_they_name() {
    let scene = Scene::start().await;
    let mut devices = Vec::new();
    for party in PARTIES {
        let mut device = Device::open(&scene, party).await;
        talk(&mut device).await;
        devices.push(device);
    }
    let mut chat = scene.chat().await;
    for party in PARTIES {
        let (room, tenant) = ("lobby".to_owned(), party.tenant.to_owned());
        let asked =
            HistoryRequest { room: room.clone(), tenant: tenant.clone(), ..Default::default() };
        let entries = chat.history(asked).await.unwrap().into_inner().entries;
        let users = PARTIES.iter().filter(|other| other.tenant == party.tenant).count();
        assert_eq!(entries.len(), users);
        assert_is_its_own(party, &format!("{entries:?}"));

        let asked =
            PresenceRequest { room: room.clone(), tenant: tenant.clone(), ..Default::default() };
        let present = chat.presence(asked).await.unwrap().into_inner();
        assert_eq!(present.count as usize, users);
        assert_is_its_own(party, &format!("{present:?}"));

        let asked = RoomsRequest { tenant: tenant.clone(), ..Default::default() };
        let rooms = chat.rooms(asked).await.unwrap().into_inner().rooms;
        assert_eq!(rooms.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["lobby"]);

        let asked = DeliveredToRequest { room, tenant, ..Default::default() };
        let followed = chat.delivered_to(asked).await.unwrap().into_inner().users;
        assert_eq!(followed.len(), users);
    }

    let newest_of = |tenant: &str| HistoryRequest {
        room: "lobby".to_owned(),
        tenant: tenant.to_owned(),
        ..HistoryRequest::default()
    };
    let newest = chat.history(newest_of("acme")).await.unwrap().into_inner().entries.pop().unwrap();
    let asked = DeliveredToRequest {
        room: "lobby".to_owned(),
        behind: newest.position,
        tenant: "zinc".to_owned(),
        ..DeliveredToRequest::default()
    };
    let refused = chat.delivered_to(asked).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "a place in another tenant's log");
}
