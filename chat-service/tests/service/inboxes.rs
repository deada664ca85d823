//! What is kept for a user until its devices are there.

mod returns;

use std::io::Write;

use proto::{
    chat::v1::{
        DeliveredToRequest, HistoryRequest, PresenceRequest, PublishRequest, PublishResponse,
        RoomsRequest, publish_request::Target,
    },
    edge::v1::{Delivered, EdgeEvent, edge_event::Kind},
};
use tempfile::NamedTempFile;
use tonic::{Code, Status};

use crate::{
    edge::{Edge, closed, opened},
    running::Running,
};

const EVENTS: &str = r#"
[namespace."/chat"]
inbox_issuer = "test"
delivery_watermark = true

[namespace."/chat".event.note]
audience = "user"
logged = true
public = ["n"]
schema = { required = ["n"], properties = { n = { type = "integer" }, campaign = true } }

[namespace."/chat".event.mail]
audience = "user"
logged = true
from = "clients"
rate = { per_second = 100 }
schema = { required = ["n"], properties = { n = { type = "integer" } } }

[namespace."/chat".event.glance]
audience = "user"
schema = { properties = { n = { type = "integer" } } }

[namespace."/chat".event.price]
audience = "room"
logged = true
retain = true
schema = { properties = { n = { type = "integer" } } }

[namespace."/other"]
inbox_issuer = "test"
durability = "memory"
history_count = 1

[namespace."/other".event.note]
audience = "user"
logged = true
schema = { properties = { n = { type = "integer" } } }
"#;

/// A service whose users have inboxes, and the file that says so.
pub(super) async fn start(flags: &[&str]) -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(EVENTS.as_bytes()).unwrap();
    let namespaces = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_with(&[&[namespaces.as_str()], flags].concat()).await, file)
}

