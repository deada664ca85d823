//! How many answers are waited for, of business services and of clients.

use proto::edge::v1::{AckRequest, Acknowledge, Audience, Emit, edge_event, instruction::Kind};

use crate::support::{Edge, Stream, limit_hits};

/// For clients that do not answer them.
const NO_PINGS: &str = "--edge-ping-interval=1h";

#[tokio::test]
async fn so_many_events_wait_for_answers_and_no_more() {
    let flags = ["--edge-events-per-second=100000", "--edge-events-burst=100000", NO_PINGS];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let (mut other, _) = edge.in_chat(&mut stream, "bob").await;

    for id in 0..=1024 {
        client.send(&format!(r#"42/chat,{id}["e"]"#)).await;
    }

    let refused = client.text().await;
    assert!(refused.starts_with(r#"43/chat,1024[{"error":{"code":"rate_limited""#), "{refused}");
    for id in 0..1024 {
        assert_eq!(stream.event().await.1.ack_id, Some(id));
    }
    client.send(r#"42/chat,["no answer wanted"]"#).await;
    assert_eq!(stream.event().await.1.name, "no answer wanted");
    other.send(r#"42/chat,1["of another"]"#).await;
    assert_eq!(stream.event().await.1.name, "of another");
    let answer = Acknowledge { socket, ack_id: 0, args: "[]".into(), attachments: Vec::new() };
    stream.instruct([Kind::Acknowledge(answer)]).await;
    assert_eq!(client.text().await, "43/chat,0[]");
    client.send(r#"42/chat,1025["e"]"#).await;
    assert_eq!(stream.event().await.1.ack_id, Some(1025), "there is room for one again");
    assert!(limit_hits(edge.ops, "acks").await > 0);
}

/// The number of a question that is done, how many were asked, and how many have answered.
async fn finished(stream: &mut Stream) -> (u64, u32, u32) {
    match stream.next().await.kind {
        Some(edge_event::Kind::AckFinished(finished)) => {
            (finished.tag, finished.asked, finished.answered)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn so_many_answers_of_clients_are_waited_for_and_no_more() {
    let (edge, mut stream) = Edge::attached(&["--edge-awaited-answers-max=2", NO_PINGS]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let asking = |tag| {
        let ask = Some(AckRequest { tag, timeout_ms: 60_000 });
        let audience = Some(Audience {
            namespace: "/chat".into(),
            sockets: vec![socket],
            ..Audience::default()
        });
        Kind::Emit(Emit { audience, event: "e".into(), args: "[]".into(), ask, ..Emit::default() })
    };

    stream.instruct([asking(1), asking(2), asking(3)]).await;

    assert_eq!(client.text().await, r#"42/chat,1["e"]"#);
    assert_eq!(client.text().await, r#"42/chat,2["e"]"#);
    assert_eq!(client.text().await, r#"42/chat,["e"]"#, "sent, and not asked about");
    assert_eq!(finished(&mut stream).await, (3, 1, 0));
    assert!(limit_hits(edge.ops, "awaited_answers").await > 0);
    client.send("43/chat,1[]").await;
    let answer = stream.next().await.kind;
    assert!(matches!(&answer, Some(edge_event::Kind::Ack(ack)) if ack.tag == 1), "{answer:?}");
    assert_eq!(finished(&mut stream).await, (1, 1, 1));
    stream.instruct([asking(4)]).await;
    assert_eq!(client.text().await, r#"42/chat,3["e"]"#, "there is room for one again");
}
