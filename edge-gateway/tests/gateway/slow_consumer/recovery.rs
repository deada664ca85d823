//! Clients that were behind, lost their connection and come back: with everything once, or as new sockets.

use proto::edge::v1::{Accept, Audience, Emit, edge_event, instruction::Kind};
use serde_json::Value;

use super::{Log, OUTBOX, TEXT_BYTES, expect_asked};
use crate::support::{
    Edge, Stream,
    poller::{Poller, ok},
};

const TERMS: &str = "[namespace.'/chat']\nrecovery = '1m'";

/// A client on long-polling, and what it remembers.
struct Remembering {
    poller: Poller,
    pid: String,
    /// The offset of each event that it has seen, by the event's number.
    offsets: Vec<(u64, String)>,
}

impl Remembering {
    /// Polls; returns the numbers of the events that came, and what the client is told of itself.
    async fn poll(&mut self) -> (Vec<u64>, Option<Value>) {
        let (status, body) = self.poller.get().await;
        assert_eq!(status, 200, "{body}");
        let (mut numbers, mut connected) = (Vec::new(), None);
        for packet in body.split('\x1e') {
            if let Some(names) = packet.strip_prefix("40/chat,") {
                connected = Some(serde_json::from_str(names).unwrap());
            } else if let Some(args) = packet.strip_prefix("42/chat,") {
                let args: Vec<Value> = serde_json::from_str(args).unwrap();
                let number = args[2].as_u64().unwrap();
                self.offsets.push((number, args.last().unwrap().as_str().unwrap().to_owned()));
                numbers.push(number);
            }
        }
        (numbers, connected)
    }

    fn offset_of(&self, number: u64) -> String {
        self.offsets.iter().find(|(seen, _)| *seen == number).unwrap().1.clone()
    }

