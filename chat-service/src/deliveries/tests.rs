//! How far a log has reached its users, through what happens to them.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn at(offset: u64) -> Position {
    Position { epoch: 7, offset, tag: 0 }
}

fn user(subject: &str) -> Arc<User> {
    Arc::new(User::parse(subject, "test", b"{}").unwrap())
}

/// Ann, who came at 5 and has got what came up to 8.
fn ann_at_8() -> (Deliveries, Arc<User>) {
    let (mut deliveries, ann) = (Deliveries::new(7), user("ann"));
    deliveries.note_gap(&ann, at(5), 10).unwrap();
    deliveries.note_delivered(&ann, at(8), 1000);
    (deliveries, ann)
}

fn standing(deliveries: &Deliveries, user: &User) -> Standing {
    deliveries.users[user]
}

/// Up to where it has got everything, since where, and when that arrived.
fn delivered(deliveries: &Deliveries, user: &User) -> Option<(u64, u64, u64)> {
    let (stretch, at_ms) = standing(deliveries, user).delivered()?;
    Some((stretch.after.offset, stretch.end.offset, at_ms))
}

fn behind(deliveries: &Deliveries, user: &User) -> Vec<u64> {
    let standing = standing(deliveries, user);
    (1..=12).filter(|offset| standing.is_behind(*offset)).collect()
}

#[test]
fn who_comes_has_missed_nothing_and_got_nothing() {
    let (mut deliveries, ann) = (Deliveries::new(7), user("ann"));
    deliveries.note_gap(&ann, at(5), 10).unwrap();

    assert_eq!(delivered(&deliveries, &ann), None);
    assert_eq!(behind(&deliveries, &ann), [6, 7, 8, 9, 10, 11, 12]);
    deliveries.note_delivered(&ann, at(5), 1000);
    assert_eq!(delivered(&deliveries, &ann), Some((5, 5, 1000)));
}

#[test]
fn a_position_never_goes_back_whatever_device_reports_it() {
    let (mut deliveries, ann) = ann_at_8();

    deliveries.note_delivered(&ann, at(6), 2000);
    assert_eq!(delivered(&deliveries, &ann), Some((5, 8, 1000)));
    deliveries.note_delivered(&ann, at(9), 3000);

    assert_eq!(delivered(&deliveries, &ann), Some((5, 9, 3000)));
    assert_eq!(behind(&deliveries, &ann), [10, 11, 12]);
}

#[test]
fn who_comes_back_without_what_it_missed_is_behind_in_that_for_good() {
    let (mut deliveries, ann) = ann_at_8();

    deliveries.note_gap(&ann, at(10), 10).unwrap();
    assert_eq!(delivered(&deliveries, &ann), None, "nothing of what is new has arrived");
    deliveries.note_delivered(&ann, at(11), 2000);

    assert_eq!(delivered(&deliveries, &ann), Some((10, 11, 2000)));
    assert_eq!(behind(&deliveries, &ann), [9, 10, 12]);
}

#[test]
fn who_comes_back_with_what_it_missed_goes_on() {
    let (mut deliveries, ann) = ann_at_8();

    deliveries.note_here(&ann, at(8), 10).unwrap();
    deliveries.note_delivered(&ann, at(11), 2000);
    deliveries.note_gap(&ann, at(11), 10).unwrap();

    assert_eq!(delivered(&deliveries, &ann), Some((5, 11, 2000)), "nothing is missing");
}

#[test]
fn of_who_was_here_before_nobody_knows_what_it_has_missed() {
    let (mut deliveries, ann) = ann_at_8();
    deliveries.note_back(&user("bob"), at(8), 10).unwrap();
    deliveries.note_back(&ann, at(8), 10).unwrap();
    deliveries.note_delivered(&user("bob"), at(9), 1000);

    assert_eq!(behind(&deliveries, &user("bob")), [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]);
    assert_eq!(behind(&deliveries, &ann), [9, 10, 11, 12]);
}

#[test]
fn of_another_life_of_the_log_nobody_has_got_anything() {
    let (mut deliveries, ann) = ann_at_8();

    deliveries.live_in(8);

    assert_eq!(delivered(&deliveries, &ann), None);
    assert!(behind(&deliveries, &ann).contains(&1), "whoever was there misses it from its start");
}

#[test]
fn no_more_users_are_followed_than_may_be_and_that_is_not_hidden() {
    let (mut deliveries, ann) = ann_at_8();

    assert_eq!(deliveries.note_gap(&user("bob"), at(9), 1), Err(TooMany));
    deliveries.note_delivered(&user("bob"), at(9), 1000);
    deliveries.note_gap(&ann, at(9), 1).unwrap();

    assert_eq!((deliveries.len(), deliveries.is_incomplete()), (1, true));
}

#[test]
fn who_is_away_for_longer_than_history_is_kept_is_forgotten() {
    let (mut deliveries, ann) = ann_at_8();
    let day_ms = 24 * 60 * 60 * 1000;

    deliveries.expire(1000, DAY, |_| false);
    deliveries.expire(1000 + day_ms, DAY, |_| false);
    assert!(!deliveries.is_empty());
    deliveries.expire(2000 + day_ms, DAY, |user| *user == *ann);
    assert!(!deliveries.is_empty(), "she is back");
    deliveries.expire(3000 + day_ms, DAY, |_| false);
    assert!(!deliveries.is_empty());
    deliveries.expire(3001 + 2 * day_ms, DAY, |_| false);

    assert!(deliveries.is_empty());
}
