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
    let (mut deliveries, ann) = (Deliveries::new(7, Unlisted::default()), user("ann"));
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
    let (mut deliveries, ann) = (Deliveries::new(7, Unlisted::default()), user("ann"));
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
fn who_goes_on_where_nobody_can_tell_gets_nothing_until_that_is_known() {
    let (mut deliveries, ann) = ann_at_8();
    let before = standing(&deliveries, &ann);

    deliveries.note_gap_somewhere(&ann);
    deliveries.note_delivered(&ann, at(10), 2000);
    deliveries.note_here(&ann, at(10), 10).unwrap();
    deliveries.note_delivered(&ann, at(11), 2000);

    let cut = standing(&deliveries, &ann);
    assert!(cut.skips_since(&before) && deliveries.is_cut(&ann));
    assert_eq!(delivered(&deliveries, &ann), None);
    assert_eq!(behind(&deliveries, &ann), [9, 10, 11, 12]);
    let kept = cut.to_kept(&ann, 7);
    assert_eq!(Standing::from_kept(&kept, at(11)), cut);
    let in_another_life = Standing::from_kept(&kept, Position { epoch: 8, ..at(11) });
    assert!(in_another_life.is_cut() && in_another_life.is_behind(6));

    deliveries.note_gap_ends(&ann, at(11));
    deliveries.note_delivered(&ann, at(12), 3000);
    assert_eq!(delivered(&deliveries, &ann), Some((11, 12, 3000)));
    assert_eq!(behind(&deliveries, &ann), [9, 10, 11]);
    deliveries.note_gap_ends(&ann, at(20));
    assert_eq!(delivered(&deliveries, &ann), Some((11, 12, 3000)));
}

