//! A service publishes, waits, and learns who has not got it.

use std::io::Write;

use proto::chat::v1::{
    DeliveredToRequest, DeliveredUser, PublishRequest, chat_service_client::ChatServiceClient,
    publish_request::Target,
};
use serde_json::json;
use tempfile::NamedTempFile;
use tonic::{Code, transport::Channel};

use crate::support::{
    Cluster, JsonClient, Program, SOCKET_IO_PATH, SocketIoClient, WebSocket, eventually,
};

/// A cluster whose rooms in `/chat` know how far their logs have reached each user.
struct Scene {
    cluster: Cluster,
    _terms: NamedTempFile,
}

impl Scene {
    async fn start() -> Self {
        let mut terms = NamedTempFile::new().unwrap();
        terms.write_all(b"[namespace.'/chat']\ndelivery_watermark = true\n").unwrap();
        let file = format!("--chat-namespaces-file={}", terms.path().display());
        let builder = Cluster::builder().chat(file).edge("--edge-confirm-interval", "50ms");
        Self { cluster: builder.on_disk().start().await, _terms: terms }
    }

    async fn chat(&self) -> ChatServiceClient<Channel> {
        let url = format!("http://{}", self.cluster.chat);
        ChatServiceClient::connect(url).await.unwrap()
    }

    async fn publish(&self, text: &str) -> String {
        let request = PublishRequest {
            target: Some(Target::Room("lobby".to_owned())),
            data: json!({"text": text}).to_string(),
            ..PublishRequest::default()
        };
        self.chat().await.publish(request).await.unwrap().into_inner().position
    }

    async fn users_behind(&self, position: &str) -> Vec<DeliveredUser> {
        let behind = position.to_owned();
        let request = DeliveredToRequest { room: "lobby".to_owned(), behind, ..Default::default() };
        self.chat().await.delivered_to(request).await.unwrap().into_inner().users
    }

    async fn subjects_behind(&self, position: &str) -> Vec<String> {
        self.users_behind(position).await.into_iter().map(|user| user.subject).collect()
    }

    /// Waits until these and no others are behind a position.
    async fn expect_behind(&self, position: &str, subjects: &[&str]) {
        eventually(&format!("{subjects:?} are behind"), async || {
            (self.subjects_behind(position).await == subjects).then_some(())
        })
        .await;
    }
}

async fn in_lobby(scene: &Scene, subject: &str) -> SocketIoClient {
    let mut client = scene.cluster.socket_io(subject).await;
    client.request("join", json!("lobby")).await;
    client
}

/// Reads on, and so answers pings, until it is dropped.
struct Reading(tokio::task::JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn reading(mut client: SocketIoClient) -> Reading {
    Reading(tokio::spawn(async move { while client.closed().await.1.is_some() {} }))
}

fn reading_json(mut client: JsonClient) -> Reading {
    Reading(tokio::spawn(async move { while client.closed().await.1.is_some() {} }))
}

#[tokio::test]
async fn who_answers_has_got_it_and_who_is_silent_or_away_has_not() {
    let scene = Scene::start().await;
    let _ann = reading(in_lobby(&scene, "ann").await);
    let mut bob = scene.cluster.json("bob").await;
    bob.request("join", json!("lobby")).await.unwrap();
    let _bob = reading_json(bob);
    let mut silent = WebSocket::open(scene.cluster.clients, SOCKET_IO_PATH, &[]).await;
    silent.next().await;
    let token = scene.cluster.mint.token("silent");
    silent.send(format!("40/chat,{}", json!({"token": token}))).await;
    silent.next().await;
    silent.send(r#"42/chat,0["join","lobby"]"#).await;
    in_lobby(&scene, "gone").await.close().await;

    let position = scene.publish("hello").await;

    scene.expect_behind(&position, &["gone", "silent"]).await;
    let behind = scene.users_behind(&position).await;
    assert_eq!(behind.iter().map(|user| user.sockets).collect::<Vec<_>>(), [0, 1]);
    let all = DeliveredToRequest { room: "lobby".to_owned(), ..Default::default() };
    let all = scene.chat().await.delivered_to(all).await.unwrap().into_inner().users;
    let delivered: Vec<_> =
        all.iter().map(|user| (&*user.subject, user.position == position)).collect();
    assert_eq!(delivered, [("ann", true), ("bob", true), ("gone", false), ("silent", false)]);

    // Whoever is back and asks for what it missed has got it.
    let mut back = scene.cluster.socket_io("gone").await;
    let gone = all.iter().find(|user| user.subject == "ann").unwrap();
    back.request("join", json!({"room": "lobby", "since": gone.since})).await;
    let _back = reading(back);
    scene.expect_behind(&position, &["silent"]).await;
}

#[tokio::test]
async fn the_users_of_an_edge_that_is_killed_are_still_owed_what_follows() {
    let mut scene = Scene::start().await;
    let ann = reading(in_lobby(&scene, "ann").await);
    let first = scene.publish("first").await;
    scene.expect_behind(&first, &[]).await;

    scene.cluster.kill(Program::EdgeGateway);
    drop(ann);
    let second = scene.publish("second").await;

    assert!(scene.subjects_behind(&first).await.is_empty());
    assert_eq!(scene.subjects_behind(&second).await, ["ann"]);
}

#[tokio::test]
async fn who_was_away_when_the_chat_service_was_killed_is_owed_what_it_has_not_got() {
    let mut scene = Scene::start().await;
    let _ann = reading(in_lobby(&scene, "ann").await);
    let bob = reading(in_lobby(&scene, "bob").await);
    in_lobby(&scene, "gone").await.close().await;
    let first = scene.publish("first").await;
    scene.expect_behind(&first, &["gone"]).await;
    drop(bob);

    scene.cluster.kill(Program::ChatService);
    scene.cluster.start_again(Program::ChatService).await;

    // Ann says again what may not have been kept, without a message that would have her asked.
    eventually("Ann has got it", async || {
        let behind = scene.subjects_behind(&first).await;
        assert!(behind.contains(&"gone".to_owned()), "{behind:?}");
        (!behind.contains(&"ann".to_owned())).then_some(())
    })
    .await;
    let second = scene.publish("second").await;
    scene.expect_behind(&second, &["bob", "gone"]).await;
    for away in scene.users_behind(&second).await {
        let may_be = ["", if away.subject == "bob" { &first } else { "" }];
        assert!(away.sockets == 0 && may_be.contains(&&*away.position), "{away:?}");
    }
}

#[tokio::test]
async fn a_namespace_that_does_not_say_so_follows_nobody() {
    let scene = Scene::start().await;
    let request = DeliveredToRequest {
        namespace: "/".to_owned(),
        room: "lobby".to_owned(),
        ..Default::default()
    };

    let refused = scene.chat().await.delivered_to(request).await.unwrap_err();

    assert_eq!(refused.code(), Code::FailedPrecondition);
}
