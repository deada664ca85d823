//! Who may be in which room, and what may be said there.

use std::io::Write;

use proto::chat::v1::{PublishRequest, publish_request::Target};
use tempfile::NamedTempFile;

use crate::{
    edge::{Edge, all_announced, moved, opened},
    running::Running,
};

const RULES: &str = r#"
[[namespace."/chat".allow]]
rooms = ["open", "team.*", "user.{subject}"]
actions = ["join", "publish", "presence", "history"]

[[namespace."/chat".allow]]
rooms = ["news"]
actions = ["join", "presence", "history"]

[[namespace."/chat".allow]]
rooms = ["news"]
actions = ["publish"]
events = ["typing", "wav*"]

[[namespace."/chat".deny]]
rooms = ["team.board"]
actions = ["join", "presence", "history"]

[[namespace."/chat".deny]]
rooms = ["team.*"]
actions = ["publish"]
events = ["wave"]

[namespace."/chat".event.wave]
audience = "room"
schema = { properties = { n = true } }
"#;

const USERS: [&str; 3] = ["ann", "bob", "eve"];
const ROOMS: [&str; 7] =
    ["open", "news", "team.red", "team.board", "user.sub-ann", "user.sub-bob", "elsewhere"];
const PUBLISHED: [&str; 3] = ["message", "typing", "wave"];

const FORBIDDEN: &str =
    r#"{"code":"forbidden","message":"this is not allowed in this room","retryable":false}"#;

/// What is meant by the rules, written down once more.
fn may(user: &str, event: &str, room: &str) -> bool {
    let is_member_room = match room {
        "open" | "news" | "team.red" => true,
        "user.sub-ann" => user == "ann",
        "user.sub-bob" => user == "bob",
        _ => false,
    };
    match (room, event) {
        ("news", "message") | ("team.red" | "team.board", "wave") => false,
        // One may speak there, and cannot be there.
        ("team.board", "message" | "typing") => true,
        _ => is_member_room,
    }
}

