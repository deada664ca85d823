//! Whoever has somebody's session id, and nothing else of theirs.

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::Full;
use hyper::Response;

use crate::support::{
    Edge, get,
    poller::respond,
    webtransport::{Certificate, WebTransportClient},
};

type Headers<'a> = &'a [(&'a str, &'a str)];

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const ALL: &str = "--edge-session-binding=authorization,origin";
const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");

/// The headers of a session's first request, and what thieves come with.
const ROWS: [(&str, Headers<'static>, &[Headers<'static>]); 3] = [
    (
        "a program with a token",
        &[("authorization", "Bearer mine")],
        &[
            &[],
            &[("authorization", "Bearer other")],
            &[("authorization", "Bearer min")],
            &[("authorization", "Bearer mine, Bearer mine")],
            &[("authorization", "Bearer mine"), ("authorization", "Bearer mine")],
            &[("authorization", "Basic mine")],
            &[("cookie", "authorization=Bearer mine")],
        ],
    ),
    (
        "a page of another origin",
        &[BROWSER, ("origin", "https://app.example")],
        &[
            &[],
            &[BROWSER],
            &[("origin", "https://evil.example")],
            &[("origin", "http://app.example")],
            &[("origin", "null")],
            &[("origin", "https://app.example"), ("origin", "https://app.example")],
        ],
    ),
    (
        "a page whose polls have a token",
        &[BROWSER, ("origin", "https://app.example"), ("authorization", "Bearer mine")],
        &[&[("authorization", "Bearer mine")], &[("origin", "https://evil.example")]],
    ),
];

fn request(method: &str, path: &str, headers: Headers<'_>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "edge");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

/// One that sends the same headers each time.
struct Browser<'a> {
    edge: &'a Edge,
    headers: Headers<'a>,
    session: String,
}

impl<'a> Browser<'a> {
    async fn open(edge: &'a Edge, headers: Headers<'a>) -> (Self, HeaderMap) {
        let answer = respond(edge.address, request("GET", POLLING, headers, "")).await;
        assert_eq!(answer.status(), 200);
        let packet: serde_json::Value = serde_json::from_slice(&answer.body()[1..]).unwrap();
        let session = packet["sid"].as_str().unwrap().to_owned();
        (Self { edge, headers, session }, answer.headers().clone())
    }

    /// The same session's requests, with other headers.
    fn with<'b>(&self, headers: Headers<'b>) -> Browser<'b>
    where
        'a: 'b,
    {
        Browser { edge: self.edge, headers, session: self.session.clone() }
    }

    /// The same session's requests, at another edge.
    fn at(&self, edge: &'a Edge) -> Self {
        Self { edge, headers: self.headers, session: self.session.clone() }
    }

    async fn ask(&self, method: &str, body: &str) -> Response<Bytes> {
        let path = format!("{POLLING}&sid={}", self.session);
        respond(self.edge.address, request(method, &path, self.headers, body)).await
    }

    fn upgrade_path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.session)
    }

    async fn is_refused(&self, who: &str) {
        for (method, body) in [("GET", ""), ("POST", "41"), ("POST", "1")] {
            let answer = self.ask(method, body).await;
            let unknown = br#"{"code":1,"message":"Session ID unknown"}"#;
            assert_eq!(
                (answer.status().as_u16(), &answer.body()[..]),
                (400, &unknown[..]),
                "{who}"
            );
            assert_eq!(answer.headers()[header::CONNECTION], "close", "{who}");
        }
        let upgrade = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let headers = [self.headers, &upgrade].concat();
        let upgrade = request("GET", &self.upgrade_path(), &headers, "");
        let answer = respond(self.edge.address, upgrade).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (400, &b"Session ID unknown"[..])
        );
    }

    async fn goes_on(&self, who: &str) {
        assert_eq!(&self.ask("POST", "40/nope,").await.body()[..], b"ok", "{who}");
        let answer = self.ask("GET", "").await;
        let expected = br#"44/nope,{"message":"Invalid namespace"}"#;
        assert_eq!(&answer.body()[..], &expected[..], "{who}");
    }

    async fn moves_to_a_websocket(&self) {
        let mut websocket = self.edge.websocket_with(&self.upgrade_path(), self.headers).await;
        websocket.send("2probe").await;
        assert_eq!(websocket.text().await, "3probe");
        websocket.send("5").await;
        websocket.send("40/nope,").await;
        assert_eq!(websocket.text().await, r#"44/nope,{"message":"Invalid namespace"}"#);
    }
}

