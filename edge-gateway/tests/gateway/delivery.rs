//! Events in, instructions out: who gets what, in which order.

use proto::edge::v1::{
    Accept, AckRequest, Acknowledge, Audience, Close, Disconnect, Emit, Handled, Join, Leave,
    edge_event, instruction::Kind,
};

use crate::support::{Edge, Stream, poller::Poller};

fn join(sockets: &[u64], room: &str) -> Kind {
    Kind::Join(Join { sockets: sockets.to_vec(), room: room.to_owned(), position: "p0".to_owned() })
}

fn chat() -> Audience {
    Audience { namespace: "/chat".to_owned(), ..Audience::default() }
}

fn room(name: &str) -> Audience {
    Audience { rooms: vec![name.to_owned()], ..chat() }
}

fn only(socket: u64) -> Audience {
    Audience { sockets: vec![socket], ..chat() }
}

fn emit(audience: Audience, event: &str, args: impl Into<bytes::Bytes>) -> Kind {
    Kind::Emit(Emit {
        audience: Some(audience),
        event: event.to_owned(),
        args: args.into(),
        ..Emit::default()
    })
}

/// Emits to `audience`, then a mark to everyone; returns which of the clients got the emit.
async fn reached(
    clients: &mut [&mut crate::support::Client],
    stream: &mut Stream,
    audience: Audience,
) -> Vec<bool> {
    let everyone = Audience { everyone: true, ..chat() };
    stream.instruct([emit(audience, "hit", "[1]"), emit(everyone, "mark", "[]")]).await;
    let mut hits = Vec::new();
    for client in clients {
        let mut count = 0;
        loop {
            match client.text().await.as_str() {
                r#"42/chat,["hit",1]"# => count += 1,
                r#"42/chat,["mark"]"# => break,
                other => panic!("{other}"),
            }
        }
        assert!(count <= 1, "an audience is a set");
        hits.push(count == 1);
    }
    hits
}

