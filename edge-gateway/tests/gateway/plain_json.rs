//! What is particular to plain JSON: answers both ways, attachments, heartbeats, and an answer to every mistake.

use futures_util::{SinkExt, StreamExt};
use proto::edge::v1::{AckRequest, Acknowledge, Audience, Emit, edge_event, instruction::Kind};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Edge, Stream, within};

const ONE: &str = r#"{"event":"a","data":{"_placeholder":true,"num":0},"attachments":1,"id":7}"#;

fn ask(tag: u64) -> Kind {
    let audience =
        Audience { namespace: "/chat".to_owned(), everyone: true, ..Audience::default() };
    Kind::Emit(Emit {
        audience: Some(audience),
        event: "ready?".to_owned(),
        args: "[1]".into(),
        ask: Some(AckRequest { tag, timeout_ms: 0 }),
        ..Emit::default()
    })
}

async fn answer_to_ask(stream: &mut Stream) -> (u64, Value, Vec<bytes::Bytes>) {
    let event = stream.next().await;
    let Some(edge_event::Kind::Ack(ack)) = event.kind else { panic!("{event:?}") };
    (event.socket, serde_json::from_slice(&ack.args).unwrap(), ack.attachments)
}

async fn message(client: &mut Client) -> Value {
    serde_json::from_str(&client.text().await).unwrap()
}

