//! What is refused, and what the file keeps.

use std::fs;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::identity::TokenMarks;

const NOW: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

fn file_in(directory: &TempDir) -> PathBuf {
    directory.path().join("revocations")
}

fn open(directory: &TempDir) -> DenyList {
    DenyList::open(file_in(directory), NOW).unwrap()
}

fn request(tokens: Tokens, issued_before_unix_ms: u64) -> RevocationRequest {
    let target = Target { issuer: "i".to_owned(), tokens };
    RevocationRequest { target, issued_before_unix_ms, expires_at_unix_ms: 0 }
}

fn request_until(id: &str, expires_at_unix_ms: u64) -> RevocationRequest {
    RevocationRequest { expires_at_unix_ms, ..request(Tokens::Id(id.to_owned()), 0) }
}

fn listed(deny_list: &DenyList, after: u64, limit: usize) -> (Vec<Revocation>, bool) {
    let Page { revocations, has_more, .. } = deny_list.list(after, limit);
    (revocations, has_more)
}

/// A token of Ada with all that a revocation may name.
fn ada() -> Identity {
    Identity {
        subject: "ada".to_owned(),
        issuer: "i".to_owned(),
        tenant: String::new(),
        name: None,
        expires_at_unix_ms: NOW + 60 * MINUTE,
        capabilities: Vec::new(),
        marks: TokenMarks {
            token_id: Some("t".to_owned()),
            session: Some("s".to_owned()),
            issued_at_unix_ms: Some(NOW),
        },
    }
}

#[test]
fn a_token_is_refused_by_whatever_names_it_and_by_nothing_else() {
    for (tokens, other) in [
        (Tokens::Id("t".to_owned()), Tokens::Id("s".to_owned())),
        (Tokens::Session("s".to_owned()), Tokens::Session("t".to_owned())),
        (Tokens::Subject("ada".to_owned()), Tokens::Subject("t".to_owned())),
        (Tokens::All, Tokens::Id("ada".to_owned())),
    ] {
        let directory = tempdir().unwrap();
        let deny_list = open(&directory);
        let of_other_issuer = Identity { issuer: "j".to_owned(), ..ada() };
        let time = |tokens: &Tokens| if tokens.go_by_time() { NOW + 1 } else { 0 };

        deny_list.revoke(request(other.clone(), time(&other)), NOW).unwrap();
        assert_eq!(deny_list.check(&ada()), Ok(1), "{other:?}");

        deny_list.revoke(request(tokens.clone(), time(&tokens)), NOW).unwrap();
        assert_eq!(deny_list.check(&ada()), Err(Refusal::Revoked), "{tokens:?}");
        assert_eq!(deny_list.check(&of_other_issuer), Ok(2), "{tokens:?}");
    }
}

#[test]
fn a_subject_comes_back_with_a_token_that_is_newer() {
    let directory = tempdir().unwrap();
    let deny_list = open(&directory);
    deny_list.revoke(request(Tokens::Subject("ada".to_owned()), NOW), NOW).unwrap();
    let issued_at = |time| {
        let marks = TokenMarks { issued_at_unix_ms: time, ..TokenMarks::default() };
        deny_list.check(&Identity { marks, ..ada() })
    };

    assert_eq!(issued_at(Some(NOW - 1)), Err(Refusal::Revoked));
    assert_eq!(issued_at(None), Err(Refusal::Revoked), "it may be of any age");
    assert_eq!(issued_at(Some(NOW)), Ok(1));
}

#[test]
fn what_was_answered_outlives_a_restart() {
    let directory = tempdir().unwrap();
    let before = open(&directory);
    let first = before.revoke(request(Tokens::Id("a\n\"b".to_owned()), 0), NOW).unwrap();
    let second = before.revoke(request(Tokens::All, NOW), NOW).unwrap();
    assert_eq!((first.position, second.position), (1, 2));
    drop(before);

    let after = open(&directory);

    assert_eq!(listed(&after, 0, 10), (vec![first, second.clone()], false));
    let third = after.revoke(request(Tokens::Session("s".to_owned()), 0), NOW).unwrap();
    assert_eq!(third.position, 3);
    assert_eq!(listed(&after, 1, 1), (vec![second], true));
    assert_eq!(listed(&after, 3, 1), (vec![], false));
    assert_eq!(listed(&after, u64::MAX, 1), (vec![], false));
}

#[test]
fn a_second_revocation_never_makes_a_token_good() {
    let directory = tempdir().unwrap();
    let deny_list = open(&directory);
    let ada_before = |time| request(Tokens::Subject("ada".to_owned()), time);
    let wide = deny_list.revoke(ada_before(NOW + 1), NOW).unwrap();

    assert_eq!(deny_list.revoke(ada_before(NOW - 1), NOW + 1).unwrap(), wide);

    let later = RevocationRequest { expires_at_unix_ms: NOW + 1, ..ada_before(NOW + 2) };
    let wider = deny_list.revoke(later, NOW).unwrap();
    assert_eq!((wider.position, wider.issued_before_unix_ms), (2, NOW + 2));
    assert_eq!(wider.expires_at_unix_ms, 0, "the first was for ever");
    assert_eq!(listed(&deny_list, 0, 10), (vec![wider], false));
}

