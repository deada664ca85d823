//! Entering a namespace, and leaving it.

use std::sync::atomic::Ordering;

use proto::edge::v1::{Accept, Close, Disconnect, Refuse, instruction::Kind};

use crate::support::{Edge, within};

const CHAT_OK: &str = r#"40/chat,{"token":"ok:alice"}"#;

#[tokio::test]
async fn a_client_enters_a_namespace_once_its_backend_accepts() {
    let (edge, mut stream) = Edge::attached(&[]).await;

    let (_client, _) = edge.in_chat(&mut stream, "alice").await;

    let mut other = edge.socket_io().await;
    other.send(CHAT_OK).await;
    let (_, opened) = stream.opened().await;
    let identity = opened.identity.unwrap();
    assert_eq!((identity.subject.as_str(), identity.issuer.as_str()), ("alice", "test"));
    assert_eq!(&identity.profile[..], br#"{"id":"alice"}"#);
    assert_eq!(opened.namespace, "/chat");
    assert!(!opened.announced && opened.memberships.is_empty());
}

#[tokio::test]
async fn the_backend_hears_of_the_end_with_its_reason() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut leaves, leaving) = edge.in_chat(&mut stream, "alice").await;
    let (vanishes, vanishing) = edge.in_chat(&mut stream, "bob").await;
    let (mut closes, closing) = edge.in_chat(&mut stream, "carol").await;

    leaves.send("41/chat,").await;
    assert_eq!(stream.closed().await, (leaving, "client_disconnect".to_owned()));
    drop(vanishes);
    assert_eq!(stream.closed().await, (vanishing, "transport_closed".to_owned()));
    closes.stream.close(None).await.unwrap();
    assert_eq!(stream.closed().await, (closing, "closed_by_client".to_owned()));

    leaves.send(CHAT_OK).await;
    assert_eq!(stream.opened().await.1.namespace, "/chat", "it may come back on its connection");
}

