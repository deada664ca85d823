//! What users may do by what their tokens say, and what becomes of sockets when a token says something else.

use std::io::Write;

use proto::{
    auth::v1::capability::Action::{self, History, Join, Presence, Publish},
    chat::v1::{PublishRequest, publish_request::Target},
};
use tempfile::NamedTempFile;

use crate::{
    edge::{
        Edge, all_announced, allowed, catch_up, may, moved, opened, refreshed, resumed, suspended,
    },
    running::Running,
};

/// Everybody is let into the lobby, whatever their tokens say.
const RULES: &str = r#"
[[namespace."/chat".allow]]
rooms = ["lobby"]
actions = ["join", "presence"]
"#;

const FORBIDDEN: &str = r#"[{"error":{"code":"forbidden","message":"this is not allowed in this room","retryable":false}}]"#;
const EVERYTHING: [Action; 4] = [Join, Publish, Presence, History];

fn args(deed: &str, room: &str) -> String {
    match deed {
        "join" | "presence" | "leave" => format!(r#"["{room}"]"#),
        "message" => format!(r#"[{{"room":"{room}","text":"hi"}}]"#),
        "typing" => format!(r#"[{{"room":"{room}","typing":true}}]"#),
        _ => format!(r#"[{{"room":"{room}"}}]"#),
    }
}

/// Has a socket do something. Returns what its edge got before the answer, and the answer.
async fn ask(edge: &mut Edge, socket: u64, deed: &str, room: &str) -> (Vec<String>, String) {
    edge.ask(socket, 7, deed, &args(deed, room)).await;
    let mut before = Vec::new();
    loop {
        let line = edge.next().await;
        match line.strip_prefix(&format!("ack {socket}/7 ")) {
            Some(answer) => return (before, answer.to_owned()),
            None => before.push(line),
        }
    }
}

async fn start() -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(RULES.as_bytes()).unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_closed(&[&flag]).await, file)
}

/// Has a service publish. Returns the message's position.
async fn publish(service: &Running, room: &str, text: &str) -> String {
    let request = PublishRequest {
        target: Some(Target::Room(room.to_owned())),
        data: format!(r#"{{"text":"{text}"}}"#),
        ..Default::default()
    };
    service.chat().await.publish(request).await.unwrap().into_inner().position
}

fn refused(answer: &str) -> bool {
    answer == FORBIDDEN
}

#[tokio::test]
async fn without_rules_and_capabilities_rooms_are_closed_and_a_switch_opens_them() {
    let (closed, open) = (Running::start_closed(&[]).await, Running::start().await);
    for (service, is_open) in [(&closed, false), (&open, true)] {
        let mut edge = service.edge("one").await;
        edge.open(1, "ann").await;
        for deed in ["join", "message", "typing", "presence", "history"] {
            let (_, answer) = ask(&mut edge, 1, deed, "lobby").await;
            assert_eq!(refused(&answer), !is_open, "{deed}: {answer}");
        }
        let (_, answer) = ask(&mut edge, 1, "leave", "lobby").await;
        assert_eq!(answer, r#"[{"room":"lobby"}]"#, "everybody may leave");
    }
}

#[tokio::test]
async fn another_token_takes_sockets_out_of_rooms_at_once_and_lets_them_in_at_once() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    edge.open_allowed((1, "ann"), vec![may(&EVERYTHING, &["a", "b"])]).await;
    other.open_allowed((1, "bob"), vec![may(&EVERYTHING, &["*"])]).await;
    for room in ["a", "b"] {
        edge.join(1, room).await;
        other.join(1, room).await;
    }
    for room in ["a", "b"] {
        ask(&mut edge, 1, "presence", room).await;
    }

    // What comes behind it is decided by the new token.
    let narrower = vec![may(&EVERYTHING, &["b", "c"])];
    edge.send(vec![allowed(refreshed(1, "ann"), narrower)]).await;
    edge.expect(&[
        "leave [1] a",
        r#"emit to [1]: exception [{"status":"error","code":"forbidden","message":"this room is no longer allowed","retryable":false,"room":"a"}]"#,
    ])
    .await;
    for deed in ["message", "presence", "history", "join"] {
        assert_eq!(ask(&mut edge, 1, deed, "a").await.1, FORBIDDEN, "{deed}");
    }
    let (_, answer) = ask(&mut edge, 1, "join", "c").await;
    assert!(!answer.contains("error"), "{answer}");
    publish(&service, "a", "not for ann").await;
    publish(&service, "b", "for both").await;
    let line = edge.next().await;
    assert!(line.starts_with("emit to room b: message ") && line.contains("for both"), "{line}");
    let gone =
        r#"emit to room a: presence [{"room":"a","joined":[],"left":[{"id":"ann"}],"count":1}]"#;
    while other.next().await != gone {}

    // A client that comes back with another token, too.
    edge.send(vec![suspended(1), allowed(resumed(1, "ann"), Vec::new())]).await;
    let mut left = Vec::new();
    while left.len() < 2 {
        let line = edge.next().await;
        left.extend(line.strip_prefix("leave [1] ").map(str::to_owned));
    }
    left.sort_unstable();
    assert_eq!(left, ["b", "c"]);
}

#[tokio::test]
async fn a_token_of_another_user_or_one_that_says_nonsense_ends_the_connection() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    edge.open_allowed((1, "ann"), vec![may(&EVERYTHING, &["a"])]).await;
    edge.join(1, "a").await;

    for event in [
        refreshed(1, "bob"),
        allowed(refreshed(1, "ann"), vec![may(&[Join], &["@ann"])]),
        allowed(resumed(1, "ann"), vec![may(&[Join], &[])]),
        allowed(refreshed(1, "ann"), vec![may(&[Join], &["a"]); 65]),
    ] {
        edge.send(vec![event]).await;
        edge.expect(&["close [1]"]).await;
    }
    edge.send(vec![allowed(opened(2, "/chat", "eve", None), vec![may(&[Join], &["{"])])]).await;
    edge.expect(&["close [2]"]).await;
    let (_, answer) = ask(&mut edge, 1, "message", "a").await;
    assert!(!answer.contains("error"), "it is as it was: {answer}");
}

#[tokio::test]
async fn who_may_not_see_who_is_there_is_not_told() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let own = |actions: &[Action]| vec![may(actions, &["a"])];
    edge.open_allowed((1, "blind"), own(&[Join, Publish])).await;
    edge.open_allowed((2, "seer"), own(&[Join, Presence])).await;
    edge.open_allowed((3, "other"), own(&[Join])).await;

    let (_, answer) = ask(&mut edge, 1, "join", "a").await;
    assert!(
        answer.starts_with(r#"[{"room":"a","position":"#) && !answer.contains("members"),
        "{answer}"
    );
    assert_eq!(ask(&mut edge, 1, "presence", "a").await.1, FORBIDDEN);
    let (before, answer) = ask(&mut edge, 2, "join", "a").await;
    assert!(answer.contains(r#""members":[{"id":"blind"},{"id":"seer"}]"#), "{answer}");
    assert!(before.iter().all(|line| line.starts_with("join [2] a ")), "{before:?}");
    let joined = |user: &str| {
        format!(r#"presence [{{"room":"a","joined":[{{"id":"{user}"}}],"left":[],"count":3}}]"#)
    };
    let (before, _) = ask(&mut edge, 3, "join", "a").await;
    assert!(before.contains(&format!("emit to [2]: {}", joined("other"))), "{before:?}");

    // With another token it is told from then on, and with a third no more.
    edge.send(vec![allowed(refreshed(1, "blind"), own(&[Join, Presence]))]).await;
    ask(&mut edge, 3, "leave", "a").await;
    let (before, _) = ask(&mut edge, 3, "join", "a").await;
    let expected = format!("emit to room a but [3]: {}", joined("other"));
    assert!(before.contains(&expected), "{before:?}");
    edge.send(vec![
        allowed(refreshed(3, "other"), own(&[Join, Presence])),
        allowed(refreshed(1, "blind"), own(&[Join, Publish])),
    ])
    .await;
    ask(&mut edge, 3, "leave", "a").await;
    let (before, _) = ask(&mut edge, 3, "join", "a").await;
    let expected = format!("emit to room a but [1, 3]: {}", joined("other"));
    assert!(before.contains(&expected), "{before:?}");
}

#[tokio::test]
async fn who_may_not_look_back_is_given_nothing_from_before() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let own = |actions: &[Action]| vec![may(actions, &["a"])];
    edge.open_allowed((1, "new"), own(&[Join])).await;
    edge.open_allowed((2, "old"), own(&[Join, History])).await;
    let since = publish(&service, "a", "before").await;
    publish(&service, "a", "earlier").await;

    for (socket, is_given) in [(2, true), (1, false)] {
        edge.ask(socket, 9, "join", &format!(r#"[{{"room":"a","since":"{since}"}}]"#)).await;
        let line = loop {
            let line = edge.next().await;
            if line.starts_with(&format!("ack {socket}/9 ")) {
                break line;
            }
        };
        assert_eq!(line.contains("earlier"), is_given, "{line}");
        assert!(line.contains(&format!(r#""recovered":{is_given}"#)), "{line}");
    }
    assert_eq!(ask(&mut edge, 1, "history", "a").await.1, FORBIDDEN);

    // What it did not keep up with is not read again for it.
    let gap = |socket: u64| {
        format!(
            r#"emit to [{socket}]: exception [{{"status":"error","code":"gap","message":"events of this room were missed: join it again","retryable":false,"room":"a"}}]"#
        )
    };
    edge.send(vec![catch_up(2, "a", &since, 1000), catch_up(1, "a", &since, 1000)]).await;
    let line = edge.next().await;
    assert!(line.starts_with("refill 2 a ") && line.contains("earlier"), "{line}");
    edge.expect(&[&gap(1)]).await;
    let line = edge.next().await;
    assert!(line.starts_with("refill 1 a ") && line.contains(": [] to "), "{line}");

    // Nor after the service has lost all that it knew of sockets.
    let mut again = Edge::new("two");
    again.attach(&service).await;
    let announced = |socket: u64, user: &str, actions: &[Action]| {
        allowed(opened(socket, "/chat", user, Some(&[("a", &since)])), own(actions))
    };
    again
        .send(vec![
            announced(1, "new", &[Join]),
            announced(2, "old", &[Join, History]),
            all_announced(),
        ])
        .await;
    again.expect(&[&gap(1)]).await;
    let line = loop {
        let line = again.next().await;
        if line.contains(": message ") {
            break line;
        }
    };
    assert!(line.starts_with("emit to [2]: message ") && line.contains("earlier"), "{line}");
}

#[tokio::test]
async fn who_may_look_back_no_longer_is_given_no_more_of_what_it_missed() {
    let (service, _file) = start().await;
    let since = publish(&service, "a", "0-").await;
    let padding = "x".repeat(60_000);
    for number in 1..60 {
        publish(&service, "a", &format!("{number}-{padding}")).await;
    }
    let mut edge = service.edge("one").await;
    // So that not all of it can be on its way at once.
    edge.confirms = false;
    let own = |actions: &[Action]| vec![may(actions, &["a"])];
    let announced = |socket: u64, user: &str| {
        let event = opened(socket, "/chat", user, Some(&[("a", &since)]));
        allowed(event, own(&[Join, Publish, History]))
    };
    edge.send(vec![announced(1, "ann"), announced(2, "bob"), all_announced()]).await;
    let line = edge.next().await;
    assert!(line.contains(r#""text":"1-"#), "{line:.200}");

    edge.send(vec![allowed(refreshed(1, "ann"), own(&[Join, Publish]))]).await;
    edge.confirms = true;
    edge.confirm().await;

    let mut next = 2;
    let line = loop {
        let line = edge.next().await;
        if !line.contains(": message ") {
            break line;
        }
        assert!(line.starts_with("emit to room a: message "), "{line:.200}");
        assert!(line.contains(&format!(r#""text":"{next}-"#)), "no {next}: {line:.200}");
        next += 1;
    };
    assert!(next < 60, "it was given all of it");
    assert!(line.starts_with("join [1] a P"), "{line}");
    edge.expect(&[
        r#"emit to [1]: exception [{"status":"error","code":"gap","message":"events of this room were missed: join it again","retryable":false,"room":"a"}]"#,
    ])
    .await;
    for number in next..60 {
        let line = edge.next().await;
        assert!(line.starts_with("emit to [2]: message "), "{line:.200}");
        assert!(line.contains(&format!(r#""text":"{number}-"#)), "no {number}: {line:.200}");
    }
    // It goes on with the others.
    publish(&service, "a", "60-").await;
    let line = edge.next().await;
    assert!(line.starts_with("emit to room a: message ") && line.contains("60-"), "{line}");
}

#[tokio::test]
async fn nobody_is_taken_over_into_a_room_that_its_new_token_does_not_allow() {
    let (service, _file) = start().await;
    let mut edge = service.edge("one").await;
    let own = |rooms: &[&str]| vec![may(&[Join], rooms)];
    let before = allowed(opened(1, "/chat", "ann", Some(&[("a", ""), ("b", "")])), own(&["a"]));
    edge.send(vec![before, all_announced()]).await;
    let line = edge.next().await;
    assert_eq!(line, "leave [1] b");
    assert!(edge.next().await.starts_with("emit to [1]: exception "));

    edge.send(vec![allowed(moved(1, "ann", &["c", "d"], &[]), own(&["d"]))]).await;
    let mut left = Vec::new();
    while left.len() < 2 {
        let line = edge.next().await;
        left.extend(line.strip_prefix("leave [1] ").map(str::to_owned));
    }
    left.sort_unstable();
    assert_eq!(left, ["a", "c"]);
    publish(&service, "d", "for ann").await;
    let line = loop {
        let line = edge.next().await;
        if line.contains(": message ") {
            break line;
        }
    };
    assert!(line.starts_with("emit to room d: "), "{line}");
}
