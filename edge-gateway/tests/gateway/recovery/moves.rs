//! Sockets that move, because their clients come back on another shard.

use proto::edge::v1::{
    Accept, Disconnect, EdgeEvent, Emit, Join, Leave, Refuse, SocketOpened, edge_event,
    instruction::Kind,
};

use super::{Names, TERMS, come_back, enter, join, next_event, resumed, suspended, to_room};
use crate::support::{Client, Edge, Stream, get, within};

/// An edge with two shards and their streams.
pub(super) async fn two_shards() -> (Edge, [Stream; 2]) {
    let mut edge = Edge::start_with_terms(TERMS, &["--edge-shards=2"]).await;
    let first = edge.stream().await.welcome("backend-1").await;
    let second = edge.stream().await.welcome("backend-1").await;
    (edge, [first, second])
}

/// The next socket that is opened on either stream, and on which.
pub(super) async fn opened_on(streams: &mut [Stream; 2]) -> (usize, u64, SocketOpened) {
    let [first, second] = streams;
    tokio::select! {
        (socket, opened) = first.opened() => (0, socket, opened),
        (socket, opened) = second.opened() => (1, socket, opened),
    }
}

/// Brings a client back until the kernel has chosen the other shard; returns it with its socket there.
pub(super) async fn come_back_elsewhere(
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
                return (client, event.socket, *opened);
            }
            Some(edge_event::Kind::Resumed(_)) if at == home => drop(client),
            kind => panic!("{kind:?}"),
        }
        suspended(&mut streams[home]).await;
    }
}

/// A client in `/chat` and in the room `a`, the number of its shard, and its socket.
pub(super) async fn in_a_room(
    edge: &Edge,
    streams: &mut [Stream; 2],
) -> (Client, usize, u64, Names) {
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
async fn a_socket_that_has_moved_stands_behind_what_it_was_given_where_it_was() {
    let (mut edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    let room = "b".to_owned();
    let join = Join { sockets: vec![socket], room: room.clone(), position: "p1".to_owned() };
    streams[home].instruct([Kind::Join(join)]).await;
    edge_has_carried_out(&mut streams[home]).await;
    drop(client);
    suspended(&mut streams[home]).await;
    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let position = "p2".to_owned();
    let missed = Emit { position, position_room: room, ..to_room("b", "missed") };
    streams[home].instruct([Kind::Emit(missed)]).await;
    edge_has_carried_out(&mut streams[home]).await;
    let other = 1 - home;
    streams[other].instruct([Kind::Accept(Accept { socket: here })]).await;
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
    assert_eq!(resumed(&mut streams[other]).await, here);
    assert_eq!(next_event(&mut client).await.0, "missed");

    let [first, second] = streams;
    let (_home, lost) = if other == 0 { (second, first) } else { (first, second) };
    drop(lost);
    let mut stream = edge.stream().await.welcome("backend-2").await;

    let (announced, opened) = stream.opened().await;
    let standings = opened.memberships.iter().map(|one| (&one.room[..], &one.position[..]));
    assert_eq!(announced, here);
    assert!(standings.into_iter().any(|one| one == ("b", "p2")), "{opened:?}");
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
async fn what_a_socket_joins_and_leaves_on_its_way_it_has_joined_and_left() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    let (mut client, here, opened) =
        come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    assert_eq!(opened.memberships.len(), 1);
    let other = 1 - home;
    let leave = Leave { sockets: vec![socket], room: "a".to_owned() };
    let before = Kind::Emit(to_room("a", "before"));
    streams[home].instruct([before, Kind::Leave(leave), join(socket, "b")]).await;
    edge_has_carried_out(&mut streams[home]).await;
    let to_a = Kind::Emit(to_room("a", "not in it"));

    let accept = Kind::Accept(Accept { socket: here });
    streams[other].instruct([accept, to_a.clone()]).await;
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));

    let event = streams[other].next().await;
    let Some(edge_event::Kind::Resumed(resumed)) = event.kind else { panic!("{event:?}") };
    assert_eq!((event.socket, &resumed.left[..]), (here, &["a".to_owned()][..]));
    assert_eq!((resumed.joined.len(), &resumed.joined[0].room[..]), (1, "b"));
    assert_eq!(next_event(&mut client).await.0, "before");
    assert_eq!(Names::of(&client.text().await), names);
    streams[other].instruct([to_a, Kind::Emit(to_room("b", "after"))]).await;
    assert_eq!(next_event(&mut client).await.0, "after");
}

