//! WebSockets that arrive at another edge than the one that has their session.

use proto::edge::v1::{Close, instruction::Kind};

use super::{Pair, ack, emit};
use crate::support::{
    Client, Edge, get,
    poller::{Poller, bad_request},
};

#[tokio::test]
async fn an_upgrade_at_another_edge_takes_everything_along() {
    let mut pair = Pair::start(&[]).await;
    let (client, socket, elsewhere) = pair.client().await;
    elsewhere.post("42/chat,1[\"a\"]\x1e42/chat,2[\"b\"]").await;
    let mut websocket = elsewhere.websocket().await;

    let (poll, ()) = tokio::join!(client.get(), async {
        websocket.send("2probe").await;
        assert_eq!(websocket.text().await, "3probe");
    });
    assert_eq!(poll, (200, "6".to_owned()), "the poll makes room");
    let text = "x".repeat(500_000);
    let instructions =
        [ack(socket, 1, "[1]".to_owned()), emit(socket, "big", format!("[\"{text}\"]"))];
    pair.stream.instruct(instructions).await;
    websocket.send("5").await;
    assert_eq!(websocket.text().await, "43/chat,1[1]");
    assert_eq!(websocket.text().await, format!("42/chat,[\"big\",\"{text}\"]"));

    pair.stream.instruct([ack(socket, 2, "[2]".to_owned())]).await;
    assert_eq!(websocket.text().await, "43/chat,2[2]");
    websocket.send(&format!("42/chat,[\"{}\",\"{text}\"]", "over")).await;
    for name in ["a", "b", "over"] {
        assert_eq!(pair.stream.event().await.1.name, name);
    }
    assert_eq!(elsewhere.get().await, bad_request());
    assert!(tunnels(&pair.other).await >= 1.0);

    websocket.stream.close(None).await.unwrap();
    assert_eq!(pair.stream.closed().await, (socket, "closed_by_client".to_owned()));
    assert_eq!(websocket.close_code().await, Some(1000));
}

#[tokio::test]
async fn an_owner_ends_a_websocket_at_another_edge_in_good_order() {
    let mut pair = Pair::start(&[]).await;
    let (_, socket, elsewhere) = pair.client().await;
    let mut websocket = upgraded(&elsewhere).await;

    let close = Close { sockets: vec![socket] };
    pair.stream.instruct([Kind::Close(close)]).await;

    assert_eq!(websocket.close_code().await, Some(4007));
}

#[tokio::test]
async fn a_client_that_vanishes_behind_another_edge_is_noticed() {
    let mut pair = Pair::start(&[]).await;
    let (_, socket, elsewhere) = pair.client().await;
    let websocket = upgraded(&elsewhere).await;

    drop(websocket);

    assert_eq!(pair.stream.closed().await, (socket, "transport_closed".to_owned()));
}

#[tokio::test]
async fn a_second_websocket_at_another_edge_is_closed() {
    let mut pair = Pair::start(&[]).await;
    let (client, _, elsewhere) = pair.client().await;
    let _first = upgraded(&client).await;

    let mut second = elsewhere.websocket().await;
    second.send("2probe").await;

    assert_eq!(second.close_code().await, None);
}

#[tokio::test]
async fn an_edge_that_is_stopped_has_the_websockets_closed_that_it_carried() {
    let mut pair = Pair::start(&["--edge-drain-timeout=100ms"]).await;
    let (_, socket, elsewhere) = pair.client().await;
    let mut websocket = upgraded(&elsewhere).await;

    pair.other.stop();

    assert_eq!(websocket.close_code().await, Some(4000));
    assert_eq!(pair.stream.closed().await, (socket, "shutting_down".to_owned()));
    pair.other.stopped().await;
}

/// The WebSocket that has taken a session over.
async fn upgraded(client: &Poller) -> Client {
    let mut websocket = client.websocket().await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    websocket.send("5").await;
    // What follows the upgrade is answered by the session.
    websocket.send("40/nope,").await;
    assert_eq!(websocket.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
    websocket
}

async fn tunnels(edge: &Edge) -> f64 {
    let metrics = get(edge.ops, "/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("sockeye_edge_tunnels "));
    line.unwrap().parse().unwrap()
}
