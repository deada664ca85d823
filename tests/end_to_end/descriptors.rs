//! A process that has no descriptor left goes on, and accepts again as soon as it has one.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Process, Program, eventually, get, within};

/// How many more descriptors the process is given than it has.
const SPARE: usize = 16;

/// What a client of HTTP/2 says first: the preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: u8 = 4;

#[tokio::test]
async fn every_listener_outlives_a_want_of_descriptors() {
    let listeners = ["edge", "edge-ops", "auth", "chat"];
    let settings = listeners.map(|listener| format!("--{listener}-listen=127.0.0.1:0"));
    let mut sockeye = Process::start(Program::Sockeye, &settings, &[]);
    let clients = sockeye.address("edge-gateway", "clients").await;
    let auth = sockeye.address("auth-service", "grpc").await;
    let chat = sockeye.address("chat-service", "grpc").await;
    let ops = sockeye.address("edge-gateway", "ops").await;
    eventually("it is ready", async || {
        let answer = get(ops, "/readyz").await;
        (answer.status == 200).then_some(())
    })
    .await;
    let limit = sockeye.descriptors() + SPARE;
    sockeye.limit_descriptors(limit);

    for listener in [clients, auth, chat] {
        let mut flood = Vec::new();
        for _ in 0..SPARE * 4 {
            flood.push(within("a connection", TcpStream::connect(listener)).await.unwrap());
        }
        eventually("no descriptor is left", async || {
            (sockeye.descriptors() >= limit).then_some(())
        })
        .await;
        drop(flood);

        eventually("the listener answers again", async || {
            let mut connection = TcpStream::connect(listener).await.unwrap();
            if listener == clients {
                connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.ok()?;
                connection.read_u8().await.ok().filter(|byte| *byte == b'H')
            } else {
                connection.write_all(PREFACE).await.ok()?;
                let mut header = [0; 9];
                connection.read_exact(&mut header).await.ok()?;
                (header[3] == SETTINGS).then_some(b'H')
            }
        })
        .await;
        assert!(sockeye.is_running());
    }
    let metrics = get(ops, "/metrics").await.body;
    for service in ["auth-service", "chat-service"] {
        let name = format!("sockeye_grpc_accept_errors_total{{service=\"{service}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
        assert_ne!(count, Some("0"), "{service}");
        assert!(count.is_some(), "{service}");
        let told = |line: &&String| line.contains(service) && line.contains("not be accepted");
        let lines = sockeye.log().iter().filter(told).count();
        assert!((1..5).contains(&lines), "{lines} lines of {service}");
    }
}
