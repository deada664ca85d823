//! What a client's HTTP request asks of the edge, and what is wrong with it.

use std::{borrow::Cow, time::Duration};

use edge_protocol::websocket::Handshake;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};

use crate::{
    application::Application,
    error_answer::ErrorAnswer,
    older_handshake::OlderHandshake,
    quota::AddressRefusal,
    server::{
        DELAY_MAX,
        client_bundle::{ClientBundle, ClientFile},
    },
    session_id::SessionId,
};

/// When a client may come again that would have had to wait for longer than anybody does.
const OVERLOADED_FOR: Duration = DELAY_MAX;

/// When one may come again that is to find another edge, or this one after its restart.
const SHUTTING_DOWN_FOR: Duration = Duration::from_secs(1);

/// What is taken on one path or another.
const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// Longest token, as with the auth service.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A request that the edge itself answers; all others are for the pages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// Upgrade to a WebSocket that speaks this. `accept` proves that we do.
    Upgrade { accept: String, client: Client },
    /// A session over long-polling; with what its client says if that speaks Engine.IO 3.
    OpenPolling { older: Option<OlderHandshake> },
    /// The next packets of a session.
    Poll { session: SessionId },
    /// Packets for a session.
    Post { session: SessionId },
    /// A file of the client's own bundle.
    ClientFile(&'a ClientFile),
    /// Whether a page of another origin may ask for something.
    Preflight,
    /// Something that is not ours.
    Page,
}

/// What a client speaks, with what its handshake said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// With what it says if it speaks Engine.IO 3.
    SocketIo { older: Option<OlderHandshake> },
    /// A Socket.IO client whose session began on long-polling, and whether it says that it speaks Engine.IO 3.
    Probe { session: SessionId, is_older: bool },
    /// With the token of its `Authorization` header.
    PlainJson { token: Option<String> },
}

/// Why a request is refused. The connection is closed with it: a client that means something else by its bytes than we do
/// must not get a second request in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RFC 9112 §3.2: exactly one Host.
    Host,
    /// It is for a host that the edge is not known by.
    Misdirected,
    /// Its method is none that is taken here; these are.
    Method { allowed: &'static str },
    /// An Engine.IO request that cannot be served, with the reference server's code.
    EngineIo(EngineIoError),
    /// As [`EngineIo`](Self::EngineIo), of a WebSocket handshake.
    Upgrade(EngineIoError),
    /// A request to `/ws` that is no WebSocket handshake.
    NotWebSocket,
    /// RFC 6455 §4.4: only version 13.
    Version,
    /// It is from a page that may not use the edge.
    Origin,
    /// Too many clients open a session.
    Overloaded,
    /// The client's address has, or opens, too many.
    Address(AddressRefusal),
    /// The edge takes no new sessions: it is being stopped.
    ShuttingDown,
}

/// The errors of the Engine.IO handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineIoError {
    TransportUnknown,
    SessionIdUnknown,
    BadHandshakeMethod,
    BadRequest,
    UnsupportedProtocolVersion,
}

impl EngineIoError {
    /// What a WebSocket client is answered.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::TransportUnknown => "Transport unknown",
            Self::SessionIdUnknown => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::UnsupportedProtocolVersion => "Unsupported protocol version",
        }
    }

    /// The body of the answer, byte for byte that of the reference server.
    pub(crate) const fn body(self) -> &'static str {
        match self {
            Self::TransportUnknown => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::SessionIdUnknown => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::UnsupportedProtocolVersion => {
                r#"{"code":5,"message":"Unsupported protocol version"}"#
            }
        }
    }
}

