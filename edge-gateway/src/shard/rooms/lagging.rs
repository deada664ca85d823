//! Members that do not keep up with their rooms: where each of them stands, until it has been given the rest.

use std::rc::Rc;

use super::{GroupName, NamespaceKey, RoomKey, Rooms, SocketKey};

/// A room in which a socket is behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) room: String,
    /// What it was given last.
    pub(crate) position: String,
}

impl Rooms {
    pub(crate) fn key_of(&self, namespace: NamespaceKey, room: &str) -> Option<RoomKey> {
        self.room(namespace, room).map(RoomKey)
    }

    /// Whether a socket is behind in a room.
    pub(crate) fn is_lagging(&self, RoomKey(group): RoomKey, socket: SocketKey) -> bool {
        self.lagging.contains_key(&(group, socket))
    }

    /// Whether it is known from where on a socket would have to be given what it is not given now.
    pub(crate) fn may_lag(&self, RoomKey(group): RoomKey, socket: SocketKey) -> bool {
        let position = self.standing(group, socket);
        self.is_member(group, socket) && position.is_some_and(|position| !position.is_empty())
    }

    /// Leaves a member where it stands while its room goes on.
    pub(crate) fn fall_behind(&mut self, namespace: NamespaceKey, room: &str, socket: SocketKey) {
        let Some(group) = self.room(namespace, room) else { return };
        let Some(position) = self.standing(group, socket).map(str::to_owned) else { return };
        self.apart.remove(&(group, socket));
        self.lagging.insert((group, socket), position);
    }

    /// Where a member stands that is behind; none if it is not.
    pub(crate) fn lag_of(
        &self,
        namespace: NamespaceKey,
        room: &str,
        socket: SocketKey,
    ) -> Option<&str> {
        let group = self.room(namespace, room)?;
        self.lagging.get(&(group, socket)).map(String::as_str)
    }

    /// The first of the rooms in which a socket is behind.
    pub(crate) fn first_lag(&self, socket: SocketKey) -> Option<Behind> {
        let memberships = self.memberships.get(socket.index())?;
        memberships.iter().find_map(|membership| {
            let position = self.lagging.get(&(membership.group, socket))?.clone();
            match &self.groups.get(membership.group as usize)?.name {
                GroupName::Room(name) => Some(Behind { room: (**name).to_owned(), position }),
                GroupName::Everyone(_) | GroupName::User(..) => None,
            }
        })
    }

    /// Notes that a member that is behind has been given a part of what it missed.
    pub(crate) fn advance_lag(
        &mut self,
        namespace: NamespaceKey,
        room: &str,
        socket: SocketKey,
        position: &str,
    ) {
        if let Some(group) = self.room(namespace, room)
            && let Some(lag) = self.lagging.get_mut(&(group, socket))
        {
            position.clone_into(lag);
        }
    }

    /// Notes that a member has been given all that it missed, up to `position`.
    pub(crate) fn end_lag(
        &mut self,
        namespace: NamespaceKey,
        room: &str,
        socket: SocketKey,
        position: &str,
    ) {
        if let Some(group) = self.room(namespace, room)
            && self.lagging.remove(&(group, socket)).is_some()
        {
            self.set_apart(group, socket, position);
        }
    }

    /// Lets a socket stand where its rooms do: it will be given what it missed from elsewhere.
    pub(crate) fn forget_lags_of(&mut self, socket: SocketKey) {
        for membership in self.memberships.get(socket.index()).into_iter().flatten() {
            self.lagging.remove(&(membership.group, socket));
        }
    }

    /// Lets the sockets of some namespaces stand where they do without being behind, as they will be given the rest without
    /// asking; returns those that were.
    pub(crate) fn end_lags(&mut self, is_one: impl Fn(NamespaceKey) -> bool) -> Vec<SocketKey> {
        let groups = &self.groups;
        let is_meant = |(group, _): &(u32, SocketKey), _: &mut String| {
            groups.get(*group as usize).is_some_and(|group| is_one(group.namespace))
        };
        let ended: Vec<_> = self.lagging.extract_if(is_meant).collect();
        let mut sockets = Vec::with_capacity(ended.len());
        for ((group, socket), position) in ended {
            self.set_apart(group, socket, &position);
            sockets.push(socket);
        }
        sockets
    }