    /// Asks to go on after the event with `offset`, while the old session still seems alive.
    async fn come_back(&mut self, edge: &Edge, offset: &str) {
        self.poller = Poller::open(edge).await;
        let pid = &self.pid;
        let auth = format!(r#"40/chat,{{"token":"ok:alice","pid":"{pid}","offset":"{offset}"}}"#);
        assert_eq!(self.poller.post(&auth).await, ok());
    }
}

/// What a note is called among the events.
const NOTE: u64 = 1000;

/// To one socket, and in no log.
fn note(socket: u64) -> Kind {
    let (namespace, sockets) = ("/chat".to_owned(), vec![socket]);
    let audience = Some(Audience { namespace, sockets, ..Audience::default() });
    let args = format!("[\"note\",{NOTE}]").into();
    Kind::Emit(Emit { audience, event: "note".to_owned(), args, ..Emit::default() })
}

async fn start() -> (Edge, Stream) {
    let mut edge = Edge::start_with_terms(TERMS, &[OUTBOX]).await;
    let stream = edge.stream().await.welcome_with_logs("backend-1").await;
    (edge, stream)
}

/// A client that is in `/chat`, and its socket.
async fn enter(edge: &Edge, stream: &mut Stream) -> (Remembering, u64) {
    let poller = Poller::open(edge).await;
    assert_eq!(poller.post(r#"40/chat,{"token":"ok:alice"}"#).await, ok());
    let (socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let mut client = Remembering { poller, pid: String::new(), offsets: Vec::new() };
    client.pid = client.poll().await.1.unwrap()["pid"].as_str().unwrap().to_owned();
    (client, socket)
}

/// Has seen the first three events and a note, but not the fourth event.
async fn behind(edge: &Edge, stream: &mut Stream, log: &mut Log) -> (Remembering, u64) {
    let (mut client, socket) = enter(edge, stream).await;
    stream.instruct([log.join(socket), log.say(), log.say(), log.say(), log.say()]).await;
    assert_eq!(client.poll().await.0, [1, 2, 3]);
    expect_asked(stream, "lobby", "p3").await;
    stream.instruct([note(socket)]).await;
    assert_eq!(client.poll().await.0, [NOTE]);
    // What it has been given says how far the link was, but not while something was left out.
    let tells = |number| client.offset_of(number).contains(".7.");
    assert!(tells(3) && !tells(NOTE));
    (client, socket)
}

async fn refill(stream: &mut Stream, log: &Log, socket: u64) {
    let catch_up = proto::edge::v1::CatchUp {
        room: "lobby".to_owned(),
        position: "p3".to_owned(),
        bytes_max: 0,
    };
    stream.instruct([log.refill(socket, &catch_up, 9)]).await;
}

async fn expect_recovered(
    (edge, stream): (&Edge, &mut Stream),
    client: &mut Remembering,
    offset: &str,
    missed: &[u64],
) {
    client.come_back(edge, offset).await;
    let (mut numbers, mut connected) = client.poll().await;
    while connected.is_none() {
        let (more, then) = client.poll().await;
        numbers.extend(more);
        connected = then;
    }
    assert_eq!(
        (numbers, connected.unwrap()["pid"].as_str()),
        (missed.to_vec(), Some(&*client.pid))
    );
    for suspended in [true, false] {
        match stream.next().await.kind {
            Some(edge_event::Kind::Suspended(_)) if suspended => {}
            Some(edge_event::Kind::Resumed(_)) if !suspended => {}
            kind => panic!("{kind:?}"),
        }
    }
}

async fn expect_new((edge, stream): (&Edge, &mut Stream), client: &mut Remembering, offset: &str) {
    client.come_back(edge, offset).await;
    let (socket, opened) = stream.opened().await;
    assert!(!opened.recovered);
    stream.instruct([Kind::Accept(Accept { socket })]).await;
    let (numbers, connected) = client.poll().await;
    assert!(numbers.is_empty() && connected.unwrap()["pid"] != *client.pid);
}

#[tokio::test]
async fn who_has_seen_nothing_since_gets_all_of_it() {
    let (edge, mut stream) = start().await;
    let mut log = Log::new("lobby");
    let (mut client, _) = behind(&edge, &mut stream, &mut log).await;

    let third = client.offset_of(3);
    expect_recovered((&edge, &mut stream), &mut client, &third, &[4, NOTE]).await;

    stream.instruct([log.say()]).await;
    assert_eq!(client.poll().await.0, [5], "it is behind no more");
}

#[tokio::test]
async fn who_has_seen_something_out_of_turn_is_a_new_socket() {
    let (edge, mut stream) = start().await;
    let mut log = Log::new("lobby");
    let (mut client, _) = behind(&edge, &mut stream, &mut log).await;

    let offset = client.offset_of(NOTE);
    expect_new((&edge, &mut stream), &mut client, &offset).await;
}

#[tokio::test]
async fn what_was_given_late_proves_nothing_and_the_next_event_does() {
    let (edge, mut stream) = start().await;
    let mut log = Log::new("lobby");
    let (mut client, socket) = behind(&edge, &mut stream, &mut log).await;
    refill(&mut stream, &log, socket).await;
    assert_eq!(client.poll().await.0, [4]);
    stream.instruct([log.say(), log.say()]).await;
    assert_eq!(client.poll().await.0, [5, 6]);
    let tells = |number| client.offset_of(number).contains(".7.");
    assert!(!tells(4) && tells(5));

    let fifth = client.offset_of(5);
    expect_recovered((&edge, &mut stream), &mut client, &fifth, &[6]).await;

    let (mut client, socket) = behind(&edge, &mut stream, &mut Log::new("lobby")).await;
    refill(&mut stream, &log, socket).await;
    assert_eq!(client.poll().await.0, [4, 5, 6]);
    let fourth = client.offset_of(4);
    expect_new((&edge, &mut stream), &mut client, &fourth).await;
}

/// Comes back after the event that it has seen, when what it missed has been given again under another offset.
async fn come_back_to_a_new_service(seen: u64) {
    let (mut edge, mut stream) = start().await;
    let mut log = Log::new("lobby");
    let (mut client, socket) = behind(&edge, &mut stream, &mut log).await;
    drop(stream);
    let mut stream = edge.stream().await.welcome_with_logs("backend-2").await;
    assert_eq!(stream.opened().await.1.memberships[0].position, "p3");
    let (namespace, sockets) = ("/chat".to_owned(), vec![socket]);
    let audience = Some(Audience { namespace, sockets, ..Audience::default() });
    stream.instruct([Kind::Emit(Emit { audience, ..log.entry(4) })]).await;
    assert_eq!(client.poll().await.0, [4]);

    let offset = client.offset_of(seen);
    if seen == 4 {
        expect_recovered((&edge, &mut stream), &mut client, &offset, &[]).await;
        stream.instruct([log.say()]).await;
        assert_eq!(client.poll().await.0, [5]);
    } else {
        expect_new((&edge, &mut stream), &mut client, &offset).await;
    }
}

#[tokio::test]
async fn what_a_new_service_gives_again_is_not_given_twice() {
    for seen in [3, NOTE, 4] {
        come_back_to_a_new_service(seen).await;
    }
}

/// A note that takes a tenth of the outbox, more or less.
fn large_note(socket: u64) -> Kind {
    let Kind::Emit(emit) = note(socket) else { unreachable!("a note is an event") };
    let args = format!("[\"note\",{NOTE},\"{}\"]", "x".repeat(TEXT_BYTES)).into();
    Kind::Emit(Emit { args, ..emit })
}

/// Closes its session, misses twice as much as its outbox takes, and comes back without a poll.
async fn miss_much((edge, stream): (&Edge, &mut Stream), client: &mut Remembering, log: &mut Log) {
    let last = client.offset_of(log.length as u64);
    assert_eq!(client.poller.post("1").await, ok());
    assert!(matches!(stream.next().await.kind, Some(edge_event::Kind::Suspended(_))));
    stream.instruct((0..20).map(|_| log.say())).await;
    let sent = stream.sent;
    stream.read_until(|stream| stream.acknowledged >= sent).await;
    client.come_back(edge, &last).await;
    assert!(matches!(stream.next().await.kind, Some(edge_event::Kind::Resumed(_))));
}

#[tokio::test]
async fn what_was_missed_takes_no_room_from_what_comes_after_it() {
    let (edge, mut stream) = start().await;
    let mut log = Log::new("lobby");
    let (mut client, socket) = enter(&edge, &mut stream).await;
    stream.instruct([log.join(socket), log.say()]).await;
    assert_eq!(client.poll().await.0, [1]);

    miss_much((&edge, &mut stream), &mut client, &mut log).await;
    stream.instruct([log.say(), note(socket)]).await;
    stream.instruct((0..8).map(|_| large_note(socket))).await;
    let sent = stream.sent;
    stream.read_until(|stream| stream.acknowledged >= sent).await;

    let mut expected: Vec<u64> = (2..=22).collect();
    expected.extend([NOTE; 9]);
    assert_eq!(client.poll().await.0, expected);

    // Its outbox is as small as ever.
    miss_much((&edge, &mut stream), &mut client, &mut log).await;
    stream.instruct((0..10).map(|_| large_note(socket))).await;
    let event = stream.next().await;
    let Some(edge_event::Kind::Suspended(suspended)) = event.kind else { panic!("{event:?}") };
    assert_eq!(suspended.reason, "slow_consumer");
}
