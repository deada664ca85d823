//! Events that applications declare.

mod direct;

use std::io::Write;

use proto::{
    chat::v1::{PublishRequest, publish_request::Target},
    edge::v1::edge_event::Kind,
};
use tempfile::NamedTempFile;
use tonic::Code;

use crate::{
    edge::{Edge, event, opened, repeated, suspended},
    running::Running,
};

const EVENTS: &str = r#"
[namespace."/chat".event.cursor]
audience = "room"
retain = { key = "user" }
schema = { required = ["x"], properties = { x = { type = "number" } } }

[namespace."/chat".event.operation]
audience = "room"
logged = true
public = ["insert"]
schema = { required = ["insert"], properties = { insert = { type = "string" }, draft = true } }

[namespace."/chat".event.price]
audience = "room"
from = "services"
logged = true
retain = { key = "symbol", count_max = 2, cleared_by = "delisted" }
schema = { required = ["symbol", "price"], properties = { symbol = { type = "string" }, price = { type = "number" }, delisted = { type = "boolean" } } }

[namespace."/chat".event.state]
audience = "room"
retain = true
echo = true
schema = { properties = { on = { type = "boolean" } } }

[namespace."/chat".event.notification]
audience = "user"
schema = { required = ["title"], properties = { title = { type = "string" } } }

[namespace."/chat".event.poke]
audience = "user"
from = "clients"
rate = { per_second = 1, burst = 2 }
schema = { additionalProperties = false }

[namespace."/chat".event.read]
audience = "sender"
schema = { properties = { upto = { type = "string" } } }

[namespace."/chat".event.notice]
audience = "everyone"
schema = { properties = { text = { type = "string" } } }
"#;

/// A service whose namespace `/chat` declares events, in a file that must outlive its restarts.
async fn start() -> (Running, NamedTempFile) {
    start_with(&[]).await
}

async fn start_with(flags: &[&str]) -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(EVENTS.as_bytes()).unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().to_str().unwrap());
    (Running::start_with(&[&[flag.as_str()], flags].concat()).await, file)
}

async fn lobby(service: &Running, link: &str, user: &str) -> Edge {
    let mut edge = service.edge(link).await;
    edge.open(1, user).await;
    edge.join(1, "lobby").await;
    edge
}

fn publish(event: &str, target: Target, data: &str) -> PublishRequest {
    PublishRequest {
        event: event.to_owned(),
        target: Some(target),
        data: data.to_owned(),
        ..Default::default()
    }
}

fn in_lobby(event: &str, data: &str) -> PublishRequest {
    publish(event, Target::Room("lobby".to_owned()), data)
}

