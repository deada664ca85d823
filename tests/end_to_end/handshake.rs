//! From the first byte to an entered namespace, and the heartbeat after it.

use serde_json::{Value, json};

use crate::support::{
    Cluster, HttpResponse, Incoming, SOCKET_IO_PATH, SocketIoClient, WebSocket, exchange, get,
};

async fn open_packet(cluster: &Cluster) -> Value {
    let mut socket = WebSocket::open(cluster.clients, SOCKET_IO_PATH, &[]).await;
    let Incoming::Text(text) = socket.next().await else { panic!("no open packet") };
    serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap()
}

#[tokio::test]
async fn the_open_packet_has_exactly_the_reference_servers_fields() {
    let cluster = Cluster::start().await;

    let mut open = open_packet(&cluster).await;
    let other = open_packet(&cluster).await;

    let id = open["sid"].take();
    assert!(id.as_str().is_some_and(|id| id.len() >= 20), "unguessable: {id}");
    assert_ne!(id, other["sid"]);
    let expected = json!({"sid": null, "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000});
    assert_eq!(open, expected);
}

#[tokio::test]
async fn a_connect_is_answered_with_a_public_id_that_is_not_the_sessions() {
    let cluster = Cluster::start().await;
    let mut socket = WebSocket::open(cluster.clients, SOCKET_IO_PATH, &[]).await;
    let Incoming::Text(open) = socket.next().await else { panic!("no open packet") };

    socket.send(format!("40/chat,{}", json!({"token": cluster.mint.token("alice")}))).await;

    let Incoming::Text(connected) = socket.next().await else { panic!("no CONNECT") };
    let auth: Value = serde_json::from_str(connected.strip_prefix("40/chat,").unwrap()).unwrap();
    assert_eq!(auth.as_object().unwrap().len(), 1, "{auth}");
    assert!(!open.contains(auth["sid"].as_str().unwrap()));
}

#[tokio::test]
async fn namespaces_share_a_connection_and_end_one_by_one() {
    let cluster = Cluster::start().await;
    let auth = json!({"token": cluster.mint.token("alice")});
    let mut client = SocketIoClient::open(cluster.clients).await;
    let in_main = client.connect("/", &auth).await.unwrap();
    let in_chat = client.connect("/chat", &auth).await.unwrap();

    assert_ne!(in_main, in_chat);
    client.send(r#"420["join","main hall"]"#).await;
    assert!(client.frame().await.starts_with(r#"430[{"room":"main hall""#));
    client.send(r#"42/chat,0["join","lobby"]"#).await;
    assert!(client.frame().await.starts_with(r#"43/chat,0[{"room":"lobby""#));

    client.send("41/chat,").await;
    client.send(r#"421["presence","main hall"]"#).await;
    assert!(client.frame().await.starts_with("431["));
    client.connect("/chat", &auth).await.expect("a namespace can be entered again");
}

#[tokio::test]
async fn rooms_of_one_name_in_two_namespaces_are_two_rooms() {
    let cluster = Cluster::start().await;
    let mut main = cluster.socket_io_in("/", "alice").await;
    let mut chat = cluster.socket_io_in("/chat", "bob").await;
    main.request("join", json!("lobby")).await;

    let joined = chat.request("join", json!("lobby")).await;

    assert_eq!(joined["members"].as_array().map(Vec::len), Some(1), "{joined}");
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_given_up() {
    let cluster = Cluster::builder()
        .edge("--edge-ping-interval", "1s")
        .edge("--edge-ping-timeout", "2s")
        .start()
        .await;
    let mut lively = cluster.socket_io("alice").await;
    let mut silent = WebSocket::open(cluster.clients, SOCKET_IO_PATH, &[]).await;
    silent.next().await;
    silent.send(format!("40/chat,{}", json!({"token": cluster.mint.token("bob")}))).await;
    silent.next().await;

    assert_eq!(silent.next().await, Incoming::Text("2".to_owned()));
    let last = tokio::select! {
        last = silent.next() => last,
        end = lively.closed() => panic!("the lively one ended: {end:?}"),
    };

    assert_eq!(last, Incoming::Closed(Some(4002)));
    lively.request("join", json!("lobby")).await;
}

#[tokio::test]
async fn a_client_that_enters_no_namespace_is_closed_in_time() {
    let cluster = Cluster::builder().edge("--edge-connect-timeout", "2s").start().await;
    let mut idle = SocketIoClient::open(cluster.clients).await;
    let mut refused = SocketIoClient::open(cluster.clients).await;

    refused.send("40/nope,").await;
    let (frames, code) = refused.closed().await;

    assert_eq!(idle.closed().await, (vec![], Some(4003)));
    assert_eq!(code, Some(4003), "a refusal does not stop the clock");
    assert_eq!(frames, [r#"44/nope,{"message":"Invalid namespace"}"#]);
}

#[tokio::test]
async fn requests_that_are_no_handshake_get_the_reference_servers_errors() {
    let cluster = Cluster::start().await;
    let cases = [
        (
            "/socket.io/?EIO=4&transport=carrier-pigeon",
            400,
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        ("/socket.io/?EIO=4", 400, r#"{"code":0,"message":"Transport unknown"}"#),
        (
            "/socket.io/?EIO=4&transport=websocket&sid=unknown",
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        ("/socket.io/?EIO=4&transport=websocket", 400, r#"{"code":3,"message":"Bad request"}"#),
    ];
    for (path, status, body) in cases {
        let response = get(cluster.clients, path).await;
        assert_eq!((response.status, response.body.as_str()), (status, body), "{path}");
    }
    assert_eq!(get(cluster.clients, "/nowhere").await.status, 404);
}

fn upgrade_request(path: &str, hosts: &[&str]) -> String {
    let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\n{hosts}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let cluster = Cluster::start().await;

    for path in [SOCKET_IO_PATH, "/ws"] {
        for hosts in [&[] as &[&str], &["one", "two"], &["one", "one"]] {
            let answer = exchange(cluster.clients, upgrade_request(path, hosts).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path} {hosts:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_refused_upgrade_closes_the_connection() {
    let cluster = Cluster::start().await;
    let smuggled =
        "GET /socket.io/?EIO=4&transport=polling&smuggled HTTP/1.1\r\nHost: inner\r\n\r\n";

    for path in [
        "/socket.io/?EIO=3&transport=websocket",
        "/socket.io/?EIO=4&transport=websocket&sid=unknown",
        "/other",
    ] {
        let request = upgrade_request(path, &["gateway"]) + smuggled;
        let answer = exchange(cluster.clients, request.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer, then the end: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_refused() {
    let cluster = Cluster::start().await;
    let request = upgrade_request(SOCKET_IO_PATH, &["gateway"]);
    let request = request.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody");

    let answer = exchange(cluster.clients, request.as_bytes()).await;

    assert_eq!(HttpResponse::parse(&answer).status, 400, "{answer}");
}
