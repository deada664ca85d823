//! Chatting in rooms, with clients of both kinds.

use serde_json::{Value, json};

use crate::support::{Cluster, JsonClient, SocketIoClient};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn profile(subject: &str) -> Value {
    json!({"id": subject, "name": subject})
}

/// Alice over Socket.IO and Bob over plain JSON, both in the lobby, with nothing unread.
async fn alice_and_bob(cluster: &Cluster) -> (SocketIoClient, JsonClient) {
    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", json!("lobby")).await;
    let mut bob = cluster.json("bob").await;
    bob.request("join", json!("lobby")).await.unwrap();
    alice.event("presence").await;
    alice.unread_events().await;
    (alice, bob)
}

#[tokio::test]
async fn a_message_reaches_everyone_in_the_room_whatever_they_speak() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;

    let answer = bob.request("message", json!({"room": "lobby", "text": "hello"})).await.unwrap();
    let to_alice = alice.event("message").await;
    let to_bob = bob.event("message").await;

    assert_eq!(keys(&answer), ["at", "durability", "id", "position"]);
    let expected = json!({
        "room": "lobby",
        "id": answer["id"],
        "user": profile("bob"),
        "text": "hello",
        "at": answer["at"],
        "position": answer["position"],
    });
    assert_eq!(to_alice, expected);
    assert_eq!(to_bob, expected);
}

