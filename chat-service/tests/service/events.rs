//! What clients ask for, and what they and others are told.

use proto::edge::v1::{Instruction, edge_event, instruction::Kind};

use crate::{
    edge::{Edge, event, event_until, opened},
    running::Running,
};

#[tokio::test]
async fn nobody_is_let_in_without_a_name() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;

    let mut nameless = opened(1, "/chat", "ann", None);
    if let Some(edge_event::Kind::Opened(opened)) = &mut nameless.kind {
        opened.identity = None;
    }
    edge.send(vec![nameless]).await;

    let Some(Kind::Refuse(refuse)) = edge.next_instruction().await.kind else {
        panic!("it is refused")
    };
    assert_eq!((refuse.socket, refuse.message.as_str()), (1, "Unauthorized"));
    edge.open(2, "bob").await;
}

#[tokio::test]
async fn a_message_reaches_every_member_once_and_its_ack_comes_after() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    let mut other = service.edge("two").await;
    edge.open(1, "ann").await;
    other.open(1, "bob").await;

    edge.ask(1, 5, "join", r#"["lobby"]"#).await;
    edge.expect(&[
        "join [1] lobby P0",
        r#"ack 1/5 [{"room":"lobby","position":"P0","members":[{"id":"ann"}]}]"#,
    ])
    .await;
    other.ask(1, 6, "join", r#"[{"room":"lobby"}]"#).await;
    other
        .expect(&[
            "join [1] lobby P0",
            r#"ack 1/6 [{"room":"lobby","position":"P0","members":[{"id":"ann"},{"id":"bob"}]}]"#,
        ])
        .await;
    edge.expect(&[
        r#"emit to room lobby: presence [{"room":"lobby","joined":[{"id":"bob"}],"left":[],"count":2}]"#,
    ])
    .await;

    edge.ask(1, 7, "message", r#"[{"room":"lobby","text":"h\u0069","id":"m1"}]"#).await;

    let message = r#"emit to room lobby: message [{"room":"lobby","id":"m1","user":{"id":"ann"},"text":"h\u0069","at":T,"position":"P1"}] at lobby P1"#;
    edge.expect(&[
        message,
        r#"ack 1/7 [{"id":"m1","position":"P1","at":T,"durability":"memory"}]"#,
    ])
    .await;
    other.expect(&[message]).await;
    edge.expect_quiet(1, "lobby").await;
    other.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn the_client_of_the_nestjs_example_works_unchanged() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;

    edge.tell(1, "join", r#"["lobby"]"#).await;
    edge.tell(1, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;

    edge.expect(&[
        "join [1] lobby P0",
        r#"emit to room lobby: message [{"room":"lobby","id":"P1","user":{"id":"ann"},"text":"hi","at":T,"position":"P1"}] at lobby P1"#,
    ])
    .await;
}

#[tokio::test]
async fn a_retry_with_the_same_id_gets_the_first_answer_and_nobody_sees_it_twice() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.open(2, "ann").await;
    edge.join(1, "lobby").await;
    edge.join(2, "lobby").await;
    edge.ask(1, 1, "message", r#"[{"room":"lobby","text":"first","id":"m1"}]"#).await;
    let first = edge.next().await;
    assert!(first.starts_with("emit to room lobby: message"), "{first}");
    let ack = edge.next().await.replace("ack 1/1", "");

    edge.ask(2, 2, "message", r#"[{"room":"lobby","text":"again","id":"m1"}]"#).await;

    edge.expect(&[&format!("ack 2/2{ack}")]).await;
    edge.expect_quiet(1, "lobby").await;
}

#[tokio::test]
async fn leaving_ends_membership_and_tells_the_others() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.open(2, "bob").await;
    edge.join(1, "lobby").await;
    edge.join(2, "lobby").await;

    edge.ask(2, 1, "leave", r#"["lobby"]"#).await;

    edge.expect(&[
        "leave [2] lobby",
        r#"emit to room lobby: presence [{"room":"lobby","joined":[],"left":[{"id":"bob"}],"count":1}]"#,
        r#"ack 2/1 [{"room":"lobby"}]"#,
    ])
    .await;
    edge.ask(2, 2, "leave", r#"["lobby"]"#).await;
    edge.expect(&["leave [2] lobby", r#"ack 2/2 [{"room":"lobby"}]"#]).await;
}

#[tokio::test]
async fn typing_goes_to_the_others_and_may_be_dropped() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    for (socket, user) in [(1, "ann"), (2, "bob")] {
        edge.open(socket, user).await;
        edge.join(socket, "lobby").await;
    }

    edge.tell(1, "typing", r#"[{"room":"lobby","typing":true}]"#).await;
    edge.ask(2, 3, "typing", r#"[{"room":"lobby","typing":false}]"#).await;

    edge.expect(&[
        r#"emit to room lobby but [1]: typing [{"room":"lobby","user":{"id":"ann"},"typing":true}] volatile"#,
        r#"emit to room lobby but [2]: typing [{"room":"lobby","user":{"id":"bob"},"typing":false}] volatile"#,
        "ack 2/3 [{}]",
    ])
    .await;
}

#[tokio::test]
async fn history_is_paged_both_ways() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    let mut positions = Vec::new();
    for number in 0..5 {
        let args = format!(r#"[{{"room":"lobby","text":"{number}"}}]"#);
        edge.tell(1, "message", &args).await;
        positions.push(emitted_position(&edge.next_instruction().await));
    }

    let page = async |edge: &mut Edge, extra: &str| {
        edge.ask(1, 1, "history", &format!(r#"[{{"room":"lobby"{extra}}}]"#)).await;
        texts(&edge.next().await)
    };
    assert_eq!(page(&mut edge, r#","limit":2"#).await, ("34".to_owned(), true));
    let before = format!(r#","limit":2,"before":"{}""#, positions[3]);
    assert_eq!(page(&mut edge, &before).await, ("12".to_owned(), true));
    let after = format!(r#","limit":2,"after":"{}""#, positions[1]);
    assert_eq!(page(&mut edge, &after).await, ("23".to_owned(), true));
    let rest = format!(r#","after":"{}""#, positions[2]);
    assert_eq!(page(&mut edge, &rest).await, ("34".to_owned(), false));
    assert_eq!(page(&mut edge, "").await, ("01234".to_owned(), false));
}

#[tokio::test]
async fn joining_with_a_position_tells_what_was_missed_or_that_it_cannot_be_told() {
    let service = Running::start_with(&["--chat-history-count-max=3"]).await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;
    let mut positions = Vec::new();
    for number in 0..5 {
        let args = format!(r#"[{{"room":"lobby","text":"{number}"}}]"#);
        edge.tell(1, "message", &args).await;
        positions.push(emitted_position(&edge.next_instruction().await));
    }

    edge.open(2, "ann").await;
    let since = format!(r#"[{{"room":"lobby","since":"{}"}}]"#, positions[1]);
    edge.ask(2, 1, "join", &since).await;
    edge.next().await;
    let recovered = edge.next().await;
    assert!(recovered.contains(r#""recovered":true,"messages":[{"#), "{recovered}");
    assert_eq!(texts(&recovered).0, "234");

    let too_old = format!(r#"[{{"room":"lobby","since":"{}"}}]"#, positions[0]);
    edge.ask(2, 2, "join", &too_old).await;
    edge.next().await;
    let gap = edge.next().await;
    assert!(gap.ends_with(r#""recovered":false,"messages":[]}]"#), "{gap}");

    let args = format!(r#"[{{"room":"lobby","after":"{}"}}]"#, positions[0]);
    edge.ask(2, 3, "history", &args).await;
    edge.expect(&[
        r#"ack 2/3 [{"error":{"code":"gap","message":"entries after this position are gone","retryable":false}}]"#,
    ])
    .await;
}

#[tokio::test]
async fn a_bad_event_is_answered_exactly_or_told_as_an_exception() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    let deep = format!("[{}{}]", "[".repeat(10_000), "]".repeat(10_000));
    let not_a_member = ("not_a_member", "join the room first");
    for (name, args, (code, message)) in [
        ("message", r#"[{"room":"lobby","text":"hi"}]"#, not_a_member),
        ("typing", r#"[{"room":"lobby","typing":true}]"#, not_a_member),
        ("history", r#"[{"room":"lobby"}]"#, not_a_member),
        ("presence", r#"["lobby"]"#, not_a_member),
        ("shout", "[]", ("unknown_event", "there is no such event")),
        ("join", "[]", ("invalid_payload", "the event has no body")),
        ("join", &deep, ("invalid_payload", "the body must be a room's name or an object")),
        ("message", r#"[{"room":"lobby"}]"#, ("invalid_payload", "text is missing")),
        (
            "history",
            r#"[{"room":"a","before":"x"}]"#,
            ("invalid_payload", "before must be a position"),
        ),
    ] {
        edge.ask(1, 1, name, args).await;
        let fields = format!(r#""code":"{code}","message":"{message}","retryable":false"#);
        edge.expect(&[&format!(r#"ack 1/1 [{{"error":{{{fields}}}}}]"#)]).await;

        edge.tell(1, name, args).await;
        let exception = format!(r#"emit to [1]: exception [{{"status":"error",{fields}}}]"#);
        edge.expect(&[&exception]).await;
    }
}

#[tokio::test]
async fn an_event_found_after_its_deadline_has_no_effect_and_no_answer() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    let late = |deadline| {
        event_until(deadline, 1, Some(1), ("message", r#"[{"room":"lobby","text":"late"}]"#))
    };
    let now = edge.clock_ms;
    edge.send(vec![late(now), late(0), event_until(1, 1, Some(2), ("shout", "[]"))]).await;
    edge.wait_until_acknowledged().await;

    edge.ask(1, 3, "history", r#"["lobby"]"#).await;
    let answer = edge.next().await;
    assert!(answer.contains("the body must be an object"), "{answer}");
    edge.ask(1, 4, "history", r#"[{"room":"lobby"}]"#).await;
    edge.expect(&[r#"ack 1/4 [{"messages":[],"more":false}]"#]).await;
}

#[tokio::test]
async fn an_event_has_its_time_whatever_the_clock_of_its_edge_shows() {
    let service = Running::start().await;
    for (name, clock_ms) in [("behind", 0), ("ahead", 1 << 49)] {
        let mut edge = service.edge(name).await;
        edge.clock_ms = clock_ms;
        edge.open(1, "ann").await;
        edge.join(1, name).await;
        let message = |deadline_ms, ack_id, text| {
            let args = format!(r#"[{{"room":"{name}","text":"{text}"}}]"#);
            event_until(deadline_ms, 1, Some(ack_id), ("message", &args))
        };

        edge.clock_ms += 100;
        let now = edge.clock_ms;
        edge.send(vec![message(now + 10_000, 1, "in time"), message(now, 2, "late")]).await;

        let emit = edge.next().await;
        assert!(emit.contains(r#""text":"in time""#), "{emit}");
        assert!(edge.next().await.starts_with("ack 1/1 "));
        edge.expect_quiet(1, name).await;
    }
}

#[tokio::test]
async fn events_of_one_frame_keep_their_order_in_their_room() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.open(1, "ann").await;
    edge.join(1, "lobby").await;

    let message = |number| {
        let args = format!(r#"[{{"room":"lobby","text":"{number}"}}]"#);
        event(1, Some(number), "message", &args)
    };
    edge.send((0..300).map(message).collect()).await;

    for number in 0..300 {
        let line = edge.next().await;
        assert!(line.contains(&format!(r#""text":"{number}""#)), "{line}");
        let ack = edge.next().await;
        assert!(ack.starts_with(&format!("ack 1/{number} ")), "{ack}");
    }
    edge.wait_until_acknowledged().await;
}

#[tokio::test]
async fn rooms_of_two_namespaces_have_nothing_in_common() {
    let service = Running::start().await;
    let mut edge = service.edge("one").await;
    edge.send(vec![opened(1, "/chat", "ann", None), opened(2, "/", "bob", None)]).await;
    edge.expect(&["accept 1", "accept 2"]).await;
    edge.join(1, "lobby").await;

    edge.ask(2, 1, "join", r#"["lobby"]"#).await;
    edge.expect(&[
        "join [2] lobby P0",
        r#"ack 2/1 [{"room":"lobby","position":"P0","members":[{"id":"bob"}]}]"#,
    ])
    .await;
    edge.tell(2, "message", r#"[{"room":"lobby","text":"hi"}]"#).await;
    let line = edge.next().await;
    assert!(line.starts_with("emit to room lobby in /: message"), "{line}");
}

pub(crate) fn emitted_position(instruction: &Instruction) -> String {
    let Some(Kind::Emit(emit)) = &instruction.kind else { panic!("{instruction:?}") };
    assert_ne!(emit.position, "", "{emit:?}");
    emit.position.clone()
}

/// The texts of the messages in an answer, and whether there are more.
fn texts(line: &str) -> (String, bool) {
    let texts = line.split(r#""text":""#).skip(1);
    (texts.map(|rest| rest.split('"').next().unwrap()).collect(), line.contains(r#""more":true"#))
}
