//! Links that could not be resumed: sockets are announced, and nobody notices.

use proto::chat::v1::{
    PresenceRequest, PublishRequest, chat_service_client::ChatServiceClient,
    publish_request::Target,
};
use tonic::{Code, transport::Channel};

use crate::{
    edge::{Edge, all_announced, event, opened},
    events::emitted_position,
    running::Running,
};

async fn forget_and_attach(edge: &mut Edge, service: &Running) {
    edge.cut();
    edge.backend_id.clear();
    assert!(!edge.attach(service).await.resumed);
}

async fn say(edge: &mut Edge, text: &str) {
    edge.ask(1, 1, "message", &format!(r#"[{{"room":"lobby","text":"{text}"}}]"#)).await;
    edge.wait_until_acknowledged().await;
}

#[tokio::test]
async fn sockets_that_are_announced_again_were_never_gone() {
    // Long enough to announce everyone in.
    let service = Running::start_with(&["--chat-link-grace=2s"]).await;
    let mut observer = service.edge("observer").await;
    observer.open(1, "eve").await;
    observer.join(1, "lobby").await;
    let mut edge = service.edge("one").await;
    let mut lost = service.edge("two").await;
    for (edge, user) in [(&mut edge, "ann"), (&mut lost, "bob")] {
        edge.open(1, user).await;
        edge.join(1, "lobby").await;
        observer.next().await;
    }

    forget_and_attach(&mut edge, &service).await;
    edge.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;
    edge.wait_until_acknowledged().await;
    assert_eq!(socket_counts(&service).await, [1, 1, 1]);
    // Cut later, so its grace ends later: when it has, that of the first link's earlier life has as well.
    lost.cut();

    assert_eq!(
        observer.next_left().await,
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":2}]"#
    );
}

async fn socket_counts(service: &Running) -> Vec<u32> {
    let request = PresenceRequest { room: "lobby".to_owned(), ..Default::default() };
    let presence = service.chat().await.presence(request).await.unwrap().into_inner();
    presence.users.iter().map(|user| user.sockets).collect()
}

#[tokio::test]
async fn a_socket_that_is_not_announced_again_has_left_when_the_grace_is_over() {
    // Long enough to announce who is left in.
    let service = Running::start_with(&["--chat-link-grace=2s"]).await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }

    forget_and_attach(&mut edge, &service).await;
    edge.send(vec![opened(1, "/chat", "ann", Some(&[("lobby", "")])), all_announced()]).await;

    assert_eq!(
        edge.next_left().await,
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#
    );
}

#[tokio::test]
async fn what_was_missed_is_told_in_order_and_once_each_socket_from_its_own_position() {
    let service = Running::start().await;
    let mut speaker = service.edge("speaker").await;
    speaker.open(1, "ann").await;
    speaker.join(1, "lobby").await;
    speaker.tell(1, "message", r#"[{"room":"lobby","text":"0"}]"#).await;
    let first = emitted_position(&speaker.next_instruction().await);
    speaker.tell(1, "message", r#"[{"room":"lobby","text":"1"}]"#).await;
    let second = emitted_position(&speaker.next_instruction().await);
    say(&mut speaker, "2").await;

    let mut edge = service.edge("one").await;
    edge.send(vec![opened(1, "/chat", "bob", Some(&[("lobby", &first)]))]).await;
    edge.wait_until_acknowledged().await;
    say(&mut speaker, "3").await;
    edge.send(vec![opened(2, "/chat", "cat", Some(&[("lobby", &second)]))]).await;
    edge.send(vec![opened(3, "/chat", "dan", Some(&[("lobby", &second)])), all_announced()]).await;
    edge.wait_until_acknowledged().await;
    say(&mut speaker, "4").await;

    let mut seen = [String::new(), String::new(), String::new()];
    while seen.iter().any(|texts| !texts.ends_with('4')) {
        let line = edge.next().await;
        let (audience, event) = line.split_once(": message ").unwrap();
        let text = event.split(r#""text":""#).nth(1).unwrap().chars().next().unwrap();
        for (index, texts) in seen.iter_mut().enumerate() {
            let everyone = audience == "emit to room lobby";
            if everyone || audience.contains(&format!("{}", index + 1)) {
                texts.push(text);
            }
        }
    }
    assert_eq!(seen, ["1234", "234", "234"]);
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn sockets_that_stand_at_the_same_position_are_told_together() {
    let service = Running::start().await;
    let mut speaker = service.edge("speaker").await;
    speaker.open(1, "ann").await;
    speaker.join(1, "lobby").await;
    speaker.tell(1, "message", r#"[{"room":"lobby","text":"0"}]"#).await;
    let first = emitted_position(&speaker.next_instruction().await);
    say(&mut speaker, "1").await;

    let mut edge = service.edge("one").await;
    let memberships: &[(&str, &str)] = &[("lobby", &first)];
    let sockets = (1..=500).map(|socket| opened(socket, "/chat", "bob", Some(memberships)));
    edge.send(sockets.chain([all_announced()]).collect()).await;

    let line = edge.next().await;
    assert!(line.starts_with("emit to room lobby: message"), "{line}");
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_socket_is_told_when_what_it_missed_is_gone() {
    let service = Running::start_with(&["--chat-history-count-max=1"]).await;
    let mut speaker = service.edge("speaker").await;
    speaker.open(1, "ann").await;
    speaker.join(1, "lobby").await;
    speaker.tell(1, "message", r#"[{"room":"lobby","text":"0"}]"#).await;
    let first = emitted_position(&speaker.next_instruction().await);
    say(&mut speaker, "1").await;
    say(&mut speaker, "2").await;

    for position in [&*first, "not a position", "AAAAAAAAAAAAAAAAAAAAAA"] {
        let mut edge = service.edge(position).await;
        edge.send(vec![opened(1, "/chat", "bob", Some(&[("lobby", position)])), all_announced()])
            .await;

        edge.expect(&[
            r#"emit to room lobby: exception [{"status":"error","code":"gap","message":"events of this room were missed: join it again","retryable":false,"room":"lobby"}]"#,
        ])
        .await;
        edge.expect_quiet(1, "lobby").await;
    }
}

#[tokio::test]
async fn a_socket_that_stood_in_a_log_that_died_is_given_all_of_the_new_one() {
    let service = Running::start().await;
    let mut speaker = service.edge("speaker").await;
    speaker.open(1, "ann").await;
    speaker.join(1, "lobby").await;
    say(&mut speaker, "before").await;
    let mut edge = service.edge("one").await;
    edge.send(vec![opened(1, "/chat", "bob", Some(&[("lobby", "AAAAAAAAAAAAAAAAAAAAAA")]))]).await;
    edge.wait_until_acknowledged().await;
    say(&mut speaker, "meanwhile").await;

    edge.send(vec![all_announced()]).await;

    assert!(edge.next().await.contains(r#""code":"gap""#));
    for text in ["before", "meanwhile"] {
        let line = edge.next().await;
        assert!(line.contains(&format!(r#""text":"{text}""#)), "{line}");
    }
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn what_a_socket_says_comes_after_what_it_missed_and_before_its_ack() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let position = publish(&mut chat, "lobby", "first").await;
    let padding = "x".repeat(60_000);
    for number in 0..12 {
        publish(&mut chat, "lobby", &format!("{number}-{padding}")).await;
    }

    let mut edge = service.edge("one").await;
    let message = r#"[{"room":"lobby","text":"own"}]"#;
    edge.send(vec![
        opened(1, "/chat", "ann", Some(&[("lobby", &position)])),
        all_announced(),
        event(1, Some(1), "message", message),
    ])
    .await;

    for number in 0..12 {
        let line = edge.next().await;
        assert!(line.contains(&format!(r#""text":"{number}-"#)), "{number}: {:.200}", line);
    }
    assert!(edge.next().await.contains(r#""text":"own""#));
    assert!(edge.next().await.starts_with("ack 1/1 "));
}

#[tokio::test]
async fn an_edge_that_falls_too_far_behind_is_given_up_and_catches_up_from_the_logs() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    let rooms = ["one", "two", "three"];
    let mut positions = Vec::new();
    for room in rooms {
        edge.join(1, room).await;
        let response = publish(&mut chat, room, "first").await;
        positions.push(response);
        edge.next().await;
    }

    edge.confirms = false;
    let padding = "x".repeat(100_000);
    let mut count = 0;
    for number in 0..16 {
        for room in rooms {
            publish(&mut chat, room, &format!("{number}-{padding}")).await;
            count += 1;
        }
    }
    let status = edge.end().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    edge.cut();
    assert!(!edge.attach(&service).await.resumed);
    edge.confirms = true;
    let memberships: Vec<(&str, &str)> =
        rooms.iter().zip(&positions).map(|(room, position)| (*room, &**position)).collect();
    edge.send(vec![opened(1, "/chat", "ann", Some(&memberships)), all_announced()]).await;
    let mut next = [0; 3];
    for _ in 0..count {
        let line = edge.next().await;
        let room = rooms.iter().position(|room| line.starts_with(&format!("emit to room {room}:")));
        let room = room.expect("a message");
        assert!(line.contains(&format!(r#""text":"{}-"#, next[room])), "out of order");
        next[room] += 1;
    }
    assert_eq!(next, [16; 3]);
    edge.expect_quiet(1, "one").await;
    publish(&mut chat, "two", "live").await;
    assert!(edge.next().await.contains("live"));
}

#[tokio::test]
async fn sockets_at_many_positions_catch_up_without_overflowing_their_link() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut positions = Vec::new();
    for number in 0..20 {
        positions.push(publish(&mut chat, "lobby", &format!("{number}-")).await);
    }
    let padding = "x".repeat(60_000);
    for number in 20..26 {
        publish(&mut chat, "lobby", &format!("{number}-{padding}")).await;
    }

    let mut edge = service.edge("one").await;
    let memberships: Vec<_> = positions.iter().map(|position| [("lobby", &**position)]).collect();
    let sockets = (1..).zip(&memberships);
    let sockets = sockets.map(|(socket, rooms)| opened(socket, "/chat", "ann", Some(rooms)));
    edge.send(sockets.chain([all_announced()]).collect()).await;

    // Socket 1 has seen message 0, and so on.
    let mut next: Vec<usize> = (1..=20).collect();
    while next.iter().any(|next| *next < 26) {
        let line = edge.next().await;
        let (audience, event) = line.split_once(": message ").unwrap();
        let number = event.split(r#""text":""#).nth(1).unwrap().split('-').next().unwrap();
        let number: usize = number.parse().unwrap();
        for handle in handles(audience) {
            assert_eq!(next[handle - 1], number, "out of order for {handle}");
            next[handle - 1] += 1;
        }
    }
    edge.expect_quiet(1, "lobby").await;
}

/// The sockets that an audience names.
fn handles(audience: &str) -> Vec<usize> {
    let words = audience.split(|byte: char| !byte.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test]
async fn many_sockets_that_are_announced_with_one_that_lags_do_not_overflow_their_link() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let lagging = publish(&mut chat, "lobby", "0").await;
    let others = publish(&mut chat, "lobby", "1").await;
    for number in 2..=100 {
        publish(&mut chat, "lobby", &number.to_string()).await;
    }

    // As the room is not of one group, each instruction names all of its sockets.
    let mut edge = service.edge("one").await;
    let (lagging, others) = ([("lobby", &*lagging)], [("lobby", &*others)]);
    let many = (2..=20_001).map(|socket| opened(socket, "/chat", "ann", Some(&others)));
    let mut events: Vec<_> = many.collect();
    events.push(opened(1, "/chat", "bob", Some(&lagging)));
    for some in events.chunks(500) {
        edge.send(some.to_vec()).await;
    }
    edge.send(vec![all_announced()]).await;
    let mut next = [1, 2];
    while next != [101; 2] {
        let line = edge.next().await;
        // On a slow machine, it is told meanwhile who is there.
        if line.contains(": presence ") {
            continue;
        }
        let next = &mut next[usize::from(!line.starts_with("emit to [1]:"))];
        assert!(line.contains(&format!(r#""text":"{next}""#)), "no {next}: {line}");
        *next += 1;
    }
    edge.ask(1, 998, "presence", r#"["lobby"]"#).await;
    loop {
        let line = edge.next().await;
        if line.starts_with("ack 1/998 ") {
            break;
        }
        assert!(line.contains(": presence "), "{line}");
    }
}

async fn publish(chat: &mut ChatServiceClient<Channel>, room: &str, text: &str) -> String {
    let request = PublishRequest {
        target: Some(Target::Room(room.to_owned())),
        data: format!(r#"{{"text":"{text}"}}"#),
        ..Default::default()
    };
    chat.publish(request).await.unwrap().into_inner().position
}