#[tokio::test]
async fn a_volatile_event_reaches_the_others_with_its_public_fields() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    let mut bob = lobby(&service, "two", "bob").await;
    ann.next().await;

    ann.ask(1, 1, "cursor", r#"[{"room":"lobby","x":1.50,"secret":"s"}]"#).await;

    ann.expect(&["ack 1/1 [{}]"]).await;
    bob.expect(&[r#"emit to room lobby: cursor [{"room":"lobby","user":{"id":"ann"},"x":1.50}]"#])
        .await;
}

#[tokio::test]
async fn a_logged_event_reaches_everyone_once_and_is_told_again_to_who_missed_it() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;

    ann.ask(1, 1, "operation", r#"[{"room":"lobby","id":"o1","insert":"a","draft":"d"}]"#).await;
    let emit = r#"emit to room lobby: operation [{"room":"lobby","id":"o1","event":"operation","user":{"id":"ann"},"insert":"a","at":T,"position":"P1"}] at lobby P1"#;
    let ack = r#"[{"id":"o1","position":"P1","at":T,"durability":"memory"}]"#;
    ann.expect(&[emit, &format!("ack 1/1 {ack}")]).await;
    ann.ask(1, 2, "operation", r#"[{"room":"lobby","id":"o1","insert":"b"}]"#).await;
    ann.expect(&[&format!("ack 1/2 {ack}")]).await;

    ann.ask(1, 3, "history", r#"[{"room":"lobby"}]"#).await;
    ann.expect(&[r#"ack 1/3 [{"messages":[{"room":"lobby","id":"o1","event":"operation","user":{"id":"ann"},"insert":"a","at":T,"position":"P1"}],"more":false}]"#]).await;
}

#[tokio::test]
async fn data_that_is_not_as_declared_goes_nowhere() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    for (args, message) in [
        (r#"[{"room":"lobby"}]"#, "/x is missing"),
        (r#"[{"room":"lobby","x":"canary"}]"#, "/x does not satisfy type"),
        (r#"[{"x":1}]"#, "room is missing"),
        (r#"["canary"]"#, "the body must be an object"),
        (r#"[]"#, "the event has no body"),
    ] {
        ann.ask(1, 1, "cursor", args).await;
        let error =
            format!(r#"{{"code":"invalid_payload","message":"{message}","retryable":false}}"#);
        ann.expect(&[&format!(r#"ack 1/1 [{{"error":{error}}}]"#)]).await;
    }

    ann.ask(1, 2, "cursor", r#"[{"room":"elsewhere","x":1}]"#).await;
    assert!(ann.next().await.contains("not_a_member"));
    for event in ["price", "notification", "notice"] {
        ann.ask(1, 3, event, r#"[{"room":"lobby"}]"#).await;
        assert!(ann.next().await.contains("clients do not send this event"));
    }
    ann.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn events_that_are_not_declared_here_do_not_exist() {
    let (service, _file) = start().await;
    let mut ann = service.edge("one").await;
    ann.send(vec![opened(1, "/", "ann", None)]).await;
    ann.expect(&["accept 1"]).await;

    ann.ask(1, 1, "cursor", r#"[{"room":"lobby","x":1}]"#).await;

    assert!(ann.next().await.contains("unknown_event"));
    let mut chat = service.chat().await;
    let refused = chat.publish(in_lobby("shout", "{}")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    chat.publish(PublishRequest { namespace: "/".to_owned(), ..in_lobby("shout", "{}") })
        .await
        .unwrap();
    chat.publish(in_lobby("message", "{}")).await.unwrap();
}

#[tokio::test]
async fn whoever_joins_is_given_the_latest_values_and_then_what_follows() {
    let (service, _file) = start().await;
    let mut chat = service.chat().await;
    for (symbol, price) in [("A", 1), ("B", 2), ("A", 3)] {
        let data = format!(r#"{{"symbol":"{symbol}","price":{price}}}"#);
        chat.publish(in_lobby("price", &data)).await.unwrap();
    }

    let mut ann = service.edge("one").await;
    ann.open(1, "ann").await;
    ann.ask(1, 1, "join", r#"["lobby"]"#).await;
    ann.expect(&[
        "join [1] lobby P0",
        r#"ack 1/1 [{"room":"lobby","position":"P0","members":[{"id":"ann"}],"latest":[{"event":"price","data":{"room":"lobby","id":"P1","event":"price","symbol":"B","price":2,"at":T,"position":"P1"}},{"event":"price","data":{"room":"lobby","id":"P0","event":"price","symbol":"A","price":3,"at":T,"position":"P0"}}]}]"#,
    ])
    .await;

    chat.publish(in_lobby("price", r#"{"symbol":"C","price":4}"#)).await.unwrap();
    ann.expect(&[
        r#"emit to room lobby: price [{"room":"lobby","id":"P2","event":"price","symbol":"C","price":4,"at":T,"position":"P2"}] at lobby P2"#,
    ])
    .await;
    ann.ask(1, 2, "join", r#"["lobby"]"#).await;
    let again = ann.next().await;
    assert!(again.contains(r#""symbol":"A""#) && again.contains(r#""symbol":"C""#), "{again}");
    assert!(!again.contains(r#""symbol":"B""#), "two are kept: {again}");
}

#[tokio::test]
async fn a_value_that_was_cleared_is_gone_and_stays_so_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let directory = format!("--chat-data-dir={}", directory.path().display());
    let (service, file) = start_with(&[&directory]).await;
    let mut chat = service.chat().await;
    for (symbol, is_delisted) in [("A", false), ("B", false), ("A", true)] {
        let data = format!(r#"{{"symbol":"{symbol}","price":1,"delisted":{is_delisted}}}"#);
        chat.publish(in_lobby("price", &data)).await.unwrap();
    }
    let latest = async |service: &Running| {
        let mut ann = service.edge("one").await;
        ann.open(1, "ann").await;
        ann.ask(1, 1, "join", r#"["lobby"]"#).await;
        let (joined, answer) = (ann.next().await, ann.next().await);
        assert!(joined.starts_with("join "), "{joined}");
        answer.split_once(r#""latest":"#).unwrap().1.to_owned()
    };
    let before = latest(&service).await;
    assert!(before.contains(r#""symbol":"B""#) && !before.contains(r#""symbol":"A""#), "{before}");
    service.stop().await;
    drop(file);

    let (service, _file) = start_with(&[&directory]).await;
    let after = latest(&service).await;
    assert!(after.contains(r#""symbol":"B""#) && !after.contains(r#""symbol":"A""#), "{after}");
}

#[tokio::test]
async fn the_latest_value_of_a_user_is_told_while_the_user_is_there() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    let mut bob = lobby(&service, "two", "bob").await;
    bob.ask(1, 1, "cursor", r#"[{"room":"lobby","x":1}]"#).await;
    bob.ask(1, 2, "cursor", r#"[{"room":"lobby","x":2}]"#).await;
    bob.expect(&["ack 1/1 [{}]", "ack 1/2 [{}]"]).await;

    ann.ask(1, 3, "join", r#"["lobby"]"#).await;
    while !ann.next().await.contains(
        r#""latest":[{"event":"cursor","data":{"room":"lobby","user":{"id":"bob"},"x":2}}]"#,
    ) {}

    bob.ask(1, 4, "leave", r#"["lobby"]"#).await;
    while !bob.next().await.starts_with("ack 1/4") {}
    ann.ask(1, 5, "join", r#"["lobby"]"#).await;
    while !ann.next().await.contains(r#""latest":[]"#) {}
}

#[tokio::test]
async fn the_latest_value_of_a_user_who_has_left_does_not_come_back_with_the_user() {
    let (service, _file) = start_with(&["--chat-link-grace=50ms"]).await;
    let mut ann = lobby(&service, "one", "ann").await;
    for how in ["leaves", "is suspended", "is cut off"] {
        let mut bob = lobby(&service, how, "bob").await;
        bob.ask(1, 1, "cursor", r#"[{"room":"lobby","x":1}]"#).await;
        bob.expect(&["ack 1/1 [{}]"]).await;

        match how {
            "leaves" => bob.tell(1, "leave", r#"["lobby"]"#).await,
            // What it had sent before may come behind that.
            "is suspended" => {
                let late = event(1, Some(2), "cursor", r#"[{"room":"lobby","x":2}]"#);
                bob.send(vec![suspended(1), repeated(late)]).await;
                while !bob.next().await.starts_with("ack 1/2 ") {}
            }
            _ => bob.cut(),
        }
        while !ann.next().await.contains(r#""left":[{"id":"bob"}]"#) {}

        let mut again = service.edge(&format!("again after he {how}")).await;
        again.open(1, "bob").await;
        again.ask(1, 1, "join", r#"["lobby"]"#).await;
        while !again.next().await.contains(r#""latest":[]"#) {}
        again.close(1).await;
        while !ann.next().await.contains(r#""left":[{"id":"bob"}]"#) {}
    }
}

#[tokio::test]
async fn a_value_that_is_kept_is_not_dropped_on_its_way() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;

    ann.ask(1, 1, "state", r#"[{"room":"lobby","on":true}]"#).await;

    ann.expect(&[
        r#"emit to room lobby: state [{"room":"lobby","user":{"id":"ann"},"on":true}]"#,
        "ack 1/1 [{}]",
    ])
    .await;
}

#[tokio::test]
async fn who_sends_too_often_is_told_when_the_next_is_welcome() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    for ack in 1..=2 {
        ann.ask(1, ack, "poke", r#"[{"user":"nobody"}]"#).await;
        ann.next().await;
        ann.expect(&[&format!("ack 1/{ack} [{{}}]")]).await;
    }

    ann.ask(1, 3, "poke", r#"[{"user":"nobody"}]"#).await;

    let refused = ann.next().await;
    let error = r#"ack 1/3 [{"error":{"code":"rate_limited","message":"too many of these events","retryable":true,"retry_after_ms":"#;
    let wait = refused.strip_prefix(error).unwrap_or_else(|| panic!("{refused}"));
    let wait: u64 = wait.trim_end_matches("}}]").parse().unwrap();
    assert!((1..=1001).contains(&wait), "{wait}");
    ann.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn an_edge_is_told_which_events_are_worth_nothing_later() {
    let (service, _file) = start().await;
    let welcome = Edge::new("one").attach(&service).await;

    assert_eq!(welcome.volatile_events, ["notice", "notification", "poke", "read", "typing"]);
}

#[tokio::test]
async fn what_may_have_been_relayed_before_is_not_relayed_again() {
    let (service, _file) = start().await;
    let mut ann = lobby(&service, "one", "ann").await;
    for (name, args) in
        [("poke", r#"[{"user":"sub-bob"}]"#), ("operation", r#"[{"room":"lobby","insert":"a"}]"#)]
    {
        let mut repeat = event(1, Some(1), name, args);
        if let Some(Kind::Event(event)) = &mut repeat.kind {
            event.repeated = true;
        }
        ann.send(vec![repeat]).await;
        assert!(ann.next().await.starts_with(r#"ack 1/1 [{"error":{"code":"unavailable""#));
    }
}

#[tokio::test]
async fn services_are_held_to_the_declarations() {
    let (service, _file) = start().await;
    let mut chat = service.chat().await;
    let user = || Target::User("sub-ann".to_owned());
    for (request, message) in [
        (in_lobby("price", r#"{"symbol":"A"}"#), "data: /price is missing"),
        (
            in_lobby("price", r#"{"symbol":"A","symbol":"B","price":1}"#),
            "data: the body must be JSON",
        ),
        (
            publish("price", user(), r#"{"symbol":"A","price":1}"#),
            "the event is declared for another kind of target",
        ),
        (
            publish("notification", Target::Everyone(true), r#"{"title":"t"}"#),
            "the event is declared for another kind of target",
        ),
        (
            PublishRequest { volatile: true, ..in_lobby("price", r#"{"symbol":"A","price":1}"#) },
            "the event is declared to be logged",
        ),
        (
            PublishRequest { idempotency_key: "k".to_owned(), ..in_lobby("state", "{}") },
            "idempotency_key must have at most 128 bytes",
        ),
        (in_lobby("cursor", r#"{"x":1}"#), "the event is of users"),
    ] {
        let refused = chat.publish(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(message), "{}", refused.message());
    }
}
