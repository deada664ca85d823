//! What the reference server answers to requests and packets, good and bad, one by one.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::Full;
use hyper::{Request, Response};
use tokio::io::AsyncReadExt;

use crate::support::{
    Client, Edge,
    poller::{Poller, bad_request, ok, request, respond, unknown_session},
    within,
};

const ORIGIN: &str = "https://page.example";

const UPGRADE: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn edge() -> Edge {
    Edge::start(&["--edge-cors-origin=https://page.example"]).await
}

async fn ask(
    edge: &Edge,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Bytes> {
    let mut request =
        Request::builder().method(method).uri(path).header("host", "a").header("origin", ORIGIN);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    respond(edge.address, request.body(Full::from(body.to_owned())).unwrap()).await
}

fn header(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_handshake_that_cannot_be_served_gets_the_code_that_says_why() {
    const TRANSPORT: &str = r#"{"code":0,"message":"Transport unknown"}"#;
    const SESSION: &str = r#"{"code":1,"message":"Session ID unknown"}"#;
    const METHOD: &str = r#"{"code":2,"message":"Bad handshake method"}"#;
    const BAD: &str = r#"{"code":3,"message":"Bad request"}"#;
    const VERSION: &str = r#"{"code":5,"message":"Unsupported protocol version"}"#;
    let edge = edge().await;
    let cases = [
        ("GET", "", TRANSPORT),
        ("GET", "EIO=4", TRANSPORT),
        ("GET", "EIO=4&transport=abc", TRANSPORT),
        ("GET", "EIO=4&transport=constructor", TRANSPORT),
        ("GET", "EIO=4&transport=__proto__", TRANSPORT),
        ("GET", "EIO=4&transport=webtransport", TRANSPORT),
        ("GET", "transport=polling", VERSION),
        ("GET", "EIO=abc&transport=polling", VERSION),
        ("GET", "EIO=5&transport=polling", VERSION),
        ("GET", "EIO=4&transport=websocket", BAD),
        ("POST", "EIO=4&transport=polling", METHOD),
        ("PUT", "EIO=4&transport=polling", METHOD),
        ("PATCH", "EIO=4&transport=polling", METHOD),
        ("DELETE", "EIO=4&transport=polling", METHOD),
        ("HEAD", "EIO=4&transport=polling", ""),
        ("GET", "EIO=4&transport=polling&sid=unknownunknownunkno", SESSION),
        ("POST", "EIO=4&transport=polling&sid=unknownunknownunkno", SESSION),
    ];

    for (method, query, body) in cases {
        let answer = ask(&edge, method, &format!("/socket.io/?{query}"), &[], "").await;

        assert_eq!(answer.status(), 400, "{method} {query}");
        assert_eq!(answer.body()[..], *body.as_bytes(), "{method} {query}");
        assert_eq!(header(answer.headers(), header::CONTENT_TYPE), "application/json");
        // A page of another origin may read why it is refused.
        assert_eq!(header(answer.headers(), header::ACCESS_CONTROL_ALLOW_ORIGIN), ORIGIN);
        assert_eq!(header(answer.headers(), header::VARY), "Origin");
    }
}

#[tokio::test]
async fn a_websocket_handshake_that_cannot_be_served_gets_the_message_alone() {
    let edge = edge().await;
    let cases = [
        ("EIO=4", "Transport unknown"),
        ("EIO=4&transport=abc", "Transport unknown"),
        ("transport=websocket", "Unsupported protocol version"),
        ("EIO=5&transport=websocket", "Unsupported protocol version"),
        ("EIO=4&transport=polling", "Bad request"),
        ("EIO=4&transport=websocket&sid=unknownunknownunkno", "Session ID unknown"),
    ];

    for (query, message) in cases {
        let answer = ask(&edge, "GET", &format!("/socket.io/?{query}"), &UPGRADE, "").await;

        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (400, message.as_bytes()));
        assert_eq!(header(answer.headers(), header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(answer.headers(), header::CONNECTION), "close");
    }
}

#[tokio::test]
async fn a_handshake_is_served_whatever_else_is_in_its_query_or_path() {
    let edge = edge().await;
    for path in [
        "/socket.io/?EIO=4&transport=polling",
        "/socket.io/?EIO=4&transport=polling&b64=1&t=abc&x=%26y",
        "/socket.io/?EIO=4&EIO=4&transport=polling",
        "/socket.io/?EIO=4&transport=polling&transport=polling",
        "/socket.io/foo?EIO=4&transport=polling",
        "/socket.io/foo/?EIO=4&transport=polling",
    ] {
        let answer = ask(&edge, "GET", path, &[], "").await;

        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.body().starts_with(b"0{\"sid\":\""), "{path}");
        assert_eq!(header(answer.headers(), header::CONTENT_TYPE), "text/plain; charset=UTF-8");
        assert_eq!(header(answer.headers(), header::CACHE_CONTROL), "no-store");
    }
    for path in ["/socket.io", "/SOCKET.IO/", "/other/", "/"] {
        let answer = ask(&edge, "GET", &format!("{path}?EIO=4&transport=polling"), &[], "").await;
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_with_and_without_a_session() {
    let edge = edge().await;
    let client = Poller::open(&edge).await;
    for path in [client.path("polling"), "/socket.io/?EIO=4&transport=polling".to_owned()] {
        let asks = [("access-control-request-headers", "content-type")];

        let answer = ask(&edge, "OPTIONS", &path, &asks, "").await;

        let headers = answer.headers();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (204, 0));
        let methods = header(headers, header::ACCESS_CONTROL_ALLOW_METHODS);
        assert_eq!(methods, "GET,HEAD,PUT,PATCH,POST,DELETE");
        assert_eq!(header(headers, header::ACCESS_CONTROL_ALLOW_HEADERS), "content-type");
        assert_eq!(header(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS), "true");
        assert_eq!(header(headers, header::VARY), "Origin, Access-Control-Request-Headers");
    }
    assert_eq!(client.post("3").await, ok(), "the session does not mind");
}

#[tokio::test]
async fn a_session_on_a_websocket_cannot_be_polled() {
    let edge = edge().await;
    let mut websocket = edge.websocket("/socket.io/?EIO=4&transport=websocket").await;
    let open: serde_json::Value = serde_json::from_str(&websocket.text().await[1..]).unwrap();
    let poller = Poller::of(&edge, open["sid"].as_str().unwrap());

    assert_eq!(poller.get().await, bad_request());
    assert_eq!(poller.post("40").await, bad_request());
    for method in ["PUT", "DELETE"] {
        let answer = request(edge.address, poller.request(method, "")).await;
        assert_eq!(answer, bad_request(), "{method}");
    }

    websocket.send("40/nope,").await;
    assert_eq!(websocket.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
}

/// What becomes of a session by what was posted.
enum Then {
    LivesOn,
    /// Its next poll is told of the end.
    IsClosed,
    /// Nobody is told.
    IsGone,
}

#[tokio::test]
async fn what_is_posted_decides_over_the_session() {
    use Then::{IsClosed, IsGone, LivesOn};
    let edge = edge().await;
    let cases = [
        ("3", LivesOn),
        ("3x", LivesOn),
        ("5", LivesOn),
        ("6", LivesOn),
        ("0{}", LivesOn),
        ("", IsGone),
        ("abc", IsGone),
        ("7", IsGone),
        ("2", IsGone),
        ("2probe", IsGone),
        ("40\x1e", IsGone),
        ("\x1e40", IsGone),
        ("40\x1e\x1e40", IsGone),
        ("4abc", IsClosed),
        ("42[\"before CONNECT\"]", IsClosed),
        ("bAQID", IsClosed),
        ("b", IsClosed),
        ("b!!!", IsClosed),
    ];

    for (body, then) in cases {
        let client = Poller::open(&edge).await;
        let posted = respond(edge.address, client.request("POST", body)).await;

        assert_eq!((posted.status().as_u16(), &posted.body()[..]), (200, &b"ok"[..]), "{body:?}");
        assert_eq!(header(posted.headers(), header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(posted.headers(), header::CACHE_CONTROL), "no-store");
        match then {
            LivesOn => {
                assert_eq!(client.post("40/nope,").await, ok(), "{body:?}");
                let answer = r#"44/nope,{"message":"Invalid namespace"}"#.to_owned();
                assert_eq!(client.get().await, (200, answer), "{body:?}");
            }
            IsClosed => {
                assert_eq!(client.get().await, (200, "1".to_owned()), "{body:?}");
                assert_eq!(client.get().await, unknown_session(), "{body:?}");
            }
            IsGone => assert_eq!(client.get().await, unknown_session(), "{body:?}"),
        }
    }
}

#[tokio::test]
async fn only_one_content_type_is_not_taken_for_text() {
    let edge = edge().await;
    for content_type in ["text/plain", "application/json", "application/x-www-form-urlencoded"] {
        let client = Poller::open(&edge).await;
        let path = client.path("polling");
        let posted = ask(&edge, "POST", &path, &[("content-type", content_type)], "3").await;
        assert_eq!(posted.status(), 200, "{content_type}");
        assert_eq!(client.post("3").await, ok(), "{content_type}");
    }

    let client = Poller::open(&edge).await;
    let octets = [("content-type", "application/octet-stream")];
    let refused = ask(&edge, "POST", &client.path("polling"), &octets, "3").await;
    assert_eq!((refused.status().as_u16(), refused.body().len()), (400, 0));
    assert_eq!(client.get().await, unknown_session());
}

#[tokio::test]
async fn two_posts_at_once_end_the_session() {
    let edge = edge().await;
    let client = Poller::open(&edge).await;
    let mut first = client.begin("POST", "40", 1).await;
    // Whoever is answered now comes after the post has begun.
    Poller::open(&edge).await;

    assert_eq!(client.post("40").await, (400, String::new()));

    let mut rest = Vec::new();
    // Cut, with or without a reset.
    within("the end of the first", first.read_to_end(&mut rest)).await.ok();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(client.get().await, unknown_session());
}

#[tokio::test]
async fn a_frame_that_is_no_packet_of_a_client_closes_the_websocket() {
    let edge = edge().await;
    for frame in ["", "7", "abc", "2", "2probe"] {
        let mut client = edge.socket_io().await;
        client.send(frame).await;
        assert_eq!(client.close_code().await, Some(4500), "{frame:?}");
    }
    for frame in [&b""[..], b"\x04\x01"] {
        let mut client = edge.socket_io().await;
        client.send_binary(frame).await;
        assert_eq!(client.close_code().await, Some(4500), "{frame:?}");
    }

    let mut client = edge.socket_io().await;
    for frame in ["3", "6", "5", "0", "40/nope,"] {
        client.send(frame).await;
    }
    assert_eq!(client.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
}

#[tokio::test]
async fn an_upgrade_may_do_without_its_probe() {
    let edge = edge().await;
    let client = Poller::open(&edge).await;
    let mut websocket = client.websocket().await;

    websocket.send("5").await;
    websocket.send("40/nope,").await;

    assert_eq!(websocket.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
    assert_eq!(client.get().await, bad_request());
}

#[tokio::test]
async fn the_first_subprotocol_is_selected_and_no_extension() {
    let edge = edge().await;
    for (path, offered, selected) in [
        ("/socket.io/?EIO=4&transport=websocket", "a, b", "a"),
        ("/ws", "chat.v1", "chat.v1"),
        ("/ws", "", ""),
        ("/ws", "not a token, b", ""),
    ] {
        let offers = [
            ("sec-websocket-protocol", offered),
            ("sec-websocket-extensions", "permessage-deflate"),
        ];
        let answer = ask(&edge, "GET", path, &[&UPGRADE[..], &offers].concat(), "").await;

        assert_eq!(answer.status(), 101, "{offered}");
        assert_eq!(header(answer.headers(), header::SEC_WEBSOCKET_PROTOCOL), selected);
        assert!(!answer.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS));
    }
    // A client that insists is content.
    let url = format!("ws://{}/ws", edge.address);
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
            .unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "a, b".parse().unwrap());
    Client::upgraded(request).await;
}
