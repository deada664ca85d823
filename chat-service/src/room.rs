//! Who is in one room, as pure state: commands in, changes out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    socket::{LinkKey, SocketKey},
    user::User,
};

/// The sockets of a room, and the users behind them.
///
/// Presence is a matter of users: one is present while at least one socket of its is in the room and not suspended.
#[derive(Debug, Default)]
pub(crate) struct Room {
    links: HashMap<LinkKey, HashMap<u64, Member>>,
    /// Those who are present.
    users: BTreeMap<Arc<User>, usize>,
    socket_count: usize,
}

#[derive(Debug)]
struct Member {
    user: Arc<User>,
    /// Its client is there. Without it the socket is still given everything, but nobody is there to be seen.
    is_present: bool,
}

/// What came of letting a socket in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It was in already.
    Already,
    /// Its user was in already, with another socket.
    Socket,
    /// Its user was not.
    User,
}

/// What came of taking a socket out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was not in.
    Never,
    /// Its user is still in, with another socket.
    Socket,
    /// Its user is in no more.
    User(Arc<User>),
}

impl Room {
    pub(crate) fn handle_join(&mut self, socket: SocketKey, user: &Arc<User>) -> Joined {
        let sockets = self.links.entry(socket.link).or_default();
        if sockets.contains_key(&socket.handle) {
            return Joined::Already;
        }
        let member = Member { user: Arc::clone(user), is_present: true };
        sockets.insert(socket.handle, member);
        self.socket_count += 1;
        self.note_present(user)
    }

    /// A socket has lost its client for a while. It stays in the room.
    pub(crate) fn handle_suspended(&mut self, socket: SocketKey) -> Left {
        let Some(member) = self.member_mut(socket).filter(|member| member.is_present) else {
            return Left::Never;
        };
        member.is_present = false;
        let user = Arc::clone(&member.user);
        self.note_absent(user)
    }

    /// A suspended socket has its client back; tells the user too.
    pub(crate) fn handle_resumed(&mut self, socket: SocketKey) -> Option<(Joined, Arc<User>)> {
        let member = self.member_mut(socket).filter(|member| !member.is_present)?;
        member.is_present = true;
        let user = Arc::clone(&member.user);
        Some((self.note_present(&user), user))
    }

    fn member_mut(&mut self, socket: SocketKey) -> Option<&mut Member> {
        self.links.get_mut(&socket.link)?.get_mut(&socket.handle)
    }

    pub(crate) fn handle_leave(&mut self, socket: SocketKey) -> Left {
        let Some(sockets) = self.links.get_mut(&socket.link) else { return Left::Never };
        let Some(member) = sockets.remove(&socket.handle) else { return Left::Never };
        if sockets.is_empty() {
            self.links.remove(&socket.link);
        }
        self.forget(member)
    }

    /// Takes a socket in that says it has been here all along. Its place in an earlier life of its link goes.
    pub(crate) fn handle_restore(
        &mut self,
        socket: SocketKey,
        user: &Arc<User>,
        earlier: Option<LinkKey>,
    ) -> Joined {
        let joined = self.handle_join(socket, user);
        if let Some(link) = earlier {
            self.handle_leave(SocketKey { link, handle: socket.handle });
        }
        joined
    }

    /// Takes out every socket of a link; tells which users are in no more.
    pub(crate) fn handle_link_gone(&mut self, link: LinkKey) -> Vec<Arc<User>> {
        let sockets = self.links.remove(&link).unwrap_or_default();
        let mut gone = Vec::new();
        for member in sockets.into_values() {
            if let Left::User(user) = self.forget(member) {
                gone.push(user);
            }
        }
        gone.sort_unstable();
        gone
    }

    pub(crate) fn contains(&self, socket: SocketKey) -> bool {
        self.links.get(&socket.link).is_some_and(|sockets| sockets.contains_key(&socket.handle))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.socket_count == 0
    }

    pub(crate) fn socket_count(&self) -> usize {
        self.socket_count
    }

