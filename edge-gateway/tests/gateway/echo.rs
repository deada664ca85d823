//! Engine.IO and WebSocket alone, without anything above them.

use crate::support::{
    Client,
    echo::{Echo, WEBSOCKET},
    poller::{bad_request, ok, unknown_session},
};

/// The timeout is not so short that a busy machine is taken for a client that is gone.
const SHORT_HEARTBEATS: [&str; 2] = ["--edge-ping-interval=150ms", "--edge-ping-timeout=2s"];

#[tokio::test]
async fn a_handshake_tells_what_a_client_must_know() {
    let echo = Echo::start(&["--edge-ping-interval=300ms", "--edge-ping-timeout=200ms"]).await;
    let told = |handshake: &str| {
        let mut open: serde_json::Value = serde_json::from_str(&handshake[1..]).unwrap();
        assert!(open["sid"].take().is_string(), "{handshake}");
        open
    };
    let expected = |upgrades: &[&str]| {
        serde_json::json!({
            "sid": null, "upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000,
        })
    };

    let (_, polling) = echo.unopened().get().await;
    assert_eq!(told(&polling), expected(&["websocket"]));
    let mut websocket = Client::connect(echo.address, WEBSOCKET).await;
    assert_eq!(told(&websocket.text().await), expected(&[]));
}

#[tokio::test]
async fn packets_come_back_as_they_were_posted() {
    let echo = Echo::start(&[]).await;
    let client = echo.polling().await;

    for body in ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA==", "4", "b"] {
        assert_eq!(client.post(body).await, ok(), "{body:?}");
        assert_eq!(client.get().await, (200, body.to_owned()));
    }
}

#[tokio::test]
async fn packets_come_back_as_they_were_sent() {
    let echo = Echo::start(&[]).await;
    let mut client = echo.websocket().await;

    client.send("4hello").await;
    client.send_binary(&[1, 2, 3, 4]).await;
    client.send("bAQIDBA==").await;

    assert_eq!(client.text().await, "4hello");
    assert_eq!(client.binary().await, [1, 2, 3, 4][..]);
    assert_eq!(client.binary().await, [1, 2, 3, 4][..]);
}

#[tokio::test]
async fn a_packet_that_is_none_ends_the_session() {
    let echo = Echo::start(&[]).await;
    let client = echo.polling().await;

    assert_eq!(client.post("abc").await, ok());
    assert_eq!(client.get().await, unknown_session());
    for frame in ["abc", "", "7", "2"] {
        let mut client = echo.websocket().await;
        client.send(frame).await;
        assert_eq!(client.close_code().await, Some(4500), "{frame:?}");
    }
}

#[tokio::test]
async fn a_client_that_answers_pings_is_kept_on_either_transport() {
    let echo = Echo::start(&SHORT_HEARTBEATS).await;
    let polling = echo.polling().await;
    let mut websocket = echo.websocket().await;

    for _ in 0..3 {
        assert_eq!(polling.get().await, (200, "2".to_owned()));
        assert_eq!(polling.post("3").await, ok());
        assert_eq!(websocket.text().await, "2");
        websocket.send("3").await;
    }
    websocket.send("4alive").await;
    assert_eq!(websocket.text().await, "4alive");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up_on_either_transport() {
    let echo = Echo::start(&SHORT_HEARTBEATS).await;
    let polling = echo.polling().await;
    let mut websocket = echo.websocket().await;

    assert_eq!(polling.get().await, (200, "2".to_owned()));
    assert_eq!(websocket.until_its_end().await, (vec!["2".to_owned()], Some(4002)));
    let mut after = polling.get().await;
    if after == (200, "1".to_owned()) {
        // It came a moment before the end.
        after = polling.get().await;
    }
    assert_eq!(after, unknown_session());
}

#[tokio::test]
async fn a_close_packet_ends_the_session_on_either_transport() {
    let echo = Echo::start(&[]).await;
    let polling = echo.polling().await;
    let mut websocket = echo.websocket().await;

    let (poll, post) = tokio::join!(polling.get(), polling.post("1"));
    assert_eq!((poll, post), ((200, "6".to_owned()), ok()));
    assert_eq!(polling.get().await, unknown_session());
    websocket.send("1").await;
    assert_eq!(websocket.close_code().await, Some(1000));
}

#[tokio::test]
async fn after_an_upgrade_the_session_is_on_its_websocket_only() {
    let echo = Echo::start(&[]).await;
    let polling = echo.polling().await;
    let mut websocket = polling.websocket().await;

    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    assert_eq!(polling.get().await, (200, "6".to_owned()));
    websocket.send("5").await;
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");

    assert_eq!(polling.get().await, bad_request());
    assert_eq!(polling.post("4late").await, bad_request());
    assert_eq!(polling.websocket().await.close_code().await, None);
    websocket.send("4still there").await;
    assert_eq!(websocket.text().await, "4still there");
}

#[tokio::test]
async fn frames_come_back_as_they_were_sent() {
    let echo = Echo::start(&[]).await;
    let mut client = Client::connect(echo.address, "/echo").await;

    client.send("").await;
    client.send("κόσμε").await;
    client.send_binary(&[0, 255]).await;

    assert_eq!(client.text().await, "");
    assert_eq!(client.text().await, "κόσμε");
    assert_eq!(client.binary().await, [0, 255][..]);
}
