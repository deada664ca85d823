//! Clients that lose their connection, and come back as the same socket.

mod between_edges;
mod moves;
mod put_out;
mod recalls;
mod schedule;

use proto::edge::v1::{Accept, Audience, Emit, Join, edge_event, instruction::Kind};
use serde_json::Value;

use crate::support::{Client, Edge, Stream};

const TERMS: &str = "[namespace.'/chat']\nrecovery = '1m'";

/// What a client is told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    sid: String,
    pid: String,
}

impl Names {
    fn of(connected: &str) -> Self {
        let json: Value =
            serde_json::from_str(connected.strip_prefix("40/chat,").unwrap()).unwrap();
        let member = |name: &str| json[name].as_str().unwrap().to_owned();
        Self { sid: member("sid"), pid: member("pid") }
    }
}

async fn enter(edge: &Edge, stream: &mut Stream, subject: &str) -> (Client, u64, Names) {
    let mut client = edge.socket_io().await;
    client.send(&format!(r#"40/chat,{{"token":"ok:{subject}"}}"#)).await;
    let (socket, opened) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let names = Names::of(&client.packet().await);
    assert_eq!(names.sid, opened.socket_id);
    (client, socket, names)
}

/// Asks to go on as `names` after the event with `offset`.
async fn come_back(client: &mut Client, subject: &str, names: &Names, offset: Option<&str>) {
    let offset = offset.map_or_else(String::new, |offset| format!(r#","offset":"{offset}""#));
    let auth = format!(r#"{{"token":"ok:{subject}","pid":"{}"{offset}}}"#, names.pid);
    client.send(&format!("40/chat,{auth}")).await;
}

fn to_room(room: &str, event: &str) -> Emit {
    let rooms = vec![room.to_owned()];
    let audience = Audience { namespace: "/chat".to_owned(), rooms, ..Audience::default() };
    Emit {
        audience: Some(audience),
        event: event.to_owned(),
        args: "[1]".into(),
        ..Emit::default()
    }
}

fn join(socket: u64, room: &str) -> Kind {
    Kind::Join(Join { sockets: vec![socket], room: room.to_owned(), ..Join::default() })
}

/// The event's name and offset.
fn event(text: &str) -> (String, String) {
    let args: Vec<Value> = serde_json::from_str(text.strip_prefix("42/chat,").unwrap()).unwrap();
    assert_eq!((args.len(), &args[1]), (3, &Value::from(1)), "{text}");
    let text = |at: usize| args[at].as_str().unwrap().to_owned();
    (text(0), text(2))
}

async fn next_event(client: &mut Client) -> (String, String) {
    event(&client.packet().await)
}

async fn suspended(stream: &mut Stream) -> (u64, String) {
    let event = stream.next().await;
    match event.kind {
        Some(edge_event::Kind::Suspended(suspended)) => (event.socket, suspended.reason),
        kind => panic!("{kind:?}"),
    }
}

async fn resumed(stream: &mut Stream) -> u64 {
    let event = stream.next().await;
    match event.kind {
        Some(edge_event::Kind::Resumed(resumed)) => {
            assert_eq!(resumed.identity.unwrap().subject, "alice");
            event.socket
        }
        kind => panic!("{kind:?}"),
    }
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_after_what_it_missed() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (mut client, socket, names) = enter(&edge, &mut stream, "alice").await;
    let seen = Kind::Emit(to_room("a", "seen"));
    stream.instruct([join(socket, "a"), seen]).await;
    let (_, offset) = next_event(&mut client).await;

    drop(client);
    assert_eq!(suspended(&mut stream).await, (socket, "transport_closed".to_owned()));
    let volatile = Emit { volatile: true, ..to_room("a", "volatile") };
    let missed = ["one", "two"].map(|name| Kind::Emit(to_room("a", name)));
    stream.instruct([Kind::Emit(volatile)]).await;
    stream.instruct(missed).await;
    stream.instruct([Kind::Emit(to_room("b", "not in it"))]).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some(&offset)).await;

    assert_eq!(next_event(&mut client).await.0, "one");
    let (name, last) = next_event(&mut client).await;
    assert_eq!(name, "two");
    assert_eq!(Names::of(&client.text().await), names);
    assert_eq!(resumed(&mut stream).await, socket);
    client.send(r#"42/chat,["hello"]"#).await;
    let (sender, event) = stream.event().await;
    assert_eq!((sender, &event.name[..]), (socket, "hello"));

    // And once more, with nothing missed and the connection still thought alive.
    stream.instruct([Kind::Emit(to_room("a", "three"))]).await;
    assert_eq!(next_event(&mut client).await.0, "three");
    let mut again = edge.socket_io().await;
    come_back(&mut again, "alice", &names, Some(&last)).await;
    assert_eq!(suspended(&mut stream).await, (socket, "replaced".to_owned()));
    assert_eq!(resumed(&mut stream).await, socket);
    assert_eq!(next_event(&mut again).await.0, "three");
    assert_eq!(Names::of(&again.text().await), names);
    assert_eq!(client.close_code().await, Some(4005));
}

#[tokio::test]
async fn a_client_that_has_seen_no_event_misses_none() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (client, socket, names) = enter(&edge, &mut stream, "alice").await;
    drop(client);
    suspended(&mut stream).await;
    stream.instruct([join(socket, "a"), Kind::Emit(to_room("a", "first"))]).await;
    stream.instruct([Kind::Emit(to_room("a", "second"))]).await;

    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;

    assert_eq!(next_event(&mut client).await.0, "first");
    assert_eq!(next_event(&mut client).await.0, "second");
    assert_eq!(Names::of(&client.text().await), names);
}

#[tokio::test]
async fn volatile_events_carry_an_offset_too_and_events_that_ask_none() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (mut client, socket, _) = enter(&edge, &mut stream, "alice").await;
    let logged = Kind::Emit(to_room("a", "logged"));
    let volatile = Kind::Emit(Emit { volatile: true, ..to_room("a", "volatile") });
    let ask = Some(proto::edge::v1::AckRequest { tag: 1, timeout_ms: 1000 });
    let asks = Kind::Emit(Emit { ask, ..to_room("a", "asks") });

    stream.instruct([join(socket, "a"), logged, volatile, asks]).await;

    let (_, offset) = next_event(&mut client).await;
    assert_eq!(next_event(&mut client).await, ("volatile".to_owned(), offset));
    let asks = client.text().await;
    assert!(asks.starts_with("42/chat,") && asks.ends_with(r#"["asks",1]"#), "{asks}");
}

#[tokio::test]
async fn nobody_else_gets_what_a_client_missed() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (client, socket, names) = enter(&edge, &mut stream, "alice").await;
    drop(client);
    suspended(&mut stream).await;
    stream.instruct([join(socket, "a"), Kind::Emit(to_room("a", "secret"))]).await;

    let mut rejected = edge.socket_io().await;
    rejected.send(&format!(r#"40/chat,{{"token":"bad","pid":"{}"}}"#, names.pid)).await;
    let unauthorized = r#"44/chat,{"message":"Unauthorized","data":{"code":"unauthorized"}}"#;
    assert_eq!(rejected.text().await, unauthorized);

    let mut other = edge.socket_io().await;
    come_back(&mut other, "mallory", &names, None).await;
    let (mallory, opened) = stream.opened().await;
    assert!(!opened.recovered && opened.handshake.unwrap().auth.is_empty());
    stream.instruct([Kind::Accept(Accept { socket: mallory })]).await;
    assert_ne!(Names::of(&other.text().await).pid, names.pid);

    let mut namesake = edge.socket_io().await;
    come_back(&mut namesake, "alice@acme", &names, None).await;
    let (of_acme, opened) = stream.opened().await;
    assert!(!opened.recovered);
    assert_eq!(opened.identity.unwrap().tenant, "acme");
    stream.instruct([Kind::Accept(Accept { socket: of_acme })]).await;
    assert_ne!(Names::of(&namesake.text().await).pid, names.pid);

    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;
    assert_eq!(next_event(&mut client).await.0, "secret");
}

#[tokio::test]
async fn an_offset_that_nobody_gave_out_is_no_reason_to_guess() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (client, _, names) = enter(&edge, &mut stream, "alice").await;
    drop(client);
    suspended(&mut stream).await;

    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, Some("MzUPkW0")).await;

    let (socket, opened) = stream.opened().await;
    assert!(!opened.recovered);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert_ne!(Names::of(&client.text().await), names);
}

#[tokio::test]
async fn who_leaves_or_breaks_the_rules_does_not_come_back() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (mut leaves, leaving, _) = enter(&edge, &mut stream, "alice").await;
    let (mut breaks, breaking, _) = enter(&edge, &mut stream, "bob").await;

    leaves.send("41/chat,").await;
    assert_eq!(stream.closed().await, (leaving, "client_disconnect".to_owned()));
    breaks.send("4x").await;
    assert_eq!(stream.closed().await, (breaking, "malformed_packet".to_owned()));
}

#[tokio::test]
async fn a_socket_whose_client_stays_away_ends_with_the_reason_of_its_loss() {
    let terms = "[namespace.'/chat']\nrecovery = '200ms'";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let (mut client, socket, names) = enter(&edge, &mut stream, "alice").await;

    client.stream.close(None).await.unwrap();

    assert_eq!(suspended(&mut stream).await, (socket, "closed_by_client".to_owned()));
    assert_eq!(stream.closed().await, (socket, "closed_by_client".to_owned()));
    let mut late = edge.socket_io().await;
    come_back(&mut late, "alice", &names, None).await;
    assert!(!stream.opened().await.1.recovered);
}

#[tokio::test]
async fn a_backend_that_starts_anew_hears_who_is_suspended() {
    let (mut edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (client, socket, names) = enter(&edge, &mut stream, "alice").await;
    stream.instruct([join(socket, "a")]).await;
    drop(client);
    suspended(&mut stream).await;
    drop(stream);

    let mut stream = edge.stream().await.welcome("backend-2").await;

    let (announced, opened) = stream.opened().await;
    assert_eq!(announced, socket);
    assert!(opened.announced && opened.suspended);
    assert_eq!(opened.memberships[0].room, "a");
    stream.instruct([Kind::Emit(to_room("a", "after the restart"))]).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;
    assert_eq!(next_event(&mut client).await.0, "after the restart");
    assert_eq!(Names::of(&client.text().await), names);
}

#[tokio::test]
async fn a_client_that_is_cut_again_before_it_has_read_anything_loses_nothing() {
    let flags = ["--edge-ping-interval=1s", "--edge-ping-timeout=500ms"];
    let (edge, mut stream) = Edge::with_terms(TERMS, &flags).await;
    let (client, socket, names) = enter(&edge, &mut stream, "alice").await;
    drop(client);
    suspended(&mut stream).await;
    stream.instruct([join(socket, "a"), Kind::Emit(to_room("a", "first"))]).await;
    // So long that whoever was alive would have answered a ping since.
    for _ in 0..2 {
        let silent = edge.socket_io().await.until_its_end().await;
        assert_eq!(silent.1, Some(4002));
    }

    let mut cut = edge.socket_io().await;
    come_back(&mut cut, "alice", &names, None).await;
    assert_eq!(resumed(&mut stream).await, socket);
    drop(cut);
    suspended(&mut stream).await;
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;

    assert_eq!(next_event(&mut client).await.0, "first");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_socket_is_looked_for_is_not_let_in() {
    let terms = "[namespace.'/chat']\nrecovery = '1m'\nauthentication = 'none'";
    let (edge, mut stream) = Edge::with_terms(terms, &[]).await;
    let mut client = edge.socket_io().await;
    let asks = |number: u32| format!(r#"40/chat,{{"number":{number},"pid":"{}"}}"#, "A".repeat(24));

    client.send_at_once(&[&asks(1), "41/chat,", &asks(2)]).await;

    let (socket, opened) = stream.opened().await;
    assert_eq!(opened.handshake.unwrap().auth, r#"{"number":2}"#);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    Names::of(&client.text().await);
}

#[tokio::test]
async fn a_plain_json_client_has_nothing_to_recover() {
    let (edge, mut stream) = Edge::with_terms(TERMS, &[]).await;
    let (_client, _, names) = enter(&edge, &mut stream, "alice").await;

    let mut json = edge.websocket("/ws").await;
    let data = format!(r#"{{"token":"ok:alice","pid":"{}"}}"#, names.pid);
    json.send(&format!(r#"{{"event":"auth","data":{data}}}"#)).await;

    let (socket, opened) = stream.opened().await;
    assert!(!opened.recovered);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    assert!(json.text().await.starts_with(r#"{"event":"connected""#));
}
