//! Who is kept out, for how long, and how many of them.

use super::*;
use crate::socket::{LinkKey, SocketKey};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn exclusions(count_max: usize, room_bans_max: usize) -> Exclusions {
    Exclusions::new(ExclusionBounds { count_max, room_bans_max })
}

fn room(name: &str) -> RoomKey {
    RoomKey::parse("/chat", name).unwrap()
}

fn who(subject: &str) -> Who {
    Who::User { subject: subject.into(), issuer: "test".into() }
}

fn socket(subject: &str, issuer: &str, id: &str) -> Socket {
    let key = SocketKey { link: LinkKey(1), handle: 1 };
    let user = User::parse(subject, issuer, b"{}").unwrap();
    Socket::new(key, id.into(), "/chat".into(), user)
}

fn ban(until_ms: Option<u64>) -> Ban {
    Ban { since_ms: 0, until_ms, reason: "spam".into() }
}

fn subjects(exclusions: &Exclusions, after: Option<&Who>, now_ms: u64) -> Vec<String> {
    exclusions.bans(&room("a"), after, now_ms).map(|(subject, ..)| subject.to_owned()).collect()
}

#[test]
fn a_socket_that_was_put_out_counts_as_out_until_it_joins() {
    let mut kept = exclusions(10, 10);
    let (phone, laptop) = (socket("ann", "test", "phone"), socket("ann", "test", "laptop"));
    kept.kick(&room("a"), &who("ann"), "noise", 0).unwrap();

    for (one, name) in [(&phone, "b"), (&socket("bob", "test", "x"), "a")] {
        assert_eq!(kept.kick_of(&room(name), one, 1), None);
    }
    assert_eq!(kept.kick_of(&room("a"), &socket("ann", "other", "x"), 1), None);
    assert_eq!(&*kept.kick_of(&room("a"), &phone, 1).unwrap().reason, "noise");

    assert_eq!(kept.note_return(&room("a"), &phone, 1), [who("ann")]);
    assert_eq!(kept.note_return(&room("a"), &phone, 1), []);
    assert_eq!(kept.kick_of(&room("a"), &phone, 1), None);
    assert!(kept.kick_of(&room("a"), &laptop, 1).is_some());

    kept.kick(&room("a"), &who("ann"), "", 2).unwrap();
    assert!(kept.kick_of(&room("a"), &phone, 2).is_some(), "a second time");
    assert_eq!(kept.count(), 1);
}

#[test]
fn one_socket_is_put_out_and_the_others_of_its_user_stay() {
    let mut kept = exclusions(10, 10);
    let (phone, laptop) = (socket("ann", "test", "phone"), socket("ann", "test", "laptop"));
    let one = Who::Socket("phone".into());
    kept.kick(&room("a"), &one, "", 0).unwrap();

    assert!(kept.kick_of(&room("a"), &phone, 0).is_some());
    assert_eq!(kept.kick_of(&room("a"), &laptop, 0), None);

    assert_eq!(kept.note_return(&room("a"), &phone, 0), [one]);
    assert_eq!((kept.kick_of(&room("a"), &phone, 0), kept.count()), (None, 0));
}

#[test]
fn a_ban_ends_by_the_clock_or_when_it_is_lifted_and_puts_nobody_back() {
    let mut kept = exclusions(10, 10);
    let ann = socket("ann", "test", "phone");
    kept.ban(&room("a"), &who("ann"), ban(Some(1000)), 0).unwrap();

    assert!(kept.ban_of(&room("a"), &ann.user, 999).is_some());
    assert_eq!(kept.ban_of(&room("a"), &socket("ann", "other", "x").user, 999), None);
    assert_eq!(kept.ban_of(&room("a"), &ann.user, 1000), None);
    assert_eq!(kept.ban_of(&room("b"), &ann.user, 0), None);
    assert!(kept.kick_of(&room("a"), &ann, 1000).is_some());
    assert!(!kept.unban(&room("a"), &who("ann"), 1000), "it was over");

    kept.ban(&room("a"), &who("ann"), ban(None), 0).unwrap();
    assert!(kept.ban_of(&room("a"), &ann.user, u64::MAX).is_some());
    assert!(kept.unban(&room("a"), &who("ann"), 5));
    assert!(!kept.unban(&room("a"), &who("ann"), 5));
    assert_eq!(kept.ban_of(&room("a"), &ann.user, 5), None);
    assert!(kept.kick_of(&room("a"), &ann, 5).is_some());
}

