//! Rooms in which so much is said that the edge holds events back to write several of them at once.

use serde_json::json;

use crate::support::{Cluster, SocketIoClient};

const MEMBERS: usize = 40;
const SPEAKERS: usize = 4;
/// How many messages each speaker has under way.
const MESSAGES: usize = 100;

const COALESCED: &str = "sockeye_edge_coalesced_passes_total";

async fn crowded(coalesce_max: &str) -> (Cluster, Vec<SocketIoClient>) {
    let builder = Cluster::builder().edge("--edge-coalesce-max", coalesce_max);
    let cluster = builder.edge("--edge-events-burst", 1_000_000).start().await;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let mut member = cluster.socket_io(&format!("member-{number}")).await;
        member.request("join", json!("lobby")).await;
        members.push(member);
    }
    (cluster, members)
}

/// Has each speaker say as much at once as fits, and checks that each member gets all of it, and in the order in which each speaker
/// has said it.
async fn talk(members: &mut [SocketIoClient], round: usize) {
    for (speaker, member) in members.iter_mut().enumerate().take(SPEAKERS) {
        for number in 0..MESSAGES {
            let text = format!("{speaker} {round} {number}");
            member.emit("message", json!({"room": "lobby", "text": text})).await;
        }
    }
    for member in members {
        let mut heard = [0; SPEAKERS];
        for _ in 0..SPEAKERS * MESSAGES {
            let message = member.event("message").await;
            let text = message["text"].as_str().unwrap();
            let speaker: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(text, format!("{speaker} {round} {}", heard[speaker]));
            heard[speaker] += 1;
        }
        assert_eq!(heard, [MESSAGES; SPEAKERS]);
    }
}

#[tokio::test]
async fn much_that_is_said_in_one_room_is_held_back_and_nothing_is_lost_or_out_of_order() {
    let (cluster, mut members) = crowded("3ms").await;

    for round in 0..20 {
        talk(&mut members, round).await;
        if cluster.metric(COALESCED, &[]).await.is_some_and(|count| count >= 1.0) {
            return;
        }
    }
    panic!("nothing was held back");
}

#[tokio::test]
async fn nothing_is_held_back_where_the_settings_say_so() {
    let (cluster, mut members) = crowded("0s").await;

    for round in 0..3 {
        talk(&mut members, round).await;
    }

    assert_eq!(cluster.metric(COALESCED, &[]).await.unwrap_or_default(), 0.0);
}
