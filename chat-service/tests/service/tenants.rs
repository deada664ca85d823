//! Tenants use the same names for different things, and so do two issuers of one tenant for users. Nothing crosses.

mod model;

use std::{env, io::Write};

use proto::{
    auth::v1::Identity,
    chat::v1::{
        BanRequest, DeliveredToRequest, HistoryRequest, KickRequest, ListBansRequest,
        PresenceRequest, PublishRequest, RoomsRequest, UserId, WatchSocketsRequest, kick_request,
        publish_request::Target,
    },
    edge::v1::{EdgeEvent, edge_event::Kind},
};
use tempfile::NamedTempFile;
use tonic::Code;

use self::model::{Party, Random, World};
use crate::{
    edge::{Edge, all_announced, event, moved, opened, refreshed},
    running::Running,
};

const EVENTS: &str = r#"
[namespace."/chat"]
inbox_issuer = "test"
delivery_watermark = true

[namespace."/chat".event.price]
audience = "room"
from = "clients"
logged = true
retain = true
schema = { properties = { n = { type = "string" } } }

[namespace."/chat".event.cursor]
audience = "room"
retain = { key = "user" }
schema = { properties = { n = { type = "string" } } }

[namespace."/chat".event.mail]
audience = "user"
from = "clients"
logged = true
rate = { per_second = 1000 }
schema = { properties = { n = { type = "string" } } }

[namespace."/chat".event.poke]
audience = "user"
from = "clients"
rate = { per_second = 1000 }
schema = { properties = { n = { type = "string" } } }

[namespace."/chat".event.shout]
audience = "everyone"
from = "clients"
rate = { per_second = 1000 }
schema = { properties = { n = { type = "string" } } }

[namespace."/chat".event.read]
audience = "sender"
schema = { properties = { n = { type = "string" } } }
"#;

async fn start() -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(EVENTS.as_bytes()).unwrap();
    let namespaces = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_with(&[&namespaces]).await, file)
}

/// The same person by name, of a tenant.
fn of(tenant: &str, mut event: EdgeEvent) -> EdgeEvent {
    let identity = match &mut event.kind {
        Some(Kind::Opened(opened)) => opened.identity.as_mut(),
        Some(Kind::Resumed(resumed)) => resumed.identity.as_mut(),
        Some(Kind::Refreshed(refreshed)) => refreshed.identity.as_mut(),
        other => panic!("{other:?}"),
    };
    tenant.clone_into(&mut identity.unwrap().tenant);
    event
}

async fn enter(edge: &mut Edge, socket: u64, tenant: &str) {
    edge.send(vec![of(tenant, opened(socket, "/chat", "ann", None))]).await;
    edge.expect(&[&format!("accept {socket}")]).await;
}

/// What comes of so many operations at random never crosses from one party to another.
async fn nothing_crosses(seed: u64, operations: usize) {
    let (service, _file) = start().await;
    let mut world = World::start(&service, Random(seed)).await;
    while world.operations < operations {
        world.step().await;
    }
    world.finish().await;
}

/// How many worlds there are beside each other.
const SEEDS: u64 = 4;

/// `SOCKEYE_OPERATIONS` says how many operations there are, from `SOCKEYE_SEED` on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_between_tenants_that_use_the_same_names_at_random() {
    let number = |name| env::var(name).map(|text| text.parse::<u64>().unwrap());
    let operations = number("SOCKEYE_OPERATIONS").unwrap_or(40_000);
    let first = number("SOCKEYE_SEED").unwrap_or(1);
    let operations = usize::try_from(operations / SEEDS).unwrap();
    let started = (first..first + SEEDS)
        .map(|seed| (seed, tokio::spawn(nothing_crosses(seed, operations))))
        .collect::<Vec<_>>();
    for (seed, task) in started {
        task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test]
