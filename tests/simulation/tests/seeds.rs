//! Runs the simulation as a process, for enough seeds to be worth it, and shows that it would notice.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

/// How many seeds an ordinary run has.
const SEEDS: &str = "150";

fn simulation(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulation")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn seed(seed: u64, more: &[&str]) -> Output {
    simulation(&[&["--quiet", "--seed", &seed.to_string()], more].concat())
}

#[test]
fn no_seed_breaks_a_promise() {
    let output = simulation(&["--seeds", SEEDS]);

    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_seed_runs_the_same_each_time_and_others_differ() {
    let mut traces = Vec::new();
    for number in 1..=8 {
        let (once, again) = (text(&seed(number, &[])), text(&seed(number, &[])));

        assert_eq!(once, again);
        traces.push(once.split(' ').nth(3).unwrap().to_owned());
    }

    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 8, "{traces:?}");
}

/// Breaks the system until a seed shows it in the way that is expected.
fn assert_found_out(mutation: &str, violated: &str) {
    let expected = format!("VIOLATION {violated}: ");
    let is_found = (1..=20).any(|number| {
        let output = seed(number, &["--mutation", mutation]);
        !output.status.success() && text(&output).contains(&expected)
    });

    assert!(is_found, "{mutation} was not found out by {violated}");
}

#[test]
fn a_log_that_is_too_short_or_forgets_and_a_disk_that_lies_are_found_out() {
    assert_found_out("short-log", "I1");
    assert_found_out("forgetful-log", "I1");
    assert_found_out("lying-disk", "I1");
    assert_found_out("silent-disk", "I1");
}

#[test]
fn messages_that_come_twice_or_not_or_in_another_order_are_found_out() {
    assert_found_out("doubled", "I2");
    assert_found_out("swallowed", "I3");
    assert_found_out("swapped", "I3");
    assert_found_out("skipped", "I4");
}

#[test]
fn messages_that_cross_rooms_are_found_out() {
    assert_found_out("leaked", "I5");
}

#[test]
fn answers_that_are_missing_or_untrue_are_found_out() {
    assert_found_out("mute", "acks");
    assert_found_out("untrue", "order");
    assert_found_out("needless", "acks");
}

#[test]
fn connections_that_end_for_nothing_are_found_out() {
    assert_found_out("hangup", "I8");
}

#[test]
fn what_is_left_of_those_who_are_gone_is_found_out() {
    assert_found_out("stowaway", "I7");
}

#[test]
fn tokens_that_do_not_end_are_found_out() {
    assert_found_out("immortal", "I9");
}

#[test]
fn whoever_never_catches_up_is_found_out() {
    assert_found_out("unhealed", "I10");
    assert_found_out("forgotten", "I10");
}

#[test]
fn ghosts_are_found_out() {
    assert_found_out("ghost", "I6");
    assert_found_out("unnoticed", "I6");
}
