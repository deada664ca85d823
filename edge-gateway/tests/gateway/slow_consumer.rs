//! Clients that do not read: what their rooms' logs have is left out for them, and given later, in order and once.

mod recovery;

use proto::edge::v1::{
    Accept, Audience, CatchUp, Emit, Join, Leave, Refill, edge_event, instruction::Kind,
};

use crate::support::{
    Client, Edge, Stream, get,
    poller::{Poller, ok},
};

/// From 25,000 waiting bytes on logged events are left out, and with 6,250 or less they are asked for.
const OUTBOX: &str = "--edge-outbox-bytes-max=100000";
const TEXT_BYTES: usize = 10_000;

/// A room's log, as the scripted business service keeps it.
struct Log {
    room: &'static str,
    length: usize,
}

impl Log {
    fn new(room: &'static str) -> Self {
        Self { room, length: 0 }
    }

    fn position(number: usize) -> String {
        format!("p{number}")
    }

    fn entry(&self, number: usize) -> Emit {
        Emit {
            event: "said".to_owned(),
            args: format!("[\"{}\",{number},\"{}\"]", self.room, "x".repeat(TEXT_BYTES)).into(),
            position: Self::position(number),
            position_room: self.room.to_owned(),
            ..Emit::default()
        }
    }

    fn join(&self, socket: u64) -> Kind {
        let (room, position) = (self.room.to_owned(), Self::position(self.length));
        Kind::Join(Join { sockets: vec![socket], room, position })
    }

    /// Adds an entry and emits it to the room.
    fn say(&mut self) -> Kind {
        self.length += 1;
        let rooms = vec![self.room.to_owned()];
        let audience = Audience { namespace: "/chat".to_owned(), rooms, ..Audience::default() };
        Kind::Emit(Emit { audience: Some(audience), ..self.entry(self.length) })
    }

    /// Answers with at most `count` entries.
    fn refill(&self, socket: u64, catch_up: &CatchUp, count: usize) -> Kind {
        assert_eq!(catch_up.room, self.room);
        let after: usize = catch_up.position.strip_prefix('p').unwrap().parse().unwrap();
        let last = (after + count).min(self.length);
        Kind::Refill(Refill {
            socket,
            room: self.room.to_owned(),
            after: catch_up.position.clone(),
            events: (after + 1..=last).map(|number| self.entry(number)).collect(),
            position: Self::position(last),
            more: last < self.length,
        })
    }
}

async fn start(flags: &[&str]) -> (Edge, Stream) {
    let mut edge = Edge::start(&[&[OUTBOX], flags].concat()).await;
    let stream = edge.stream().await.welcome_with_logs("backend-1").await;
    (edge, stream)
}

/// The room and the number of an event.
fn said(text: &str) -> (String, usize) {
    let args: serde_json::Value = serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap();
    (args[1].as_str().unwrap().to_owned(), args[2].as_u64().unwrap() as usize)
}

/// What one poll brings.
async fn polled(client: &Poller) -> Vec<(String, usize)> {
    let (status, body) = client.get().await;
    assert_eq!(status, 200, "{body}");
    body.split('\x1e').filter(|packet| *packet != "2").map(said).collect()
}

fn of(room: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<(String, usize)> {
    numbers.into_iter().map(|number| (room.to_owned(), number)).collect()
}

async fn asked(stream: &mut Stream) -> (u64, CatchUp) {
    let event = stream.next().await;
    match event.kind {
        Some(edge_event::Kind::CatchUp(catch_up)) => (event.socket, catch_up),
        kind => panic!("{kind:?}"),
    }
}

async fn expect_asked(stream: &mut Stream, room: &str, position: &str) -> (u64, CatchUp) {
    let (socket, catch_up) = asked(stream).await;
    assert_eq!((&*catch_up.room, &*catch_up.position), (room, position));
    (socket, catch_up)
}

async fn slow_and_good(edge: &Edge, stream: &mut Stream) -> (Client, u64, Client, u64) {
    let mut slow =
        Client::with_small_buffer(edge.address, "/socket.io/?EIO=4&transport=websocket").await;
    slow.text().await;
    slow.send(r#"40/chat,{"token":"ok:slow"}"#).await;
    let (slow_socket, _) = stream.opened().await;
    stream.instruct([Kind::Accept(Accept { socket: slow_socket })]).await;
    slow.text().await;
    let (good, good_socket) = edge.in_chat(stream, "good").await;
    (slow, slow_socket, good, good_socket)
}

#[tokio::test]
async fn a_client_that_pauses_gets_everything_once_and_in_order_and_nobody_waits_for_it() {
    let (edge, mut stream) = start(&["--edge-ping-interval=10m"]).await;
    let (mut slow, slow_socket, mut good, good_socket) = slow_and_good(&edge, &mut stream).await;
    let mut log = Log::new("lobby");
    stream.instruct([log.join(slow_socket), log.join(good_socket)]).await;

    // More than the kernel's buffers hold.
    for number in 1..=800 {
        stream.instruct([log.say()]).await;
        assert_eq!(said(&good.text().await), ("lobby".to_owned(), number));
    }
    let mut reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&840) {
            seen.push(said(&slow.text().await).1);
        }
        (slow, seen)
    });
    let mut parts = 0;
    let (mut slow, seen) = loop {
        tokio::select! {
            read = &mut reading => break read.unwrap(),
            (socket, catch_up) = asked(&mut stream) => {
                // The room goes on between question and answer, and behind the answer.
                let goes_on = log.length < 840;
                if goes_on {
                    stream.instruct([log.say()]).await;
                }
                stream.instruct([log.refill(socket, &catch_up, 5)]).await;
                if goes_on {
                    stream.instruct([log.say()]).await;
                }
                parts += 1;
            }
        }
    };

    assert_eq!(seen, (1..=840).collect::<Vec<_>>());
    assert!(parts > 20, "{parts}");
    for number in 801..=840 {
        assert_eq!(said(&good.text().await).1, number);
    }
    stream.instruct([log.say()]).await;
    assert_eq!(said(&slow.text().await).1, 841);
}