#[tokio::test]
async fn a_backend_asks_clients_of_both_kinds_at_once() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut json, one) = edge.json_in_chat(&mut stream, "alice").await;
    let (mut other, two) = edge.json_in_chat(&mut stream, "bob").await;
    let (mut socket_io, three) = edge.in_chat(&mut stream, "carol").await;

    stream.instruct([ask(77)]).await;
    let question = json.text().await;
    assert_eq!(question, r#"{"event":"ready?","data":1,"id":1}"#);
    assert_eq!(other.text().await, question, "one encoding for all");
    assert_eq!(socket_io.text().await, r#"42/chat,1["ready?",1]"#);

    json.send(r#"{"id":1,"data":{"_placeholder":true,"num":0},"attachments":1}"#).await;
    json.send_binary(b"yes").await;
    let placeholder = json!([{"_placeholder": true, "num": 0}]);
    assert_eq!(answer_to_ask(&mut stream).await, (one, placeholder, vec!["yes".into()]));
    other.send(r#"{"id":1,"error":{"code":"busy"}}"#).await;
    let error = json!([{"error": {"code": "busy"}}]);
    assert_eq!(answer_to_ask(&mut stream).await, (two, error, vec![]));
    socket_io.send("43/chat,1[]").await;
    assert_eq!(answer_to_ask(&mut stream).await, (three, json!([]), vec![]));

    let finished = stream.next().await.kind;
    let Some(edge_event::Kind::AckFinished(finished)) = finished else { panic!("{finished:?}") };
    assert_eq!((finished.tag, finished.asked, finished.answered), (77, 3, 3));
}

#[tokio::test]
async fn ids_of_the_two_sides_do_not_meet() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.json_in_chat(&mut stream, "alice").await;
    stream.instruct([ask(5)]).await;
    assert_eq!(message(&mut client).await["id"], 1);

    client.send(r#"{"event":"mine","id":1}"#).await;
    client.send(r#"{"id":4711,"data":"nobody asked"}"#).await;
    client.send(r#"{"id":1,"data":"yours"}"#).await;

    let (_, event) = stream.event().await;
    assert_eq!(event.name, "mine");
    assert_eq!(answer_to_ask(&mut stream).await, (socket, json!(["yours"]), vec![]));
    stream.next().await;
    let ack_id = event.ack_id.unwrap();
    let ack = Acknowledge { socket, ack_id, args: "[2]".into(), ..Acknowledge::default() };
    stream.instruct([Kind::Acknowledge(ack)]).await;
    assert_eq!(client.text().await, r#"{"id":1,"data":2}"#);
}

#[tokio::test]
async fn attachments_travel_both_ways() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.json_in_chat(&mut stream, "alice").await;

    client.send(ONE).await;
    client.send_binary(b"{}").await;
    let (_, event) = stream.event().await;
    assert_eq!(&event.args[..], br#"[{"_placeholder":true,"num":0}]"#);
    assert_eq!(event.attachments, ["{}"]);

    let (args, attachments) = (event.args, event.attachments);
    let ack = Acknowledge { socket, ack_id: event.ack_id.unwrap(), args, attachments };
    stream.instruct([Kind::Acknowledge(ack)]).await;
    let answer = r#"{"id":7,"data":{"_placeholder":true,"num":0},"attachments":1}"#;
    assert_eq!(client.text().await, answer);
    assert_eq!(client.binary().await, "{}");

    client.send_binary(br#"{"event":"text in a binary frame"}"#).await;
    assert_eq!(stream.event().await.1.name, "text in a binary frame");
}

#[tokio::test]
async fn an_answer_that_cannot_be_passed_on_is_answered_all_the_same() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.json_in_chat(&mut stream, "alice").await;
    client.send(r#"{"event":"a","id":"x"}"#).await;
    let ack_id = stream.event().await.1.ack_id.unwrap();

    let ack = Acknowledge { socket, ack_id, args: "{}".into(), ..Acknowledge::default() };
    stream.instruct([Kind::Acknowledge(ack)]).await;

    let answer = message(&mut client).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("x"), &json!("unavailable")));
}

#[tokio::test]
async fn every_mistake_is_answered_under_its_id_if_it_has_one() {
    let flags = ["--edge-events-burst=1000", "--edge-events-per-second=1000"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;
    let name = "n".repeat(257);
    let id = "1".repeat(129);
    let cases = [
        ("", Value::Null),
        ("nonsense", Value::Null),
        ("[]", Value::Null),
        ("null", Value::Null),
        (r#"{"event":"a","id":7}}"#, Value::Null),
        ("{}", Value::Null),
        (r#"{"id":7}"#, json!(7)),
        (r#"{"id":"x","data":1}"#, json!("x")),
        (r#"{"event":5,"id":7}"#, json!(7)),
        (&format!(r#"{{"event":"{name}","id":7}}"#), json!(7)),
        (r#"{"event":"a","id":null}"#, Value::Null),
        (r#"{"event":"a","id":[7]}"#, Value::Null),
        (&format!(r#"{{"event":"a","id":{id}}}"#), Value::Null),
    ];

    for (text, id) in cases {
        client.send(text).await;
        assert_refused(&message(&mut client).await, &id, text);
    }
    client.send_binary(b"\xff").await;
    assert_refused(&message(&mut client).await, &Value::Null, "a binary frame");
    // What follows a message that is refused is skipped.
    client.send(&ONE.replace(r#""num":0"#, r#""num":1"#)).await;
    client.send_binary(br#"{"event":"not an event"}"#).await;
    assert_refused(&message(&mut client).await, &json!(7), "a placeholder");
    client.send(r#"{"event":"still here"}"#).await;
    assert_eq!(stream.event().await.1.name, "still here");
}

#[tokio::test]
async fn who_cannot_be_understood_any_more_is_told_and_closed() {
    let (edge, mut stream) = Edge::attached(&["--edge-payload-bytes-max=1000"]).await;
    let eleven = r#"{"event":"a","id":7,"attachments":11}"#;
    let cases: [(&str, Message, u16); 3] = [
        (eleven, Message::text("{}"), 4500),
        (ONE, Message::text(r#"{"event":"in between"}"#), 4500),
        (ONE, Message::binary(vec![0; 1000]), 1009),
    ];

    for (text, next, code) in cases {
        let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;
        client.send(text).await;
        // The connection may be over before this one is written.
        let _sent = client.stream.send(next).await;
        let (answers, closed) = client.until_its_end().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_refused(&serde_json::from_str(&answers[0]).unwrap(), &json!(7), text);
        assert_eq!(closed, Some(code), "{text}");
        stream.closed().await;
    }
}

#[tokio::test]
async fn attachments_that_do_not_come_in_time_are_not_waited_for() {
    let flags = ["--edge-ping-interval=60s", "--edge-ping-timeout=2s"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;
    client.send(ONE).await;
    client.send_binary(b"in time").await;
    stream.event().await;

    client.send(ONE).await;

    let (answers, code) = client.until_its_end().await;
    assert_refused(&serde_json::from_str(&answers[0]).unwrap(), &json!(7), "too late");
    assert_eq!((answers.len(), code), (1, Some(4500)));
}

#[tokio::test]
async fn too_many_events_are_refused_under_their_ids() {
    let flags = ["--edge-events-per-second=1", "--edge-events-burst=1"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut client, _) = edge.json_in_chat(&mut stream, "alice").await;

    client.send(r#"{"event":"a","id":"first"}"#).await;
    client.send(r#"{"event":"a","id":"second"}"#).await;

    let refused = message(&mut client).await;
    assert_eq!(refused["id"], "second", "{refused}");
    assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
    assert!(refused["error"]["retry_after_ms"].is_u64(), "{refused}");
}

#[tokio::test]
async fn pings_go_both_ways_and_who_is_silent_is_closed() {
    let flags = ["--edge-ping-interval=100ms", "--edge-ping-timeout=2s"];
    let (edge, mut stream) = Edge::attached(&flags).await;
    let (mut answers, _) = edge.json_in_chat(&mut stream, "alice").await;
    // It does not read, so its library answers no ping.
    let (mut silent, socket) = edge.json_in_chat(&mut stream, "bob").await;

    answers.stream.send(Message::Ping("hello".into())).await.unwrap();
    let (mut pings, mut pong) = (0, None);
    while pings < 6 || pong.is_none() {
        match within("a ping", answers.stream.next()).await {
            Some(Ok(Message::Ping(_))) => pings += 1,
            Some(Ok(Message::Pong(payload))) => pong = Some(payload),
            other => panic!("{other:?}"),
        }
    }

    assert_eq!(pong.unwrap(), "hello");
    assert_eq!(stream.closed().await, (socket, "ping_timeout".to_owned()));
    assert_eq!(silent.until_its_end().await, (vec![], Some(4002)));
}

fn assert_refused(answer: &Value, id: &Value, what: &str) {
    let error = if id.is_null() {
        assert_eq!(answer["event"], "exception", "{what}: {answer}");
        assert_eq!(answer["data"]["status"], "error", "{what}: {answer}");
        &answer["data"]
    } else {
        &answer["error"]
    };
    assert_eq!(&answer["id"], id, "{what}: {answer}");
    assert_eq!(error["code"], "bad_request", "{what}: {answer}");
    assert_eq!(error["retryable"], false, "{what}: {answer}");
    assert!(error["message"].is_string(), "{what}: {answer}");
}
