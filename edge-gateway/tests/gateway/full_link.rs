//! Clients that send more than their link to a business service has room for.

use std::time::Duration;

use proto::edge::v1::{AckRequest, Audience, Emit, instruction::Kind};
use tokio::time;

use crate::support::{Edge, Stream, within};

/// For clients that do not answer them.
const NO_PINGS: &str = "--edge-ping-interval=1h";

/// How much comes on a link, `least` of it for certain, until nothing does for a while.
async fn until_quiet(stream: &mut Stream, least: usize) -> usize {
    for _ in 0..least {
        stream.next().await;
    }
    let mut more = 0;
    while time::timeout(Duration::from_millis(300), stream.next()).await.is_ok() {
        more += 1;
    }
    least + more
}

#[tokio::test]
async fn a_full_link_slows_the_clients_that_use_it() {
    let flags = ["--edge-events-per-second=100000", "--edge-events-burst=100000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.in_chat(&mut stream, "alice").await;
    stream.acknowledges = false;
    let event = format!(r#"42/chat,["big","{}"]"#, "x".repeat(100_000));

    // 40 MB are more than the link's 4 MiB and the kernel's buffers together.
    let flood = tokio::spawn(async move {
        for _ in 0..400 {
            client.send(&event).await;
        }
        client
    });
    let passed = until_quiet(&mut stream, 40).await;
    assert!(passed < 100, "{passed}: nothing is read beyond the link's bound");
    assert!(!flood.is_finished());

    stream.acknowledges = true;
    stream.instruct([]).await;
    for _ in passed..400 {
        stream.event().await;
    }
    within("the rest of the flood", flood).await.unwrap();
}

#[tokio::test]
async fn a_client_that_answers_is_slowed_by_a_full_link_too() {
    let (edge, mut stream) = Edge::attached(&[NO_PINGS]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    for tag in 1..=400 {
        let audience = Audience {
            namespace: "/chat".to_owned(),
            sockets: vec![socket],
            ..Audience::default()
        };
        let ask = Emit {
            audience: Some(audience),
            event: "ask".to_owned(),
            args: "[]".into(),
            ask: Some(AckRequest { tag, timeout_ms: 60_000 }),
            ..Emit::default()
        };
        stream.instruct([Kind::Emit(ask)]).await;
        client.text().await;
    }
    stream.acknowledges = false;
    let answer = "x".repeat(100_000);

    let flood = tokio::spawn(async move {
        for id in 1..=400 {
            client.send(&format!(r#"43/chat,{id}["{answer}"]"#)).await;
        }
        client
    });
    let passed = until_quiet(&mut stream, 80).await;
    assert!(passed < 200, "{passed}: nothing is read beyond the link's bound");
    assert!(!flood.is_finished());

    stream.acknowledges = true;
    stream.instruct([]).await;
    for _ in passed..800 {
        stream.next().await;
    }
    within("the rest of the flood", flood).await.unwrap();
}