#[tokio::test]
async fn refusals_are_told_in_the_reference_servers_words() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    let unauthorized = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;

    for connect in ["40/chat,", r#"40/chat,{"token":"bad"}"#, r#"40/chat,{"token":7}"#] {
        client.send(connect).await;
        assert_eq!(client.text().await, unauthorized, "{connect}");
    }
    client.send("40/nope,").await;
    assert_eq!(client.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);

    client.send(CHAT_OK).await;
    let (socket, _) = stream.opened().await;
    let refuse = Refuse { socket, message: "Full".into(), data: r#"{"max":2}"#.into() };
    stream.instruct([Kind::Refuse(refuse)]).await;
    assert_eq!(client.text().await, r#"44/chat,{"message":"Full","data":{"max":2}}"#);

    client.send(CHAT_OK).await;
    stream.opened().await;
}

#[tokio::test]
async fn a_plain_json_client_without_a_good_token_is_told_and_closed() {
    let (edge, _stream) = Edge::attached(&[]).await;
    let error =
        r#"{"code":"unauthorized","message":"the token was not accepted","retryable":false}"#;

    for (request, answer) in [
        (
            r#"{"event":"auth","data":{"token":"bad"},"id":1}"#,
            format!(r#"{{"id":1,"error":{error}}}"#),
        ),
        (r#"{"event":"join","data":"lobby","id":"x"}"#, format!(r#"{{"id":"x","error":{error}}}"#)),
    ] {
        let mut client = edge.websocket("/ws").await;
        client.send(request).await;
        assert_eq!(client.text().await, answer);
        assert_eq!(client.close_code().await, Some(4501));
    }
}

#[tokio::test]
async fn while_nobody_can_verify_tokens_nobody_gets_in_and_the_live_stay() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut live, _) = edge.in_chat(&mut stream, "alice").await;
    edge.auth.down.store(true, Ordering::Relaxed);

    let mut newcomer = edge.socket_io().await;
    newcomer.send(CHAT_OK).await;
    live.send(r#"40{"token":"ok:alice"}"#).await;

    assert_eq!(newcomer.close_code().await, Some(1013), "closed, so that the client tries again");
    assert_eq!(
        live.text().await,
        r#"44{"message":"Unavailable","data":{"code":"unavailable","retryable":true}}"#
    );
    live.send(r#"42/chat,["still","here"]"#).await;
    assert_eq!(stream.event().await.1.name, "still");

    edge.auth.down.store(false, Ordering::Relaxed);
    edge.in_chat(&mut stream, "bob").await;
}

#[tokio::test]
async fn a_backend_may_disconnect_sockets_and_close_connections() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;

    stream
        .instruct([Kind::Disconnect(Disconnect { sockets: vec![socket], ..Disconnect::default() })])
        .await;
    assert_eq!(client.text().await, "41/chat,");
    assert_eq!(stream.closed().await, (socket, "server_disconnect".to_owned()));

    client.send(CHAT_OK).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    stream.instruct([Kind::Close(Close { sockets: vec![socket] })]).await;
    assert_eq!(client.close_code().await, Some(4007));
}

#[tokio::test]
async fn a_connection_ends_when_its_token_does() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"short:alice"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    assert!(client.text().await.starts_with(r#"42/chat,["auth:expiring""#));

    assert_eq!(client.close_code().await, Some(4004));
    assert_eq!(stream.closed().await, (socket, "token_expired".to_owned()));
}

#[tokio::test]
async fn nobody_is_let_in_whose_token_has_ended_meanwhile() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"over:alice"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;

    assert_eq!(client.close_code().await, Some(4004));
    assert_eq!(stream.closed().await, (socket, "token_expired".to_owned()));
}

#[tokio::test]
async fn who_enters_no_namespace_in_time_is_closed() {
    let (edge, _stream) = Edge::attached(&["--edge-connect-timeout=200ms"]).await;
    let mut socket_io = edge.socket_io().await;
    let mut json = edge.websocket("/ws").await;

    assert_eq!(socket_io.close_code().await, Some(4003));
    assert_eq!(json.close_code().await, Some(4003));
}

#[tokio::test]
async fn a_stopping_edge_closes_transports_and_sends_no_disconnect() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;

    edge.stop();

    assert_eq!(client.close_code().await, Some(4000));
    assert_eq!(stream.closed().await, (socket, "shutting_down".to_owned()));
    edge.stopped().await;
}

#[tokio::test]
async fn a_client_with_its_token_in_the_handshake_need_not_wait() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.websocket_as("/ws", "ok:alice").await;

    client.send(r#"{"event":"join","data":"lobby","id":1}"#).await;

    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.text().await.starts_with(r#"{"event":"connected""#));
    assert_eq!(stream.event().await.1.name, "join");
}

#[tokio::test]
async fn whoever_asks_again_and_again_is_verified_once_at_a_time() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;

    for _ in 0..30 {
        client.send(r#"40/chat,{"token":"held:alice"}"#).await;
        client.send("41/chat,").await;
    }
    client.send(r#"40{"token":"ok:alice"}"#).await;

    stream.opened().await;
    assert_eq!(edge.auth.held.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_verdict_on_a_token_that_was_withdrawn_concerns_nobody() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;

    client.send(r#"40/chat,{"token":"held:alice"}"#).await;
    client.send("41/chat,").await;
    client.send(r#"40/chat,{"token":"ok:bob"}"#).await;
    client.send(r#"40{"token":"ok:carol"}"#).await;
    assert_eq!(stream.opened().await.1.namespace, "/");
    edge.auth.release.send_replace(true);

    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.identity.unwrap().subject, "bob");
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.text().await.starts_with(r#"40/chat,{"sid""#));
}

#[tokio::test]
async fn a_question_that_is_lost_with_its_stream_is_asked_again() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"late:alice"}"#).await;
    edge.auth.is_held(1).await;

    edge.auth.cut.send_modify(|cuts| *cuts += 1);
    edge.auth.is_held(2).await;
    edge.auth.release.send_replace(true);

    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.identity.unwrap().subject, "alice");
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(client.text().await.starts_with(r#"40/chat,{"sid""#));
}

#[tokio::test]
async fn a_stream_of_questions_that_is_stuck_is_replaced() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"held:alice"}"#).await;
    edge.auth.is_held(1).await;

    let replaced = async {
        while edge.auth.ended.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the stream", replaced).await;

    let mut other = edge.socket_io().await;
    other.send(r#"40/chat,{"token":"ok:bob"}"#).await;
    assert_eq!(stream.opened().await.1.identity.unwrap().subject, "bob");
}

#[tokio::test]
async fn a_token_that_is_too_long_is_not_passed_on() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;

    client.send(&format!(r#"40/chat,{{"token":"ok:{}"}}"#, "a".repeat(8 * 1024))).await;

    let unauthorized = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;
    assert_eq!(client.text().await, unauthorized);
    client.send(CHAT_OK).await;
    assert_eq!(stream.opened().await.1.identity.unwrap().subject, "alice");
}

#[tokio::test]
async fn a_backend_may_close_the_connection_of_whom_it_cannot_let_in() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(CHAT_OK).await;
    let (socket, _) = stream.opened().await;

    stream.instruct([Kind::Close(Close { sockets: vec![socket] })]).await;

    assert_eq!(client.close_code().await, Some(4007));
    assert_eq!(stream.closed().await, (socket, "closed_by_backend".to_owned()));
}
