//! Namespaces with terms of their own: authentication, origins, limits, what the backend is told.

use proto::edge::v1::{
    Accept, Audience, Disconnect, Emit, Field, Handshake, Join, Welcome, edge_event,
    instruction::Kind,
};

use crate::support::{Client, Edge};

#[tokio::test]
async fn without_tokens_the_backend_decides_by_what_the_client_says() {
    let (edge, mut stream) =
        Edge::with_terms("[namespace.'/']\nauthentication = 'none'", &[]).await;
    let mut client = edge.socket_io().await;

    client.send(r#"40{"token":"mine","n":1.0}"#).await;

    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.identity, None);
    let auth = r#"{"token":"mine","n":1.0}"#.into();
    assert_eq!(opened.handshake, Some(Handshake { auth, ..Handshake::default() }));
    // As with a gateway that looks at the token only after it has let the client in.
    let disconnect = Disconnect { sockets: vec![socket], close_connection: false };
    stream.instruct([Kind::Accept(Accept { socket }), Kind::Disconnect(disconnect)]).await;
    assert_eq!(client.text().await, format!("40{{\"sid\":\"{}\"}}", opened.socket_id));
    assert_eq!(client.text().await, "41");
    client.send("40").await;
    assert_eq!(stream.closed().await, (socket, "server_disconnect".to_owned()));
    let (_, again) = stream.opened().await;
    assert_eq!(again.handshake, Some(Handshake::default()), "no auth is no auth");
    // The other namespace still wants a token.
    client.send("40/chat,").await;
    let refused = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;
    assert_eq!(client.text().await, refused);
}

