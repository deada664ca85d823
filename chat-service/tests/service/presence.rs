//! Who is here, as others see it.

use proto::edge::v1::edge_event::Kind;

use crate::{
    edge::{closed, moved, opened, resumed, suspended},
    running::Running,
};

#[tokio::test]
async fn presence_is_of_users_and_not_of_sockets() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob"), (3, "bob")] {
        edge.open(socket, user).await;
    }
    edge.join(1, "lobby").await;
    edge.join(2, "lobby").await;

    edge.join(3, "lobby").await;
    edge.ask(1, 1, "presence", r#"["lobby"]"#).await;
    edge.expect(&[r#"ack 1/1 [{"users":[{"id":"ann"},{"id":"bob"}],"count":2}]"#]).await;
    edge.close(2).await;
    edge.expect_quiet(1, "lobby").await;

    edge.close(3).await;

    edge.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#,
    ])
    .await;
}

#[tokio::test]
async fn a_suspended_socket_is_given_everything_and_is_not_seen() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    edge.open(1, "ann").await;
    other.open(1, "bob").await;
    edge.join(1, "lobby").await;
    other.join(1, "lobby").await;
    edge.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[{"id":"bob"}],"left":[],"count":2}]"#,
    ])
    .await;

    other.send(vec![suspended(1)]).await;
    let gone = r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#;
    edge.expect(&[gone]).await;
    other.expect(&[gone]).await;
    edge.ask(1, 1, "presence", r#"["lobby"]"#).await;
    edge.expect(&[r#"ack 1/1 [{"users":[{"id":"ann"}],"count":1}]"#]).await;
    edge.tell(1, "typing", r#"[{"room":"lobby","typing":true}]"#).await;
    other.expect(&[r#"emit to room lobby: typing [{"room":"lobby","user":{"id":"ann"},"typing":true}] volatile"#]).await;

    // It is told as well: it has been told that its user was gone.
    other.send(vec![resumed(1, "bob")]).await;
    let back = r#"emit to room lobby: presence [{"room":"lobby","joined":[{"id":"bob"}],"left":[],"count":2}]"#;
    edge.expect(&[back]).await;
    other.expect(&[back]).await;

    other.send(vec![suspended(1)]).await;
    edge.expect(&[gone]).await;
    other.expect(&[gone]).await;
    other.send(vec![closed(1)]).await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_socket_that_moves_to_another_link_is_in_both_until_the_first_ends() {
    let service = Running::start().await;
    let mut first = service.edge("one").await;
    let mut second = service.edge("two").await;
    first.open(1, "ann").await;
    first.join(1, "lobby").await;
    first.send(vec![suspended(1)]).await;
    first.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"ann"}],"count":0}]"#,
    ])
    .await;

    let mut recovered = opened(7, "/chat", "ann", Some(&[("lobby", "")]));
    if let Some(Kind::Opened(opened)) = &mut recovered.kind {
        (opened.announced, opened.recovered) = (false, true);
    }
    second.send(vec![recovered]).await;

    let back = r#"emit to room lobby: presence [{"room":"lobby","joined":[{"id":"ann"}],"left":[],"count":1}]"#;
    // What is sent until it is let in it gets where it was.
    second.expect(&[back, "accept 7"]).await;
    first.expect(&[back]).await;
    first.send(vec![closed(1)]).await;
    second.ask(7, 1, "presence", r#"["lobby"]"#).await;
    second.expect(&[r#"ack 7/1 [{"users":[{"id":"ann"}],"count":1}]"#]).await;
}

#[tokio::test]
async fn a_socket_that_moves_takes_along_what_it_joined_and_left_on_the_way() {
    let service = Running::start().await;
    let mut first = service.edge("one").await;
    let mut second = service.edge("two").await;
    first.open(1, "ann").await;
    first.join(1, "left").await;
    first.join(1, "joined").await;
    let mut recovered = opened(7, "/chat", "ann", Some(&[("left", "")]));
    if let Some(Kind::Opened(opened)) = &mut recovered.kind {
        (opened.announced, opened.recovered) = (false, true);
    }
    second.send(vec![recovered]).await;
    second.expect(&["accept 7"]).await;
    first.send(vec![closed(1)]).await;
    first.wait_until_acknowledged().await;

    second.send(vec![moved(7, "ann", &["joined"], &["left"])]).await;

    second.expect(&[
        r#"emit to room joined: presence [{"room":"joined","joined":[{"id":"ann"}],"left":[],"count":1}]"#,
    ])
    .await;
    second.ask(7, 1, "presence", r#"["joined"]"#).await;
    second.expect(&[r#"ack 7/1 [{"users":[{"id":"ann"}],"count":1}]"#]).await;
    second.ask(7, 2, "presence", r#"["left"]"#).await;
    let not_a_member =
        r#"{"code":"not_a_member","message":"join the room first","retryable":false}"#;
    second.expect(&[&format!(r#"ack 7/2 [{{"error":{not_a_member}}}]"#)]).await;
}

#[tokio::test]
async fn a_socket_that_goes_leaves_all_its_rooms() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.open(2, "bob").await;
    let rooms: Vec<String> = (0..20).map(|number| format!("room-{number}")).collect();
    for room in &rooms {
        edge.join(1, room).await;
        edge.join(2, room).await;
    }

    edge.send(vec![closed(2)]).await;

    let mut left = Vec::new();
    for _ in &rooms {
        left.push(edge.next().await);
    }
    for room in &rooms {
        let args =
            format!(r#"[{{"room":"{room}","joined":[],"left":[{{"id":"bob"}}],"count":1}}]"#);
        assert!(left.contains(&format!("emit to room {room}: presence {args}")), "{left:#?}");
    }
}

#[tokio::test]
async fn a_link_that_does_not_come_back_takes_its_users_with_it_when_the_grace_is_over() {
    let service = Running::start_with(&["--chat-link-grace=50ms"]).await;
    let mut edge = service.edge("one").await;
    let mut lost = service.edge("two").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    for (socket, user) in [(1, "bob"), (2, "cat"), (3, "ann")] {
        lost.open(socket, user).await;
        lost.join(socket, "lobby").await;
    }
    edge.next().await;
    edge.next().await;

    lost.cut();

    edge.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"},{"id":"cat"}],"count":1}]"#,
    ])
    .await;
    let welcome = lost.attach(&service).await;
    assert!(!welcome.resumed);
}

#[tokio::test]
async fn a_socket_with_an_identity_that_makes_no_sense_is_closed() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    let mut opened = opened(1, "/chat", "ann", None);
    if let Some(Kind::Opened(opened)) = &mut opened.kind {
        opened.identity.as_mut().unwrap().profile = "not JSON".into();
    }

    edge.send(vec![opened]).await;

    edge.expect(&["close [1]"]).await;
}
