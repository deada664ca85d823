//! The chat service is killed and comes back under traffic, and no client notices more than a late answer.

mod silence;
mod traffic;

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use self::traffic::{Account, Member, ROOM, assert_consistent, members};
use crate::support::{Cluster, ClusterBuilder, Program, SocketIoClient, eventually};

/// What happens to the chat service under traffic, and how often.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It is killed and started again.
    Restarts(usize),
    /// It stands still until its edge has given up the links, and goes on.
    Silences(usize),
}

const RESTARTS: Trouble = Trouble::Restarts(5);
const ACKNOWLEDGED_BETWEEN_MIN: usize = 200;

impl Trouble {
    fn count(self) -> usize {
        match self {
            Self::Restarts(count) | Self::Silences(count) => count,
        }
    }

    async fn strike(self, cluster: &mut Cluster) {
        match self {
            Self::Restarts(_) => {
                cluster.kill(Program::ChatService);
                cluster.start_again(Program::ChatService).await;
            }
            Self::Silences(_) => {
                cluster.process(Program::ChatService).pause();
                silence::noticed(cluster).await;
                cluster.process(Program::ChatService).go_on();
            }
        }
    }
}

/// Has the chat service in trouble while everyone talks. Returns the members and what each sent and saw.
async fn trouble_under_traffic(cluster: &mut Cluster, trouble: Trouble) -> Vec<(Member, Account)> {
    let (stop, stopped) = watch::channel(false);
    let (acknowledged, progress) = watch::channel(0);
    let mut talks = JoinSet::new();
    for (name, member) in members(cluster).await {
        let (stopped, acknowledged) = (stopped.clone(), acknowledged.clone());
        talks.spawn(async move { member.talk(&name, stopped, acknowledged).await });
    }
    let progressed = async || {
        let enough = *progress.borrow() + ACKNOWLEDGED_BETWEEN_MIN;
        eventually("messages are acknowledged", async || {
            (*progress.borrow() >= enough).then_some(())
        })
        .await;
    };

    progressed().await;
    for _ in 0..trouble.count() {
        trouble.strike(cluster).await;
        progressed().await;
    }
    stop.send_replace(true);
    talks.join_all().await
}

async fn survives_under_traffic(
    trouble: Trouble,
    cluster: ClusterBuilder,
    shards: usize,
) -> Vec<Account> {
    let mut cluster = cluster
        .edge("--edge-shards", shards)
        .edge("--edge-events-per-second", 100_000)
        .edge("--edge-events-burst", 100_000)
        .start()
        .await;

    let mut talked = trouble_under_traffic(&mut cluster, trouble).await;
    talked[0].0.ask("the last", true).await;
    let mut accounts = Vec::new();
    let mut still_connected = Vec::new();
    for (member, account) in talked {
        let (member, account) = member.hear_to_the_end(account, "the last").await;
        still_connected.push(member);
        accounts.push(account);
    }

    assert_consistent(&accounts);
    let acknowledged: usize = accounts.iter().map(|account| account.acknowledged().count()).sum();
    assert!(acknowledged >= ACKNOWLEDGED_BETWEEN_MIN * (trouble.count() + 1));
    let connections = cluster.metric("sockeye_edge_connections", &[]).await;
    assert_eq!(connections, Some(still_connected.len() as f64));
    accounts
}

#[tokio::test]
async fn a_chat_service_that_is_killed_under_traffic_costs_no_connection_and_no_certainty() {
    let accounts = survives_under_traffic(RESTARTS, Cluster::builder(), 1).await;

    for account in &accounts {
        assert_eq!(
            account.messages(),
            accounts[0].messages(),
            "one order for all on the one shard"
        );
        for sender in &accounts {
            assert_eq!(
                account.missing(sender),
                [] as [&str; 0],
                "acknowledged, and delivered before that"
            );
        }
    }
}

/// Everything is acknowledged, and seen by everyone once, in one order.
async fn survives_with_nothing_lost(trouble: Trouble) {
    // Longer than a busy machine takes for a restart, and more than a room is sent meanwhile.
    let cluster = Cluster::builder()
        .on_disk()
        .edge("--edge-event-timeout", "60s")
        .chat("--chat-history-count-max=1000000");

    let accounts = survives_under_traffic(trouble, cluster, 2).await;

    for account in &accounts {
        assert_eq!(account.unacknowledged(), [] as [&str; 0]);
        assert_eq!(account.messages(), accounts[0].messages(), "one order for all");
        assert!(!account.was_told_of_a_gap());
        for sender in &accounts {
            assert_eq!(account.missing(sender), [] as [&str; 0]);
        }
    }
}

