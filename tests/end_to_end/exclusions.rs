//! A service puts clients out of rooms of real edges, and keeps them out.

use proto::chat::v1::{
    BanRequest, KickRequest, PublishRequest, UnbanRequest, UserId,
    chat_service_client::ChatServiceClient, kick_request::Who, publish_request::Target,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::{Cluster, ISSUER, Program, SocketIoClient, eventually};

const ROOM: &str = "lobby";

async fn chat(cluster: &Cluster) -> ChatServiceClient<Channel> {
    ChatServiceClient::connect(format!("http://{}", cluster.chat)).await.unwrap()
}

fn user(subject: &str) -> UserId {
    UserId { issuer: ISSUER.to_owned(), subject: subject.to_owned() }
}

async fn in_lobby(cluster: &Cluster, subject: &str) -> SocketIoClient {
    let mut client = cluster.socket_io(subject).await;
    client.request("join", json!(ROOM)).await;
    client
}

async fn publish(chat: &mut ChatServiceClient<Channel>, number: u32) -> String {
    let target = Some(Target::Room(ROOM.to_owned()));
    let data = json!({"text": number}).to_string();
    let request = PublishRequest { target, data, ..Default::default() };
    chat.publish(request).await.unwrap().into_inner().position
}

/// Publishes until it is aborted.
async fn flood(mut chat: ChatServiceClient<Channel>) {
    for number in 0.. {
        publish(&mut chat, number).await;
    }
}

fn positions(frames: &[String]) -> Vec<String> {
    let events = frames.iter().filter_map(|frame| frame.strip_prefix("42/chat,"));
    let events = events.map(|event| serde_json::from_str::<Value>(event).unwrap());
    let messages = events.filter(|event| event[0] == "message");
    messages.map(|event| event[1]["position"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_kicked_client_gets_nothing_that_was_said_later() {
    // Two shards: two links to the chat service.
    let cluster = Cluster::builder().edge("--edge-shards", 2).start().await;
    let chat = chat(&cluster).await;
    let mut bob = in_lobby(&cluster, "bob").await;
    let mut anns = Vec::new();
    for _ in 0..4 {
        anns.push(in_lobby(&cluster, "ann").await);
    }
    let floods = [(); 2].map(|()| tokio::spawn(flood(chat.clone())));
    for ann in &mut anns {
        ann.event("message").await;
    }

    let request = KickRequest {
        room: ROOM.to_owned(),
        who: Some(Who::User(user("ann"))),
        ..Default::default()
    };
    let kicked = chat.clone().kick(request).await.unwrap().into_inner();
    assert_eq!(kicked.sockets, 4);
    let mut last = String::new();
    for number in 0..20 {
        last = publish(&mut chat.clone(), number).await;
    }
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    // Bob has it all, in its order.
    let mut said = Vec::new();
    while said.last() != Some(&last) {
        said.push(bob.event("message").await["position"].as_str().unwrap().to_owned());
    }
    let place = |position: &String| said.iter().position(|one| one == position).unwrap();
    let end = place(&kicked.position);
    assert!(said.len() > end + 20);

    for ann in &mut anns {
        let told = ann.event("exception").await;
        assert_eq!((&told["code"], &told["room"]), (&json!("kicked"), &json!(ROOM)));
        let got = positions(&ann.unread_events().await);
        assert!(got.iter().all(|position| place(position) <= end), "{got:?} {kicked:?}");
        let refused = ann.request_error("message", json!({"room": ROOM, "text": "hi"})).await;
        assert_eq!(refused, "not_a_member");
        assert!(positions(&ann.unread_events().await).is_empty(), "the room goes on without it");
    }
}

#[tokio::test]
async fn a_ban_outlives_kill_9_of_the_chat_service() {
    let mut cluster = Cluster::builder().on_disk().start().await;
    let mut ann = in_lobby(&cluster, "ann").await;
    let mut bob = in_lobby(&cluster, "bob").await;
    let (room, reason) = (ROOM.to_owned(), "spam".to_owned());
    let request = BanRequest { room, user: Some(user("ann")), reason, ..Default::default() };
    let banned = chat(&cluster).await.ban(request).await.unwrap().into_inner();
    assert_eq!((banned.sockets, &*banned.durability), (1, "disk+fsync"));
    let told = ann.event("exception").await;
    assert_eq!((&told["code"], &told["reason"]), (&json!("banned"), &json!("spam")));

    cluster.kill(Program::ChatService);
    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;

    eventually("the service is back", async || {
        let error = ann.request("join", json!(ROOM)).await;
        (error["error"]["code"] == "banned").then_some(())
    })
    .await;
    assert_eq!(ann.request_error("history", json!({"room": ROOM})).await, "banned");
    bob.request("message", json!({"room": ROOM, "text": "quiet"})).await;
    let request =
        UnbanRequest { room: ROOM.to_owned(), user: Some(user("ann")), ..Default::default() };
    assert!(chat(&cluster).await.unban(request).await.unwrap().into_inner().was_banned);
    let joined = ann.request("join", json!(ROOM)).await;
    assert_eq!(joined["room"], ROOM);
}
