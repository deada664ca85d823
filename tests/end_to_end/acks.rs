//! Events and answers in both directions, between raw clients and a business service written from the contract.

use proto::edge::v1::edge_event::Kind;
use serde_json::json;

use crate::{
    echo_backend::{BANNED, EchoBackend, NAMESPACE, UNWANTED},
    support::{Cluster, JsonClient, SocketIoClient},
};

async fn cluster_with(echo: &EchoBackend) -> Cluster {
    Cluster::builder().route(NAMESPACE, echo.address()).start().await
}

#[tokio::test]
async fn arguments_come_back_byte_for_byte() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = cluster.socket_io_in(NAMESPACE, "alice").await;

    for arguments in [
        "",
        ",null",
        r#",1.0,12345678901234567890123,-0.0,1E400"#,
        r#",{"b":1,"a":{"b":2,"a":[]}},"two""#,
        r#","\u00e9\ud83d\ude00 é 😀 \" \\ \/""#,
        r#",false,0,"",[],{},"\ud800""#,
        // As deep as it may be.
        &format!(",{}{}", "[".repeat(64), "]".repeat(64)),
    ] {
        client.send(format!(r#"42/echo,12["echo"{arguments}]"#)).await;
        let expected = format!("43/echo,12[{}]", arguments.trim_start_matches(','));
        assert_eq!(client.frame().await, expected);

        client.send(format!(r#"42/echo,["echo"{arguments}]"#)).await;
        let expected = format!(r#"42/echo,["echo"{arguments}]"#);
        assert_eq!(client.frame().await, expected);
    }
}

#[tokio::test]
async fn a_backend_asks_and_hears_each_answer_and_the_end() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut asker = cluster.socket_io_in(NAMESPACE, "asker").await;
    let mut mute = cluster.socket_io_in(NAMESPACE, "mute").await;

    asker.emit("ask", json!("why?")).await;
    let question = asker.find(|packet| packet.kind == '2').await;
    let ack_id = question.ack_id.expect("the question asks for an answer");
    assert_eq!(question.data, json!(["question", "why?"]));
    assert_eq!(mute.event("question").await, "why?");
    asker.send(format!(r#"43/echo,{ack_id}["because",42]"#)).await;

    let answer = asker.find(|packet| packet.kind == '2').await;
    assert_eq!(answer.data, json!(["answer", "because", 42]));
    assert_eq!(asker.event("finished").await, json!({"asked": 2, "answered": 1}));
}

#[tokio::test]
async fn a_question_ends_early_when_those_who_did_not_answer_are_gone() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut asker = cluster.socket_io_in(NAMESPACE, "asker").await;
    let mut leaver = cluster.socket_io_in(NAMESPACE, "leaver").await;

    asker.emit("ask", json!("who stays?")).await;
    let question = asker.find(|packet| packet.kind == '2').await;
    leaver.event("question").await;
    leaver.close().await;
    asker.send(format!(r#"43/echo,{}["me"]"#, question.ack_id.unwrap())).await;

    assert_eq!(asker.event("answer").await, "me");
    assert_eq!(asker.event("finished").await, json!({"asked": 2, "answered": 1}));
}

#[tokio::test]
async fn answers_that_nobody_asked_for_are_ignored() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = cluster.socket_io_in(NAMESPACE, "alice").await;

    client.send(r#"43/echo,4711["nobody asked"]"#).await;

    assert_eq!(client.request("echo", json!("still here")).await, "still here");
}

#[tokio::test]
async fn a_backend_refuses_with_its_own_words_and_the_connection_stays() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.send(format!(r#"40/echo,{{"token":"{}"}}"#, cluster.mint.token(UNWANTED))).await;
    assert_eq!(client.frame().await, r#"44/echo,{"message":"No entry","data":{"why":"full"}}"#);

    let auth = json!({"token": cluster.mint.token("alice")});
    client.connect(NAMESPACE, &auth).await.unwrap();
    assert_eq!(client.request("echo", json!(1)).await, 1);
}

#[tokio::test]
async fn a_backend_lets_in_and_throws_out_and_the_connection_stays() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = SocketIoClient::open(cluster.clients).await;

    client.connect(NAMESPACE, &json!({"token": cluster.mint.token(BANNED)})).await.unwrap();
    assert_eq!(client.frame().await, "41/echo,");

    client.connect("/chat", &json!({"token": cluster.mint.token("alice")})).await.unwrap();
    client.request("join", json!("lobby")).await;
}

#[tokio::test]
async fn a_backend_disconnects_a_socket_after_its_answer() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = cluster.socket_io_in(NAMESPACE, "alice").await;

    client.send(r#"42/echo,5["throw me out"]"#).await;

    assert_eq!(client.frame().await, "41/echo,");
    client.connect(NAMESPACE, &json!({"token": cluster.mint.token("alice")})).await.unwrap();
}

#[tokio::test]
async fn a_backend_closes_a_connection_and_no_packet_says_so() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut client = cluster.socket_io_in(NAMESPACE, "alice").await;

    client.emit("close", json!(null)).await;

    assert_eq!(client.closed().await, (vec![], Some(4007)));
}

#[tokio::test]
async fn rooms_users_and_exceptions_name_an_audience() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut alice = cluster.socket_io_in(NAMESPACE, "alice").await;
    let mut bob = cluster.socket_io_in(NAMESPACE, "bob").await;
    let mut carol = cluster.socket_io_in(NAMESPACE, "carol").await;
    alice.request("join", json!("den")).await;
    bob.request("join", json!("den")).await;

    alice.request("shout", json!("den")).await;
    alice.request("whisper", json!("carol")).await;
    bob.request("leave", json!("den")).await;
    alice.request("shout", json!("den")).await;

    assert_eq!(bob.frame().await, r#"42/echo,["shout","den"]"#);
    assert_eq!(carol.frame().await, r#"42/echo,["whisper","carol"]"#);
    for client in [&mut alice, &mut bob, &mut carol] {
        client.send(r#"42/echo,99["echo"]"#).await;
        assert_eq!(client.frame().await, "43/echo,99[]", "nothing else has arrived");
    }
}

#[tokio::test]
async fn an_event_that_the_backend_never_answers_is_answered_by_the_edge() {
    let echo = EchoBackend::start().await;
    let cluster = Cluster::builder()
        .route(NAMESPACE, echo.address())
        .edge("--edge-event-timeout", "2s")
        .start()
        .await;
    let mut client = cluster.socket_io_in(NAMESPACE, "alice").await;

    let answer = client.request("silence", json!(null)).await;

    assert_eq!(answer["error"]["retryable"], true, "{answer}");
    assert!(
        ["timeout", "unavailable"].contains(&answer["error"]["code"].as_str().unwrap()),
        "{answer}"
    );
    assert_eq!(client.request("echo", json!(1)).await, 1);
}

#[tokio::test]
async fn a_backend_that_keeps_no_state_is_told_of_the_live_sockets_again() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut alice = cluster.socket_io_in(NAMESPACE, "alice").await;
    let mut bob = cluster.socket_io_in(NAMESPACE, "bob").await;
    alice.request("join", json!("den")).await;
    bob.request("join", json!("den")).await;
    bob.request("join", json!("loft")).await;
    alice.request("log", json!("den")).await;
    assert_eq!(bob.event("logged").await, "den");

    let address = echo.address();
    drop(echo);
    let echo = EchoBackend::start_at(address).await;

    let mut memberships = echo
        .saw("bob is announced", |event| match &event.kind {
            Some(Kind::Opened(opened)) if opened.identity.as_ref().unwrap().subject == "bob" => {
                assert!(opened.announced);
                Some(opened.memberships.clone())
            }
            _ => None,
        })
        .await;
    memberships.sort_by(|one, other| one.room.cmp(&other.room));
    let rooms: Vec<_> = memberships
        .iter()
        .map(|membership| (membership.room.as_str(), membership.position.as_str()))
        .collect();
    assert_eq!(rooms, [("den", "p1"), ("loft", "p0")]);
    alice.request("shout", json!("den")).await;
    assert_eq!(bob.frame().await, r#"42/echo,["shout","den"]"#);
}

#[tokio::test]
async fn a_backend_hears_why_a_socket_is_gone() {
    let echo = EchoBackend::start().await;
    let cluster = cluster_with(&echo).await;
    let mut polite = cluster.socket_io_in(NAMESPACE, "polite").await;
    polite.request("echo", json!(1)).await;

    polite.send("41/echo,").await;

    let reason = echo
        .saw("the end of the socket", |event| match &event.kind {
            Some(Kind::Closed(closed)) => Some(closed.reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, "client_disconnect");
}

#[tokio::test]
async fn plain_json_clients_talk_to_any_backend() {
    let echo = EchoBackend::start().await;
    let cluster = Cluster::builder()
        .route(NAMESPACE, echo.address())
        .edge("--edge-ws-namespace", NAMESPACE)
        .start()
        .await;
    let mut client = JsonClient::enter(cluster.clients, &cluster.mint.token("alice")).await;

    assert_eq!(client.request("echo", json!({"n": 1})).await, Ok(json!({"n": 1})));
    client.emit("echo", json!([1, 2])).await;
    assert_eq!(client.message().await, json!({"event": "echo", "data": [1, 2]}));
    client.send(r#"{"id":"my own","event":"echo","data":12345678901234567890}"#).await;
    assert_eq!(
        client.message().await.to_string(),
        r#"{"data":12345678901234567890,"id":"my own"}"#
    );
}
