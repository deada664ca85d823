//! Clients whose edge is lost, and who come back at another one as the sockets that they were.

use proto::edge::v1::{EdgeEvent, Recoverability, Reentry, edge_event::Kind, instruction};

use crate::{
    edge::{Edge, closed, opened},
    running::Running,
};

const KEY: [u8; 32] = [1; 32];
const OTHER_KEY: [u8; 32] = [2; 32];

/// Ann's socket, which may come back, and what she says of the one that she had.
fn recoverable(socket: u64, user: &str, reentry: Option<Reentry>) -> EdgeEvent {
    let mut event = opened(socket, "/chat", user, None);
    let Some(Kind::Opened(opened)) = &mut event.kind else { panic!("{event:?}") };
    let key = if reentry.is_some() { OTHER_KEY } else { KEY };
    let key = key.to_vec().into();
    opened.recoverability = Some(Recoverability { key, window_ms: 60_000 });
    opened.reentry = reentry;
    event
}

fn reentry(memory: u32, delivered: u64) -> Reentry {
    Reentry { key: KEY.to_vec().into(), memory, delivered }
}

/// Two edges: Ann's, which is lost, and Bob's. Both are in two rooms.
struct Cluster {
    service: Running,
    ann: Edge,
    bob: Edge,
    memory: u32,
}

impl Cluster {
    async fn start(flags: &[&str]) -> Self {
        let service = Running::start_with(flags).await;
        let (mut ann, mut bob) = (Edge::new("one"), Edge::new("two"));
        let memory = ann.attach(&service).await.memory;
        assert_ne!(memory, 0);
        assert_ne!(bob.attach(&service).await.memory, memory);
        for edge in [&mut ann, &mut bob] {
            edge.send(vec![crate::edge::all_announced()]).await;
        }
        ann.send(vec![recoverable(1, "ann", None)]).await;
        ann.expect(&["accept 1"]).await;
        bob.open(5, "bob").await;
        for room in ["a", "b"] {
            ann.join(1, room).await;
            bob.join(5, room).await;
        }
        Self { service, ann, bob, memory }
    }

