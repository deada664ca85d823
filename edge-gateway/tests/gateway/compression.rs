//! Poll answers for clients that understand compression.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header;
use hyper::Response;
use proto::edge::v1::{Audience, Emit, instruction::Kind};

use crate::support::{
    Edge,
    echo::Echo,
    poller::{Poller, ok, respond},
};

/// Has `text` echoed and polls for it as a client that accepts these codings.
async fn poll(echo: &Echo, text: &str, accepted: &'static str) -> Response<Bytes> {
    let client = echo.polling().await;
    assert_eq!(client.post(text).await, ok());
    poll_accepting(echo, &client, accepted).await
}

async fn poll_accepting(echo: &Echo, client: &Poller, accepted: &'static str) -> Response<Bytes> {
    let mut request = client.request("GET", "");
    request.headers_mut().insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
    request.headers_mut().insert(header::ORIGIN, "https://page.example".parse().unwrap());
    let response = respond(echo.address, request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=UTF-8");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap();
    assert_eq!(length, response.body().len().to_string());
    response
}

fn message(len: usize) -> String {
    format!("4{}", "0123456789".repeat(len / 10 + 1)).split_at(len).0.to_owned()
}

fn vary(response: &Response<Bytes>) -> Vec<&str> {
    let values = response.headers().get_all(header::VARY);
    values.iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn large_answers_are_compressed_as_the_client_accepts() {
    let echo = Echo::start(&["--edge-cors-origin=*"]).await;
    // The second is compressed beside the shard's thread.
    for text in [message(1024), message(100_000)] {
        let gzip = poll(&echo, &text, "gzip, deflate, br").await;
        let deflate = poll(&echo, &text, "gzip;q=0, deflate").await;

        let (mut from_gzip, mut from_deflate) = (String::new(), String::new());
        GzDecoder::new(&gzip.body()[..]).read_to_string(&mut from_gzip).unwrap();
        ZlibDecoder::new(&deflate.body()[..]).read_to_string(&mut from_deflate).unwrap();
        assert!(from_gzip == text && from_deflate == text);
        assert_eq!(gzip.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(deflate.headers()[header::CONTENT_ENCODING], "deflate");
        assert_eq!(vary(&gzip), ["Accept-Encoding", "Origin"]);
    }
}

#[tokio::test]
async fn other_answers_are_left_as_they_are() {
    let echo = Echo::start(&["--edge-cors-origin=*"]).await;

    let small = poll(&echo, &message(1023), "gzip").await;
    let not_accepted = poll(&echo, &message(1024), "br, gzip;q=0").await;

    assert_eq!(small.body()[..], *message(1023).as_bytes());
    assert_eq!(not_accepted.body()[..], *message(1024).as_bytes());
    for answer in [&small, &not_accepted] {
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    }
    assert_eq!(vary(&small), ["Origin"]);
    assert_eq!(vary(&not_accepted), ["Accept-Encoding", "Origin"]);
}

#[tokio::test]
async fn what_does_not_shrink_is_left_as_it_is() {
    let echo = Echo::start(&[]).await;
    // Random characters, which the fast level gains nothing from.
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from_u32(0x4E00 + u32::try_from(state >> 50).unwrap()).unwrap()
    });
    let text = format!("4{}", letters.take(500).collect::<String>());

    let answer = poll(&echo, &text, "gzip").await;

    let is_compressed = answer.headers().contains_key(header::CONTENT_ENCODING);
    assert!(!is_compressed && answer.body()[..] == *text.as_bytes(), "{is_compressed}");
}

#[tokio::test]
async fn what_a_backend_says_is_not_worth_it_is_left_as_it_is() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let client = Poller::open(&edge).await;
    let socket = client.enter_chat(&mut stream).await;
    let emit = |uncompressed| {
        let sockets = vec![socket];
        let namespace = "/chat".to_owned();
        Kind::Emit(Emit {
            audience: Some(Audience { namespace, sockets, ..Audience::default() }),
            event: "picture".to_owned(),
            args: format!("[\"{}\"]", "0123456789".repeat(200)).into(),
            uncompressed,
            ..Emit::default()
        })
    };
    let poll = async || {
        let mut request = client.request("GET", "");
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
        let response = respond(edge.address, request).await;
        assert_eq!(response.status(), 200);
        response.headers().contains_key(header::CONTENT_ENCODING)
    };

    stream.instruct([emit(true)]).await;
    assert!(!poll().await);
    stream.instruct([emit(true), emit(false)]).await;
    assert!(poll().await, "something in it is");
    stream.instruct([emit(true)]).await;
    assert!(!poll().await, "each answer counts for itself");
}