#[test]
fn who_had_got_nothing_and_goes_on_where_nobody_can_tell_waits_for_the_disk() {
    let (mut deliveries, ann) = (Deliveries::new(7, Unlisted::default()), user("ann"));
    deliveries.note_gap(&ann, Position::start(7), 10).unwrap();
    deliveries.note_gap_somewhere(&ann);
    deliveries.note_gap_ends(&ann, Position::start(7));
    let before = standing(&deliveries, &ann);

    deliveries.note_gap_somewhere(&ann);

    assert!(standing(&deliveries, &ann).skips_since(&before));
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
fn who_is_here_when_the_log_begins_anew_gets_it_from_its_start() {
    let (mut deliveries, ann) = ann_at_8();
    let at = |offset| Position { epoch: 8, offset, tag: 0 };
    let bob = user("bob");
    deliveries.note_here(&bob, Position::start(7), 10).unwrap();
    deliveries.expire(0, DAY, |user| *user == *bob);

    deliveries.note_delivered(&ann, at(2), 2000);
    deliveries.note_delivered(&bob, at(2), 2000);

    assert_eq!(delivered(&deliveries, &bob), Some((0, 2, 2000)));
    assert_eq!(behind(&deliveries, &bob)[..1], [3]);
    assert_eq!(behind(&deliveries, &ann)[..3], [1, 2, 3], "she was away");
}

#[test]
fn who_comes_back_to_a_log_that_has_begun_anew_has_not_got_its_start() {
    let (mut deliveries, ann) = ann_at_8();
    let at = |offset| Position { epoch: 8, offset, tag: 0 };
    deliveries.live_in(8);
    deliveries.note_gap(&ann, at(3), 10).unwrap();
    deliveries.note_delivered(&ann, at(4), 2000);

    assert_eq!(behind(&deliveries, &ann)[..4], [1, 2, 3, 5]);
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

/// As they are after they were kept, in a log that ends here.
fn kept_and_read(deliveries: &mut Deliveries, end: Position) -> Deliveries {
    let mut standings = Vec::new();
    while let Some((_, standing)) = deliveries.take_any_change() {
        standings.extend(standing);
    }
    Deliveries::kept("", end, &standings, deliveries.unlisted())
}

/// Ann as before, who came back without what she missed, and Bob, who is new.
fn kept_ann_and_bob() -> (Deliveries, Arc<User>, Arc<User>) {
    let mut deliveries = Deliveries::kept("", at(5), &[], Unlisted::default());
    let (ann, bob) = (user("ann"), user("bob"));
    deliveries.note_gap(&ann, at(5), 10).unwrap();
    deliveries.note_delivered(&ann, at(8), 1000);
    deliveries.note_gap(&ann, at(10), 10).unwrap();
    deliveries.note_delivered(&ann, at(11), 2000);
    deliveries.note_gap(&bob, at(11), 10).unwrap();
    (deliveries, ann, bob)
}

#[test]
fn what_was_kept_says_the_same_as_before() {
    let (mut deliveries, ann, bob) = kept_ann_and_bob();
    deliveries.expire(3000, DAY, |user| *user == *ann);

    let read = kept_and_read(&mut deliveries, at(12));

    for user in [&ann, &bob] {
        assert_eq!(standing(&read, user), standing(&deliveries, user));
    }
    assert_eq!(read.due_at_ms(9000, DAY), 3000 + 24 * 60 * 60 * 1000, "Bob is away since then");
    assert!(!read.has_changes() && !deliveries.has_changes());
}

#[test]
fn in_a_log_that_is_not_the_one_of_before_nobody_is_ahead() {
    let other_tag = Position { tag: 1, ..at(11) };
    for end in [Position { epoch: 8, ..at(20) }, at(10), other_tag] {
        let (mut deliveries, ann, bob) = kept_ann_and_bob();
        let read = kept_and_read(&mut deliveries, end);

        assert_eq!(delivered(&read, &ann), None, "{end:?}");
        for user in [&ann, &bob] {
            assert_eq!(behind(&read, user), (1..=12).collect::<Vec<_>>(), "{end:?}");
        }
    }
    let (mut deliveries, ann, _) = kept_ann_and_bob();
    assert_eq!(delivered(&kept_and_read(&mut deliveries, at(11)), &ann), Some((10, 11, 2000)));
}

#[test]
fn only_what_has_changed_is_to_be_kept_and_once() {
    let (mut deliveries, ann, bob) = kept_ann_and_bob();
    assert!(deliveries.take_change(&ann).is_some());
    assert!(deliveries.take_change(&ann).is_none());
    assert_eq!(deliveries.take_any_change().unwrap().0, bob);

    deliveries.note_here(&ann, at(11), 10).unwrap();
    deliveries.note_back(&bob, at(11), 10).unwrap();
    deliveries.note_delivered(&ann, at(9), 3000);
    deliveries.expire(4000, DAY, |_| true);
    assert!(!deliveries.has_changes());

    for offset in 12..20 {
        deliveries.note_delivered(&ann, at(offset), 5000);
    }
    deliveries.forget(&bob);
    let mut changes = Vec::new();
    while let Some((user, standing)) = deliveries.take_any_change() {
        changes.push((user, standing.and_then(|one| one.stretch).map(|one| one.end_offset)));
    }
    assert_eq!(changes, [(ann, Some(19)), (bob, None)]);
}

#[test]
fn the_list_is_complete_again_when_all_who_are_here_are_on_it() {
    let (mut deliveries, ann) = ann_at_8();
    let (bob, carol) = (user("bob"), user("carol"));
    assert_eq!(deliveries.note_gap(&bob, at(9), 1), Err(TooMany));
    deliveries.list_unlisted([&ann, &bob].into_iter(), at(9), 1);
    assert!(deliveries.is_incomplete());

    deliveries.forget(&ann);
    deliveries.list_unlisted([&bob].into_iter(), at(9), 1);

    assert!(!deliveries.is_incomplete());
    assert_eq!(
        behind(&deliveries, &bob)[..9],
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "nobody has followed him"
    );
    // One who leaves by himself is not missing from the list.
    assert_eq!(deliveries.note_gap(&carol, at(9), 1), Err(TooMany));
    deliveries.list_unlisted([&bob].into_iter(), at(9), 1);
    assert!(!deliveries.is_incomplete());
}

#[test]
fn who_was_lost_unlisted_is_missing_for_as_long_as_it_would_be_listed() {
    let (mut deliveries, ann) = ann_at_8();
    let (bob, day_ms) = (user("bob"), 24 * 60 * 60 * 1000);
    deliveries.note_gone(&bob, 500);
    assert!(!deliveries.is_incomplete(), "he is not known to have been here");
    assert_eq!(deliveries.note_gap(&bob, at(9), 1), Err(TooMany));
    deliveries.note_gone(&ann, 1000);
    deliveries.note_gone(&bob, 2000);

    deliveries.forget(&ann);
    deliveries.list_unlisted([].into_iter(), at(9), 1);
    deliveries.expire(2000 + day_ms, DAY, |_| true);
    assert!(deliveries.is_incomplete() && !deliveries.is_empty());
    // It may be Bob who comes now: what came before he may have missed.
    deliveries.note_gap(&bob, at(9), 1).unwrap();
    assert!(behind(&deliveries, &bob).contains(&8));
    deliveries.expire(2001 + day_ms, DAY, |_| true);

    assert!(!deliveries.is_incomplete());
}