pub(super) fn note(user: &str, n: usize) -> PublishRequest {
    PublishRequest {
        target: Some(Target::User(format!("sub-{user}"))),
        event: "note".to_owned(),
        data: format!(r#"{{"n":{n},"campaign":"spring"}}"#),
        ..Default::default()
    }
}

pub(super) async fn publish(
    service: &Running,
    request: PublishRequest,
) -> Result<PublishResponse, Status> {
    service.chat().await.publish(request).await.map(tonic::Response::into_inner)
}

pub(super) async fn notify(service: &Running, user: &str, n: usize) -> String {
    publish(service, note(user, n)).await.unwrap().position
}

/// The numbers in the inbox of a user.
pub(super) async fn inbox(service: &Running, user: &str) -> Vec<u64> {
    let request = HistoryRequest { inbox_of: format!("sub-{user}"), ..Default::default() };
    let page = service.chat().await.history(request).await.unwrap().into_inner();
    let numbers = page.entries.iter().map(|entry| {
        let data: serde_json::Value = serde_json::from_str(&entry.data).unwrap();
        assert_eq!(data["room"], "@me");
        data["n"].as_u64().unwrap()
    });
    numbers.collect()
}

/// A device that is in its user's inbox.
async fn device(service: &Running, link: &str, user: &str) -> Edge {
    let mut edge = service.edge(link).await;
    edge.open(1, user).await;
    edge.join(1, "@me").await;
    edge
}

fn delivered(position: &str) -> EdgeEvent {
    let (sockets, position) = (vec![1], position.to_owned());
    let kind = Kind::Delivered(Delivered { sockets, room: "@sub-ann".to_owned(), position });
    EdgeEvent { socket: 0, traceparent: String::new(), kind: Some(kind) }
}

#[tokio::test]
async fn a_device_gets_what_was_kept_while_it_was_away_and_then_what_comes() {
    let (service, _file) = start(&[]).await;
    let first = publish(&service, note("ann", 1)).await.unwrap();
    assert_eq!((&*first.durability, first.position.is_empty()), ("memory", false));
    notify(&service, "ann", 2).await;
    notify(&service, "bob", 9).await;

    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;
    let since = format!(r#"[{{"room":"@me","since":"{}"}}]"#, first.position);
    ann.ask(1, 1, "join", &since).await;
    ann.expect(&[
        "join [1] @sub-ann P0",
        r#"ack 1/1 [{"room":"@me","position":"P0","members":[],"recovered":true,"messages":[{"room":"@me","id":"P0","event":"note","n":2,"at":T,"position":"P0"}]}]"#,
    ])
    .await;

    notify(&service, "ann", 3).await;
    ann.expect(&[
        r#"emit to room @sub-ann: note [{"room":"@me","id":"P1","event":"note","n":3,"at":T,"position":"P1"}] at @sub-ann P1"#,
    ])
    .await;
    ann.ask(1, 2, "history", r#"[{"room":"@me","limit":1}]"#).await;
    ann.expect(&[
        r#"ack 1/2 [{"messages":[{"room":"@me","id":"P1","event":"note","n":3,"at":T,"position":"P1"}],"more":true}]"#,
    ])
    .await;
    ann.ask(1, 3, "leave", r#"["@me"]"#).await;
    ann.expect(&["leave [1] @sub-ann", r#"ack 1/3 [{"room":"@me"}]"#]).await;
    assert_eq!(inbox(&service, "ann").await, [1, 2, 3]);
    assert_eq!(inbox(&service, "bob").await, [9]);
}

#[tokio::test]
async fn each_device_gets_it_once_and_hears_nothing_of_the_others() {
    let (service, _file) = start(&[]).await;
    let mut phone = device(&service, "one", "ann").await;
    let mut laptop = device(&service, "two", "ann").await;
    let mut bob = device(&service, "three", "bob").await;
    // One that has not joined, beside one that has.
    laptop.open(2, "ann").await;
    laptop.send(vec![closed(2)]).await;

    notify(&service, "ann", 1).await;
    let glance = PublishRequest { event: "glance".to_owned(), ..note("ann", 2) };
    assert_eq!(publish(&service, glance).await.unwrap(), PublishResponse::default());

    let live = r#"emit to user sub-ann: glance [{"n":2}] volatile"#;
    for device in [&mut phone, &mut laptop] {
        let kept = device.next().await;
        assert!(kept.starts_with("emit to room @sub-ann: note "), "{kept}");
        device.expect(&[live]).await;
    }
    bob.expect(&[live]).await;
    phone.send(vec![closed(1)]).await;
    phone.wait_until_acknowledged().await;
    notify(&service, "ann", 3).await;
    assert!(laptop.next().await.starts_with("emit to room @sub-ann: note "));
}

#[tokio::test]
async fn nobody_reads_or_enters_the_inbox_of_another() {
    let (service, _file) = start(&[]).await;
    let mut ann = device(&service, "one", "ann").await;
    for (name, args, problem) in [
        ("join", r#"["@sub-bob"]"#, "room must not begin with @"),
        ("join", r#"["@sub-ann"]"#, "room must not begin with @"),
        ("history", r#"[{"room":"@sub-bob"}]"#, "room must not begin with @"),
        ("leave", r#"["@sub-bob"]"#, "room must not begin with @"),
        ("message", r#"[{"room":"@sub-bob","text":"x"}]"#, "room must not begin with @"),
        ("price", r#"[{"room":"@sub-bob","n":1}]"#, "room must not begin with @"),
        ("message", r#"[{"room":"@me","text":"x"}]"#, "an inbox can be joined, left and read"),
        ("typing", r#"[{"room":"@me","typing":true}]"#, "an inbox can be joined, left and read"),
        ("presence", r#"["@me"]"#, "an inbox can be joined, left and read"),
        ("price", r#"[{"room":"@me","n":1}]"#, "an inbox can be joined, left and read"),
    ] {
        ann.ask(1, 1, name, args).await;
        let line = ann.next().await;
        let error = r#"ack 1/1 [{"error":{"code":"invalid_payload","message":""#;
        assert!(line.starts_with(&format!("{error}{problem}")), "{name}: {line}");
    }
    ann.send(vec![opened(2, "/", "ann", None)]).await;
    ann.expect(&["accept 2"]).await;
    ann.ask(2, 2, "join", r#"["@me"]"#).await;
    assert!(ann.next().await.contains("room: the user has no inbox here"));
    assert_eq!(inbox(&service, "bob").await, [0; 0]);
}

#[tokio::test]
async fn services_name_users_and_no_inbox() {
    let (service, _file) = start(&[]).await;
    let mut chat = service.chat().await;
    let room = || Some(Target::Room("@sub-ann".to_owned()));
    for request in [
        PublishRequest { target: room(), event: "price".to_owned(), ..note("ann", 1) },
        PublishRequest { volatile: true, ..note("ann", 1) },
        PublishRequest { except_users: vec!["sub-ann".to_owned()], ..note("ann", 1) },
        PublishRequest { target: Some(Target::User("a\nb".to_owned())), ..note("ann", 1) },
        PublishRequest {
            event: "glance".to_owned(),
            idempotency_key: "k".to_owned(),
            ..note("ann", 1)
        },
        PublishRequest {
            namespace: "/".to_owned(),
            idempotency_key: "k".to_owned(),
            ..note("ann", 1)
        },
    ] {
        let refused = chat.publish(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let of = |room: &str, inbox_of: &str| HistoryRequest {
        room: room.to_owned(),
        inbox_of: inbox_of.to_owned(),
        ..Default::default()
    };
    let in_other = HistoryRequest { namespace: "/".to_owned(), ..of("", "sub-ann") };
    for (request, code) in [
        (of("@sub-ann", ""), Code::InvalidArgument),
        (of("lobby", "sub-ann"), Code::InvalidArgument),
        (of("", ""), Code::InvalidArgument),
        (in_other, Code::FailedPrecondition),
    ] {
        let refused = chat.history(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}");
    }
    let presence = PresenceRequest { room: "@sub-ann".to_owned(), ..Default::default() };
    assert_eq!(chat.presence(presence).await.unwrap_err().code(), Code::InvalidArgument);

    let lobby = Some(Target::Room("lobby".to_owned()));
    chat.publish(PublishRequest { target: lobby, event: "price".to_owned(), ..note("ann", 1) })
        .await
        .unwrap();
    notify(&service, "ann", 1).await;
    let rooms = chat.rooms(RoomsRequest::default()).await.unwrap().into_inner().rooms;
    assert_eq!(rooms.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["lobby"]);
}

#[tokio::test]
async fn a_key_makes_a_retry_harmless() {
    let (service, _file) = start(&[]).await;
    let mut ann = device(&service, "one", "ann").await;
    let keyed = |user: &str| PublishRequest { idempotency_key: "k".to_owned(), ..note(user, 1) };

    let first = publish(&service, keyed("ann")).await.unwrap();
    assert_eq!(publish(&service, keyed("ann")).await.unwrap(), first);
    assert_ne!(publish(&service, keyed("bob")).await.unwrap().position, first.position);

    assert!(ann.next().await.contains(r#""id":"k""#));
    assert_eq!((inbox(&service, "ann").await, inbox(&service, "bob").await), (vec![1], vec![1]));
    let last = notify(&service, "ann", 2).await;
    assert_ne!(last, first.position);
    assert!(ann.next().await.contains(r#""n":2"#), "the retry reached nobody");
}

#[tokio::test]
async fn what_clients_may_send_is_kept_and_answers_nothing_about_the_other() {
    let (service, _file) = start(&[]).await;
    let mut bob = service.edge("one").await;
    bob.open(1, "bob").await;

    bob.ask(1, 1, "mail", r#"[{"user":"sub-ann","id":"m1","n":1}]"#).await;
    bob.ask(1, 2, "mail", r#"[{"user":"sub-ann","id":"m1","n":1}]"#).await;
    bob.ask(1, 3, "mail", r#"[{"user":"nobody","n":2}]"#).await;
    bob.expect(&[
        r#"ack 1/1 [{"at":T,"durability":"memory"}]"#,
        r#"ack 1/2 [{"at":T,"durability":"memory"}]"#,
        r#"ack 1/3 [{"at":T,"durability":"memory"}]"#,
    ])
    .await;
    // The same id of another sender is another mail.
    bob.open(2, "carol").await;
    bob.ask(2, 4, "mail", r#"[{"user":"sub-ann","id":"m1","n":3}]"#).await;
    bob.expect(&[r#"ack 2/4 [{"at":T,"durability":"memory"}]"#]).await;
    for (args, problem) in [
        (r#"[{"n":1}]"#, "user is missing"),
        (r#"[{"user":"a\u0000b","n":1}]"#, "user must not contain control characters"),
        (r#"[{"user":"sub-ann","n":"x"}]"#, "/n does not satisfy type"),
    ] {
        bob.ask(1, 5, "mail", args).await;
        assert!(bob.next().await.contains(problem), "{args}");
    }

    let mut ann = device(&service, "two", "ann").await;
    ann.ask(1, 1, "history", r#"[{"room":"@me"}]"#).await;
    ann.expect(&[
        r#"ack 1/1 [{"messages":[{"room":"@me","id":"m1","event":"mail","user":{"id":"bob"},"n":1,"at":T,"position":"P1"},{"room":"@me","id":"m1","event":"mail","user":{"id":"carol"},"n":3,"at":T,"position":"P0"}],"more":false}]"#,
    ])
    .await;
}

#[tokio::test]
async fn a_service_learns_whether_a_user_has_got_it() {
    let (service, _file) = start(&[]).await;
    let first = notify(&service, "ann", 1).await;
    let about = |behind: &str| DeliveredToRequest {
        inbox_of: "sub-ann".to_owned(),
        behind: behind.to_owned(),
        ..Default::default()
    };
    let mut chat = service.chat().await;
    let users = chat.delivered_to(about(&first)).await.unwrap().into_inner().users;
    assert_eq!((users.len(), &*users[0].subject, &*users[0].position), (1, "sub-ann", ""));

    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;
    ann.ask(1, 1, "join", &format!(r#"[{{"room":"@me","since":"{first}"}}]"#)).await;
    let second = notify(&service, "ann", 2).await;
    let users = chat.delivered_to(about(&second)).await.unwrap().into_inner().users;
    assert_eq!((users.len(), &users[0].position, users[0].sockets), (1, &first, 1));

    ann.send(vec![delivered(&second)]).await;
    ann.wait_until_acknowledged().await;
    assert_eq!(chat.delivered_to(about(&second)).await.unwrap().into_inner().users, []);
}