    /// A room's members, each with the position where it stands.
    pub(crate) fn standings(
        &self,
        RoomKey(group): RoomKey,
    ) -> Option<(NamespaceKey, &Rc<str>, impl Iterator<Item = (SocketKey, &str)>)> {
        let known = self.groups.get(group as usize)?;
        let GroupName::Room(name) = &known.name else { return None };
        let stands = move |socket: &SocketKey| Some((*socket, self.standing(group, *socket)?));
        Some((known.namespace, name, known.members.iter().filter_map(stands)))
    }

    /// Where a member stands.
    pub(super) fn standing(&self, group: u32, socket: SocketKey) -> Option<&str> {
        let key = (group, socket);
        let own = self.lagging.get(&key).or_else(|| self.apart.get(&key));
        own.or_else(|| self.groups.get(group as usize).map(|group| &group.position))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: NamespaceKey = NamespaceKey(0);
    const ANN: SocketKey = SocketKey(0);
    const BOB: SocketKey = SocketKey(1);

    fn two_in_a_room() -> Rooms {
        let mut rooms = Rooms::new(1);
        for socket in [ANN, BOB] {
            rooms.enter(CHAT, socket, None);
            rooms.join(CHAT, socket, "lobby", "p1");
        }
        rooms
    }

    fn standings(rooms: &Rooms) -> [&str; 2] {
        [ANN, BOB].map(|socket| rooms.rooms_of(socket).next().unwrap().1)
    }

    #[test]
    fn a_member_that_is_behind_stands_still_while_its_room_goes_on() {
        let mut rooms = two_in_a_room();

        rooms.fall_behind(CHAT, "lobby", ANN);
        rooms.advance(CHAT, "lobby", "p2");
        rooms.advance_one(CHAT, "lobby", ANN, "p3");

        assert_eq!(standings(&rooms), ["p1", "p2"]);
        let behind = Behind { room: "lobby".to_owned(), position: "p1".to_owned() };
        assert_eq!((rooms.first_lag(ANN), rooms.first_lag(BOB)), (Some(behind), None));
    }

    #[test]
    fn a_member_that_has_been_given_the_rest_goes_on_with_its_room() {
        let mut rooms = two_in_a_room();
        rooms.fall_behind(CHAT, "lobby", ANN);
        rooms.advance(CHAT, "lobby", "p3");

        rooms.advance_lag(CHAT, "lobby", ANN, "p2");
        assert_eq!(rooms.lag_of(CHAT, "lobby", ANN), Some("p2"));
        rooms.end_lag(CHAT, "lobby", ANN, "p3");
        rooms.advance(CHAT, "lobby", "p4");

        assert_eq!(standings(&rooms), ["p4", "p4"]);
        assert!(rooms.lagging.is_empty() && rooms.apart.is_empty());
    }

    #[test]
    fn only_who_is_in_a_room_with_a_known_position_may_be_left_behind() {
        let mut rooms = two_in_a_room();
        rooms.join(CHAT, ANN, "no log", "");
        let [lobby, without] = ["lobby", "no log"].map(|room| rooms.key_of(CHAT, room).unwrap());

        assert!(rooms.may_lag(lobby, BOB));
        assert!(!rooms.may_lag(without, ANN));
        rooms.leave(CHAT, BOB, "lobby");
        assert!(!rooms.may_lag(lobby, BOB));
    }

    #[test]
    fn who_leaves_or_joins_again_is_behind_no_more() {
        let mut rooms = two_in_a_room();
        for socket in [ANN, BOB] {
            rooms.fall_behind(CHAT, "lobby", socket);
        }
        rooms.advance(CHAT, "lobby", "p2");

        rooms.join(CHAT, ANN, "lobby", "p2");
        rooms.remove(BOB);

        assert_eq!(rooms.rooms_of(ANN).next(), Some(("lobby", "p2")));
        assert!(rooms.lagging.is_empty());
    }

    #[test]
    fn lags_end_where_the_sockets_stand_or_where_their_rooms_do() {
        let mut rooms = two_in_a_room();
        for socket in [ANN, BOB] {
            rooms.fall_behind(CHAT, "lobby", socket);
        }
        rooms.advance(CHAT, "lobby", "p2");

        rooms.forget_lags_of(BOB);
        assert!(rooms.end_lags(|namespace| namespace != CHAT).is_empty());
        assert_eq!(rooms.end_lags(|namespace| namespace == CHAT), [ANN]);

        assert_eq!(standings(&rooms), ["p1", "p2"]);
        assert!(rooms.lagging.is_empty());
    }
}
