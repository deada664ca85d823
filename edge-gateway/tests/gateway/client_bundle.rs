//! The client's own bundle, as browsers load it.

use std::{fs, io::Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use http_body_util::Full;
use hyper::{Request, Response};
use tempfile::TempDir;

use crate::support::{Edge, poller::respond};

const FILES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// Large enough to be worth compressing.
fn content(name: &str) -> String {
    format!("/* {name} */").repeat(100)
}

async fn serving() -> (Edge, TempDir) {
    let folder = TempDir::new().unwrap();
    for name in FILES {
        fs::write(folder.path().join(name), content(name)).unwrap();
    }
    fs::write(folder.path().join("secret.js"), "not for clients").unwrap();
    let flag = format!("--edge-client-bundle={}", folder.path().display());
    (Edge::start(&[&flag, "--edge-cors-origin=https://page.example"]).await, folder)
}

async fn ask(
    edge: &Edge,
    method: &str,
    path: &str,
    headers: &[(header::HeaderName, &str)],
) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path).header("host", "a");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    respond(edge.address, request.body(Full::default()).unwrap()).await
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn every_file_of_the_bundle_is_served() {
    let (edge, _folder) = serving().await;

    for name in FILES {
        let path = format!("/socket.io/{name}?v=1");
        let got = ask(&edge, "GET", &path, &[(header::ORIGIN, "https://page.example")]).await;
        let head = ask(&edge, "HEAD", &path, &[]).await;

        let content_type =
            if name.ends_with(".map") { "application/json" } else { "text/javascript" };
        assert_eq!((got.status(), head.status()), (http::StatusCode::OK, http::StatusCode::OK));
        assert_eq!(got.body()[..], *content(name).as_bytes());
        assert_eq!(
            text(got.headers(), &header::CONTENT_TYPE),
            format!("{content_type}; charset=utf-8")
        );
        assert_eq!(text(got.headers(), &header::CACHE_CONTROL), "public, max-age=0");
        assert_eq!(got.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://page.example");
        assert!(head.body().is_empty());
        for same in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::ETAG] {
            assert_eq!(head.headers()[&same], got.headers()[&same], "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_a_file_is_told_so() {
    let (edge, _folder) = serving().await;
    let path = "/socket.io/socket.io.js";
    let plain = ask(&edge, "GET", path, &[]).await;
    let gzip = ask(&edge, "GET", path, &[(header::ACCEPT_ENCODING, "gzip")]).await;
    let plain_tag = text(plain.headers(), &header::ETAG);
    let gzip_tag = text(gzip.headers(), &header::ETAG);
    assert_ne!(plain_tag, gzip_tag, "one representation, one strong tag");

    let several = format!("\"other\", W/{plain_tag}");
    for (given, accepted, status) in [
        (plain_tag, "", 304),
        (several.as_str(), "", 304),
        ("*", "", 304),
        (gzip_tag, "gzip", 304),
        (gzip_tag, "", 200),
        ("\"other\"", "", 200),
    ] {
        let headers = [(header::IF_NONE_MATCH, given), (header::ACCEPT_ENCODING, accepted)];
        let answer = ask(&edge, "GET", path, &headers).await;
        assert_eq!(answer.status(), status, "{given} {accepted}");
        assert_eq!(answer.body().is_empty(), status == 304);
        assert!(answer.headers().contains_key(header::ETAG));
        assert_eq!(text(answer.headers(), &header::CACHE_CONTROL), "public, max-age=0");
    }
}

#[tokio::test]
async fn the_bundle_is_compressed_for_clients_that_accept_gzip() {
    let (edge, _folder) = serving().await;

    let gzip =
        ask(&edge, "GET", "/socket.io/socket.io.min.js", &[(header::ACCEPT_ENCODING, "br, gzip")])
            .await;

    let mut decoded = String::new();
    GzDecoder::new(&gzip.body()[..]).read_to_string(&mut decoded).unwrap();
    assert_eq!(decoded, content("socket.io.min.js"));
    assert_eq!(text(gzip.headers(), &header::CONTENT_ENCODING), "gzip");
    let vary: Vec<_> = gzip.headers().get_all(header::VARY).iter().collect();
    assert_eq!(vary, ["Accept-Encoding", "Origin"]);
}

#[tokio::test]
async fn nothing_else_of_the_folder_is_served() {
    let (edge, _folder) = serving().await;

    for path in [
        "/socket.io/secret.js",
        "/socket.io/",
        "/socket.io/./socket.io.js",
        "/socket.io/%2e/socket.io.js",
        "/socket.io//socket.io.js",
        "/socket.io/x/../socket.io.js",
        "/socket.io/socket.io.js/",
        "/socket.io/SOCKET.IO.JS",
        "/socket.io/socket.io.js.map.map",
    ] {
        let answer = ask(&edge, "GET", path, &[]).await;
        let unknown = (400, &br#"{"code":0,"message":"Transport unknown"}"#[..]);
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), unknown, "{path}");
    }
    let posted = ask(&edge, "POST", "/socket.io/socket.io.js", &[]).await;
    assert_eq!(posted.status(), 400, "a file can only be read");
}

#[tokio::test]
async fn without_the_setting_the_paths_are_those_of_engine_io() {
    let edge = Edge::start(&[]).await;

    let unknown = ask(&edge, "GET", "/socket.io/socket.io.js", &[]).await;
    let opened = ask(&edge, "GET", "/socket.io/socket.io.js?EIO=4&transport=polling", &[]).await;

    assert_eq!(unknown.status(), 400);
    assert!(opened.body().starts_with(b"0{"), "{opened:?}");
}
