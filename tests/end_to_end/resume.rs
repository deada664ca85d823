//! Coming back with the last position: exactly what was missed, in the log's order, or word that it cannot be had.

use proto::chat::v1::{
    PublishRequest, chat_service_client::ChatServiceClient, publish_request::Target,
};
use serde_json::{Value, json};

use crate::support::{Cluster, JsonClient, Program};

/// Numbered messages that other services publish.
async fn publish(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    let url = format!("http://{}", cluster.chat);
    let mut chat = ChatServiceClient::connect(url).await.unwrap();
    for number in numbers {
        let request = PublishRequest {
            target: Some(Target::Room("lobby".to_owned())),
            data: json!({"text": number.to_string()}).to_string(),
            ..PublishRequest::default()
        };
        chat.publish(request).await.unwrap();
    }
}

fn numbers<'a>(messages: impl IntoIterator<Item = &'a Value>) -> Vec<usize> {
    let text = |message: &Value| message["text"].as_str().unwrap().parse().unwrap();
    messages.into_iter().map(text).collect()
}

/// Enters the lobby and sees the messages up to `count`. Returns the last position.
async fn seen(client: &mut JsonClient, cluster: &Cluster, count: usize) -> Value {
    client.request("join", json!("lobby")).await.unwrap();
    publish(cluster, 0..count).await;
    let mut position = Value::Null;
    for number in 0..count {
        let mut message = client.event("message").await;
        assert_eq!(numbers([&message]), [number]);
        position = message["position"].take();
    }
    position
}

#[tokio::test]
async fn a_client_that_comes_back_among_traffic_misses_nothing_and_sees_nothing_twice() {
    let cluster = Cluster::start().await;
    let mut first = cluster.json("alice").await;
    let position = seen(&mut first, &cluster, 3).await;
    first.close().await;
    publish(&cluster, 3..10).await;
    let mut second = cluster.json("alice").await;

    let since = json!({"room": "lobby", "since": position});
    let (back, ()) = tokio::join!(second.request("join", since), publish(&cluster, 10..60));

    let back = back.unwrap();
    assert_eq!(back["recovered"], true, "{back}");
    let mut all = numbers(back["messages"].as_array().unwrap());
    assert!(all.len() >= 7, "{all:?}");
    while all.len() < 57 {
        all.extend(numbers([&second.event("message").await]));
    }
    assert_eq!(all, (3..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_comes_back_to_an_edge_that_was_killed() {
    let mut cluster = Cluster::start().await;
    let mut first = cluster.json("alice").await;
    let position = seen(&mut first, &cluster, 2).await;
    cluster.kill(Program::EdgeGateway);
    publish(&cluster, 2..5).await;
    cluster.start_again(Program::EdgeGateway).await;
    cluster.ready().await;

    let mut second = cluster.json("alice").await;
    let since = json!({"room": "lobby", "since": position});
    let back = second.request("join", since).await.unwrap();

    assert_eq!(back["recovered"], true, "{back}");
    assert_eq!(numbers(back["messages"].as_array().unwrap()), [2, 3, 4]);
    publish(&cluster, 5..6).await;
    assert_eq!(numbers([&second.event("message").await]), [5]);
}

#[tokio::test]
async fn a_log_that_began_anew_recovers_nothing_and_says_so() {
    let mut cluster = Cluster::start().await;
    let mut first = cluster.json("alice").await;
    let position = seen(&mut first, &cluster, 2).await;
    first.close().await;
    cluster.kill(Program::ChatService);
    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;
    publish(&cluster, 2..5).await;

    let mut second = cluster.json("alice").await;
    let since = json!({"room": "lobby", "since": position});
    let back = second.request("join", since).await.unwrap();

    assert_eq!(back["recovered"], false, "{back}");
    assert!(back["messages"].as_array().is_none_or(Vec::is_empty), "{back}");
    publish(&cluster, 5..6).await;
    assert_eq!(numbers([&second.event("message").await]), [5]);
}