fn args(event: &str, room: &str) -> String {
    match event {
        "join" | "presence" | "leave" => format!(r#"["{room}"]"#),
        "message" => format!(r#"[{{"room":"{room}","text":"hi"}}]"#),
        "typing" => format!(r#"[{{"room":"{room}","typing":true}}]"#),
        _ => format!(r#"[{{"room":"{room}"}}]"#),
    }
}

async fn start() -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(RULES.as_bytes()).unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_with(&[&flag]).await, file)
}

/// Actors on one edge, and on another a member of each room that can have one.
struct World {
    actors: Edge,
    members: Edge,
    asked: u64,
}

impl World {
    async fn start(service: &Running) -> Self {
        let (mut actors, mut members) = (service.edge("one").await, service.edge("two").await);
        for (socket, user) in (0..).zip(USERS) {
            actors.open(socket, user).await;
            members.open(socket, user).await;
        }
        for room in ROOMS {
            for (socket, _) in (0..).zip(USERS).filter(|(_, user)| may(user, "join", room)).take(1)
            {
                members.join(socket, room).await;
            }
        }
        Self { actors, members, asked: 0 }
    }

    /// Has an actor do something. Returns the answer, and what its edge got before it.
    async fn ask(&mut self, socket: u64, event: &str, room: &str) -> (String, Vec<String>) {
        self.asked += 1;
        self.actors.ask(socket, self.asked, event, &args(event, room)).await;
        let mut before = Vec::new();
        loop {
            let line = self.actors.next().await;
            match line.strip_prefix(&format!("ack {socket}/{} ", self.asked)) {
                Some(answer) => return (answer.to_owned(), before),
                None => before.push(line),
            }
        }
    }

    /// Does what must be refused: nothing else comes of it on the actor's edge.
    async fn expect_refused(&mut self, socket: u64, (event, room): (&str, &str), error: &str) {
        let (answer, before) = self.ask(socket, event, room).await;
        let cell = format!("{} {event} {room}", USERS[usize::try_from(socket).unwrap()]);
        assert_eq!(answer, format!(r#"[{{"error":{error}}}]"#), "{cell}");
        assert!(before.is_empty(), "{cell}: {before:?}");
    }

    /// What members get next, but for who comes and goes.
    async fn next_of_members(&mut self) -> String {
        loop {
            let line = self.members.next().await;
            if !line.contains(": presence [") {
                return line;
            }
        }
    }
}

#[tokio::test]
async fn every_cell_of_users_rooms_events_and_membership_is_as_meant() {
    let (service, _file) = start().await;
    let mut world = World::start(&service).await;
    let not_a_member =
        r#"{"code":"not_a_member","message":"join the room first","retryable":false}"#;
    let mut cells = 0;

    for (socket, user) in (0..).zip(USERS) {
        for room in ROOMS {
            for event in PUBLISHED.into_iter().chain(["history", "presence"]) {
                let error = if may(user, event, room) { not_a_member } else { FORBIDDEN };
                world.expect_refused(socket, (event, room), error).await;
                cells += 1;
            }
        }
    }
    for (socket, user) in (0..).zip(USERS) {
        for room in ROOMS {
            cells += 1;
            if !may(user, "join", room) {
                world.expect_refused(socket, ("join", room), FORBIDDEN).await;
                continue;
            }
            let (answer, _) = world.ask(socket, "join", room).await;
            assert!(answer.starts_with(&format!(r#"[{{"room":"{room}""#)), "{user}: {answer}");
            for event in PUBLISHED {
                cells += 1;
                if !may(user, event, room) {
                    world.expect_refused(socket, (event, room), FORBIDDEN).await;
                    continue;
                }
                let (answer, _) = world.ask(socket, event, room).await;
                assert!(!answer.contains("error"), "{user} {event} {room}: {answer}");
                // The first since the last that was allowed: nothing came of what was refused.
                let line = world.next_of_members().await;
                let expected = format!("emit to room {room}: {event} ");
                assert!(line.starts_with(&expected), "{user} {event} {room}: {line}");
            }
            for event in ["history", "presence", "leave"] {
                cells += 1;
                let (answer, _) = world.ask(socket, event, room).await;
                assert!(!answer.contains("error"), "{user} {event} {room}: {answer}");
            }
        }
    }

    assert_eq!(cells, 3 * 7 * 6 + 11 * 6);
}

#[tokio::test]
async fn nobody_is_brought_back_into_a_room_that_is_no_longer_allowed() {
    let (service, _file) = start().await;
    let mut edge = Edge::new("one");
    edge.attach(&service).await;
    let before = opened(1, "/chat", "ann", Some(&[("team.board", ""), ("open", "")]));

    edge.send(vec![before, all_announced()]).await;
    let told = |room: &str| {
        format!(
            r#"emit to [1]: exception [{{"status":"error","code":"forbidden","message":"this room is no longer allowed","retryable":false,"room":"{room}"}}]"#
        )
    };
    edge.expect(&["leave [1] team.board", &told("team.board")]).await;
    edge.send(vec![moved(1, "ann", &["user.sub-bob", "news"], &[])]).await;
    edge.expect(&["leave [1] user.sub-bob", &told("user.sub-bob")]).await;

    let mut chat = service.chat().await;
    for room in ["team.board", "user.sub-bob", "open"] {
        let target = Some(Target::Room(room.to_owned()));
        let news = PublishRequest { target, data: "{}".to_owned(), ..Default::default() };
        chat.publish(news).await.unwrap();
    }
    let line = loop {
        let line = edge.next().await;
        if line.contains(": message ") {
            break line;
        }
    };
    assert!(line.starts_with("emit to room open: "), "{line}");
    edge.ask(1, 1, "presence", r#"["news"]"#).await;
    let line = loop {
        let line = edge.next().await;
        assert!(!line.contains(": message "), "{line}");
        if line.starts_with("ack 1/1 ") {
            break line;
        }
    };
    assert!(line.contains(r#""id":"ann""#), "{line}");
}