    /// Bob says a number in each of these rooms, and has heard it himself.
    async fn say(&mut self, rooms: &[&str]) {
        for (number, room) in rooms.iter().enumerate() {
            let message = format!(r#"[{{"room":"{room}","text":"{number}"}}]"#);
            self.bob.ask(5, 1, "message", &message).await;
            while !self.bob.next().await.starts_with("ack 5/1 ") {}
        }
    }

    /// Ann asks at Bob's edge for the socket that she had, as socket 9. Bob asks something, until whose answer all is returned.
    async fn come_back(&mut self, user: &str, reentry: Reentry) -> Vec<String> {
        self.bob.send(vec![recoverable(9, user, Some(reentry))]).await;
        self.bob.wait_until_acknowledged().await;
        self.bob.ask(5, 2, "presence", r#"["a"]"#).await;
        let mut lines = Vec::new();
        loop {
            let instruction = self.bob.next_instruction().await;
            match instruction.kind.unwrap() {
                instruction::Kind::Acknowledge(ack) if ack.ack_id == 2 => return lines,
                instruction::Kind::Accept(accept) => {
                    lines.push(format!("accept {}", accept.socket))
                }
                instruction::Kind::Recall(recall) => {
                    lines.push(format!("recall {} {}", recall.socket, recall.socket_id));
                }
                instruction::Kind::Join(join) => {
                    assert_eq!(join.sockets, [9]);
                    lines.push(format!("join {}", join.room));
                }
                instruction::Kind::Emit(emit) if emit.event == "message" => {
                    let sockets = emit.audience.unwrap().sockets;
                    let args: serde_json::Value = serde_json::from_slice(&emit.args).unwrap();
                    let text = args[0]["text"].as_str().unwrap();
                    lines.push(format!("{sockets:?} {} {text}", emit.position_room));
                }
                instruction::Kind::Emit(_) | instruction::Kind::Acknowledge(_) => {}
                kind @ (instruction::Kind::Refuse(_)
                | instruction::Kind::Leave(_)
                | instruction::Kind::Handled(_)
                | instruction::Kind::Disconnect(_)
                | instruction::Kind::Close(_)
                | instruction::Kind::Refill(_)) => panic!("{kind:?}"),
            }
        }
    }
}

fn sorted_after_first(mut lines: Vec<String>) -> Vec<String> {
    lines.get_mut(1..).unwrap_or_default().sort_by_key(|line| line.contains('['));
    lines
}

fn of_room(lines: &[String], room: &str) -> Vec<String> {
    lines.iter().filter(|line| line.contains(&format!(" {room}"))).cloned().collect()
}

#[tokio::test]
async fn a_client_of_a_lost_edge_gets_what_it_missed_in_each_of_its_rooms() {
    let mut cluster = Cluster::start(&[]).await;
    cluster.say(&["a", "b", "a", "b", "a"]).await;
    cluster.ann.cut();

    let lines = cluster.come_back("ann", reentry(cluster.memory, 3)).await;

    assert_eq!(lines[0], "recall 9 public-1");
    assert_eq!(of_room(&lines, "a"), ["join a", "[9] a 4"]);
    assert_eq!(of_room(&lines, "b"), ["join b", "[9] b 3"]);
    assert_eq!(lines.len(), 5, "{lines:?}");
    cluster.bob.ask(9, 3, "message", r#"[{"room":"b","text":"back"}]"#).await;
    let line = loop {
        let line = cluster.bob.next().await;
        if line.contains("back") {
            break line;
        }
    };
    assert!(line.starts_with("emit to room b: message"), "{line}");
}

#[tokio::test]
async fn a_client_that_has_seen_nothing_gets_all_since_it_joined() {
    let mut cluster = Cluster::start(&[]).await;
    cluster.say(&["b", "b"]).await;
    cluster.ann.cut();

    let lines = cluster.come_back("ann", reentry(0, 0)).await;

    assert_eq!(of_room(&lines, "b"), ["join b", "[9] b 0", "[9] b 1"]);
    assert_eq!(of_room(&lines, "a"), ["join a"]);
}

#[tokio::test]
async fn a_socket_is_brought_back_once_and_also_when_its_lease_is_over() {
    let mut cluster = Cluster::start(&["--chat-link-grace=100ms"]).await;
    cluster.say(&["a"]).await;
    cluster.ann.cut();
    let mut left = String::new();
    while !left.contains(r#""left":[{"id":"ann"}]"#) {
        left = cluster.bob.next().await;
    }

    let lines = cluster.come_back("ann", reentry(cluster.memory, 0)).await;
    assert_eq!(sorted_after_first(lines), ["recall 9 public-1", "join a", "join b", "[9] a 0"]);

    cluster.bob.send(vec![recoverable(10, "ann", Some(reentry(cluster.memory, 0)))]).await;
    let mut line = String::new();
    while !line.ends_with(" 10") {
        line = cluster.bob.next().await;
    }
    assert_eq!(line, "accept 10", "the next life has its own count");
}

#[tokio::test]
async fn whoever_cannot_be_given_all_that_it_missed_is_a_new_socket() {
    let mut cluster = Cluster::start(&[]).await;
    cluster.say(&["a", "b"]).await;
    cluster.ann.cut();
    let memory = cluster.memory;

    for (user, what) in [
        ("bob", reentry(memory, 1)),
        ("ann", reentry(memory + 7, 1)),
        ("ann", reentry(memory, 3)),
        ("ann", reentry(0, 1)),
        ("ann", Reentry { key: OTHER_KEY.to_vec().into(), ..reentry(memory, 1) }),
        ("ann", Reentry { key: vec![1; 31].into(), ..reentry(memory, 1) }),
    ] {
        assert_eq!(cluster.come_back(user, what.clone()).await, ["accept 9"], "{user} {what:?}");
        cluster.bob.send(vec![closed(9)]).await;
    }
}

#[tokio::test]
async fn what_the_log_has_lost_makes_it_a_new_socket() {
    let mut cluster = Cluster::start(&["--chat-history-count-max=2"]).await;
    cluster.say(&["a", "a", "a", "a"]).await;
    cluster.ann.cut();

    assert_eq!(cluster.come_back("ann", reentry(cluster.memory, 1)).await, ["accept 9"]);
    cluster.bob.send(vec![closed(9)]).await;
    let lines = cluster.come_back("ann", reentry(cluster.memory, 2)).await;
    assert_eq!(of_room(&lines, "a"), ["join a", "[9] a 2", "[9] a 3"]);
}

#[tokio::test]
async fn a_socket_that_has_ended_is_not_brought_back() {
    let mut cluster = Cluster::start(&["--chat-presence-grace=0s"]).await;
    cluster.ann.send(vec![closed(1)]).await;
    cluster.ann.wait_until_acknowledged().await;

    assert_eq!(cluster.come_back("ann", reentry(cluster.memory, 0)).await, ["accept 9"]);
    drop(cluster.service);
}
