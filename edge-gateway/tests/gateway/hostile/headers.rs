//! What every answer says, which methods are taken where, and for which hosts.

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::Full;
use hyper::Response;

use crate::support::{
    Edge, get,
    poller::{Poller, respond},
    webtransport::{Certificate, WebTransportClient},
};

const UPGRADE: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn ask(
    edge: &Edge,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    respond(edge.address, request.body(Full::default()).unwrap()).await
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_answer_says_what_it_is_and_is_kept_by_nobody() {
    const TEXT: &str = "text/plain; charset=UTF-8";
    const NOTE: &str = "text/plain; charset=utf-8";
    const HTML: &str = "text/html; charset=utf-8";
    const JSON: &str = "application/json";
    let edge = Edge::start(&["--edge-cors-origin=https://app.example"]).await;
    let client = Poller::open(&edge).await;
    let session = client.path("polling");
    let plain: &[(&str, &str)] = &[("host", "edge")];
    let foreign: &[(&str, &str)] = &[("host", "edge"), ("origin", "https://evil.example")];
    let upgrade = &[&[("host", "edge")], &UPGRADE[..]].concat()[..];
    let opening = "/socket.io/?EIO=4&transport=polling";
    let rows = [
        (("GET", opening), plain, 200, TEXT),
        (("GET", opening), foreign, 200, TEXT),
        (("POST", &*session), plain, 200, HTML),
        (("PUT", &*session), plain, 400, JSON),
        (("POST", opening), plain, 400, JSON),
        (("GET", "/socket.io/?EIO=4&transport=x"), plain, 400, JSON),
        (("GET", "/socket.io/?EIO=4&transport=x"), upgrade, 400, HTML),
        (("GET", "/ws"), plain, 426, NOTE),
        (("POST", "/ws"), plain, 405, NOTE),
        (("TRACE", "/"), plain, 405, NOTE),
        (("GET", "/"), &[], 400, NOTE),
    ];

    for (asked, headers, status, content_type) in rows {
        let answer = ask(&edge, asked, headers).await;

        let head = answer.headers();
        assert_eq!(answer.status(), status, "{asked:?}");
        assert_eq!(text(head, header::CONTENT_TYPE), content_type, "{asked:?}");
        assert_eq!(text(head, header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{asked:?}");
        assert_eq!(text(head, header::CACHE_CONTROL), "no-store", "{asked:?}");
        assert!(!head.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{asked:?}");
        for name in ["server", "x-powered-by", "via", "set-cookie"] {
            assert!(!head.contains_key(name), "{asked:?}: {name}");
        }
    }
    let preflight = ask(&edge, ("OPTIONS", opening), foreign).await;
    assert_eq!(preflight.status(), 204);
    assert_eq!(text(preflight.headers(), header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert!(!preflight.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let page = ask(&edge, ("GET", "/"), plain).await;
    assert_eq!(text(page.headers(), header::X_CONTENT_TYPE_OPTIONS), "nosniff");
}

#[tokio::test]
async fn only_methods_that_mean_something_are_taken() {
    let edge = Edge::start(&[]).await;
    let session = Poller::open(&edge).await.path("polling");
    let opening = "/socket.io/?EIO=4&transport=polling";
    // Engine.IO clients are told by 400, as by the reference server.
    let rows = [
        (&session[..], &["PUT", "PATCH", "DELETE", "HEAD", "PROPFIND", "X"][..], 400),
        (opening, &["POST", "PUT", "PATCH", "DELETE", "HEAD", "PROPFIND", "X"], 400),
        ("/ws", &["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "X"], 405),
        ("/", &["POST", "PUT", "DELETE", "PROPFIND", "X"], 404),
    ];
    for (path, methods, status) in rows {
        for method in methods {
            let answer = ask(&edge, (method, path), &[("host", "edge")]).await;
            assert_eq!(answer.status(), status, "{method} {path}");
            if status == 405 {
                assert_eq!(text(answer.headers(), header::ALLOW), "GET", "{method} {path}");
            }
        }
        let secret = [("host", "edge"), ("cookie", "secret"), ("authorization", "secret")];
        let traced = ask(&edge, ("TRACE", path), &secret).await;
        assert_eq!(traced.status(), 405, "{path}");
        assert_eq!(text(traced.headers(), header::ALLOW), "GET, HEAD, POST, OPTIONS");
        assert!(!String::from_utf8_lossy(traced.body()).contains("secret"));
    }
    let tunnel = ask(&edge, ("CONNECT", "example.com:443"), &[("host", "example.com:443")]).await;
    assert_eq!(tunnel.status(), 405);
}

#[tokio::test]
async fn only_listed_hosts_are_served() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let listed = "--edge-allowed-host=chat.example,localhost:3000";
    let edge = Edge::start(&[&[listed][..], &flags.each_ref().map(String::as_str)].concat()).await;
    let opening = "/socket.io/?EIO=4&transport=polling";
    for host in ["chat.example", "chat.example:8443", "CHAT.EXAMPLE", "localhost:3000"] {
        assert_eq!(ask(&edge, ("GET", opening), &[("host", host)]).await.status(), 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1:3000", "localhost", "chat.example.evil.example"] {
        for path in [opening, "/ws", "/"] {
            let headers = [&[("host", host)], &UPGRADE[..]].concat();
            for headers in [&headers[..], &headers[..1]] {
                let answer = ask(&edge, ("GET", path), headers).await;
                assert_eq!(answer.status(), 421, "{host} {path}");
            }
        }
    }
    // A request line that names another host than the header does.
    let target = format!("http://chat.example{opening}");
    let same = ask(&edge, ("GET", &target), &[("host", "chat.example")]).await;
    assert_eq!(same.status(), 200);
    let other = ask(&edge, ("GET", &target), &[("host", "evil.example")]).await;
    assert_eq!(other.status(), 421);
    let target = format!("http://evil.example{opening}");
    let other = ask(&edge, ("GET", &target), &[("host", "chat.example")]).await;
    assert_eq!(other.status(), 400);

    let address = edge.webtransport.unwrap();
    let path = "/socket.io/?EIO=4&transport=webtransport";
    assert!(WebTransportClient::connect(address, &certificate, path).await.is_err());
    let metrics = get(edge.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_refused_hosts_total"), "{metrics}");
}
