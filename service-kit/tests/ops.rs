//! The listener for operators, asked over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, time::Duration};

use service_kit::{
    ops::{OpsServer, Readiness, install_metrics},
    shutdown::{Shutdown, ShutdownTrigger},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};

#[tokio::test]
async fn a_live_process_is_healthy_whatever_it_waits_for() {
    let readiness = Readiness::new();
    readiness.condition("backend_link").set(false);
    let ops = Ops::start(readiness).await;

    let answer = ops.get("/healthz").await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let readiness = Readiness::new();
    let link = readiness.condition("backend_link");
    let accepting = readiness.condition("accepting");
    let ops = Ops::start(readiness).await;

    let answer = ops.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n[\"accepting\",\"backend_link\"]"), "{answer}");

    link.set(true);
    accepting.set(true);
    let answer = ops.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nready"), "{answer}");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let ops = Ops::start(Readiness::new()).await;
    metrics::counter!("ops_test_total").increment(1);

    let answer = ops.get("/metrics").await;

    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(answer.contains("\nops_test_total 1\n"), "{answer}");
}

#[tokio::test]
async fn nothing_else_is_served() {
    let ops = Ops::start(Readiness::new()).await;

    for path in ["/", "/healthz/", "/metrics/../etc", "/favicon.ico"] {
        let answer = ops.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    }
    let answer = ops.send("POST /healthz HTTP/1.1\r\nhost: ops\r\ncontent-length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
    let answer = ops.send("HEAD /healthz HTTP/1.1\r\nhost: ops\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_over_its_request_is_cut() {
    let ops = Ops::start(Readiness::new()).await;

    let asked_at = Instant::now();
    ops.send("GET /healthz HTTP/1.1\r\nhost: o").await;

    let cut_after = asked_at.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&cut_after), "{cut_after:?}");
    let answer = ops.get("/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_the_process_from_ending() {
    let ops = Ops::start(Readiness::new()).await;
    let mut silent = TcpStream::connect(ops.address).await.unwrap();

    ops.trigger.trigger();

    timeout(Duration::from_secs(10), ops.running).await.unwrap().unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error() {
    let ops = Ops::start(Readiness::new()).await;

    let second = OpsServer::bind(ops.address, Readiness::new(), install_metrics().unwrap()).await;

    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

struct Ops {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    running: JoinHandle<()>,
}

impl Ops {
    async fn start(readiness: Readiness) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let metrics = install_metrics().unwrap();
        let server = OpsServer::bind(address, readiness, metrics).await.unwrap();
        let address = server.local_addr();
        let (trigger, shutdown) = Shutdown::new();
        Self { address, trigger, running: tokio::spawn(server.run(shutdown)) }
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: ops\r\n\r\n")).await
    }

    /// Returns all that the server sends until it closes the connection.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