#[test]
fn a_line_that_was_never_finished_is_dropped_and_its_position_is_free() {
    let directory = tempdir().unwrap();
    let deny_list = open(&directory);
    let first = deny_list.revoke(request(Tokens::Id("a".to_owned()), 0), NOW).unwrap();
    deny_list.revoke(request(Tokens::Id("b".to_owned()), 0), NOW).unwrap();
    drop(deny_list);
    let whole = fs::read(file_in(&directory)).unwrap();
    let second_line =
        whole.len() - 1 - whole[..whole.len() - 1].iter().rev().position(|&b| b == b'\n').unwrap();

    for length in second_line..whole.len() {
        fs::write(file_in(&directory), &whole[..length]).unwrap();
        let deny_list = open(&directory);
        assert_eq!(listed(&deny_list, 0, 10), (vec![first.clone()], false), "{length} bytes");
        let next = deny_list.revoke(request(Tokens::Id("c".to_owned()), 0), NOW).unwrap();
        assert_eq!(next.position, 2);
    }
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let directory = tempdir().unwrap();
    drop(open(&directory));
    let good = fs::read_to_string(file_in(&directory)).unwrap();

    for (text, damaged_line) in [
        (String::new(), 1),
        ("{}\n".to_owned(), 1),
        (good.replace("revocations-1", "revocations-2"), 1),
        (format!("{good}\n"), 2),
        (format!("{good}{{\"position\":1}}\n"), 2),
    ] {
        fs::write(file_in(&directory), &text).unwrap();
        let error = DenyList::open(file_in(&directory), NOW).unwrap_err();
        assert!(
            matches!(error, OpenDenyListError::Damaged { line, .. } if line == damaged_line),
            "{error:?}"
        );
        assert_eq!(fs::read_to_string(file_in(&directory)).unwrap(), text);
    }
}

#[test]
fn two_services_do_not_share_a_file() {
    let directory = tempdir().unwrap();
    let first = open(&directory);

    let error = DenyList::open(file_in(&directory), NOW).unwrap_err();
    assert!(matches!(error, OpenDenyListError::InUse { .. }), "{error:?}");

    drop(first);
    open(&directory);
}

#[test]
fn a_full_list_takes_what_replaces_expired_ones_and_refuses_the_rest() {
    let directory = tempdir().unwrap();
    let deny_list = DenyList { count_max: 2, ..open(&directory) };
    deny_list.revoke(request_until("a", NOW), NOW).unwrap();
    deny_list.revoke(request_until("b", 0), NOW).unwrap();

    let leeway = 5 * MINUTE;
    let refused = deny_list.revoke(request_until("c", 0), NOW + leeway - 1).unwrap_err();
    assert!(matches!(refused, RevokeError::Full), "{refused:?}");
    assert!(deny_list.revoke(request_until("b", 0), NOW).is_ok(), "it is there already");

    let third = deny_list.revoke(request_until("c", 0), NOW + leeway).unwrap();
    assert_eq!(third.position, 3);
    assert_eq!(deny_list.len(), 2);
}

#[test]
fn positions_are_not_given_out_again_once_their_revocations_are_forgotten() {
    let directory = tempdir().unwrap();
    open(&directory).revoke(request_until("a", NOW), NOW).unwrap();

    let after = DenyList::open(file_in(&directory), NOW + 60 * MINUTE).unwrap();
    assert_eq!(after.len(), 0);
    drop(after);

    let next = open(&directory).revoke(request_until("b", 0), NOW).unwrap();
    assert_eq!(next.position, 2);
}

#[test]
fn the_file_does_not_grow_with_what_is_replaced() {
    let directory = tempdir().unwrap();
    let deny_list = open(&directory);
    for time in 0..1100 {
        deny_list.revoke(request(Tokens::All, NOW + time), NOW).unwrap();
    }
    let text = fs::read_to_string(file_in(&directory)).unwrap();
    assert!(text.lines().count() < 200, "{} lines", text.lines().count());

    drop(deny_list);
    let (revocations, _) = listed(&open(&directory), 0, 10);
    assert_eq!(revocations.len(), 1);
    assert_eq!(revocations[0].issued_before_unix_ms, NOW + 1099);
}

#[test]
fn without_a_file_nothing_can_be_revoked() {
    let error = DenyList::empty().revoke(request(Tokens::All, NOW), NOW).unwrap_err();

    assert!(matches!(error, RevokeError::SwitchedOff), "{error:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_failed_write_nothing_is_confirmed() {
    let directory = tempdir().unwrap();
    let deny_list = open(&directory);
    let full_disk = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    deny_list.journal().as_mut().unwrap().replace_file(full_disk);

    for _ in 0..2 {
        let error = deny_list.revoke(request(Tokens::All, NOW + 1), NOW).unwrap_err();
        assert!(matches!(error, RevokeError::Write(_)), "{error:?}");
    }
    assert_eq!(deny_list.len(), 0);
}
