//! What other services call.

use proto::chat::v1::{
    HistoryRequest, PresenceRequest, PresentUser, PublishRequest, RoomsRequest,
    publish_request::Target,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    edge::{opened, within_deadline},
    running::Running,
};

fn to_room(data: &str) -> PublishRequest {
    PublishRequest {
        target: Some(Target::Room("lobby".to_owned())),
        data: data.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_publication_into_a_room_is_logged_and_reaches_its_members() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    let news =
        PublishRequest { event: "news".to_owned(), ..to_room(r#"{"n": 12345678901234567890}"#) };
    let published = chat.publish(news).await.unwrap().into_inner();

    edge.expect(&[
        r#"emit to room lobby: news [{"room":"lobby","id":"P1","event":"news","n": 12345678901234567890,"at":T,"position":"P1"}] at lobby P1"#,
    ])
    .await;
    assert_eq!(published.id, published.position);
    edge.ask(1, 1, "history", r#"[{"room":"lobby"}]"#).await;
    edge.expect(&[
        r#"ack 1/1 [{"messages":[{"room":"lobby","id":"P1","event":"news","n": 12345678901234567890,"at":T,"position":"P1"}],"more":false}]"#,
    ])
    .await;
}

#[tokio::test]
async fn a_publication_with_the_same_key_changes_nothing() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    let request = PublishRequest { idempotency_key: "key".to_owned(), ..to_room("{}") };

    let first = chat.publish(request.clone()).await.unwrap().into_inner();
    let second = chat.publish(request).await.unwrap().into_inner();

    assert_eq!(first, second);
    assert_eq!(first.id, "key");
    assert!(edge.next().await.contains(r#""id":"key""#));
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn a_publication_is_never_shown_to_whom_it_excepts() {
    let service = Running::start_with(&["--chat-link-grace=1m"]).await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }
    let start = chat.publish(to_room(r#"{"n":0}"#)).await.unwrap().into_inner().position;
    edge.next().await;

    let secret = PublishRequest {
        except_users: vec!["sub-bob".to_owned()],
        ..to_room(r#"{"n":1,"idle":0}"#)
    };
    chat.publish(secret).await.unwrap();
    assert!(edge.next().await.contains(r#" but users ["sub-bob"]"#));

    // Neither in what it missed, nor in the history, where its reading goes on behind it.
    let numbers = |line: String| line.matches("\"n\":").count();
    for (socket, seen) in [(1, 1), (2, 0)] {
        edge.ask(socket, 1, "join", &format!(r#"[{{"room":"lobby","since":"{start}"}}]"#)).await;
        assert!(edge.next().await.starts_with("join"));
        assert_eq!(numbers(edge.next().await), seen);
        edge.ask(socket, 2, "history", r#"[{"room":"lobby","limit":1}]"#).await;
        let line = edge.next().await;
        assert!(line.contains(if seen == 1 { r#""n":1"# } else { r#""n":0"# }), "{line}");
    }
}

#[tokio::test]
async fn a_volatile_publication_is_not_logged() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    let request = PublishRequest { volatile: true, ..to_room(r#"{"id":7}"#) };
    let published = chat.publish(request).await.unwrap().into_inner();

    assert_eq!((&*published.id, &*published.position), ("", ""));
    edge.expect(&[r#"emit to room lobby: message [{"id":7}] volatile"#]).await;
    let history = HistoryRequest { room: "lobby".to_owned(), ..Default::default() };
    assert!(chat.history(history).await.unwrap().into_inner().entries.is_empty());
}

#[tokio::test]
async fn a_publication_to_a_user_or_to_everyone_goes_over_every_link_of_the_namespace() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edges = [service.edge("one").await, service.edge("two").await];
    let to = |target| PublishRequest {
        target: Some(target),
        data: r#"{"a":1}"#.to_owned(),
        ..Default::default()
    };

    chat.publish(to(Target::User("sub-ann".to_owned()))).await.unwrap();
    chat.publish(to(Target::Everyone(true))).await.unwrap();
    let elsewhere = PublishRequest { namespace: "/other".to_owned(), ..to(Target::Everyone(true)) };
    chat.publish(elsewhere).await.unwrap();
    chat.publish(PublishRequest { namespace: "/".to_owned(), ..to(Target::Everyone(true)) })
        .await
        .unwrap();

    for edge in &mut edges {
        edge.expect(&[
            r#"emit to user sub-ann: message [{"a":1}] volatile"#,
            r#"emit to everyone: message [{"a":1}] volatile"#,
            r#"emit to everyone in /: message [{"a":1}] volatile"#,
        ])
        .await;
    }
}

#[tokio::test]
async fn history_presence_and_rooms_can_be_asked_for() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "bob"), (2, "ann"), (3, "ann")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }
    edge.join(1, "attic").await;
    let mut positions = Vec::new();
    for number in 0..3 {
        let published = chat.publish(to_room(&format!("{{\"n\":{number}}}"))).await.unwrap();
        positions.push(published.into_inner().position);
    }
    let cellar =
        PublishRequest { target: Some(Target::Room("cellar".to_owned())), ..to_room("{}") };
    chat.publish(cellar).await.unwrap();

    let history = HistoryRequest {
        room: "lobby".to_owned(),
        after: positions[0].clone(),
        limit: 1,
        ..Default::default()
    };
    let page = chat.history(history).await.unwrap().into_inner();
    let presence = PresenceRequest { room: "lobby".to_owned(), ..Default::default() };
    let presence = chat.presence(presence).await.unwrap().into_inner();
    let rooms = chat.rooms(RoomsRequest::default()).await.unwrap().into_inner().rooms;
    let after = RoomsRequest { after: "attic".to_owned(), limit: 1, ..Default::default() };
    let rest = chat.rooms(after).await.unwrap().into_inner().rooms;

    assert!(page.more);
    assert_eq!((&*page.entries[0].event, &page.entries[0].position), ("message", &positions[1]));
    assert!(page.entries[0].data.contains(r#""n":1"#));
    let user = |user: &str, sockets| PresentUser {
        subject: format!("sub-{user}"),
        profile: format!("{{\"id\":\"{user}\"}}"),
        sockets,
    };
    assert_eq!(presence.users, [user("ann", 2), user("bob", 1)]);
    assert_eq!(presence.count, 2);
    let shape: Vec<_> = rooms.iter().map(|r| (&*r.name, r.users, r.sockets)).collect();
    assert_eq!(shape, [("attic", 1, 1), ("cellar", 0, 0), ("lobby", 2, 3)]);
    assert_eq!(rooms[2].position, positions[2]);
    assert_eq!(rest, rooms[1..2]);
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_contract() {
    let service = Running::start_with(&["--chat-history-count-max=1"]).await;
    let mut chat = service.chat().await;
    let first = chat.publish(to_room("{}")).await.unwrap().into_inner();
    chat.publish(to_room("{}")).await.unwrap();
    chat.publish(to_room("{}")).await.unwrap();

    let bad = chat.publish(to_room(r#"{"secret":"#)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(bad.message(), "data must be a JSON object of at most 131072 bytes");
    let gone = HistoryRequest {
        room: "lobby".to_owned(),
        after: first.position.clone(),
        ..Default::default()
    };
    assert_eq!(chat.history(gone).await.unwrap_err().code(), Code::OutOfRange);
    let elsewhere =
        HistoryRequest { room: "attic".to_owned(), after: first.position, ..Default::default() };
    assert_eq!(chat.history(elsewhere).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn what_is_too_old_is_gone() {
    let service = Running::start_with(&["--chat-history-age-max=10ms"]).await;
    let mut chat = service.chat().await;
    chat.publish(to_room("{}")).await.unwrap();

    let history = || HistoryRequest { room: "lobby".to_owned(), ..Default::default() };
    within_deadline(async {
        while !chat.history(history()).await.unwrap().into_inner().entries.is_empty() {}
    })
    .await;
}

#[tokio::test]
async fn a_publication_waits_for_a_link_that_is_down() {
    let service = Running::start().await;
    let mut chat = service.chat().await;
    let mut edge = service.edge("one").await;
    edge.send(vec![opened(1, "/chat", "ann", None)]).await;
    edge.wait_until_acknowledged().await;
    edge.join(1, "lobby").await;

    edge.cut();
    chat.publish(to_room(r#"{"n":1}"#)).await.unwrap();
    assert!(edge.attach(&service).await.resumed);

    assert!(edge.next().await.contains(r#""n":1"#));
}

#[tokio::test]
async fn health_and_reflection_name_both_services() {
    let service = Running::start_with(&["--chat-grpc-reflection"]).await;
    for name in ["sockeye.edge.v1.EdgeLink", "sockeye.chat.v1.ChatService", ""] {
        let request = HealthCheckRequest { service: name.to_owned() };
        let mut client = HealthClient::new(service.channel().await);
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING", "{name}");
    }

    let mut client = ServerReflectionClient::new(service.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let responses = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let response = responses.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
        panic!("{response:?}")
    };
    let names: Vec<&str> = list.service.iter().map(|service| &*service.name).collect();
    assert!(names.contains(&"sockeye.edge.v1.EdgeLink"), "{names:?}");
    assert!(names.contains(&"sockeye.chat.v1.ChatService"), "{names:?}");
}