#[tokio::test]
async fn a_stolen_session_id_alone_is_of_no_use_and_its_owner_goes_on() {
    let edge = Edge::start(&["--edge-shards=2", ALL]).await;
    for (name, headers, thieves) in ROWS {
        let (owner, answer) = Browser::open(&edge, headers).await;
        assert!(!answer.contains_key(header::SET_COOKIE), "no cookie unless it is asked for");
        for thief in thieves {
            let who = format!("{name}, {thief:?}");
            owner.with(thief).is_refused(&who).await;
            owner.goes_on(&who).await;
        }
        // A page cannot set the header on a WebSocket.
        let on_websocket = &headers[..headers.len().min(2)];
        owner.with(on_websocket).moves_to_a_websocket().await;
    }
    let metrics = get(edge.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_refused_session_requests_total"), "{metrics}");
}

#[tokio::test]
async fn a_stolen_session_id_is_of_no_use_at_another_edge_either() {
    let (owner, _stream) =
        Edge::attached(&["--edge-number=2", "--edge-peer-listen=127.0.0.1:0", ALL]).await;
    let peer = format!("--edge-peer=2=http://{}", owner.peers.unwrap());
    let other = Edge::start(&["--edge-number=1", "--edge-peer-listen=127.0.0.1:0", &peer]).await;
    let (client, _) = Browser::open(&owner, &[("authorization", "Bearer mine")]).await;
    let elsewhere = client.at(&other);

    for thief in [&[][..], &[("authorization", "Bearer other")]] {
        elsewhere.with(thief).is_refused(&format!("{thief:?}")).await;
        elsewhere.goes_on("elsewhere").await;
    }
    elsewhere.moves_to_a_websocket().await;
}

#[tokio::test]
async fn a_stolen_session_id_is_of_no_use_without_the_cookie() {
    let edge = Edge::start(&["--edge-session-cookie=strict"]).await;
    let (first, answer) = Browser::open(&edge, &[BROWSER]).await;
    let cookie = answer[header::SET_COOKIE].to_str().unwrap();
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Strict");
    let other = format!("{}x", &pair[..pair.len() - 1]);

    let kept = [BROWSER, ("cookie", pair)];
    for thief in [&[BROWSER][..], &[BROWSER, ("cookie", &other)], &[]] {
        first.with(thief).is_refused(&format!("{thief:?}")).await;
        first.with(&kept).goes_on(&format!("{thief:?}")).await;
    }
    first.with(&kept).moves_to_a_websocket().await;

    let (second, answer) = Browser::open(&edge, &kept).await;
    assert!(!answer.contains_key(header::SET_COOKIE), "a second tab has the cookie of the first");
    second.goes_on("a second tab").await;
    second.with(&[BROWSER]).is_refused("without the cookie").await;
    let (program, answer) = Browser::open(&edge, &[("user-agent", "okhttp/4")]).await;
    assert!(!answer.contains_key(header::SET_COOKIE), "programs keep no cookies");
    program.goes_on("a program").await;
}

#[tokio::test]
async fn a_session_with_a_cookie_is_not_offered_webtransport() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let cookie = "--edge-session-cookie=strict".to_owned();
    let flags: Vec<&str> = flags.iter().chain([&cookie]).map(String::as_str).collect();
    let edge = Edge::start(&flags).await;
    let upgrades = async |headers| {
        let answer = respond(edge.address, request("GET", POLLING, headers, "")).await;
        let packet: serde_json::Value = serde_json::from_slice(&answer.body()[1..]).unwrap();
        packet["upgrades"].clone()
    };

    assert_eq!(upgrades(&[BROWSER]).await, serde_json::json!(["websocket"]));
    let program = &[("user-agent", "okhttp/4")];
    assert_eq!(upgrades(program).await, serde_json::json!(["websocket", "webtransport"]));
}

#[tokio::test]
async fn a_program_that_says_more_with_its_first_request_goes_on() {
    let edge = Edge::start(&[]).await;
    let headers = [("authorization", "Bearer mine"), ("origin", "https://app.example")];

    let (client, _) = Browser::open(&edge, &headers).await;

    client.with(&[]).goes_on("without them").await;
    client.with(&[]).moves_to_a_websocket().await;
}

#[tokio::test]
async fn sessions_may_be_bound_to_nothing() {
    let edge = Edge::start(&["--edge-session-binding=none"]).await;
    let headers = [BROWSER, ("origin", "https://app.example")];

    let (owner, _) = Browser::open(&edge, &headers).await;

    owner.with(&[]).goes_on("another client").await;
}

#[tokio::test]
async fn a_stolen_session_id_is_of_no_use_on_webtransport() {
    let certificate = Certificate::new();
    let flags = certificate.flags();
    let edge = Edge::start(&flags.each_ref().map(String::as_str)).await;
    let address = edge.webtransport.unwrap();
    let ours = "https://app.example";
    let headers = [BROWSER, ("origin", ours)];
    let (owner, _) = Browser::open(&edge, &headers).await;
    let path = "/socket.io/?EIO=4&transport=webtransport";
    let opening = format!("0{{\"sid\":\"{}\"}}", owner.session);

    for origin in [None, Some("https://evil.example")] {
        let connected = WebTransportClient::connect_from(origin, address, &certificate, path);
        let mut thief = connected.await.unwrap();
        thief.send(&opening).await;
        thief.send("2probe").await;
        assert_eq!(thief.until_its_end().await, Vec::<String>::new(), "{origin:?}");
        owner.goes_on("the owner").await;
    }

    let connected = WebTransportClient::connect_from(Some(ours), address, &certificate, path);
    let mut same = connected.await.unwrap();
    same.send(&opening).await;
    same.send("2probe").await;
    assert_eq!(same.text().await, "3probe");
}
