//! Each bound on what a client may do, and what happens at it.

use serde_json::{Value, json};

use crate::{
    echo_backend::EchoBackend,
    support::{Cluster, SocketIoClient},
};

const NAMESPACES_MAX: usize = 16;
const ROOMS_MAX: usize = 256;
const EVENT_NAME_BYTES_MAX: usize = 256;
/// An event that costs nothing to answer.
const CHEAP: &str = "unknown";

#[tokio::test]
async fn a_connection_is_in_sixteen_namespaces_and_no_more() {
    let echo = EchoBackend::start().await;
    let names: Vec<_> = (0..=NAMESPACES_MAX).map(|number| format!("/n{number}")).collect();
    let builder =
        names.iter().fold(Cluster::builder(), |builder, name| builder.route(name, echo.address()));
    let cluster = builder.start().await;
    let auth = json!({"token": cluster.mint.token("alice")});
    let mut client = SocketIoClient::open(cluster.clients).await;
    for name in &names[..NAMESPACES_MAX] {
        client.connect(name, &auth).await.unwrap();
    }

    let refused = client.connect(&names[NAMESPACES_MAX], &auth).await.unwrap_err();

    assert_eq!(
        refused,
        json!({"message": "Too many namespaces", "data": {"code": "namespace_limit"}})
    );
    let hits = cluster.metric("sockeye_edge_limit_hits_total", &["limit=\"namespaces\""]).await;
    assert_eq!(hits, Some(1.0));
    client.send("41/n0,").await;
    client.connect(&names[NAMESPACES_MAX], &auth).await.expect("there is room for one again");
}

#[tokio::test]
async fn a_socket_is_in_256_rooms_and_no_more() {
    let cluster = Cluster::builder()
        .edge("--edge-events-per-second", 100_000)
        .edge("--edge-events-burst", 100_000)
        .start()
        .await;
    let mut client = cluster.socket_io("alice").await;
    for number in 0..ROOMS_MAX {
        let joined = client.request("join", json!(format!("room {number}"))).await;
        assert_eq!(joined["room"], format!("room {number}"));
    }

    assert_eq!(client.request_error("join", json!("one more")).await, "room_limit");

    client.request("leave", json!("room 0")).await;
    client.request("join", json!("one more")).await;
}

#[tokio::test]
async fn a_socket_joins_so_many_rooms_at_once_and_no_more() {
    let cluster = Cluster::builder()
        .chat("--chat-joins-per-second=1")
        .chat("--chat-joins-burst=3")
        .start()
        .await;
    let mut client = cluster.socket_io("alice").await;
    let mut other = cluster.socket_io("alice").await;
    for number in 0..3 {
        client.request("join", json!(format!("room {number}"))).await;
    }

    assert_eq!(client.request_error("join", json!("one more")).await, "rate_limited");

    client.request("leave", json!("room 0")).await;
    other.request("join", json!("one more")).await;
}

#[tokio::test]
async fn an_event_name_has_its_length() {
    let cluster = Cluster::start().await;
    let mut client = cluster.socket_io("alice").await;

    let longest = "n".repeat(EVENT_NAME_BYTES_MAX);
    assert_eq!(client.request_error(&longest, Value::Null).await, "unknown_event");
    client.emit(&format!("{longest}n"), Value::Null).await;

    assert_eq!(client.closed().await, (vec![], Some(4500)));
}

#[tokio::test]
async fn too_many_events_are_refused_and_then_the_connection_is_closed() {
    let cluster = Cluster::builder()
        .edge("--edge-events-per-second", 1)
        // The first is its CONNECT.
        .edge("--edge-events-burst", 6)
        .start()
        .await;
    let mut client = cluster.socket_io("mallory").await;
    let mut bystander = cluster.socket_io("alice").await;

    let mut codes = Vec::new();
    for _ in 0..8 {
        let mut answer = client.request(CHEAP, Value::Null).await;
        if answer["error"]["code"] == "rate_limited" {
            assert_eq!(answer["error"]["retryable"], true);
            assert!(
                answer["error"]["retry_after_ms"]
                    .as_u64()
                    .is_some_and(|wait| (1..=5000).contains(&wait))
            );
        }
        codes.push(answer["error"]["code"].take());
    }
    for _ in 0..20 {
        client.emit(CHEAP, Value::Null).await;
    }

    assert!(codes[..5].iter().all(|code| code == "unknown_event"), "{codes:?}");
    assert!(codes[5..].contains(&json!("rate_limited")), "{codes:?}");
    let (_, code) = client.closed().await;
    assert_eq!(code, Some(4006));
    let drops = cluster.metric("sockeye_edge_drops_total", &[r#"reason="rate_limited""#]).await;
    assert!(drops.is_some_and(|drops| drops >= 3.0), "{drops:?}");
    assert_eq!(bystander.request_error(CHEAP, Value::Null).await, "unknown_event");
}

#[tokio::test]
async fn garbage_counts_like_events() {
    let cluster = Cluster::builder()
        .edge("--edge-events-per-second", 1)
        .edge("--edge-events-burst", 5)
        .start()
        .await;
    let mut client = cluster.json("mallory").await;

    for _ in 0..20 {
        client.send("garbage").await;
    }

    let (messages, code) = client.closed().await;
    assert_eq!(code, Some(4006));
    assert!(messages.len() <= 10, "{}", messages.len());
}