async fn no_client_names_what_is_anothers() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    enter(&mut edge, 1, "acme").await;
    enter(&mut edge, 2, "").await;
    edge.ask(2, 1, "message", r#"[{"room":"lobby","text":"x"}]"#).await;
    assert!(edge.next().await.contains("not_a_member"));
    edge.join(2, "lobby").await;

    for socket in [1, 2] {
        for room in [r"\u0001acme\u0001lobby", r"\u0001\u0001lobby", r"\u0001zinc\u0001lobby"] {
            for (name, body) in [
                ("join", format!(r#"["{room}"]"#)),
                ("history", format!(r#"[{{"room":"{room}"}}]"#)),
                ("presence", format!(r#"["{room}"]"#)),
                ("message", format!(r#"[{{"room":"{room}","text":"x"}}]"#)),
                ("typing", format!(r#"[{{"room":"{room}","typing":true}}]"#)),
                ("price", format!(r#"[{{"room":"{room}"}}]"#)),
                ("mail", format!(r#"[{{"user":"{room}"}}]"#)),
            ] {
                edge.ask(socket, 5, name, &body).await;
                let answer = edge.next().await;
                assert!(answer.contains(r#""code":"invalid_payload""#), "{name} {body}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn an_edge_cannot_bring_a_socket_into_another_tenants_room() {
    let (service, _file) = start().await;
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    // As it was with a service that knew no tenants, and as no edge should have it.
    let rooms = [("lobby", ""), ("\u{1}zinc\u{1}lobby", ""), ("\u{1}acme\u{1}lobby", "")];
    edge.send(vec![of("acme", opened(1, "/chat", "ann", Some(&rooms)))]).await;
    edge.send(vec![all_announced()]).await;
    edge.expect(&["leave [1] lobby", "leave [1] \u{1}zinc\u{1}lobby"]).await;

    edge.send(vec![of("acme", moved(1, "ann", &["attic", "\u{1}zinc\u{1}attic"], &["lobby"]))])
        .await;
    edge.expect(&["leave [1] attic", "leave [1] \u{1}zinc\u{1}attic"]).await;

    let mut chat = service.chat().await;
    for (tenant, users) in [("", 0), ("zinc", 0), ("acme", 1)] {
        let (room, tenant) = ("lobby".to_owned(), tenant.to_owned());
        let asked = PresenceRequest { room, tenant, ..Default::default() };
        assert_eq!(chat.presence(asked).await.unwrap().into_inner().count, users);
    }
}

#[tokio::test]
async fn an_edge_cannot_bring_a_socket_into_another_tenant() {
    let (service, _file) = start().await;
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    enter(&mut edge, 1, "acme").await;

    edge.send(vec![of("acme", refreshed(1, "ann"))]).await;
    edge.send(vec![of("zinc", refreshed(1, "ann"))]).await;
    edge.expect(&["close [1]"]).await;
}

#[tokio::test]
async fn the_longest_names_live_together() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let (tenant, subject) = ("t".repeat(128), "s".repeat(256));
    let mut device = of(&tenant, opened(1, "/chat", "ann", None));
    let Some(Kind::Opened(opening)) = &mut device.kind else { panic!("{device:?}") };
    opening.identity.as_mut().unwrap().subject.clone_from(&subject);
    edge.send(vec![device]).await;
    edge.expect(&["accept 1"]).await;
    edge.join(1, "@me").await;

    let mail = PublishRequest {
        target: Some(Target::User(subject.clone())),
        event: "mail".to_owned(),
        data: r#"{"n":"x"}"#.to_owned(),
        tenant: tenant.clone(),
        ..Default::default()
    };
    let mut chat = service.chat().await;
    chat.publish(mail.clone()).await.unwrap();
    let line = edge.next().await;
    let inbox = format!("\u{1}{tenant}\u{1}@{subject}");
    assert!(line.starts_with(&format!("emit to room {inbox} of tenant {tenant}: mail")), "{line}");
    assert!(line.contains(r#""room":"@me""#), "{line}");

    let longer = PublishRequest { tenant: format!("{tenant}t"), ..mail.clone() };
    assert_eq!(chat.publish(longer).await.unwrap_err().code(), Code::InvalidArgument);
    let control = PublishRequest { tenant: "a\u{1}b".to_owned(), ..mail };
    assert_eq!(chat.publish(control).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_identity_of_what_is_no_tenant_does_not_get_in() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    for (socket, tenant) in [(1, "a\u{1}b"), (2, &*"t".repeat(129))] {
        edge.send(vec![of(tenant, opened(socket, "/chat", "ann", None))]).await;
        edge.expect(&[&format!("close [{socket}]")]).await;
    }
}

#[tokio::test]
async fn services_say_which_tenant_they_mean() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    for (socket, tenant) in [(1, ""), (2, "acme")] {
        enter(&mut edge, socket, tenant).await;
        edge.join(socket, "lobby").await;
    }
    let mut chat = service.chat().await;
    let tenant = || "acme".to_owned();
    let room = || "lobby".to_owned();
    let publish = PublishRequest {
        target: Some(Target::Room(room())),
        data: r#"{"text":"x"}"#.to_owned(),
        tenant: tenant(),
        ..Default::default()
    };
    chat.publish(publish.clone()).await.unwrap();
    let line = edge.next().await;
    let to = "emit to room \u{1}acme\u{1}lobby of tenant acme: message";
    assert!(line.starts_with(to) && line.contains(r#""room":"lobby""#), "{line}");
    let everyone = PublishRequest { target: Some(Target::Everyone(true)), ..publish.clone() };
    chat.publish(everyone).await.unwrap();
    edge.expect(&[r#"emit to everyone of tenant acme: message [{"text":"x"}] volatile"#]).await;

    for (tenant, entries) in [(String::new(), 0), (tenant(), 1), ("acm".to_owned(), 0)] {
        let asked = HistoryRequest { room: room(), tenant: tenant.clone(), ..Default::default() };
        let page = chat.history(asked).await.unwrap().into_inner();
        assert_eq!(page.entries.len(), entries, "{tenant}");
        let asked = RoomsRequest { tenant: tenant.clone(), ..Default::default() };
        let rooms = chat.rooms(asked).await.unwrap().into_inner().rooms;
        let names: Vec<_> = rooms.iter().map(|room| &*room.name).collect();
        assert_eq!(names, if tenant == "acm" { &[][..] } else { &["lobby"] }, "{tenant}");
        let asked = DeliveredToRequest { room: room(), tenant, ..Default::default() };
        let users = chat.delivered_to(asked).await.unwrap().into_inner().users;
        assert!(users.iter().all(|user| user.subject == "sub-ann"), "{users:?}");
    }

    let both = WatchSocketsRequest { tenant: tenant(), all_tenants: true, ..Default::default() };
    assert_eq!(chat.watch_sockets(both).await.unwrap_err().code(), Code::InvalidArgument);
    for (tenant, all_tenants, expected) in
        [("", false, &[""][..]), ("acme", false, &["acme"]), ("", true, &["", "acme"])]
    {
        let tenant = tenant.to_owned();
        let watch = WatchSocketsRequest { tenant, all_tenants, ..Default::default() };
        let mut watch = chat.watch_sockets(watch).await.unwrap().into_inner();
        let snapshot = watch.message().await.unwrap().unwrap().snapshot.unwrap();
        let mut tenants: Vec<_> = snapshot.sockets.iter().map(|socket| &*socket.tenant).collect();
        tenants.sort_unstable();
        assert_eq!(tenants, expected);
        assert!(snapshot.sockets.iter().all(|socket| socket.issuer == "test"));
    }
}

#[tokio::test]
async fn who_is_put_out_and_kept_out_in_one_tenant_goes_on_in_the_same_room_of_another() {
    let (service, _file) = start().await;
    let (mut acme, mut zinc) = (service.edge("one").await, service.edge("two").await);
    for (edge, tenant) in [(&mut acme, "acme"), (&mut zinc, "zinc")] {
        enter(edge, 1, tenant).await;
        edge.join(1, "lobby").await;
    }
    let ann = || UserId { issuer: "test".to_owned(), subject: "sub-ann".to_owned() };
    let (room, acmes) = (|| "lobby".to_owned(), || "acme".to_owned());
    let who = Some(kick_request::Who::User(ann()));
    let kick = KickRequest { room: room(), tenant: acmes(), who, ..Default::default() };
    let mut chat = service.chat().await;

    let kicked = chat.kick(kick.clone()).await.unwrap().into_inner();
    let user = Some(ann());
    let ban = BanRequest { room: room(), tenant: acmes(), user, ..Default::default() };
    chat.ban(ban).await.unwrap();

    assert_eq!(kicked.sockets, 1);
    acme.expect(&["leave [1] \u{1}acme\u{1}lobby"]).await;
    assert!(acme.next().await.contains("kicked"));
    zinc.ask(1, 1, "message", r#"[{"room":"lobby","text":"still here"}]"#).await;
    assert!(zinc.next().await.contains("still here"), "nothing else came before it");
    for (tenant, bans) in [("acme", 1), ("zinc", 0), ("", 0)] {
        let tenant = tenant.to_owned();
        let asked = ListBansRequest { room: room(), tenant, ..Default::default() };
        assert_eq!(chat.list_bans(asked).await.unwrap().into_inner().bans.len(), bans);
    }
    let nobodys = KickRequest { tenant: String::new(), ..kick };
    assert_eq!(chat.kick(nobodys).await.unwrap().into_inner().sockets, 0);
}

#[tokio::test]
async fn the_same_subject_of_another_issuer_is_another_user() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let mut other = opened(2, "/chat", "ann", None);
    let Some(Kind::Opened(opening)) = &mut other.kind else { panic!("{other:?}") };
    "other".clone_into(&mut opening.identity.as_mut().unwrap().issuer);
    edge.open(1, "ann").await;
    edge.send(vec![other]).await;
    edge.expect(&["accept 2"]).await;

    edge.send(vec![event(2, Some(1), "poke", r#"[{"user":"sub-ann"}]"#)]).await;
    let poke = edge.next().await;
    assert!(poke.starts_with("emit to user sub-ann of other but [2]: poke"), "{poke}");
    edge.expect(&["ack 2/1 [{}]"]).await;

    let to = |issuer: &str, event: &str| PublishRequest {
        target: Some(Target::User("sub-ann".to_owned())),
        event: event.to_owned(),
        data: r#"{"n":"x"}"#.to_owned(),
        user_issuer: issuer.to_owned(),
        ..Default::default()
    };
    let mut chat = service.chat().await;
    chat.publish(to("other", "poke")).await.unwrap();
    edge.expect(&[r#"emit to user sub-ann of other: poke [{"n":"x"}] volatile"#]).await;
    chat.publish(to("test", "mail")).await.unwrap();
    for refused in [
        to("other", "mail"),
        to(&"i".repeat(513), "poke"),
        PublishRequest { target: Some(Target::Everyone(true)), ..to("test", "shout") },
    ] {
        assert_eq!(chat.publish(refused).await.unwrap_err().code(), Code::InvalidArgument);
    }
    chat.publish(to(&"i".repeat(512), "poke")).await.unwrap();
}

fn identity(party: &Party, user: &str) -> Identity {
    Identity {
        tenant: party.tenant.to_owned(),
        issuer: party.issuer.to_owned(),
        profile: format!(r#"{{"id":"{user}","taint":"{}"}}"#, party.taint()).into(),
        ..crate::edge::identity(user)
    }
}