#[tokio::test]
async fn where_a_token_is_needed_the_backend_does_not_see_it() {
    let (edge, mut stream) = Edge::with_terms("", &[]).await;
    let mut client = edge.socket_io().await;

    client.send(r#"40/chat,{"token":"ok:alice","device":"phone"}"#).await;

    let auth = stream.opened().await.1.handshake.unwrap().auth;
    assert_eq!(auth, r#"{"device":"phone"}"#);
}

#[tokio::test]
async fn a_client_of_socket_io_2_says_in_queries_what_others_say_in_auth() {
    let terms = "[namespace.'/']\nauthentication = 'none'\n[namespace.'/chat']\nhandshake = { query = true }";
    let (edge, mut stream) = Edge::with_terms(terms, &["--edge-allow-eio3"]).await;
    let path = "/socket.io/?EIO=3&transport=websocket&token=ok%3Aalice&device=phone";
    let mut client = Client::connect(edge.address, path).await;
    client.text().await;

    let main = stream.opened().await.1;
    client.send("40/chat?page=a%20b,").await;
    let chat = stream.opened().await.1;
    client.send("41").await;
    stream.closed().await;
    client.send("40/?token=mine").await;
    let again = stream.opened().await.1;

    // Whoever needs no token is given none that was meant for others.
    assert_eq!((main.identity, main.handshake), (None, Some(Handshake::default())));
    assert_eq!(chat.identity.unwrap().subject, "alice");
    let handshake = chat.handshake.unwrap();
    assert_eq!(handshake.auth, r#"{"page":"a b"}"#);
    let field = |name: &str, value: &str| Field { name: name.to_owned(), value: value.to_owned() };
    let query = [field("EIO", "3"), field("transport", "websocket"), field("device", "phone")];
    assert_eq!(handshake.query, query);
    assert_eq!(again.handshake.unwrap().auth, r#"{"token":"mine"}"#);
}

#[tokio::test]
async fn plain_json_clients_enter_without_a_token_where_none_is_needed() {
    let (edge, mut stream) =
        Edge::with_terms("[namespace.'/chat']\nauthentication = 'none'", &[]).await;
    let mut client = edge.websocket("/ws").await;

    let (socket, opened) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;

    assert_eq!(opened.identity, None);
    let connected =
        format!(r#"{{"event":"connected","data":{{"socket":"{}"}}}}"#, opened.socket_id);
    assert_eq!(client.text().await, connected);
    client.send(r#"{"event":"hello"}"#).await;
    assert_eq!(stream.event().await.1.name, "hello");
}

#[tokio::test]
async fn a_backend_is_told_of_the_handshake_what_the_settings_say() {
    let terms = "[namespace.'/chat']\nhandshake = { query = true, address = true, headers = ['user-agent'] }";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let headers = [("user-agent", "test"), ("cookie", "secret")];
    let mut client =
        edge.websocket_with("/socket.io/?EIO=4&transport=websocket&a=%26+b", &headers).await;
    client.text().await;

    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;

    let handshake = stream.opened().await.1.handshake.unwrap();
    let field = |name: &str, value: &str| Field { name: name.to_owned(), value: value.to_owned() };
    assert_eq!(handshake.headers, [field("user-agent", "test")]);
    assert_eq!(handshake.address, "127.0.0.1");
    let query = [field("EIO", "4"), field("transport", "websocket"), field("a", "& b")];
    assert_eq!(handshake.query, query);
    client.send(r#"40{"token":"ok:alice"}"#).await;
    assert_eq!(stream.opened().await.1.handshake, Some(Handshake::default()));
}

#[tokio::test]
async fn pages_of_other_origins_do_not_enter() {
    let terms = "[namespace.'/chat']\norigins = ['https://ours.example']";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let refused = r#"44/chat,{"message":"Forbidden","data":{"code":"origin_not_allowed"}}"#;
    let from = async |origin: &str| {
        let path = "/socket.io/?EIO=4&transport=websocket";
        let mut client = edge.websocket_with(path, &[("origin", origin)]).await;
        client.text().await;
        client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
        client
    };

    assert_eq!(from("https://evil.example").await.text().await, refused);
    let _ours = from("https://ours.example").await;
    stream.opened().await;
    edge.in_chat(&mut stream, "no page at all").await;

    let json = [("origin", "https://evil.example"), ("authorization", "Bearer ok:alice")];
    let mut json = edge.websocket_with("/ws", &json).await;
    let exception = json.text().await;
    assert!(exception.contains(r#""code":"refused""#), "{exception}");
    assert_eq!(json.close_code().await, Some(4501));
}

#[tokio::test]
async fn a_namespace_may_take_fewer_events_than_the_connection() {
    let terms = "[namespace.'/chat']\nevents_per_second = 1\nevents_burst = 1";
    let (edge, mut stream) = Edge::with_terms(terms, &["--edge-events-burst=1000"]).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;

    client.send(r#"42/chat,1["one"]"#).await;
    client.send(r#"42/chat,2["two"]"#).await;

    assert_eq!(stream.event().await.1.name, "one");
    let refused = client.text().await;
    assert!(refused.starts_with(r#"43/chat,2[{"error":{"code":"rate_limited""#), "{refused}");
}

#[tokio::test]
async fn who_leaves_a_namespace_and_comes_back_has_no_new_allowance() {
    let terms = "[namespace.'/chat']\nevents_per_second = 1\nevents_burst = 1";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    client.send(r#"42/chat,["one"]"#).await;
    assert_eq!(stream.event().await.1.name, "one");

    client.send("41/chat").await;
    stream.closed().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    client.text().await;
    client.send(r#"42/chat,2["two"]"#).await;

    let refused = client.text().await;
    assert!(refused.starts_with(r#"43/chat,2[{"error":{"code":"rate_limited""#), "{refused}");
}

#[tokio::test]
async fn a_socket_may_be_disconnected_together_with_its_connection() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;

    let disconnect = Disconnect { sockets: vec![socket], close_connection: true };
    stream.instruct([Kind::Disconnect(disconnect)]).await;

    assert_eq!(client.text().await, "41/chat,");
    assert_eq!(client.close_code().await, Some(4007));
}

#[tokio::test]
async fn a_backend_that_asks_for_it_hears_which_rooms_a_socket_was_in() {
    let mut edge = Edge::start(&[]).await;
    let welcome =
        Welcome { backend_id: "backend-1".to_owned(), rooms_on_close: true, ..Welcome::default() };
    let mut stream = edge.stream().await.welcome_with(welcome).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let join = |room: &str| {
        Kind::Join(Join { sockets: vec![socket], room: room.to_owned(), ..Join::default() })
    };
    let ping = Emit {
        audience: Some(Audience {
            namespace: "/chat".to_owned(),
            rooms: vec!["b".to_owned()],
            ..Audience::default()
        }),
        event: "in".to_owned(),
        args: "[]".into(),
        ..Emit::default()
    };
    stream.instruct([join("a"), join("b"), Kind::Emit(ping)]).await;
    assert_eq!(client.text().await, r#"42/chat,["in"]"#);

    drop(client);

    let Some(edge_event::Kind::Closed(closed)) = stream.next().await.kind else {
        panic!("the socket has closed")
    };
    assert_eq!(closed.rooms, ["a", "b"]);
}
