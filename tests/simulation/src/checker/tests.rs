//! What the checker lets pass after a loss, and what it still finds.

use super::*;
use crate::faults::Kind;

const ROOM: &str = "attic";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn power_cut_at(at: u64) -> Faults {
    Faults::only(Kind::PowerCut, seconds(at), seconds(at + 1))
}

fn message(id: &str, position: &str) -> Message {
    Message {
        room: ROOM.to_owned(),
        id: id.to_owned(),
        user: user_of(1),
        text: format!("{ROOM}/{id}"),
        position: position.to_owned(),
    }
}

fn joined(since: Option<&str>, position: &str, messages: Vec<Message>) -> Seen {
    Seen::Joined(Joined {
        room: ROOM.to_owned(),
        since: since.map(str::to_owned),
        position: position.to_owned(),
        recovered: since.is_some(),
        messages,
        members: vec![user_of(1)],
    })
}

/// What client 1 has seen, and at which second, since it has sent its first message.
fn history(seen: Vec<(u64, Seen)>) -> Vec<Event> {
    let sent = Seen::Sent { room: ROOM.to_owned(), id: "1-1".to_owned() };
    let begin = [(1, Seen::Connected { edge: 0, expires: seconds(60) }), (1, sent)];
    let all = begin.into_iter().chain(seen);
    all.map(|(at, seen)| Event { at: seconds(at), client: 1, seen }).collect()
}

/// It was given a message, was told of a gap, and is given the message again, so often.
fn given_again_after_a_gap(times: usize) -> Vec<Event> {
    let gap = Seen::Gap { room: ROOM.to_owned() };
    let mut seen = vec![(2, joined(Some("p0"), "p1", vec![message("1-1", "p1")])), (6, gap)];
    seen.extend((0..times).map(|_| (7, Seen::Message(message("1-1", "p1")))));
    history(seen)
}

fn violations(events: &[Event], faults: &Faults, durability: Durability) -> Vec<String> {
    check(events, faults, durability).violations
}

#[test]
fn a_message_that_a_power_cut_took_may_come_again_after_the_gap() {
    let events = given_again_after_a_gap(1);

    let found = violations(&events, &power_cut_at(4), Durability::Disk);

    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_message_that_comes_twice_after_the_gap_is_found() {
    let events = given_again_after_a_gap(2);

    let found = violations(&events, &power_cut_at(4), Durability::Disk);

    assert_eq!(found, ["I2: 7s client 1: 1-1 came twice in attic"]);
}

#[test]
fn a_message_that_nothing_took_may_not_come_again() {
    let events = given_again_after_a_gap(1);

    let found = violations(&events, &power_cut_at(4), Durability::DiskFsync);

    let gap = "I1: 6s client 1: a gap in attic, whose log was not lost";
    assert_eq!(found, [gap, "I2: 7s client 1: 1-1 came twice in attic"]);
}

#[test]
fn a_message_that_was_there_before_the_power_cut_and_came_without_a_gap_is_found() {
    let twice = Seen::Message(message("1-1", "p1"));
    let first = joined(Some("p0"), "p1", vec![message("1-1", "p1")]);

    let found =
        violations(&history(vec![(2, first), (6, twice)]), &power_cut_at(4), Durability::Disk);

    assert_eq!(found[0], "I2: 6s client 1: 1-1 came twice in attic");
}