#[tokio::test]
async fn a_socket_that_is_disconnected_on_its_way_has_its_client_told() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;
    let other = 1 - home;
    let disconnect = Disconnect { sockets: vec![socket], close_connection: false };
    streams[home].instruct([Kind::Disconnect(disconnect)]).await;
    assert_eq!(streams[home].closed().await, (socket, "server_disconnect".to_owned()));

    streams[other].instruct([Kind::Accept(Accept { socket: here })]).await;

    assert_eq!(client.text().await, "41/chat,");
    assert_eq!(streams[other].closed().await, (here, "server_disconnect".to_owned()));
}

#[tokio::test]
async fn a_client_that_disconnects_on_its_way_has_ended_where_it_was_too() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    let (mut client, here, _) = come_back_elsewhere(&edge, &mut streams, home, &names, None).await;

    client.send("41/chat,").await;

    let closed = streams[1 - home].closed().await;
    assert_eq!(closed, (here, "client_disconnect".to_owned()));
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));
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

pub(super) async fn next_of_either(streams: &mut [Stream; 2]) -> (usize, EdgeEvent) {
    let [first, second] = streams;
    tokio::select! {
        event = first.next() => (0, event),
        event = second.next() => (1, event),
    }
}

/// Waits until the edge has carried out what it was told.
pub(super) async fn edge_has_carried_out(stream: &mut Stream) {
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

/// The next socket on this stream, which a client has opened that has come back.
async fn opened_again(edge: &Edge, stream: &mut Stream, names: &Names) -> (Client, SocketOpened) {
    let mut client = edge.socket_io().await;
    come_back(&mut client, "alice", names, None).await;
    let (_, opened) = stream.opened().await;
    (client, opened)
}

/// Sockets of one edge that wait for their clients, each of which has missed 3.6 MB, and another edge.
struct Away {
    owner: Edge,
    stream: Stream,
    other: Edge,
    elsewhere: Stream,
    sockets: Vec<Names>,
}

impl Away {
    async fn with(count: usize) -> Self {
        let (owner, other) = ("--edge-number=2", "--edge-number=1");
        let listen = "--edge-peer-listen=127.0.0.1:0";
        let (owner, mut stream) = Edge::with_terms(TERMS, &[owner, listen]).await;
        let peer = format!("--edge-peer=2=http://{}", owner.peers.unwrap());
        let (other, elsewhere) = Edge::with_terms(TERMS, &[other, listen, &peer]).await;
        let mut sockets = Vec::new();
        for _ in 0..count {
            let (client, socket, names) = enter(&owner, &mut stream, "alice").await;
            stream.instruct([join(socket, "a")]).await;
            drop(client);
            suspended(&mut stream).await;
            sockets.push(names);
        }
        for _ in 0..4 {
            let args = format!("[\"{}\"]", "x".repeat(900_000)).into();
            stream.instruct([Kind::Emit(Emit { args, ..to_room("a", "large") })]).await;
        }
        edge_has_carried_out(&mut stream).await;
        Self { owner, stream, other, elsewhere, sockets }
    }
}

#[tokio::test]
async fn who_brings_more_than_there_is_room_for_is_a_new_socket() {
    // 64 MiB for all of a shard, and at most 8 MiB or one message between edges for each of them.
    const FIT: usize = 18;
    let Away { owner: _owner, stream: _stream, other, mut elsewhere, sockets } =
        Away::with(FIT + 2).await;

    let mut waiting = Vec::new();
    for names in &sockets[..FIT] {
        let (client, opened) = opened_again(&other, &mut elsewhere, names).await;
        assert!(opened.recovered && opened.socket_id == names.sid);
        waiting.push(client);
    }
    let (_refused, opened) = opened_again(&other, &mut elsewhere, &sockets[FIT]).await;

    assert!(!opened.recovered && opened.memberships.is_empty());
    assert_ne!(opened.socket_id, sockets[FIT].sid, "a new socket");
    let metrics = get(other.ops, "/metrics").await;
    assert!(metrics.contains("sockeye_edge_recoveries_total{outcome=\"no_room\"}"), "{metrics}");
    // One of them has gone, and there is room again.
    drop(waiting.pop());
    elsewhere.closed().await;
    let (_client, opened) = opened_again(&other, &mut elsewhere, &sockets[FIT + 1]).await;
    assert!(opened.recovered);
}

#[tokio::test]
async fn a_former_token_that_is_taken_back_does_not_end_a_socket_that_has_moved() {
    let (edge, mut streams) = two_shards().await;
    let (client, home, socket, names) = in_a_room(&edge, &mut streams).await;
    drop(client);
    suspended(&mut streams[home]).await;
    streams[home].instruct([Kind::Emit(to_room("a", "missed"))]).await;
    let mut former = "ok:alice".to_owned();
    let mut number = 0;
    // Until it comes to the other shard.
    let (mut client, here) = loop {
        number += 1;
        let mut client = edge.socket_io().await;
        let subject = format!("alice#{number}");
        come_back(&mut client, &subject, &names, None).await;
        let (at, event) = within("an event", next_of_either(&mut streams)).await;
        if matches!(event.kind, Some(edge_event::Kind::Opened(_))) && at != home {
            break (client, event.socket);
        }
        former = format!("ok:{subject}");
        drop(client);
        suspended(&mut streams[home]).await;
    };
    let other = 1 - home;
    streams[home].acknowledges = false;
    streams[other].instruct([Kind::Accept(Accept { socket: here })]).await;
    assert_eq!(streams[home].closed().await, (socket, "moved".to_owned()));

    edge.auth.revoke_token(&former);
    // Both shards have heard of it once they have heard of the next.
    for subject in ["bob", "carol", "dave", "eve", "frank", "grace"] {
        let mut witness = edge.socket_io().await;
        witness.send(&format!(r#"40/chat,{{"token":"ok:{subject}"}}"#)).await;
        within("an event", next_of_either(&mut streams)).await;
        edge.auth.revoke(subject);
        assert_eq!(witness.close_code().await, Some(4008));
        within("its end", next_of_either(&mut streams)).await;
    }
    streams[home].acknowledges = true;
    streams[home].instruct([]).await;

    let packets = [client.packet().await, client.packet().await];
    assert!(packets.iter().any(|packet| packet.contains("missed")), "{packets:?}");
}

#[tokio::test]
async fn who_reads_nothing_goes_on_with_few_sockets_on_one_connection() {
    // 8 MiB of what was missed, and what the last one of them adds, besides what the network takes.
    const COUNT: usize = 10;
    let Away { owner: _owner, mut stream, other, mut elsewhere, sockets } = Away::with(COUNT).await;
    let mut client = other.socket_io().await;
    let mut recovered = 0;

    let refused = loop {
        come_back(&mut client, "alice", &sockets[recovered], None).await;
        let (socket, opened) = within("opened", elsewhere.opened()).await;
        elsewhere.instruct([Kind::Accept(Accept { socket })]).await;
        if !opened.recovered {
            break opened;
        }
        recovered += 1;
        assert!(recovered < COUNT - 1, "there is no end");
        within("moved", stream.closed()).await;
        within("resumed", resumed(&mut elsewhere)).await;
        // With that it knows that nothing more comes, and gives the client what it missed.
        elsewhere.instruct([]).await;
        within("what was missed", edge_has_carried_out(&mut elsewhere)).await;
        client.send("41/chat,").await;
        within("left", elsewhere.closed()).await;
    };

    assert!(recovered >= 3, "8 MiB are more than {recovered} times 3.6 MB");
    assert_ne!(refused.socket_id, sockets[recovered].sid, "a new socket");
    // As soon as the client has read all that, it may go on with the next one.
    let greeting = format!("\"sid\":\"{}\"", refused.socket_id);
    while !within("all of it", client.text()).await.contains(&greeting) {}
    client.send("41/chat,").await;
    within("left", elsewhere.closed()).await;
    come_back(&mut client, "alice", &sockets[COUNT - 1], None).await;
    let (_, opened) = within("opened", elsewhere.opened()).await;
    assert!(opened.recovered && opened.socket_id == sockets[COUNT - 1].sid);
}