#[tokio::test]
async fn events_and_acks_keep_the_clients_own_json() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let args = r#"{"b":1e400,"a":9007199254740993},"\ud800",[[]]"#;

    client.send(&format!(r#"42/chat,7["echo",{args}]"#)).await;
    let (from, event) = stream.event().await;
    assert_eq!((from, event.name.as_str(), event.ack_id), (socket, "echo", Some(7)));
    assert_eq!(event.args, format!("[{args}]"));

    let ack = Acknowledge { socket, ack_id: 7, args: event.args.clone(), ..Acknowledge::default() };
    let back = Emit {
        audience: Some(Audience { sockets: vec![socket], ..chat() }),
        event: "back".to_owned(),
        args: event.args,
        ..Emit::default()
    };
    stream.instruct([Kind::Emit(back), Kind::Acknowledge(ack)]).await;
    assert_eq!(client.text().await, format!(r#"42/chat,["back",{args}]"#));
    assert_eq!(client.text().await, format!("43/chat,7[{args}]"));
}

#[tokio::test]
async fn a_burst_to_a_room_reaches_each_client_in_order_whatever_it_speaks() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut alice, first) = edge.in_chat(&mut stream, "alice").await;
    let (mut json, second) = edge.json_in_chat(&mut stream, "bob").await;
    let poller = Poller::open(&edge).await;
    let third = poller.enter_chat(&mut stream).await;
    let (mut outside, fourth) = edge.in_chat(&mut stream, "dave").await;
    let members = [first, second, third];
    let say = |number: usize| emit(room("lobby"), "say", format!("[{number}]"));
    let handled = || Kind::Handled(Handled { event_id: vec![0; 16].into() });

    alice.send(r#"42/chat,5["ask"]"#).await;
    assert_eq!(stream.event().await.0, first);
    let ack = Acknowledge { socket: first, ack_id: 5, args: "[]".into(), ..Acknowledge::default() };
    let except = Audience { except_sockets: vec![second], ..room("lobby") };
    let mut kinds = vec![join(&members, "lobby"), say(0), handled(), say(1), handled(), say(2)];
    kinds.extend([Kind::Acknowledge(ack), say(3), say(4), emit(except, "say", "[5]"), say(6)]);
    // What is no JSON list is left out, and nothing else.
    kinds.extend([emit(room("lobby"), "say", "no list"), say(7), say(8)]);
    kinds.extend([emit(room("elsewhere"), "say", "[9]"), emit(only(fourth), "end", "[]")]);
    stream.instruct(kinds).await;

    let packet = |number: usize| format!(r#"42/chat,["say",{number}]"#);
    let mut packets: Vec<_> = (0..=8).map(packet).collect();
    packets.insert(3, "43/chat,5[]".to_owned());
    for packet in &packets {
        assert_eq!(alice.text().await, *packet);
    }
    for number in (0..=8).filter(|number| *number != 5) {
        assert_eq!(json.text().await, format!(r#"{{"event":"say","data":{number}}}"#));
    }
    packets.remove(3);
    assert_eq!(poller.get().await, (200, packets.join("\x1e")));
    assert_eq!(outside.text().await, r#"42/chat,["end"]"#);
}

#[tokio::test]
async fn a_number_is_a_name_like_any_other() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;

    client.send("42/chat,[7,1]").await;
    assert_eq!(stream.event().await.1.name, "7");
    stream.instruct([emit(only(socket), "7", "[1]")]).await;

    assert_eq!(client.text().await, r#"42/chat,["7",1]"#);
}

#[tokio::test]
async fn what_means_nothing_in_javascript_is_something_here() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let args = r#"null,false,0,"",[],{}"#;

    client.send(&format!(r#"42/chat,0["",{args}]"#)).await;
    let (_, event) = stream.event().await;
    assert_eq!((event.name.as_str(), event.ack_id), ("", Some(0)));
    let ack = Acknowledge { socket, ack_id: 0, args: event.args, ..Acknowledge::default() };
    stream.instruct([Kind::Acknowledge(ack)]).await;

    assert_eq!(client.text().await, format!("43/chat,0[{args}]"));
}

#[tokio::test]
async fn binary_parts_travel_beside_the_json_both_ways() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let (mut json, _) = edge.json_in_chat(&mut stream, "bob").await;
    let args = r#"{"a":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}"#;

    client.send(&format!(r#"452-/chat,7["blob",{args}]"#)).await;
    client.send_binary(b"zero").await;
    client.send_binary(b"one").await;
    let (_, event) = stream.event().await;
    assert_eq!((event.name.as_str(), event.ack_id), ("blob", Some(7)));
    assert_eq!(event.args, format!("[{args}]"));
    assert_eq!(event.attachments, ["zero", "one"]);

    let attachments = event.attachments;
    let everyone = Audience { everyone: true, ..chat() };
    let back = Emit {
        audience: Some(everyone),
        event: "back".to_owned(),
        args: event.args.clone(),
        attachments: attachments.clone(),
        ..Emit::default()
    };
    let ack = Acknowledge { socket, ack_id: 7, args: event.args, attachments };
    stream.instruct([Kind::Emit(back), Kind::Acknowledge(ack)]).await;
    assert_eq!(client.text().await, format!(r#"452-/chat,["back",{args}]"#));
    assert_eq!([client.binary().await, client.binary().await], ["zero", "one"]);
    assert_eq!(client.text().await, format!("462-/chat,7[{args}]"));
    assert_eq!([client.binary().await, client.binary().await], ["zero", "one"]);
    assert_eq!(json.text().await, format!(r#"{{"event":"back","data":[{args}],"attachments":2}}"#));
    assert_eq!([json.binary().await, json.binary().await], ["zero", "one"]);
}

#[tokio::test]
async fn a_client_answers_with_binary_parts() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let ask = Emit {
        audience: Some(Audience { sockets: vec![socket], ..chat() }),
        event: "file?".to_owned(),
        args: "[]".into(),
        ask: Some(AckRequest { tag: 3, timeout_ms: 0 }),
        ..Emit::default()
    };
    stream.instruct([Kind::Emit(ask)]).await;
    let id = ack_id(&client.text().await);

    client.send(&format!(r#"461-/chat,{id}[{{"_placeholder":true,"num":0}}]"#)).await;
    client.send_binary(b"bytes").await;

    let event = stream.next().await;
    let Some(edge_event::Kind::Ack(ack)) = event.kind else { panic!("{event:?}") };
    assert_eq!((ack.tag, ack.attachments), (3, vec!["bytes".into()]));
}

#[tokio::test]
async fn an_emit_reaches_exactly_its_audience() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut a, alice) = edge.in_chat(&mut stream, "alice").await;
    let (mut b, bob) = edge.in_chat(&mut stream, "bob").await;
    let (mut c, bob_too) = edge.in_chat(&mut stream, "bob").await;
    stream.instruct([join(&[alice, bob], "lobby"), join(&[bob, bob_too], "attic")]).await;
    let mut clients = [&mut a, &mut b, &mut c];

    let cases = [
        (room("lobby"), [true, true, false]),
        (room("nowhere"), [false, false, false]),
        (Audience { users: vec!["bob".to_owned()], ..chat() }, [false, true, true]),
        (Audience { everyone: true, ..chat() }, [true, true, true]),
        (Audience { sockets: vec![alice, 999], ..chat() }, [true, false, false]),
        (
            Audience { rooms: vec!["lobby".to_owned(), "attic".to_owned()], ..chat() },
            [true, true, true],
        ),
        (Audience { except_sockets: vec![bob], ..room("lobby") }, [true, false, false]),
        (Audience { except_users: vec!["bob".to_owned()], ..room("lobby") }, [true, false, false]),
        (
            Audience { everyone: true, except_rooms: vec!["attic".to_owned()], ..chat() },
            [true, false, false],
        ),
    ];
    for (audience, expected) in cases {
        let hits = reached(&mut clients, &mut stream, audience.clone()).await;
        assert_eq!(hits, expected, "{audience:?}");
    }

    let leave = Leave { sockets: vec![bob], room: "lobby".to_owned() };
    stream.instruct([Kind::Leave(leave)]).await;
    assert_eq!(reached(&mut clients, &mut stream, room("lobby")).await, [true, false, false]);
}

#[tokio::test]
async fn what_one_frame_brings_is_given_in_its_order() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut alice, first) = edge.in_chat(&mut stream, "alice").await;
    let (mut bob, second) = edge.in_chat(&mut stream, "bob").await;
    stream.instruct([join(&[first, second], "a"), join(&[first], "b")]).await;

    let not_alice = Audience { except_sockets: vec![first], ..room("a") };
    stream
        .instruct([
            emit(room("a"), "m", "[1]"),
            emit(room("b"), "m", "[2]"),
            emit(not_alice, "m", "[3]"),
            emit(only(first), "m", "[4]"),
            emit(room("a"), "m", "[5]"),
            emit(room("b"), "m", "[6]"),
            emit(only(second), "m", "[7]"),
            emit(room("a"), "m", "[8]"),
        ])
        .await;

    for number in [1, 2, 4, 5, 6, 8] {
        assert_eq!(alice.text().await, format!(r#"42/chat,["m",{number}]"#));
    }
    for number in [1, 3, 5, 7, 8] {
        assert_eq!(bob.text().await, format!(r#"42/chat,["m",{number}]"#));
    }
}

#[tokio::test]
async fn both_wire_formats_meet_in_one_room() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut socket_io, one) = edge.in_chat(&mut stream, "alice").await;
    let (mut json, two) = edge.json_in_chat(&mut stream, "bob").await;
    stream.instruct([join(&[one, two], "lobby")]).await;

    stream.instruct([emit(room("lobby"), "message", r#"[{"text":"hi"}]"#)]).await;

    assert_eq!(socket_io.text().await, r#"42/chat,["message",{"text":"hi"}]"#);
    assert_eq!(json.text().await, r#"{"event":"message","data":{"text":"hi"}}"#);
}

#[tokio::test]
async fn plain_json_requests_are_answered_under_their_own_ids() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut client, socket) = edge.json_in_chat(&mut stream, "alice").await;

    client.send(r#"{"event":"a","data":{"x":1},"id":"first"}"#).await;
    client.send(r#"{"event":"b","id":2}"#).await;
    let (_, first) = stream.event().await;
    let (_, second) = stream.event().await;
    assert_eq!((&first.args[..], &second.args[..]), (&br#"[{"x":1}]"#[..], &b"[]"[..]));

    let answer = |ack_id, args: &'static str| {
        Kind::Acknowledge(Acknowledge {
            socket,
            ack_id,
            args: args.into(),
            ..Acknowledge::default()
        })
    };
    let error = r#"[{"error":{"code":"no","message":"no","retryable":false}}]"#;
    stream.instruct([answer(second.ack_id.unwrap(), error)]).await;
    stream.instruct([answer(first.ack_id.unwrap(), r#"["done"]"#)]).await;
    let error = r#"{"id":2,"error":{"code":"no","message":"no","retryable":false}}"#;
    assert_eq!(client.text().await, error);
    assert_eq!(client.text().await, r#"{"id":"first","data":"done"}"#);
}

#[tokio::test]
async fn a_backend_learns_who_acknowledged() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut a, alice) = edge.in_chat(&mut stream, "alice").await;
    let (mut b, bob) = edge.in_chat(&mut stream, "bob").await;
    let ask = Emit {
        audience: Some(Audience { everyone: true, ..chat() }),
        event: "ready?".to_owned(),
        args: "[]".into(),
        ask: Some(AckRequest { tag: 77, timeout_ms: 0 }),
        ..Emit::default()
    };

    stream.instruct([Kind::Emit(ask)]).await;
    let id = ack_id(&a.text().await);
    assert_eq!(ack_id(&b.text().await), id, "one encoding for all");
    a.send(&format!("43/chat,{id}[\"yes\"]")).await;
    let answer = stream.next().await;
    assert_eq!(answer.socket, alice);
    let Some(edge_event::Kind::Ack(ack)) = answer.kind else { panic!("{answer:?}") };
    assert_eq!((ack.tag, &ack.args[..]), (77, &br#"["yes"]"#[..]));

    a.send(&format!("43/chat,{id}[\"again\"]")).await;
    drop(b);
    let finished = stream.next().await;
    let Some(edge_event::Kind::AckFinished(finished)) = finished.kind else {
        panic!("an answer counts once: {finished:?}")
    };
    assert_eq!((finished.tag, finished.asked, finished.answered), (77, 2, 1));
    assert_eq!(stream.closed().await.0, bob);
}

#[tokio::test]
async fn nobody_waits_for_the_ack_of_who_has_left() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (mut a, alice) = edge.in_chat(&mut stream, "alice").await;
    let (mut b, bob) = edge.in_chat(&mut stream, "bob").await;
    let (mut c, carol) = edge.in_chat(&mut stream, "carol").await;
    let ask = Emit {
        audience: Some(Audience { everyone: true, ..chat() }),
        event: "ready?".to_owned(),
        args: "[]".into(),
        ask: Some(AckRequest { tag: 8, timeout_ms: 60_000 }),
        ..Emit::default()
    };
    stream.instruct([Kind::Emit(ask)]).await;
    let id = ack_id(&a.text().await);
    b.text().await;
    c.text().await;

    a.send(&format!("43/chat,{id}[]")).await;
    assert_eq!(stream.next().await.socket, alice);
    b.send("41/chat,").await;
    assert_eq!(stream.closed().await, (bob, "client_disconnect".to_owned()));
    let disconnect = Disconnect { sockets: vec![carol], close_connection: false };
    stream.instruct([Kind::Disconnect(disconnect)]).await;

    let finished = stream.next().await;
    let Some(edge_event::Kind::AckFinished(finished)) = finished.kind else {
        panic!("{finished:?}")
    };
    assert_eq!((finished.tag, finished.asked, finished.answered), (8, 3, 1));
    assert_eq!(stream.closed().await, (carol, "server_disconnect".to_owned()));
}

#[tokio::test]
async fn an_ack_that_nobody_gives_is_finished_when_its_time_is_up() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (_client, socket) = edge.in_chat(&mut stream, "alice").await;
    let ask = Emit {
        audience: Some(Audience { sockets: vec![socket], ..chat() }),
        event: "ready?".to_owned(),
        args: "[]".into(),
        ask: Some(AckRequest { tag: 5, timeout_ms: 100 }),
        ..Emit::default()
    };

    stream.instruct([Kind::Emit(ask)]).await;

    let event = stream.next().await;
    let Some(edge_event::Kind::AckFinished(finished)) = event.kind else { panic!("{event:?}") };
    assert_eq!((event.socket, finished.asked, finished.answered), (0, 1, 0));
}

#[tokio::test]
async fn nothing_reaches_a_client_before_it_is_let_in() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let mut client = edge.socket_io().await;
    client.send(r#"40/chat,{"token":"ok:alice"}"#).await;
    let (socket, _) = stream.opened().await;

    stream.instruct([emit(only(socket), "early", "[]")]).await;
    stream.instruct([Kind::Accept(Accept { socket })]).await;

    assert!(client.text().await.starts_with(r#"40/chat,{"sid""#));
}

#[tokio::test]
async fn what_waits_for_a_client_is_written_before_its_connection_is_closed() {
    let (edge, mut stream) = Edge::attached(&["--edge-outbox-bytes-max=100000000"]).await;
    let (mut client, socket) = edge.in_chat(&mut stream, "alice").await;
    let payload: bytes::Bytes = format!("[\"{}\"]", "x".repeat(1_000_000)).into();

    // More than the kernel's buffers hold, and not more than a busy machine can write in the time that there is.
    for _ in 0..16 {
        stream.instruct([emit(only(socket), "big", payload.clone())]).await;
    }
    stream.instruct([Kind::Close(Close { sockets: vec![socket] })]).await;

    assert_eq!(stream.closed().await.0, socket);
    let (events, code) = client.until_its_end().await;
    assert_eq!((events.len(), code), (16, Some(4007)));
}

#[tokio::test]
async fn an_ask_that_cannot_be_put_is_finished_at_once() {
    let (edge, mut stream) = Edge::attached(&[]).await;
    let (_client, socket) = edge.in_chat(&mut stream, "alice").await;
    let everyone = |namespace: &str| Audience {
        namespace: namespace.to_owned(),
        sockets: vec![socket],
        ..Audience::default()
    };
    let cases = [(Some(everyone("/chat")), "{}"), (Some(everyone("/nope")), "[]"), (None, "[]")];

    for (tag, (audience, args)) in (1..).zip(cases) {
        let ask = Some(AckRequest { tag, timeout_ms: 0 });
        let event = "ready?".to_owned();
        let emit = Emit { audience, event, args: args.into(), ask, ..Emit::default() };
        stream.instruct([Kind::Emit(emit)]).await;

        let event = stream.next().await;
        let Some(edge_event::Kind::AckFinished(finished)) = event.kind else { panic!("{event:?}") };
        assert_eq!((finished.tag, finished.asked, finished.answered), (tag, 0, 0));
    }
}

fn ack_id(frame: &str) -> u64 {
    let rest = frame.strip_prefix("42/chat,").unwrap();
    rest.split('[').next().unwrap().parse().unwrap()
}