impl Refusal {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::EngineIo(_) | Self::Upgrade(_) => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotWebSocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Address(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn body(self) -> Cow<'static, str> {
        match self {
            Self::Host => "exactly one host header is required\n".into(),
            Self::Misdirected => "this host is not served here\n".into(),
            Self::Method { .. } => "this method is not taken here\n".into(),
            Self::EngineIo(error) => error.body().into(),
            Self::Upgrade(error) => error.message().into(),
            Self::Origin => r#"{"code":4,"message":"Forbidden"}"#.into(),
            Self::NotWebSocket => "this path takes websocket connections\n".into(),
            Self::Version => "websocket version 13 is required\n".into(),
            Self::Overloaded => ErrorAnswer::overloaded(OVERLOADED_FOR).http_body().into(),
            Self::Address(refusal) => {
                ErrorAnswer::too_many_of_address(refusal.retry_after()).http_body().into()
            }
            Self::ShuttingDown => ErrorAnswer::shutting_down(SHUTTING_DOWN_FOR).http_body().into(),
        }
    }

    /// When the same may do.
    pub(crate) const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(OVERLOADED_FOR),
            Self::Address(refusal) => Some(refusal.retry_after()),
            Self::ShuttingDown => Some(SHUTTING_DOWN_FOR),
            Self::Host
            | Self::Misdirected
            | Self::Method { .. }
            | Self::EngineIo(_)
            | Self::Upgrade(_)
            | Self::Origin
            | Self::NotWebSocket
            | Self::Version => None,
        }
    }
}

/// Decides what a request asks for.
pub(crate) fn classify<'a, B>(
    request: &Request<B>,
    application: Application,
    allows_eio3: bool,
    bundle: Option<&'a ClientBundle>,
) -> Result<Asked<'a>, Refusal> {
    check_host(request)?;
    // They are for proxies, and the first gives back what scripts must not read.
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(Refusal::Method { allowed: METHODS });
    }
    let path = request.uri().path();
    if let Some(name) = path.strip_prefix(application.engine_io_path()) {
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some(file) = bundle.and_then(|bundle| bundle.file(name))
        {
            return Ok(Asked::ClientFile(file));
        }
        if request.method() == Method::OPTIONS {
            return Ok(Asked::Preflight);
        }
        return classify_engine_io(request, allows_eio3);
    }
    if path == application.websocket_path() {
        if request.method() != Method::GET {
            return Err(Refusal::Method { allowed: "GET" });
        }
        let token = bearer_token(request.headers());
        return upgrade(request, Client::PlainJson { token }, Refusal::NotWebSocket);
    }
    Ok(Asked::Page)
}

fn check_host<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().filter(|host| !host.is_empty() && hosts.next().is_none());
    // A request line may name one, too (RFC 9112 §3.2.2). Where they differ, somebody on the way may have gone by the other.
    let named = request.uri().authority();
    let is_one = host.is_some_and(|host| named.is_none_or(|named| host == named.as_str()));
    if is_one { Ok(()) } else { Err(Refusal::Host) }
}

/// The first subprotocol that a client offers. Where none is selected, a browser that offers some gives the connection up.
pub(crate) fn first_subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = offered.split(',').next()?.trim();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_valid = !first.is_empty() && first.bytes().all(is_token);
    HeaderValue::from_str(first).ok().filter(|_| is_valid)
}

/// In the order of the reference server: transport, session, method, upgrade, version.
fn classify_engine_io<B>(
    request: &Request<B>,
    allows_eio3: bool,
) -> Result<Asked<'static>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let refusal = if is_upgrade { Refusal::Upgrade } else { Refusal::EngineIo };
    let is_polling = match parameter(query, "transport") {
        Some("polling") => true,
        Some("websocket") => false,
        _ => return Err(refusal(EngineIoError::TransportUnknown)),
    };
    let session = match parameter(query, "sid").map(SessionId::parse) {
        None => None,
        Some(Some(session)) => Some(session),
        Some(None) => return Err(refusal(EngineIoError::SessionIdUnknown)),
    };
    if session.is_none() && request.method() != Method::GET {
        return Err(refusal(EngineIoError::BadHandshakeMethod));
    }
    // JSONP has a page of any origin read the answer.
    let is_jsonp = is_polling && parameter(query, "j").is_some();
    if is_polling == is_upgrade || is_jsonp {
        return Err(refusal(EngineIoError::BadRequest));
    }
    // Also for a session: going on with another revision would be read wrongly.
    let older = match parameter(query, "EIO") {
        Some("4") => None,
        // As with the reference server, a client that does not say speaks 3.
        Some("3") | None if allows_eio3 => Some(OlderHandshake::of_query(query)),
        Some(_) | None => return Err(refusal(EngineIoError::UnsupportedProtocolVersion)),
    };
    let not_websocket = refusal(EngineIoError::BadRequest);
    match (session, request.method()) {
        (None, _) if is_polling => Ok(Asked::OpenPolling { older }),
        (None, _) => upgrade(request, Client::SocketIo { older }, not_websocket),
        (Some(session), _) if is_upgrade => {
            let is_older = older.is_some();
            upgrade(request, Client::Probe { session, is_older }, not_websocket)
        }
        (Some(session), &Method::GET) => Ok(Asked::Poll { session }),
        (Some(session), &Method::POST) => Ok(Asked::Post { session }),
        (Some(_), _) => Err(not_websocket),
    }
}