#[tokio::test]
async fn a_client_that_pauses_gets_bursts_once_and_in_order_too() {
    let (edge, mut stream) = start(&["--edge-ping-interval=10m"]).await;
    let (mut slow, slow_socket, mut good, good_socket) = slow_and_good(&edge, &mut stream).await;
    let mut log = Log::new("lobby");
    stream.instruct([log.join(slow_socket), log.join(good_socket)]).await;

    // More than the kernel's buffers hold, and parts of what is written at once.
    for burst in 0..80 {
        let kinds: Vec<_> = (0..10).map(|_| log.say()).collect();
        stream.instruct(kinds).await;
        for number in 1..=10 {
            assert_eq!(said(&good.text().await).1, burst * 10 + number);
        }
    }
    let mut reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&800) {
            seen.push(said(&slow.text().await).1);
        }
        seen
    });
    let seen = loop {
        tokio::select! {
            read = &mut reading => break read.unwrap(),
            (socket, catch_up) = asked(&mut stream) => {
                stream.instruct([log.refill(socket, &catch_up, 100)]).await;
            }
        }
    };

    assert_eq!(seen, (1..=800).collect::<Vec<_>>());
}

/// A client on long-polling that has not polled since three events of the first room, so that the fourth is left out, and one
/// event in each other room.
async fn behind(edge: &Edge, stream: &mut Stream, logs: &mut [Log]) -> (Poller, u64) {
    let client = Poller::open(edge).await;
    let socket = client.enter_chat(stream).await;
    let mut kinds: Vec<_> = logs.iter().map(|log| log.join(socket)).collect();
    kinds.extend((0..4).map(|_| logs[0].say()));
    kinds.extend(logs[1..].iter_mut().map(Log::say));
    // As one group, so that no poll comes in between.
    stream.instruct(kinds).await;
    (client, socket)
}

#[tokio::test]
async fn it_is_given_as_much_as_there_is_room_for() {
    let (edge, mut stream) = start(&[]).await;
    let mut logs = [Log::new("lobby")];
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [log] = &mut logs;
    for _ in 4..12 {
        stream.instruct([log.say()]).await;
    }

    assert_eq!(polled(&client).await, of("lobby", 1..=3));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p3").await;
    assert_eq!(catch_up.bytes_max, 25_000);
    stream.instruct([log.refill(socket, &catch_up, 100)]).await;
    assert_eq!(polled(&client).await, of("lobby", 4..=6), "the rest had no room");

    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p6").await;
    stream.instruct([log.say(), log.refill(socket, &catch_up, 2), log.say()]).await;
    assert_eq!(polled(&client).await, of("lobby", 7..=8));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p8").await;
    stream.instruct([log.refill(socket, &catch_up, 3)]).await;
    assert_eq!(polled(&client).await, of("lobby", 9..=11));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p11").await;
    stream.instruct([log.refill(socket, &catch_up, 3), log.say()]).await;
    assert_eq!(polled(&client).await, of("lobby", 12..=14), "the next has no room");

    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p14").await;
    stream.instruct([log.refill(socket, &catch_up, 3)]).await;
    assert_eq!(polled(&client).await, of("lobby", 15..=15));
}

#[tokio::test]
async fn each_room_is_caught_up_with_in_its_turn() {
    let (edge, mut stream) = start(&[]).await;
    let mut logs = ["one", "two", "three"].map(Log::new);
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [one, two, three] = &mut logs;
    assert_eq!(polled(&client).await, of("one", 1..=3));

    let (_, catch_up) = expect_asked(&mut stream, "one", "p3").await;
    let leave = Leave { sockets: vec![socket], room: "two".to_owned() };
    // What the others say meanwhile has room, and does not wait.
    stream.instruct([Kind::Leave(leave), one.refill(socket, &catch_up, 9), one.say()]).await;
    assert_eq!(polled(&client).await, of("one", 4..=5));

    let (_, catch_up) = expect_asked(&mut stream, "three", "p0").await;
    stream.instruct([three.refill(socket, &catch_up, 9), two.say(), three.say()]).await;
    assert_eq!(polled(&client).await, of("three", 1..=2));
}