#[test]
fn as_many_are_kept_out_as_may_be_and_no_more() {
    let mut kept = exclusions(3, 2);
    kept.ban(&room("a"), &who("1"), ban(None), 0).unwrap();
    kept.ban(&room("a"), &who("2"), ban(Some(50)), 0).unwrap();

    assert_eq!(kept.ban(&room("a"), &who("3"), ban(None), 0), Err(TooManyError::OfRoom));
    kept.ban(&room("a"), &who("2"), ban(Some(60)), 0).expect("it is the same one");
    kept.kick(&room("a"), &who("3"), "", 0).expect("it is no ban");
    assert_eq!(kept.kick(&room("a"), &who("4"), "", 0), Err(TooManyError::All));
    assert_eq!(kept.ban(&room("b"), &who("4"), ban(None), 0), Err(TooManyError::All));
    kept.kick(&room("a"), &who("3"), "", 0).expect("it is the same one");
    kept.ban(&room("a"), &who("3"), ban(None), 60).expect("one is over");
    assert_eq!(kept.count(), 3);
}

#[test]
fn what_is_over_is_forgotten() {
    let mut kept = exclusions(10, 10);
    kept.kick(&room("a"), &who("ann"), "", 0).unwrap();
    kept.ban(&room("a"), &who("bob"), ban(Some(10)), 0).unwrap();
    kept.ban(&room("b"), &who("cid"), ban(None), 0).unwrap();

    assert_eq!(kept.expire(DAY_MS - 1), []);
    let mut over = kept.expire(DAY_MS);
    over.sort_by(|(_, one), (_, other)| one.cmp(other));
    assert_eq!(over, [(room("a"), who("ann")), (room("a"), who("bob"))]);
    assert_eq!((kept.count(), kept.rooms.len()), (1, 1));
}

#[test]
fn bans_are_listed_in_order_and_from_anywhere() {
    let mut kept = exclusions(10, 10);
    for subject in ["c", "a", "b"] {
        kept.ban(&room("a"), &who(subject), ban(None), 0).unwrap();
    }
    kept.ban(&room("a"), &who("d"), ban(Some(5)), 0).unwrap();
    kept.kick(&room("a"), &who("e"), "", 0).unwrap();
    kept.kick(&room("a"), &Who::Socket("x".into()), "", 0).unwrap();

    assert_eq!(subjects(&kept, None, 4), ["a", "b", "c", "d"]);
    assert_eq!(subjects(&kept, None, 5), ["a", "b", "c"]);
    assert_eq!(subjects(&kept, Some(&who("a")), 5), ["b", "c"]);
    assert_eq!(subjects(&kept, Some(&who("bb")), 5), ["c"]);
}

#[test]
fn so_many_sockets_are_remembered_to_have_joined_again_and_one_more_is_put_out_once_more() {
    let mut kept = exclusions(10, 10);
    kept.kick(&room("a"), &who("ann"), "", 0).unwrap();
    let ids: Vec<_> = (0..=RETURNED_MAX).map(|number| format!("{number}")).collect();
    for id in &ids {
        kept.note_return(&room("a"), &socket("ann", "test", id), 0);
    }

    let out = |id: &String| kept.kick_of(&room("a"), &socket("ann", "test", id), 0).is_some();
    assert_eq!(ids.iter().filter(|id| out(id)).collect::<Vec<_>>(), ["0"]);
}