    /// How many sockets of one link are in it.
    pub(crate) fn socket_count_of(&self, link: LinkKey) -> usize {
        self.links.get(&link).map_or(0, HashMap::len)
    }

    /// The handles of the sockets of one link.
    pub(crate) fn handles(&self, link: LinkKey) -> Vec<u64> {
        self.links.get(&link).map_or_else(Vec::new, |sockets| sockets.keys().copied().collect())
    }

    pub(crate) fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Its users and the number of their sockets, by subject.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&User, usize)> {
        self.users.iter().map(|(user, sockets)| (&**user, *sockets))
    }

    /// The links that have sockets here, each with the number of these.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkKey, usize)> {
        self.links.iter().map(|(link, sockets)| (*link, sockets.len()))
    }

    fn forget(&mut self, Member { user, is_present }: Member) -> Left {
        self.socket_count -= 1;
        if is_present { self.note_absent(user) } else { Left::Socket }
    }

    fn note_present(&mut self, user: &Arc<User>) -> Joined {
        let sockets_of_user = self.users.entry(Arc::clone(user)).or_default();
        *sockets_of_user += 1;
        if *sockets_of_user == 1 { Joined::User } else { Joined::Socket }
    }

    fn note_absent(&mut self, user: Arc<User>) -> Left {
        let Some(sockets_of_user) = self.users.get_mut(&user) else { return Left::Socket };
        *sockets_of_user -= 1;
        if *sockets_of_user > 0 {
            return Left::Socket;
        }
        self.users.remove(&user);
        Left::User(user)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn user(subject: &str) -> Arc<User> {
        Arc::new(User::parse(subject, "test", br#"{"id":"x"}"#).unwrap())
    }

    fn socket(link: u64, handle: u64) -> SocketKey {
        SocketKey { link: LinkKey(link), handle }
    }

    #[test]
    fn a_user_is_present_from_its_first_socket_to_its_last() {
        let mut room = Room::default();
        let ann = user("ann");

        assert_eq!(room.handle_join(socket(1, 1), &ann), Joined::User);
        assert_eq!(room.handle_join(socket(2, 1), &ann), Joined::Socket);
        assert_eq!((room.user_count(), room.socket_count()), (1, 2));
        assert_eq!(room.handle_leave(socket(1, 1)), Left::Socket);
        assert_eq!(room.handle_leave(socket(2, 1)), Left::User(ann));
        assert!(room.is_empty());
    }

    #[test]
    fn joining_twice_and_leaving_twice_change_nothing() {
        let mut room = Room::default();
        let ann = user("ann");
        room.handle_join(socket(1, 1), &ann);

        assert_eq!(room.handle_join(socket(1, 1), &ann), Joined::Already);
        assert_eq!(room.handle_leave(socket(1, 1)), Left::User(ann));
        assert_eq!(room.handle_leave(socket(1, 1)), Left::Never);
    }

    #[test]
    fn a_restored_socket_takes_the_place_of_its_earlier_self() {
        let mut room = Room::default();
        let (ann, bob) = (user("ann"), user("bob"));
        room.handle_join(socket(1, 1), &ann);
        room.handle_join(socket(1, 2), &bob);

        assert_eq!(room.handle_restore(socket(2, 1), &ann, Some(LinkKey(1))), Joined::Socket);

        assert_eq!(room.socket_count(), 2);
        assert_eq!(room.handle_link_gone(LinkKey(1)), [bob]);
        assert!(room.contains(socket(2, 1)));
    }

    #[test]
    fn a_suspended_socket_is_in_the_room_and_its_user_is_not_seen() {
        let mut room = Room::default();
        let ann = user("ann");
        room.handle_join(socket(1, 1), &ann);

        assert_eq!(room.handle_suspended(socket(1, 1)), Left::User(Arc::clone(&ann)));
        assert_eq!(room.handle_suspended(socket(1, 1)), Left::Never);
        assert_eq!((room.user_count(), room.socket_count()), (0, 1));
        assert!(room.contains(socket(1, 1)));

        assert_eq!(room.handle_resumed(socket(1, 1)), Some((Joined::User, Arc::clone(&ann))));
        assert_eq!(room.handle_resumed(socket(1, 1)), None);
        assert_eq!(room.user_count(), 1);

        room.handle_join(socket(1, 2), &ann);
        assert_eq!(room.handle_suspended(socket(1, 1)), Left::Socket);
        assert_eq!(room.handle_leave(socket(1, 1)), Left::Socket);
        assert_eq!(room.handle_leave(socket(1, 2)), Left::User(ann));
        assert!(room.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Command {
        Join(u64, u64, u8),
        Leave(u64, u64),
        Restore(u64, u64, u8, u64),
        LinkGone(u64),
    }

    fn command() -> impl Strategy<Value = Command> {
        let (link, handle, user) = (0_u64..3, 0_u64..4, 0_u8..3);
        prop_oneof![
            (link.clone(), handle.clone(), user.clone())
                .prop_map(|(l, h, u)| Command::Join(l, h, u)),
            (link.clone(), handle.clone()).prop_map(|(l, h)| Command::Leave(l, h)),
            (link.clone(), handle, user, 1_u64..3).prop_map(|(l, h, u, e)| Command::Restore(
                l,
                h,
                u,
                (l + e) % 3
            )),
            link.prop_map(Command::LinkGone),
        ]
    }

    proptest! {
        /// The model: a plain set of (socket, user), in which a user is present when any pair names it.
        #[test]
        fn agrees_with_a_plain_set(commands in prop::collection::vec(command(), 0..60)) {
            let mut room = Room::default();
            let mut model: BTreeSet<(u64, u64, u8)> = BTreeSet::new();
            let present = |model: &BTreeSet<(u64, u64, u8)>| -> HashSet<u8> { model.iter().map(|m| m.2).collect() };
            let user_of = |number: u8| user(&number.to_string());

            for command in commands {
                let before = present(&model);
                match command {
                    Command::Join(link, handle, number) => {
                        let joined = room.handle_join(socket(link, handle), &user_of(number));
                        let known = model.iter().any(|m| (m.0, m.1) == (link, handle));
                        if !known {
                            model.insert((link, handle, number));
                        }
                        prop_assert_eq!(joined == Joined::Already, known);
                        prop_assert_eq!(joined == Joined::User, !known && !before.contains(&number));
                    }
                    Command::Leave(link, handle) => {
                        let left = room.handle_leave(socket(link, handle));
                        model.retain(|m| (m.0, m.1) != (link, handle));
                        let gone: Vec<u8> = before.difference(&present(&model)).copied().collect();
                        prop_assert_eq!(matches!(left, Left::User(_)), !gone.is_empty());
                    }
                    Command::Restore(link, handle, number, earlier) => {
                        room.handle_restore(socket(link, handle), &user_of(number), Some(LinkKey(earlier)));
                        if !model.iter().any(|m| (m.0, m.1) == (link, handle)) {
                            model.insert((link, handle, number));
                        }
                        model.retain(|m| (m.0, m.1) != (earlier, handle));
                    }
                    Command::LinkGone(link) => {
                        let gone = room.handle_link_gone(LinkKey(link));
                        model.retain(|m| m.0 != link);
                        let after = present(&model);
                        let expected: BTreeSet<String> =
                            before.difference(&after).map(ToString::to_string).collect();
                        prop_assert_eq!(gone.iter().map(|u| u.subject().to_owned()).collect::<BTreeSet<_>>(), expected);
                    }
                }
                prop_assert_eq!(room.socket_count(), model.len());
                prop_assert_eq!(room.user_count(), present(&model).len());
                prop_assert_eq!(room.is_empty(), model.is_empty());
                for (link, handle, _) in &model {
                    prop_assert!(room.contains(socket(*link, *handle)));
                }
            }
        }
    }
}