#[tokio::test]
async fn an_answer_that_came_too_late_is_ignored() {
    let (edge, mut stream) = start(&[]).await;
    let mut logs = [Log::new("lobby")];
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [log] = &mut logs;
    assert_eq!(polled(&client).await, of("lobby", 1..=3));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p3").await;

    // It joins again, and is behind again.
    let mut kinds = vec![log.join(socket)];
    kinds.extend((0..4).map(|_| log.say()));
    kinds.push(log.refill(socket, &catch_up, 9));
    stream.instruct(kinds).await;

    assert_eq!(polled(&client).await, of("lobby", 5..=7));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p7").await;
    stream.instruct([log.refill(socket, &catch_up, 9)]).await;
    assert_eq!(polled(&client).await, of("lobby", 8..=8));
}

#[tokio::test]
async fn a_service_that_starts_anew_is_told_where_it_stands() {
    let (mut edge, mut stream) = start(&[]).await;
    let mut logs = [Log::new("lobby")];
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [log] = &mut logs;
    assert_eq!(polled(&client).await, of("lobby", 1..=3));
    expect_asked(&mut stream, "lobby", "p3").await;

    drop(stream);
    let mut stream = edge.stream().await.welcome_with_logs("backend-2").await;
    let (_, opened) = stream.opened().await;
    assert_eq!(opened.memberships[0].position, "p3");

    // It gives the rest without being asked, and that too is left out while the client does not read.
    let audience =
        Audience { namespace: "/chat".to_owned(), sockets: vec![socket], ..Default::default() };
    let missed = Kind::Emit(Emit { audience: Some(audience), ..log.entry(4) });
    stream.instruct([missed, log.say(), log.say(), log.say()]).await;
    assert_eq!(polled(&client).await, of("lobby", 4..=6));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p6").await;
    stream.instruct([log.refill(socket, &catch_up, 9)]).await;
    assert_eq!(polled(&client).await, of("lobby", 7..=7));
}

#[tokio::test]
async fn a_resumed_stream_changes_nothing() {
    let (mut edge, mut stream) = start(&[]).await;
    let mut logs = [Log::new("lobby")];
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [log] = &mut logs;
    assert_eq!(polled(&client).await, of("lobby", 1..=3));
    let (_, catch_up) = expect_asked(&mut stream, "lobby", "p3").await;

    let (received, sent) = (stream.received, stream.sent);
    drop(stream);
    let mut stream = edge.stream().await.resume(received, sent).await;
    stream.instruct([log.refill(socket, &catch_up, 9)]).await;

    assert_eq!(polled(&client).await, of("lobby", 4..=4));
}

#[tokio::test]
async fn what_nobody_can_give_again_waits_until_it_is_too_much() {
    let (edge, mut stream) = start(&[]).await;
    let mut logs = [Log::new("lobby")];
    let (client, socket) = behind(&edge, &mut stream, &mut logs).await;
    let [log] = &mut logs;
    let audience =
        Audience { namespace: "/chat".to_owned(), sockets: vec![socket], ..Default::default() };
    let unlogged = Emit { audience: Some(audience), position: String::new(), ..log.entry(0) };

    for _ in 0..6 {
        stream.instruct([log.say(), Kind::Emit(unlogged.clone())]).await;
    }
    assert_eq!(client.post(r#"42/chat,["still here"]"#).await, ok());
    assert_eq!(stream.event().await.0, socket);
    stream.instruct([Kind::Emit(unlogged)]).await;

    assert_eq!(stream.closed().await, (socket, "slow_consumer".to_owned()));
    for metric in ["collapsed_total", "refills_total", "caught_up_total", "lagging_connections"] {
        let metric = format!("sockeye_edge_{metric} ");
        assert!(get(edge.ops, "/metrics").await.contains(&metric), "{metric}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_closed_however_alive_it_says_it_is() {
    let (edge, mut stream) =
        start(&["--edge-ping-interval=500ms", "--edge-ping-timeout=500ms"]).await;
    let (mut slow, slow_socket, mut good, _) = slow_and_good(&edge, &mut stream).await;
    let mut log = Log::new("lobby");
    stream.instruct([log.join(slow_socket)]).await;
    for _ in 0..800 {
        stream.instruct([log.say()]).await;
    }

    let answering = async {
        loop {
            assert_eq!(good.text().await, "2");
            good.send("3").await;
            slow.send("3").await;
        }
    };

    // Meanwhile the edge may ask for what the client has made room for.
    let closed = async {
        loop {
            let event = stream.next().await;
            if let Some(edge_event::Kind::Closed(closed)) = event.kind {
                return (event.socket, closed.reason);
            }
        }
    };
    tokio::select! {
        () = answering => {}
        closed = closed => assert_eq!(closed, (slow_socket, "slow_consumer".to_owned())),
    }
}
