//! Clients that lose their connection, and come back as the same socket.

mod schedule;

use proto::edge::v1::{
    Accept, Audience, Emit, Join, Refuse, SocketOpened, edge_event, instruction::Kind,
};
use serde_json::Value;

use crate::support::{Client, Edge, Stream, within};

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

/// An edge with two shards and their streams.
async fn two_shards() -> (Edge, [Stream; 2]) {
    let mut edge = Edge::start_with_terms(TERMS, &["--edge-shards=2"]).await;
    let first = edge.stream().await.welcome("backend-1").await;
    let second = edge.stream().await.welcome("backend-1").await;
    (edge, [first, second])
}

/// The next socket that is opened on either stream, and on which.
async fn opened_on(streams: &mut [Stream; 2]) -> (usize, u64, SocketOpened) {
    let [first, second] = streams;
    tokio::select! {
        (socket, opened) = first.opened() => (0, socket, opened),
        (socket, opened) = second.opened() => (1, socket, opened),
    }
}

/// Brings a client back until the kernel has chosen the other shard; returns it with its socket there.
async fn come_back_elsewhere(
    edge: &Edge,
    streams: &mut [Stream; 2],
    home: usize,
    names: &Names,
    offset: Option<&str>,
) -> (Client, u64, SocketOpened) {
    loop {
        let mut client = edge.socket_io().await;
        come_back(&mut client, "alice", names, offset).await;
        let (at, event) = within("an event", next_of_either(streams)).await;
        match event.kind {
            Some(edge_event::Kind::Opened(opened)) if at != home => {
                return (client, event.socket, opened);
            }
            Some(edge_event::Kind::Resumed(_)) if at == home => drop(client),
            kind => panic!("{kind:?}"),
        }
        suspended(&mut streams[home]).await;
    }
}

/// A client in `/chat` and in the room `a`, the number of its shard, and its socket.
async fn in_a_room(edge: &Edge, streams: &mut [Stream; 2]) -> (Client, usize, u64, Names) {
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (home, socket, opened) = opened_on(streams).await;
    streams[home].instruct([Kind::Accept(Accept { socket }), join(socket, "a")]).await;
    let names = Names::of(&client.text().await);
    assert_eq!(names.sid, opened.socket_id);
    (client, home, socket, names)
}

#[tokio::test]
async fn a_client_that_comes_back_on_another_shard_misses_nothing_and_gets_nothing_twice() {
    let (edge, mut streams) = two_shards().await;
    let (mut client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    streams[home].instruct([Kind::Emit(to_room("a", "seen"))]).await;
    let (_, offset) = next_event(&mut client).await;
    drop(client);
    suspended(&mut streams[home]).await;
    streams[home].instruct([Kind::Emit(to_room("a", "missed"))]).await;

    let (mut client, here, opened) =
        come_back_elsewhere(&edge, &mut streams, home, &names, Some(&offset)).await;
    let other = 1 - home;
    assert!(opened.recovered && !opened.announced);
    assert_eq!((&opened.socket_id, &opened.memberships[0].room[..]), (&names.sid, "a"));

    // Before it is let in, what is emitted reaches it where it was; after that it may reach it in both places.
    streams[home].instruct([Kind::Emit(to_room("a", "before"))]).await;
    edge_has_carried_out(&mut streams[home]).await;
    let both = Kind::Emit(to_room("a", "in both places"));
    let accept = Kind::Accept(Accept { socket: here });
    streams[home].instruct([both.clone()]).await;
    edge_has_carried_out(&mut streams[home]).await;
    streams[other].instruct([accept, both, Kind::Emit(to_room("a", "after"))]).await;

    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
    assert_eq!(resumed(&mut streams[other]).await, here);
    for expected in ["missed", "before", "in both places", "after"] {
        assert_eq!(next_event(&mut client).await.0, expected);
    }
    assert_eq!(Names::of(&client.text().await), names);
    streams[other].instruct([Kind::Emit(to_room("a", "on the new shard"))]).await;
    assert_eq!(next_event(&mut client).await.0, "on the new shard");
}

#[tokio::test]
async fn what_comes_late_on_the_new_link_comes_once_although_it_has_no_position() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let (both, other) = (Kind::Emit(to_room("a", "in both places")), 1 - home);

    streams[other].instruct([Kind::Accept(Accept { socket: here })]).await;
    streams[home].instruct([both.clone()]).await;
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
    // The old place has given its all, and the new link lags behind.
    streams[other].acknowledges = false;
    assert_eq!(resumed(&mut streams[other]).await, here);
    streams[other].instruct([both]).await;
    streams[other].acknowledges = true;
    streams[other].instruct([Kind::Emit(to_room("a", "after"))]).await;

    for expected in ["in both places", "after"] {
        assert_eq!(next_event(&mut client).await.0, expected);
    }
    assert_eq!(Names::of(&client.text().await), names);
}

#[tokio::test]
async fn a_client_that_is_cut_again_when_its_socket_has_just_moved_loses_nothing() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    streams[home].instruct([Kind::Emit(to_room("a", "missed"))]).await;
    let (client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let other = 1 - home;
    streams[other].instruct([Kind::Accept(Accept { socket: here })]).await;
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
    streams[other].acknowledges = false;
    assert_eq!(resumed(&mut streams[other]).await, here);

    drop(client);
    assert_eq!(suspended(&mut streams[other]).await, (here, "transport_closed".to_owned()));
    streams[other].acknowledges = true;
    streams[other].instruct([]).await;

    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", &names, None).await;
    let (at, event) = within("an event", next_of_either(&mut streams)).await;
    if let Some(edge_event::Kind::Opened(opened)) = event.kind {
        // The kernel has chosen the first shard.
        assert!(opened.recovered);
        streams[at].instruct([Kind::Accept(Accept { socket: event.socket })]).await;
        assert_eq!(streams[other].closed().await, (here, "moved".to_owned()));
        resumed(&mut streams[at]).await;
    }
    assert_eq!(next_event(&mut client).await.0, "missed");
    assert_eq!(Names::of(&client.text().await), names);
}

async fn next_of_either(streams: &mut [Stream; 2]) -> (usize, proto::edge::v1::EdgeEvent) {
    let [first, second] = streams;
    tokio::select! {
        event = first.next() => (0, event),
        event = second.next() => (1, event),
    }
}

/// Waits until the edge has carried out what it was told.
async fn edge_has_carried_out(stream: &mut Stream) {
    let sent = stream.sent;
    stream.read_until(|stream| stream.acknowledged >= sent).await;
}

#[tokio::test]
async fn who_is_refused_elsewhere_cannot_go_on_where_he_was() {
    let (edge, mut streams) = two_shards().await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (home, socket, _) = opened_on(&mut streams).await;
    streams[home].instruct([Kind::Accept(Accept { socket })]).await;
    let names = Names::of(&client.text().await);
    drop(client);
    suspended(&mut streams[home]).await;

    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let other = 1 - home;
    let refuse = Refuse { socket: here, message: "Banned".to_owned(), ..Refuse::default() };
    streams[other].instruct([Kind::Refuse(refuse)]).await;

    assert_eq!(client.text().await, r#"44/chat,{"message":"Banned"}"#);
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
}
