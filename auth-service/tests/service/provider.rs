//! Plays the identity provider: an HTTP server with the endpoints of a real one, and keys that the test turns over.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub(crate) const KEYS_PATH: &str = "/keys";
pub(crate) const INTROSPECTION_PATH: &str = "/introspect";
pub(crate) const TOKEN_PATH: &str = "/token";
pub(crate) const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// A key that the provider signs tokens with.
#[derive(Clone)]
pub(crate) struct SigningKey {
    id: String,
    pair: Arc<Ed25519KeyPair>,
}

impl SigningKey {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Arc::new(Ed25519KeyPair::generate().unwrap()) }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "use": "sig", "x": x})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.id}), claims)
    }

    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}

/// What the provider answers at a path.
#[derive(Clone)]
pub(crate) enum Answer {
    Json(Value),
    Bytes(Bytes),
    Status(StatusCode),
    Redirect(String),
    /// None, for as long as the client waits.
    Never,
}

/// A provider on a port of its own, which ends with the test.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    issuer: String,
    state: Arc<Mutex<State>>,
    server: AbortHandle,
}

#[derive(Default)]
struct State {
    issuer: String,
    answers: HashMap<String, Answer>,
    request_counts: HashMap<String, usize>,
    /// What introspection says about tokens. Others are not active.
    tokens: HashMap<String, Answer>,
    /// Bodies and `Authorization` of the questions.
    questions: Vec<(String, String)>,
    /// What signs the tokens that the token endpoint gives.
    signing_key: Option<SigningKey>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with_tls(acceptor: TlsAcceptor) -> Self {
        Self::start_with(Some(acceptor)).await
    }

    async fn start_with(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_tls = acceptor.is_some();
        let scheme = if is_tls { "https" } else { "http" };
        let issuer = format!("{scheme}://{address}");
        let state = Arc::new(Mutex::new(State { issuer: issuer.clone(), ..State::default() }));
        let server = tokio::spawn(accept(listener, acceptor, state.clone())).abort_handle();
        Self { address, issuer, state, server }
    }

    /// Returns the provider's name, which is its address.
    pub(crate) fn issuer(&self) -> String {
        self.issuer.clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer())
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// Takes back what was to be answered at a path.
    pub(crate) fn answers_itself(&self, path: &str) {
        self.state.lock().unwrap().answers.remove(path);
    }

    /// Publishes these keys and no others.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.answer(KEYS_PATH, Answer::Json(json!({ "keys": keys })));
    }

    /// Says of itself that it is `issuer`, and that its keys are at `jwks_uri`.
    pub(crate) fn describe(&self, issuer: &str, jwks_uri: &str) {
        let document = json!({"issuer": issuer, "jwks_uri": jwks_uri});
        self.answer(DISCOVERY_PATH, Answer::Json(document));
    }

    /// Has the token endpoint give tokens that this key signs.
    pub(crate) fn sign_with(&self, key: &SigningKey) {
        self.state.lock().unwrap().signing_key = Some(key.clone());
    }

    /// Posts nothing to a path of the provider, as a client of its own would, and returns the answer.
    pub(crate) async fn post(&self, path: &str) -> Value {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let host = self.address.to_string();
        let request = Request::post(path).header(header::HOST, host).body(Full::<Bytes>::default());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        connection.await.unwrap().unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Has introspection say this about a token.
    pub(crate) fn introspects(&self, token: &str, answer: Value) {
        self.answer_about(token, Answer::Json(answer));
    }

    /// Answers so when it is asked about a token.
    pub(crate) fn answer_about(&self, token: &str, answer: Answer) {
        self.state.lock().unwrap().tokens.insert(token.to_owned(), answer);
    }

    /// Returns bodies and `Authorization` of the questions about tokens.
    pub(crate) fn questions(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().questions.clone()
    }

    pub(crate) fn request_count(&self, path: &str) -> usize {
        self.state.lock().unwrap().request_counts.get(path).copied().unwrap_or(0)
    }

    /// Returns good claims for `subject`.
    pub(crate) fn claims_for(&self, subject: &str) -> Value {
        claims_of(&self.issuer(), subject)
    }
}

fn claims_of(issuer: &str, subject: &str) -> Value {
    let in_2100 = 4_102_444_800_u64;
    json!({"iss": issuer, "aud": "chat", "sub": subject, "exp": in_2100})
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve(stream, state).await,
                // A client that does not trust us ends the handshake.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let issuer = state.lock().unwrap().issuer.clone();
    let service = service_fn(|request| respond(request, &issuer, state.clone()));
    // It fails when the client goes away in the middle, which is the client's affair.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn respond(
    request: Request<Incoming>,
    issuer: &str,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answer = {
        let mut state = state.lock().unwrap();
        *state.request_counts.entry(path.clone()).or_default() += 1;
        match state.answers.get(&path).cloned() {
            None if path == INTROSPECTION_PATH && method == Method::POST => {
                let token = form_urlencoded::parse(&body).find(|(name, _)| name == "token");
                let answer = state.tokens.get(token.unwrap().1.as_ref()).cloned();
                let body = String::from_utf8(body.to_vec()).unwrap();
                state.questions.push((body, authorization));
                let answer = answer.unwrap_or_else(|| Answer::Json(json!({"active": false})));
                if let Answer::Json(value) = &answer {
                    Some(Answer::Bytes(value.to_string().into()))
                } else {
                    Some(answer)
                }
            }
            None if path == TOKEN_PATH && method == Method::POST => {
                let key = state.signing_key.as_ref().unwrap();
                let token = key.sign(&claims_of(issuer, "ada"));
                let answer = json!({"access_token": token, "token_type": "Bearer"});
                Some(Answer::Bytes(answer.to_string().into()))
            }
            answer => answer,
        }
    };
    let mut response = Response::new(Full::default());
    match answer {
        Some(Answer::Json(value)) if method == Method::GET => {
            *response.body_mut() = value.to_string().into();
        }
        Some(Answer::Bytes(bytes)) => *response.body_mut() = bytes.into(),
        Some(Answer::Status(status)) => *response.status_mut() = status,
        Some(Answer::Redirect(target)) => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, target.parse().unwrap());
        }
        Some(Answer::Never) => std::future::pending().await,
        Some(Answer::Json(_)) | None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}
