//! Sockets that come back, and rules that do not let them into their rooms any more. Who may do what is tried with the whole system.

use std::io::Write;

use proto::chat::v1::{PublishRequest, publish_request::Target};
use tempfile::NamedTempFile;

use crate::{
    edge::{Edge, all_announced, moved, opened},
    running::Running,
};

const RULES: &str = r#"
[[namespace."/chat".allow]]
rooms = ["open", "news", "team.*", "user.{subject}"]
actions = ["join", "publish", "presence", "history"]

[[namespace."/chat".deny]]
rooms = ["team.board"]
actions = ["join", "presence", "history"]
"#;

async fn start() -> (Running, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(RULES.as_bytes()).unwrap();
    let flag = format!("--chat-namespaces-file={}", file.path().display());
    (Running::start_with(&[&flag]).await, file)
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