fn upgrade<B>(
    request: &Request<B>,
    client: Client,
    otherwise: Refusal,
) -> Result<Asked<'static>, Refusal> {
    let headers = request.headers();
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body || request.version() != Version::HTTP_11 {
        return Err(otherwise);
    }
    let connection = joined(headers, &header::CONNECTION);
    let handshake = Handshake {
        method: request.method().as_str(),
        upgrade: &joined(headers, &header::UPGRADE),
        connection: &connection,
        version: &joined(headers, &header::SEC_WEBSOCKET_VERSION),
        key: &joined(headers, &header::SEC_WEBSOCKET_KEY),
    };
    match handshake.accept() {
        Ok(accept) => Ok(Asked::Upgrade { accept, client }),
        Err(edge_protocol::websocket::HandshakeError::Version) => Err(Refusal::Version),
        Err(_) => Err(otherwise),
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_BYTES_MAX)
        .then(|| token.to_owned())
}

/// The first value of a query parameter. The ones we know need no percent-decoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn joined(headers: &HeaderMap, name: &header::HeaderName) -> String {
    let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    values.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    fn classify(request: &Request<()>) -> Result<Asked<'static>, Refusal> {
        super::classify(request, Application::Services, false, None)
    }

    const UPGRADE: [(&str, &str); 5] = [
        ("host", "a"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_socket_io_client_is_upgraded() {
        let asked =
            classify(&request("GET", "/socket.io/?EIO=4&transport=websocket&t=x", &UPGRADE));

        // RFC 6455 §1.3 gives the proof for this key.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(asked, Ok(Asked::Upgrade { accept, client: Client::SocketIo { older: None } }));
    }

    #[test]
    fn engine_io_errors_are_those_of_the_reference() {
        use EngineIoError::{
            BadHandshakeMethod, BadRequest, SessionIdUnknown, TransportUnknown,
            UnsupportedProtocolVersion,
        };
        let cases = [
            ("GET", "/socket.io/", TransportUnknown),
            ("GET", "/socket.io/?EIO=4", TransportUnknown),
            ("GET", "/socket.io/?EIO=4&transport=__proto__", TransportUnknown),
            ("GET", "/socket.io/?EIO=4&transport=websocket&sid=x", SessionIdUnknown),
            ("GET", "/socket.io/?EIO=4&transport=polling&sid=__proto__", SessionIdUnknown),
            ("GET", "/socket.io/?EIO=4&transport=polling", BadRequest),
            ("POST", "/socket.io/?EIO=4&transport=websocket", BadHandshakeMethod),
            ("GET", "/socket.io/?EIO=3&transport=websocket", UnsupportedProtocolVersion),
            ("GET", "/socket.io/?EIO=3&transport=websocket&token=x", UnsupportedProtocolVersion),
            ("GET", "/socket.io/?transport=websocket", UnsupportedProtocolVersion),
        ];
        for (method, uri, error) in cases {
            let asked = classify(&request(method, uri, &UPGRADE));
            assert_eq!(asked, Err(Refusal::Upgrade(error)), "{method} {uri}");
        }
        let jsonp = request("GET", "/socket.io/?EIO=4&transport=polling&j=0", &[("host", "a")]);
        assert_eq!(classify(&jsonp), Err(Refusal::EngineIo(BadRequest)));
        let plain = request("GET", "/socket.io/?EIO=4&transport=websocket", &[("host", "a")]);
        assert_eq!(classify(&plain), Err(Refusal::EngineIo(BadRequest)));
    }

    #[test]
    fn long_polling_is_told_from_its_upgrade() {
        let session = SessionId::random(0, 0);
        let ours = |method, transport, headers: &[_]| {
            let uri = format!("/socket.io/?EIO=4&transport={transport}&sid={session}");
            classify(&request(method, &uri, headers))
        };
        let host = [("host", "a")];

        let open = request("GET", "/socket.io/?EIO=4&transport=polling&t=x&b64=1", &host);
        assert_eq!(classify(&open), Ok(Asked::OpenPolling { older: None }));
        assert_eq!(ours("GET", "polling", &host), Ok(Asked::Poll { session }));
        assert_eq!(ours("POST", "polling", &host), Ok(Asked::Post { session }));
        assert_eq!(
            ours("PUT", "polling", &host),
            Err(Refusal::EngineIo(EngineIoError::BadRequest))
        );
        let probe = ours("GET", "websocket", &UPGRADE).unwrap();
        assert!(matches!(probe, Asked::Upgrade { client: Client::Probe { .. }, .. }), "{probe:?}");
    }

    #[test]
    fn engine_io_3_is_told_from_4_where_it_is_allowed() {
        let session = SessionId::random(0, 0);
        let host = [("host", "a")];
        let asked = |uri: &str, headers: &[_]| {
            super::classify(&request("GET", uri, headers), Application::Services, true, None)
        };
        let older = Some(OlderHandshake::of_query("EIO=3&token=a.b&b64=1"));

        let opened = asked("/socket.io/?token=a.b&EIO=3&transport=polling&b64=1", &host);
        assert_eq!(opened, Ok(Asked::OpenPolling { older }));
        let unsaid = asked("/socket.io/?transport=polling", &host);
        let older = Some(OlderHandshake::of_query(""));
        assert_eq!(unsaid, Ok(Asked::OpenPolling { older }));
        let newer = asked("/socket.io/?EIO=4&token=a.b&transport=polling", &host);
        assert_eq!(newer, Ok(Asked::OpenPolling { older: None }));
        let other = asked("/socket.io/?EIO=2&transport=polling", &host);
        let unsupported = EngineIoError::UnsupportedProtocolVersion;
        assert_eq!(other, Err(Refusal::EngineIo(unsupported)));
        let probe =
            asked(&format!("/socket.io/?EIO=3&transport=websocket&sid={session}"), &UPGRADE);
        let Ok(Asked::Upgrade { client, .. }) = probe else { panic!("{probe:?}") };
        assert_eq!(client, Client::Probe { session, is_older: true });
    }

    #[test]
    fn exactly_one_host_is_needed() {
        assert_eq!(classify(&request("GET", "/", &[])), Err(Refusal::Host));
        let two = [("host", "a"), ("host", "b")];
        assert_eq!(classify(&request("GET", "/", &two)), Err(Refusal::Host));
        assert_eq!(classify(&request("GET", "/", &[("host", "a")])), Ok(Asked::Page));
    }

    #[test]
    fn an_upgrade_with_a_body_or_another_version_is_refused() {
        let with_body = [&UPGRADE[..], &[("content-length", "5")]].concat();
        assert_eq!(classify(&request("GET", "/ws", &with_body)), Err(Refusal::NotWebSocket));

        let mut version_8 = UPGRADE;
        version_8[3].1 = "8";
        assert_eq!(classify(&request("GET", "/ws", &version_8)), Err(Refusal::Version));
    }

    #[test]
    fn a_plain_json_client_may_bring_its_token_in_a_header() {
        let with_token = [&UPGRADE[..], &[("authorization", "Bearer a.b.c")]].concat();

        let asked = classify(&request("GET", "/ws", &with_token)).unwrap();

        let Asked::Upgrade { client, .. } = asked else { panic!("{asked:?}") };
        assert_eq!(client, Client::PlainJson { token: Some("a.b.c".to_owned()) });
    }
}
