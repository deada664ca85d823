//! Rooms as state: who is in, who is seen, and what a plain set would say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

fn user(subject: &str) -> Arc<User> {
    Arc::new(User::parse(subject, "test", br#"{"id":"x"}"#).unwrap())
}

fn socket(link: u64, handle: u64) -> SocketKey {
    SocketKey { link: LinkKey(link), handle }
}

fn room() -> Room {
    Room::new(100)
}

fn join(room: &mut Room, socket: SocketKey, user: &Arc<User>) -> Joined {
    room.handle_join(socket, user, Arrival::Present)
}

fn leave(room: &mut Room, socket: SocketKey) -> Left {
    room.handle_leave(socket, Parting::Final)
}

#[test]
fn a_user_is_seen_from_its_first_socket_to_its_last() {
    let mut room = room();
    let ann = user("ann");

    assert_eq!(join(&mut room, socket(1, 1), &ann), Joined::User);
    assert_eq!(join(&mut room, socket(2, 1), &ann), Joined::Socket);
    assert_eq!((room.user_count(), room.socket_count()), (1, 2));
    assert_eq!(leave(&mut room, socket(1, 1)), Left::Socket);
    assert_eq!(leave(&mut room, socket(2, 1)), Left::User(ann));
    assert!(room.is_empty());
}

#[test]
fn joining_twice_and_leaving_twice_change_nothing() {
    let mut room = room();
    let ann = user("ann");
    join(&mut room, socket(1, 1), &ann);

    assert_eq!(join(&mut room, socket(1, 1), &ann), Joined::Already);
    assert_eq!(leave(&mut room, socket(1, 1)), Left::User(ann));
    assert_eq!(leave(&mut room, socket(1, 1)), Left::Never);
}

#[test]
fn a_link_that_is_gone_takes_along_who_has_no_other() {
    let mut room = room();
    let (ann, bob, now) = (user("ann"), user("bob"), Instant::now());
    join(&mut room, socket(1, 1), &ann);
    join(&mut room, socket(1, 2), &bob);
    join(&mut room, socket(2, 1), &ann);

    assert_eq!(room.handle_link_gone(LinkKey(1), now), [Arc::clone(&bob)]);

    assert_eq!((room.socket_count(), room.user_count()), (1, 2));
    assert_eq!(room.handle_grace_over(&bob, now), Some(bob));
    assert!(room.contains(socket(2, 1)));
    assert_eq!(room.user_count(), 1);
}

#[test]
fn a_suspended_socket_is_in_the_room_and_its_user_is_not_seen() {
    let mut room = room();
    let ann = user("ann");
    join(&mut room, socket(1, 1), &ann);
    let suspend = |room: &mut Room| room.handle_suspended(socket(1, 1), Parting::Final);

    assert_eq!(suspend(&mut room), Left::User(Arc::clone(&ann)));
    assert_eq!(suspend(&mut room), Left::Never);
    assert!(room.awaits(&ann));
    assert_eq!((room.user_count(), room.socket_count()), (0, 1));
    assert!(room.contains(socket(1, 1)));

    assert_eq!(room.handle_resumed(socket(1, 1)), Some((Joined::User, Arc::clone(&ann))));
    assert_eq!(room.handle_resumed(socket(1, 1)), None);
    assert_eq!(room.user_count(), 1);

    join(&mut room, socket(1, 2), &ann);
    assert_eq!(suspend(&mut room), Left::Socket);
    assert_eq!(leave(&mut room, socket(1, 1)), Left::Socket);
    assert_eq!(leave(&mut room, socket(1, 2)), Left::User(ann));
    assert!(room.is_empty());
}

#[test]
fn who_is_back_within_the_grace_was_never_gone() {
    let mut room = room();
    let (ann, start) = (user("ann"), Instant::now());
    let until = |seconds| start + Duration::from_secs(seconds);
    join(&mut room, socket(1, 1), &ann);

    let left = room.handle_leave(socket(1, 1), Parting::Until(until(3)));
    assert_eq!(left, Left::Going { user: Arc::clone(&ann), until: until(3) });
    assert_eq!(room.users().map(|(_, sockets)| sockets).collect::<Vec<_>>(), [0]);
    assert!(!room.is_empty());
    assert_eq!(join(&mut room, socket(1, 2), &ann), Joined::Socket);
    assert_eq!(room.handle_grace_over(&ann, until(3)), None);

    room.handle_leave(socket(1, 2), Parting::Until(until(5)));
    // The earlier parting is no longer the one that counts.
    assert_eq!(room.handle_grace_over(&ann, until(3)), None);
    assert_eq!(room.handle_grace_over(&ann, until(5)), Some(ann));
    assert!(room.is_empty());
}

#[test]
fn who_is_going_and_then_says_so_is_gone_at_once() {
    let mut room = room();
    let (ann, until) = (user("ann"), Instant::now());
    join(&mut room, socket(1, 1), &ann);
    room.handle_leave(socket(1, 1), Parting::Until(until));
    join(&mut room, socket(1, 2), &ann);

    assert_eq!(leave(&mut room, socket(1, 2)), Left::User(Arc::clone(&ann)));
    assert_eq!(room.handle_grace_over(&ann, until), None);
}

#[test]
fn a_room_is_counted_above_the_bound_and_listed_again_well_below_it() {
    let mut room = Room::new(8);
    let at = Instant::now();
    let mut count = 0;
    let mut grow_to = |room: &mut Room, wanted: u64| {
        while count < wanted {
            join(room, socket(1, count), &user(&count.to_string()));
            count += 1;
        }
        while count > wanted {
            count -= 1;
            leave(room, socket(1, count));
        }
    };

    grow_to(&mut room, 8);
    assert_eq!(room.note_change(at), Notice::Now);
    grow_to(&mut room, 9);
    assert_eq!(room.note_change(at), Notice::Due);
    assert_eq!(room.note_change(at + Duration::from_secs(1)), Notice::Awaited);
    grow_to(&mut room, 7);
    assert_eq!(room.handle_notice_due(at + Duration::from_secs(1)), None);
    assert_eq!(room.handle_notice_due(at), Some(NoticeDue::Count));
    assert_eq!(room.handle_notice_due(at), None);
    grow_to(&mut room, 6);
    assert_eq!(room.note_change(at), Notice::Due);
    assert_eq!(room.handle_notice_due(at), Some(NoticeDue::List));
    assert_eq!(room.note_change(at), Notice::Now);
}

#[test]
fn a_room_below_the_bound_is_listed_after_an_outage_too() {
    let mut room = Room::new(8);
    let at = Instant::now();
    for number in 0..8 {
        join(&mut room, socket(1, number), &user(&number.to_string()));
    }

    assert_eq!(room.owe_notice(at), Notice::Due);
    assert_eq!(room.handle_notice_due(at), Some(NoticeDue::List));
    assert!(!room.is_counted());
}

#[test]
fn a_room_whose_profiles_do_not_fit_into_one_list_is_counted() {
    let mut room = room();
    let profile = format!("{{\"id\":\"{}\"}}", "x".repeat(50_000));
    for number in 0..3 {
        assert!(!room.is_counted());
        let large = User::parse(&number.to_string(), "test", profile.as_bytes()).unwrap();
        join(&mut room, socket(1, number), &Arc::new(large));
    }
    assert!(room.is_counted());
}

#[derive(Debug, Clone)]
enum Command {
    Join(u64, u64, u8),
    Leave(u64, u64),
    Lose(u64, u64),
    Suspend(u64, u64),
    Resume(u64, u64),
    LinkGone(u64),
    Wait(u64),
}

fn command() -> impl Strategy<Value = Command> {
    let (link, handle) = (0_u64..3, 0_u64..4);
    let socket = (link.clone(), handle.clone());
    prop_oneof![
        2 => (link.clone(), handle, 0_u8..3).prop_map(|(l, h, u)| Command::Join(l, h, u)),
        1 => socket.clone().prop_map(|(l, h)| Command::Leave(l, h)),
        1 => socket.clone().prop_map(|(l, h)| Command::Lose(l, h)),
        1 => socket.clone().prop_map(|(l, h)| Command::Suspend(l, h)),
        1 => socket.prop_map(|(l, h)| Command::Resume(l, h)),
        1 => link.prop_map(Command::LinkGone),
        1 => (0_u64..5).prop_map(Command::Wait),
    ]
}

const GRACE: Duration = Duration::from_secs(3);

/// Sockets with their users and whether they have their clients, and until when users without any are seen.
#[derive(Default)]
struct Model {
    sockets: BTreeMap<(u64, u64), (u8, bool)>,
    going: BTreeMap<u8, Instant>,
}

impl Model {
    fn here(&self) -> BTreeSet<u8> {
        self.sockets.values().filter(|(_, is_here)| *is_here).map(|(user, _)| *user).collect()
    }

    /// What holds after a change, before which these were here.
    fn settle(&mut self, before: &BTreeSet<u8>, until: Option<Instant>) {
        let here = self.here();
        self.going.retain(|user, _| !here.contains(user));
        for user in before.difference(&here) {
            self.going.extend(until.map(|until| (*user, until)));
        }
    }

    fn seen(&self) -> BTreeSet<u8> {
        self.here().into_iter().chain(self.going.keys().copied()).collect()
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_set(commands in prop::collection::vec(command(), 0..60)) {
        let mut room = room();
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut partings: Vec<(Instant, Arc<User>)> = Vec::new();
        let user_of = |number: u8| user(&number.to_string());

        for command in commands {
            let before = model.here();
            let mut until = Some(now + GRACE);
            let parting = Parting::Until(now + GRACE);
            let left = match command {
                Command::Join(link, handle, number) => {
                    let known = model.sockets.contains_key(&(link, handle));
                    let seen = model.seen().contains(&number);
                    model.sockets.entry((link, handle)).or_insert((number, true));
                    let joined = join(&mut room, socket(link, handle), &user_of(number));
                    prop_assert_eq!(joined == Joined::Already, known);
                    prop_assert_eq!(joined == Joined::User, !known && !seen);
                    Left::Never
                }
                Command::Leave(link, handle) => {
                    until = None;
                    model.sockets.remove(&(link, handle));
                    leave(&mut room, socket(link, handle))
                }
                Command::Lose(link, handle) => {
                    model.sockets.remove(&(link, handle));
                    room.handle_leave(socket(link, handle), parting)
                }
                Command::Suspend(link, handle) => {
                    model.sockets.entry((link, handle)).and_modify(|(_, is_here)| *is_here = false);
                    room.handle_suspended(socket(link, handle), parting)
                }
                Command::Resume(link, handle) => {
                    model.sockets.entry((link, handle)).and_modify(|(_, is_here)| *is_here = true);
                    room.handle_resumed(socket(link, handle));
                    Left::Never
                }
                Command::LinkGone(link) => {
                    until = Some(now);
                    model.sockets.retain(|socket, _| socket.0 != link);
                    let gone = room.handle_link_gone(LinkKey(link), now);
                    partings.extend(gone.into_iter().map(|user| (now, user)));
                    Left::Never
                }
                Command::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    Left::Never
                }
            };
            if let Left::Going { user, until } = left {
                partings.push((until, user));
            }
            model.settle(&before, until);
            model.going.retain(|_, until| *until > now);
            for (until, user) in partings.iter().filter(|(until, _)| *until <= now) {
                room.handle_grace_over(user, *until);
            }
            partings.retain(|(until, _)| *until > now);

            let seen: BTreeSet<String> = room.users().map(|(user, _)| user.subject().to_owned()).collect();
            prop_assert_eq!(seen, model.seen().iter().map(ToString::to_string).collect::<BTreeSet<_>>());
            prop_assert_eq!(room.socket_count(), model.sockets.len());
            prop_assert_eq!(room.suspended.values().sum::<usize>(), model.sockets.values().filter(|(_, is_here)| !is_here).count());
            prop_assert_eq!(room.is_empty(), model.sockets.is_empty() && model.seen().is_empty());
            for number in model.sockets.values().map(|(number, _)| *number) {
                let awaited = model.sockets.values().any(|socket| *socket == (number, false));
                prop_assert_eq!(room.awaits(&user_of(number)), awaited);
            }
            for (link, handle) in model.sockets.keys() {
                prop_assert!(room.contains(socket(*link, *handle)));
            }
        }
    }
}
