//! Pages of origins that may not use the edge: refused on every way in, also with the id of somebody's session.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use wtransport::error::ConnectingError;

use crate::support::{
    Edge, get,
    poller::{Poller, ok, request},
    webtransport::{Certificate, WebTransportClient},
};

const OURS: &str = "https://app.example";
const ALSO_OURS: &str = "http://[::1]:3000";
const FLAG: &str = "--edge-allowed-origin=https://app.example,http://[::1]:3000";
const WEBTRANSPORT: &str = "/socket.io/?EIO=4&transport=webtransport";

/// Origins that somebody might take for one of ours.
const HOSTILE: [&str; 24] = [
    "https://evil.example",
    "https://app.example.evil.example",
    "https://evilapp.example",
    "https://evil-app.example",
    "https://sub.app.example",
    "https://example",
    "https://app.exampl",
    "https://app.example.",
    "https://app.example/",
    "https://app.example:443",
    "https://app.example:8443",
    "http://app.example",
    "wss://app.example",
    "HTTPS://app.example",
    "https://APP.example",
    "https://app.example@evil.example",
    "https://evil.example#https://app.example",
    "https://app.example https://evil.example",
    "https://xn--pp-8ja.example",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]:3000",
    "http://[::ffff:127.0.0.1]:3000",
    "null",
    "*",
];

/// Every way in over HTTP: method, path and whether it asks for a WebSocket.
fn ways_in(session: &str) -> [(&'static str, String, bool); 9] {
    let socket_io = |rest: &str| format!("/socket.io/?EIO=4&transport={rest}");
    [
        ("GET", socket_io("polling"), false),
        ("GET", socket_io(&format!("polling&sid={session}")), false),
        ("POST", socket_io(&format!("polling&sid={session}")), false),
        ("OPTIONS", socket_io(&format!("polling&sid={session}")), false),
        ("GET", socket_io("websocket"), true),
        ("GET", socket_io(&format!("websocket&sid={session}")), true),
        ("GET", "/ws".to_owned(), true),
        ("POST", "/dev/token".to_owned(), false),
        ("GET", "/".to_owned(), false),
    ]
}

fn from_pages(
    origins: &[&str],
    (method, path, is_upgrade): &(&str, String, bool),
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(*method).uri(path).header("host", "edge");
    for origin in origins {
        builder = builder.header("origin", *origin);
    }
    if *is_upgrade {
        builder = builder
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    let body = if *method == "POST" { "40" } else { "" };
    builder.body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn hostile_origins_are_refused_on_every_way_in() {
    let edge = Edge::start(&[FLAG]).await;
    let victim = Poller::open(&edge).await;
    let ways = ways_in(&victim.session);

    for origin in HOSTILE {
        for way in &ways {
            let (status, body) = request(edge.address, from_pages(&[origin], way)).await;
            assert_eq!(status, 403, "{origin} {way:?}: {body}");
            assert_eq!(body, r#"{"code":4,"message":"Forbidden"}"#);
        }
    }
    for way in &ways {
        let (status, _) = request(edge.address, from_pages(&[OURS, OURS], way)).await;
        assert_eq!(status, 403, "two origins, {way:?}");
    }

    assert_eq!(victim.post("1").await, ok(), "the session is as it was");
    let metrics = get(edge.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_refused_origins_total"), "{metrics}");
}

#[tokio::test]
async fn listed_origins_and_clients_without_one_are_let_in() {
    // A poll is answered by the next ping at the latest.
    let edge = Edge::start(&[FLAG, "--edge-ping-interval=100ms"]).await;
    for origins in [&[OURS][..], &[ALSO_OURS], &[]] {
        let victim = Poller::open(&edge).await;
        for way in &ways_in(&victim.session) {
            let (status, _) = request(edge.address, from_pages(origins, way)).await;
            assert_ne!(status, 403, "{origins:?} {way:?}");
        }
    }
}

#[tokio::test]
async fn hostile_origins_are_refused_on_webtransport() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let flags = [&[FLAG][..], &flags.each_ref().map(String::as_str)].concat();
    let edge = Edge::start(&flags).await;
    let address = edge.webtransport.unwrap();
    let connect =
        |origin| WebTransportClient::connect_from(origin, address, &certificate, WEBTRANSPORT);

    for origin in HOSTILE {
        let refused = connect(Some(origin)).await.err();
        assert!(matches!(refused, Some(ConnectingError::SessionRejected)), "{origin} {refused:?}");
    }
    for origin in [Some(OURS), Some(ALSO_OURS), None] {
        let mut client = connect(origin).await.unwrap();
        client.send("0").await;
        assert!(client.text().await.starts_with("0{\"sid\":\""));
    }
}
