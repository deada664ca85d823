//! Bodies of very many packets.

use crate::support::{
    Edge,
    poller::{Poller, ok},
};

const PACKETS: usize = 100_000;

#[tokio::test]
async fn a_hundred_thousand_packets_in_one_post_hurt_nobody() {
    let large = "--edge-unauthenticated-payload-bytes-max=1000000";
    let (edge, mut stream) = Edge::attached(&[large]).await;
    let (mut good, _) = edge.in_chat(&mut stream, "good").await;
    let pongs = Poller::open(&edge).await;
    let events = Poller::open(&edge).await;

    let body = |packet| vec![packet; PACKETS].join("\u{1e}");
    let (many_pongs, many_events) = (body("3"), body("42[]"));

    let (pongs_answer, events_answer) =
        tokio::join!(pongs.post(&many_pongs), events.post(&many_events));

    assert_eq!(pongs_answer, ok());
    assert_ne!(events_answer.0, 413, "the body is not too large to be read");
    assert_eq!(pongs.post("3").await, ok(), "its session goes on");
    assert_eq!(events.post("3").await.0, 400, "its session has ended");
    good.send(r#"42/chat,["e"]"#).await;
    stream.event().await;
}
