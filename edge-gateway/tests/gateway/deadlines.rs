//! Calls of an edge to services that take them and never answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future,
    net::SocketAddr,
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::Instant};
use tonic::body::Body;

use crate::support::{Edge, within};

/// What an edge calls, and after how long it gives up a call that is not answered. What edges call on each other is tested with
/// what carries it.
const CALLED: [(&str, Duration); 3] = [
    ("/sockeye.auth.v1.AuthService/AuthenticateEach", Duration::from_secs(2)),
    ("/sockeye.auth.v1.AuthService/WatchRevocations", Duration::from_secs(2)),
    ("/sockeye.edge.v1.EdgeLink/Attach", Duration::from_secs(5)),
];

/// What the services of an operator call and edges do not, as with all of the chat service's.
const CALLED_BY_OTHERS: [&str; 5] = [
    "/sockeye.auth.v1.AuthService/Authenticate",
    "/sockeye.auth.v1.AuthService/IssueToken",
    "/sockeye.auth.v1.RevocationService/ListRevocations",
    "/sockeye.auth.v1.RevocationService/Revoke",
    "/sockeye.auth.v1.TicketService/IssueTicket",
];

/// How much later it may be noticed on a machine that is busy.
const LATENESS_MAX: Duration = Duration::from_secs(10);

/// A call that was given up: what was called, and for how long it was waited for.
type GivenUp = (String, Duration);

struct Call {
    path: String,
    begun: Instant,
    given_up: mpsc::Sender<GivenUp>,
}

impl Drop for Call {
    fn drop(&mut self) {
        // Whoever has seen enough listens no more.
        self.given_up.try_send((self.path.clone(), self.begun.elapsed())).ok();
    }
}

/// Takes every call, answers pings, and never answers a call.
async fn mute_service() -> (SocketAddr, mpsc::Receiver<GivenUp>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (given_up, calls) = mpsc::channel(1000);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let given_up = given_up.clone();
            let mute = service_fn(move |request: Request<Incoming>| {
                let path = request.uri().path().to_owned();
                let call = Call { path, begun: Instant::now(), given_up: given_up.clone() };
                async move {
                    let _call = call;
                    future::pending::<Result<Response<Body>, Infallible>>().await
                }
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            connections.spawn(connection.serve_connection(TokioIo::new(stream), mute));
        }
    });
    (address, calls, serving)
}

#[tokio::test]
async fn every_call_that_no_service_answers_is_given_up_within_its_bound() {
    let (address, mut calls, _serving) = mute_service().await;
    let url = format!("http://{address}");
    let edge = Edge::among(&url, &url, &[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;

    let bounds = BTreeMap::from(CALLED);
    let mut given_up = BTreeMap::new();
    while given_up.len() < bounds.len() {
        let (path, waited) = within("another call is given up", calls.recv()).await.unwrap();
        let bound = bounds.get(path.as_str()).unwrap_or_else(|| panic!("{path} has no bound"));
        assert!(waited < *bound + LATENESS_MAX, "{path}: {waited:?}");
        given_up.insert(path, waited);
    }
}

#[test]
fn of_every_method_it_is_said_who_gives_it_up() {
    let methods = &proto::method_paths("sockeye.auth.v1") | &proto::method_paths("sockeye.edge.v1");

    let listed = CALLED.iter().map(|(path, _)| path).chain(&CALLED_BY_OTHERS);

    assert_eq!(listed.map(|path| (*path).to_owned()).collect::<BTreeSet<_>>(), methods);
}
