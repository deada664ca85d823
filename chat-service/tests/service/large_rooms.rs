//! Rooms with more users than anyone wants to be told of one by one.

use prost::Message;
use proto::edge::v1::instruction::Kind;

use crate::{
    edge::{event, opened},
    running::Running,
};

#[tokio::test]
async fn a_room_that_grows_is_counted_and_one_that_shrinks_is_listed_again() {
    let service = Running::start_with(&["--chat-presence-list-max=4"]).await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    for (socket, user) in [(1, "ann"), (2, "bob"), (3, "cat"), (4, "dan")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }

    for (socket, user) in [(5, "eve"), (6, "fay")] {
        other.open(socket, user).await;
        other.ask(socket, 1, "join", r#"["lobby"]"#).await;
        let answer = format!(
            r#"ack {socket}/1 [{{"room":"lobby","position":"P0","members":[],"count":{socket},"more":true}}]"#
        );
        other.expect(&[&format!("join [{socket}] lobby P0"), &answer]).await;
    }
    edge.ask(1, 2, "presence", r#"["lobby"]"#).await;
    let first = r#"{"id":"ann"},{"id":"bob"},{"id":"cat"},{"id":"dan"}"#;
    edge.expect(&[&format!(r#"ack 1/2 [{{"users":[{first}],"count":6,"more":true}}]"#)]).await;
    let count = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[],"count":6,"more":true}]"#;
    edge.expect(&[count]).await;
    other.expect(&[count]).await;

    for socket in [2, 3] {
        edge.close(socket).await;
    }
    other.close(5).await;
    let list = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[],"users":[{"id":"ann"},{"id":"dan"},{"id":"fay"}],"count":3}]"#;
    edge.expect(&[list]).await;
    other.expect(&[list]).await;
    other.close(6).await;
    edge.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"fay"}],"count":2}]"#,
    ])
    .await;
}

/// What an edge is sent for so many users who all join one room.
#[derive(Debug, Default)]
struct Sent {
    instructions: usize,
    emits: usize,
    bytes: usize,
}

async fn sent_for(user_count: u64) -> Sent {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    let mut sent = Sent::default();
    let sockets: Vec<u64> = (1..=user_count).collect();
    for some in sockets.chunks(250) {
        let joins = some.iter().flat_map(|socket| {
            let join = event(*socket, Some(1), "join", r#"["lobby"]"#);
            [opened(*socket, "/chat", &socket.to_string(), None), join]
        });
        edge.send(joins.collect()).await;
        let mut answered = 0;
        while answered < some.len() {
            let instruction = edge.next_instruction().await;
            sent.instructions += 1;
            sent.bytes += instruction.encoded_len();
            match instruction.kind {
                Some(Kind::Emit(_)) => sent.emits += 1,
                Some(Kind::Acknowledge(_)) => answered += 1,
                _ => {}
            }
        }
    }
    sent
}

/// One list or one notice for each of them to each of them would be quadratic.
#[tokio::test]
async fn what_thousands_of_users_in_one_room_cost_grows_as_they_do() {
    let (some, thrice) = (sent_for(1_000).await, sent_for(3_000).await);

    // One by one up to the bound, and then at most every second.
    let counts_max = 30;
    for sent in [&some, &thrice] {
        assert!(sent.emits <= 99 + counts_max, "{sent:?}");
    }
    let accepts_joins_and_answers = 3 * 2_000;
    assert!(
        thrice.instructions - some.instructions <= accepts_joins_and_answers + counts_max,
        "{some:?} {thrice:?}"
    );
    let bytes_per_user = (thrice.bytes - some.bytes) / 2_000;
    assert!(bytes_per_user < 200, "{bytes_per_user} {some:?} {thrice:?}");
}
