//! TLS with clients: who gets it and who does not, certificates that are replaced, and what a client may cost.

use std::{net::SocketAddr, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::{
    Edge, get,
    tls::{TlsFiles, client_config, connect, trusting},
    within,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const REQUEST: &[u8] =
    b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn start(flags: &[&str]) -> (Edge, TlsFiles) {
    let files = TlsFiles::new();
    let own = files.flags();
    let own = own.each_ref().map(String::as_str);
    (Edge::start(&[&own[..], flags].concat()).await, files)
}

/// A whole answer to a request for a session.
async fn asked(edge: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<String> {
    let mut stream = within("a handshake", connect(edge, config)).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    // An end that TLS does not announce would be an error here.
    within("an answer", stream.read_to_string(&mut answer)).await?;
    Ok(answer)
}

/// How often something was counted. Other tests of this process count as well.
async fn count(edge: &Edge, series: &str) -> u64 {
    let metrics = get(edge.ops, "/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

async fn handshakes(edge: &Edge, outcome: &str) -> u64 {
    count(edge, &format!("sockeye_edge_tls_handshakes_total{{outcome=\"{outcome}\"}}")).await
}

/// Waits until so many handshakes had an outcome: one is counted when its client may know it already.
async fn handshakes_reach(edge: &Edge, outcome: &str, wanted: u64) {
    within("a count", async {
        while handshakes(edge, outcome).await < wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What a connection that is closed has left to say.
async fn rest(mut connection: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was not read has the kernel reset the connection.
    within("its end", connection.read_to_end(&mut bytes)).await.ok();
    bytes
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_sessions_are_resumed() {
    let (edge, files) = start(&[]).await;

    for (version, expected) in
        [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)]
    {
        let config = Arc::new(client_config(&[&files.certificate], &[version]));
        let before = (handshakes(&edge, "full").await, handshakes(&edge, "resumed").await);

        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = within("a handshake", connect(edge.address, &config)).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            let mut answer = String::new();
            within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.handshake_kind(), Some(kind));
        }
        assert!(handshakes(&edge, "full").await > before.0);
        assert!(handshakes(&edge, "resumed").await > before.1);
    }
}

#[tokio::test]
async fn http_1_1_is_agreed_on_and_those_who_want_something_else_are_refused() {
    let (edge, files) = start(&[]).await;
    let speaking = |protocols: &[&str]| {
        let mut config = trusting(&[&files.certificate]);
        config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        Arc::new(config)
    };

    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let stream = within("a handshake", connect(edge.address, &speaking(offered))).await;
        assert_eq!(stream.unwrap().get_ref().1.alpn_protocol(), agreed);
    }
    let refused = within("a refusal", connect(edge.address, &speaking(&["h2"]))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn garbage_and_older_versions_are_refused_and_the_others_live_on() {
    let (edge, files) = start(&[]).await;
    let config = Arc::new(trusting(&[&files.certificate]));
    let live = within("a handshake", connect(edge.address, &config)).await.unwrap();
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", edge.address);
    let (mut live, _) = within("an upgrade", Box::pin(client_async(url, live))).await.unwrap();
    let failed = handshakes(&edge, "failed").await;

    // 70 is `protocol_version`. What is no record gets no answer, or an alert.
    for (version, alert) in [(1, 70), (2, 70)] {
        let mut connection = TcpStream::connect(edge.address).await.unwrap();
        connection.write_all(&hello_of_version(version)).await.unwrap();
        let answer = rest(connection).await;
        assert_eq!((answer[0], &answer[5..]), (21, &[2, alert][..]), "TLS 1.{}", version - 1);
    }
    for garbage in [REQUEST, &[0; 100], &[0xff; 20_000], b"\x16\x03\x01\xff\xff\x01"] {
        let mut connection = TcpStream::connect(edge.address).await.unwrap();
        connection.write_all(garbage).await.ok();
        connection.shutdown().await.ok();
        let answer = rest(connection).await;
        assert!(!answer.windows(4).any(|part| part == b"HTTP"), "{answer:?}");
    }

    handshakes_reach(&edge, "failed", failed + 6).await;
    live.send(Message::text("40/unknown,")).await.unwrap();
    let open = within("a frame", live.next()).await.unwrap().unwrap();
    assert!(open.to_text().unwrap().starts_with("0{\"sid\""), "{open}");
    let answer = within("a frame", live.next()).await.unwrap().unwrap();
    assert!(answer.to_text().unwrap().starts_with("44/unknown,"), "{answer}");
    assert!(asked(edge.address, &config).await.unwrap().starts_with("HTTP/1.1 200"));
}

/// The first message of a client that speaks no version above 1.0 (1) or 1.1 (2).
fn hello_of_version(version: u8) -> Vec<u8> {
    let mut hello = vec![3, version];
    hello.extend([7; 32]);
    // No session, one cipher, no compression, and one extension: signatures by ECDSA with SHA-256.
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let message = [&[1, 0, 0, u8::try_from(hello.len()).unwrap()], &hello[..]].concat();
    [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat()
}

#[tokio::test]
async fn a_client_that_is_slow_to_shake_hands_is_cut_off() {
    let (edge, files) = start(&["--edge-tls-handshake-timeout=300ms"]).await;
    let timeouts = handshakes(&edge, "timeout").await;
    let mut slow = TcpStream::connect(edge.address).await.unwrap();
    let hello = hello_of_version(3);
    slow.write_all(&hello[..20]).await.unwrap();

    assert_eq!(rest(slow).await, b"");

    handshakes_reach(&edge, "timeout", timeouts + 1).await;
    let config = Arc::new(trusting(&[&files.certificate]));
    assert!(asked(edge.address, &config).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn so_many_may_shake_hands_and_no_more() {
    let (edge, files) =
        start(&["--edge-tls-handshakes-max=2", "--edge-tls-handshake-timeout=1h"]).await;
    let hits = "sockeye_edge_limit_hits_total{limit=\"tls_handshakes\"}";
    let before = count(&edge, hits).await;
    let config = Arc::new(trusting(&[&files.certificate]));
    let first = TcpStream::connect(edge.address).await.unwrap();
    // The second of two has its turn: it shakes hands, and is out of the way.
    assert!(asked(edge.address, &config).await.unwrap().starts_with("HTTP/1.1 200"));
    let second = TcpStream::connect(edge.address).await.unwrap();

    let third = TcpStream::connect(edge.address).await.unwrap();
    assert_eq!(rest(third).await, b"");

    assert!(count(&edge, hits).await > before);
    drop(second);
    within("room", async {
        while asked(edge.address, &config).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(first);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_clients_and_live_connections_stay() {
    let (edge, mut files) = start(&[]).await;
    let old = files.certificate.clone();
    let live = within("a handshake", connect(edge.address, &Arc::new(trusting(&[&old])))).await;
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", edge.address);
    let upgrade = Box::pin(client_async(url, live.unwrap()));
    let (mut live, _) = within("an upgrade", upgrade).await.unwrap();
    let loaded = "sockeye_file_reloads_total{files=\"edge_tls\",outcome=\"failed\"}";
    let failed = count(&edge, loaded).await;

    files.replace();

    // A configuration of its own each time: a resumed session shows no certificate.
    let shows_new = async || {
        let config = Arc::new(trusting(&[&files.certificate]));
        connect(edge.address, &config).await.is_ok()
    };
    within("the new certificate", async {
        while !shows_new().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(connect(edge.address, &Arc::new(trusting(&[&old]))).await.is_err());

    files.break_key();

    within("a failure that is counted", async {
        while count(&edge, loaded).await == failed {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(shows_new().await);
    live.send(Message::text("40/unknown,")).await.unwrap();
    for beginning in ["0{\"sid\"", "44/unknown,"] {
        let frame = within("a frame", live.next()).await.unwrap().unwrap();
        assert!(frame.to_text().unwrap().starts_with(beginning), "{frame}");
    }
}

#[tokio::test]
async fn browsers_are_told_to_come_by_tls_where_that_is_set() {
    let (edge, files) = start(&["--edge-hsts-seconds=31536000"]).await;
    let (silent, other_files) = start(&[]).await;

    let config = Arc::new(trusting(&[&files.certificate, &other_files.certificate]));
    let told = asked(edge.address, &config).await.unwrap();
    let not_told = asked(silent.address, &config).await.unwrap();

    assert!(told.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{told}");
    assert!(!not_told.contains("strict-transport-security"), "{not_told}");
    for answer in [told, not_told] {
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn plaintext_is_answered_where_there_is_no_tls_only() {
    let (edge, _files) = start(&[]).await;

    let mut connection = TcpStream::connect(edge.address).await.unwrap();
    connection
        .write_all(format!("GET {POLLING} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .await
        .unwrap();

    // An alert, and no HTTP.
    assert_eq!(rest(connection).await.first(), Some(&21));
}