#[tokio::test]
async fn the_sender_has_its_answer_after_the_message_itself() {
    let cluster = Cluster::start().await;
    let (mut alice, _bob) = alice_and_bob(&cluster).await;

    alice.send(r#"42/chat,77["message",{"room":"lobby","text":"hi","id":"m-1"}]"#).await;

    let first = alice.frame().await;
    assert!(first.starts_with(r#"42/chat,["message",{"#), "{first}");
    let second = alice.frame().await;
    assert!(second.starts_with(r#"43/chat,77[{"#), "{second}");
}

#[tokio::test]
async fn whoever_joins_learns_who_is_here_and_the_others_learn_of_it() {
    let cluster = Cluster::start().await;
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;

    let for_alice = alice.request("join", json!("lobby")).await;
    let for_bob = bob.request("join", json!({"room": "lobby"})).await.unwrap();

    assert_eq!(keys(&for_alice), ["members", "position", "room"]);
    assert_eq!(for_alice["room"], "lobby");
    assert_eq!(for_alice["members"], json!([profile("alice")]));
    assert_eq!(for_bob["members"], json!([profile("alice"), profile("bob")]));
    let change = json!({"room": "lobby", "joined": [profile("bob")], "left": [], "count": 2});
    assert_eq!(alice.event("presence").await, change);
}

#[tokio::test]
async fn a_user_with_two_tabs_comes_and_goes_once() {
    let cluster = Cluster::builder().chat("--chat-presence-grace=0s").start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;
    let mut second_tab = cluster.socket_io("bob").await;
    second_tab.request("join", json!("lobby")).await;

    bob.request("leave", json!("lobby")).await.unwrap();
    assert_eq!(alice.unread_events().await, [] as [&str; 0]);
    let here = alice.request("presence", json!("lobby")).await;
    assert_eq!(here, json!({"users": [profile("alice"), profile("bob")], "count": 2}));

    second_tab.close().await;
    let change = json!({"room": "lobby", "joined": [], "left": [profile("bob")], "count": 1});
    assert_eq!(alice.event("presence").await, change);
}

#[tokio::test]
async fn nobody_notices_that_a_page_is_loaded_anew() {
    let cluster = Cluster::builder().chat("--chat-presence-grace=1h").start().await;
    let (mut alice, bob) = alice_and_bob(&cluster).await;

    bob.close().await;
    let mut again = cluster.json("bob").await;
    again.request("join", json!("lobby")).await.unwrap();

    let here = alice.request("presence", json!("lobby")).await;
    assert_eq!(here, json!({"users": [profile("alice"), profile("bob")], "count": 2}));
    assert_eq!(alice.unread_events().await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_client_that_leaves_gets_nothing_more_and_may_not_post() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;

    assert_eq!(bob.request("leave", json!({"room": "lobby"})).await, Ok(json!({"room": "lobby"})));
    alice.request("message", json!({"room": "lobby", "text": "alone"})).await;

    let refused =
        bob.request("message", json!({"room": "lobby", "text": "me too"})).await.unwrap_err();
    assert_eq!(refused["code"], "not_a_member");
    let answer = bob.request("join", json!("lobby")).await.unwrap();
    assert_eq!(answer["room"], "lobby", "and no message came before this answer");
}

#[tokio::test]
async fn rooms_do_not_hear_one_another() {
    let cluster = Cluster::start().await;
    let (mut alice, _bob) = alice_and_bob(&cluster).await;
    let mut carol = cluster.socket_io("carol").await;
    carol.request("join", json!("attic")).await;

    alice.request("message", json!({"room": "lobby", "text": "only here"})).await;
    alice.request("typing", json!({"room": "lobby", "typing": true})).await;

    assert_eq!(carol.unread_events().await, [] as [&str; 0]);
}

#[tokio::test]
async fn typing_reaches_the_others() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;

    bob.emit("typing", json!({"room": "lobby", "typing": true})).await;

    let expected = json!({"room": "lobby", "user": profile("bob"), "typing": true});
    assert_eq!(alice.event("typing").await, expected);
    assert_eq!(
        bob.request("typing", json!({"room": "lobby", "typing": false})).await,
        Ok(json!({}))
    );
}

#[tokio::test]
async fn a_message_sent_twice_with_one_id_is_one_message() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;
    let message = json!({"room": "lobby", "text": "once", "id": "retry-1"});

    let first = bob.request("message", message.clone()).await.unwrap();
    let second = bob.request("message", message).await.unwrap();

    assert_eq!(first, second);
    assert_eq!(first["id"], "retry-1");
    alice.event("message").await;
    assert_eq!(alice.unread_events().await, [] as [&str; 0]);
    let history = alice.request("history", json!({"room": "lobby"})).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn history_pages_through_the_log_in_its_order() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;
    let mut positions = Vec::new();
    for number in 0..5 {
        let text = format!("number {number}");
        let answer = bob.request("message", json!({"room": "lobby", "text": text})).await.unwrap();
        positions.push(answer["position"].clone());
    }

    let texts = |page: &Value| -> Vec<Value> {
        page["messages"].as_array().unwrap().iter().map(|message| message["text"].clone()).collect()
    };
    let newest = alice.request("history", json!({"room": "lobby", "limit": 2})).await;
    let before = json!({"room": "lobby", "before": positions[3], "limit": 10});
    let older = alice.request("history", before).await;
    let after = json!({"room": "lobby", "after": positions[0], "limit": 2});
    let newer = alice.request("history", after).await;

    assert_eq!(
        (texts(&newest), &newest["more"]),
        (vec![json!("number 3"), json!("number 4")], &json!(true))
    );
    assert_eq!(
        (texts(&older), &older["more"]),
        (vec![json!("number 0"), json!("number 1"), json!("number 2")], &json!(false))
    );
    assert_eq!(
        (texts(&newer), &newer["more"]),
        (vec![json!("number 1"), json!("number 2")], &json!(true))
    );
    assert_eq!(newest["messages"][1]["user"], profile("bob"));
}

#[tokio::test]
async fn whoever_comes_back_gets_what_was_missed() {
    let cluster = Cluster::start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;
    let seen = bob.request("message", json!({"room": "lobby", "text": "seen"})).await.unwrap();
    let joined_again = json!({"room": "lobby", "since": seen["position"]});
    bob.request("leave", json!("lobby")).await.unwrap();
    alice.request("message", json!({"room": "lobby", "text": "missed"})).await;

    let back = bob.request("join", joined_again).await.unwrap();
    assert_eq!(back["recovered"], true);
    assert_eq!(back["messages"].as_array().map(Vec::len), Some(1), "{back}");
    assert_eq!(back["messages"][0]["text"], "missed");

    let lost = bob.request("join", json!({"room": "lobby", "since": "not a position"})).await;
    assert!(lost.as_ref().map_or(true, |answer| answer["recovered"] == false), "{lost:?}");
}

#[tokio::test]
async fn one_order_for_everyone_in_the_room() {
    let cluster = Cluster::builder().edge("--edge-shards", 2).start().await;
    let mut listeners = Vec::new();
    for number in 0..4 {
        let mut listener = cluster.socket_io(&format!("listener-{number}")).await;
        listener.request("join", json!("lobby")).await;
        listeners.push(listener);
    }
    let mut alice = cluster.socket_io("alice").await;
    let mut bob = cluster.json("bob").await;
    alice.request("join", json!("lobby")).await;
    bob.request("join", json!("lobby")).await.unwrap();

    for number in 0..30 {
        alice.emit("message", json!({"room": "lobby", "text": format!("a{number}")})).await;
        bob.emit("message", json!({"room": "lobby", "text": format!("b{number}")})).await;
    }

    let mut orders = Vec::new();
    for listener in &mut listeners {
        let mut order = Vec::new();
        for _ in 0..60 {
            let message = listener.event("message").await;
            order.push(message["text"].as_str().unwrap().to_owned());
        }
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    for sender in ["a", "b"] {
        let own: Vec<_> =
            orders[0].iter().filter(|text| text.starts_with(sender)).cloned().collect();
        let expected: Vec<_> = (0..30).map(|number| format!("{sender}{number}")).collect();
        assert_eq!(own, expected);
    }
}

#[tokio::test]
async fn the_all_in_one_does_the_same() {
    let cluster = Cluster::builder().in_one_process().start().await;
    let (mut alice, mut bob) = alice_and_bob(&cluster).await;

    bob.request("message", json!({"room": "lobby", "text": "one process"})).await.unwrap();

    assert_eq!(alice.event("message").await["text"], "one process");
}