#[tokio::test]
async fn with_its_rooms_on_disk_nothing_is_lost_or_doubled_and_nobody_is_told_to_try_again() {
    survives_with_nothing_lost(RESTARTS).await;
}

#[tokio::test]
async fn a_chat_service_that_falls_silent_under_traffic_loses_and_doubles_nothing_either() {
    survives_with_nothing_lost(Trouble::Silences(2)).await;
}

#[tokio::test]
async fn members_on_other_shards_are_told_where_they_may_have_missed_something() {
    let accounts = survives_under_traffic(RESTARTS, Cluster::builder(), 2).await;

    for account in &accounts {
        for sender in &accounts {
            for id in account.missing(sender) {
                assert!(account.was_told_of_a_gap_at(sender, id), "{id} is missing without a word");
            }
        }
    }
}

#[tokio::test]
async fn rooms_and_presence_are_there_again_after_a_restart() {
    let mut cluster = Cluster::builder().edge("--edge-shards", 2).start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    let mut idle = cluster.socket_io("idle").await;
    for room in ["lobby", "attic"] {
        alice.request("join", json!(room)).await;
    }
    bob.request("join", json!("lobby")).await.unwrap();
    idle.request("join", json!("lobby")).await;
    alice.event("presence").await;
    alice.event("presence").await;

    cluster.kill(Program::ChatService);
    cluster.start_again(Program::ChatService).await;

    let here = |count: u64| move |answer: &Value| answer["count"] == count;
    eventually("everyone is in the lobby again", async || {
        let answer = alice.request("presence", json!("lobby")).await;
        here(3)(&answer).then_some(())
    })
    .await;
    assert!(here(1)(&alice.request("presence", json!("attic")).await));
    bob.request("message", json!({"room": "lobby", "text": "after"})).await.unwrap();
    assert_eq!(alice.event("message").await["text"], "after");
    assert_eq!(idle.event("message").await["text"], "after");
    let refused = bob.request("message", json!({"room": "attic", "text": "no"})).await.unwrap_err();
    assert_eq!(refused["code"], "not_a_member");
    for unread in alice.unread_events().await {
        let is_gap = unread.starts_with(r#"42/chat,["exception",{"status":"error","code":"gap""#);
        assert!(is_gap, "nobody is said to have come or gone: {unread}");
    }
}

#[tokio::test]
async fn events_wait_for_a_chat_service_that_is_away_for_a_moment() {
    let mut cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", json!(ROOM)).await;
    cluster.kill(Program::ChatService);
    eventually("the link is down", async || {
        (crate::support::get(cluster.ops, "/readyz").await.status == 503).then_some(())
    })
    .await;

    alice.ask("message", json!({"room": ROOM, "text": "patient", "id": "patient"})).await;
    cluster.start_again(Program::ChatService).await;

    let answer = alice.find(|packet| packet.kind == '3').await;
    assert_eq!(answer.data[0]["id"], "patient", "{answer:?}");
    assert_eq!(alice.event("message").await["text"], "patient");
}

#[tokio::test]
async fn events_are_answered_when_the_chat_service_stays_away() {
    let mut cluster = Cluster::builder().edge("--edge-event-timeout", "2s").start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!(ROOM)).await;
    cluster.kill(Program::ChatService);

    let answer =
        alice.request("message", json!({"room": ROOM, "text": "lost", "id": "lost"})).await;
    let error = bob.request("join", json!(ROOM)).await.unwrap_err();
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["retryable"]),
        (&json!("unavailable"), &json!(true))
    );
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unavailable"), &json!(true)));

    cluster.start_again(Program::ChatService).await;
    let back = eventually("the chat service answers again", async || {
        let answer = alice.request("history", json!({"room": ROOM})).await;
        answer["messages"].is_array().then_some(answer)
    })
    .await;
    assert_eq!(back["messages"], json!([]), "an event that was given up has no effect");
}

#[tokio::test]
async fn a_new_client_waits_for_the_chat_service_or_is_told_to_retry() {
    let mut cluster = Cluster::builder().edge("--edge-connect-timeout", "2s").start().await;
    let token = cluster.mint.token("alice");
    cluster.kill(Program::ChatService);

    let mut client = SocketIoClient::open(cluster.clients).await;
    client.send(format!("40/chat,{}", json!({"token": token}))).await;
    let (frames, code) = client.closed().await;
    assert!(frames.is_empty(), "neither CONNECT_ERROR nor DISCONNECT: {frames:?}");
    assert!(code.is_some_and(|code| code < 4500), "{code:?}");

    cluster.start_again(Program::ChatService).await;
    cluster.ready().await;
    cluster.socket_io("alice").await;
}
