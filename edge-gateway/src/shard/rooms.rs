//! Which sockets of this shard are in which room, belong to which user, and are in which namespace, tenant by tenant.

mod lagging;
mod tenants;

use std::{collections::HashMap, rc::Rc};

use foldhash::fast::FixedState;
use slab::Slab;
use smallvec::SmallVec;

use self::tenants::{TenantKey, Tenants};
use super::{NamespaceKey, SocketKey};

/// The index from rooms, users and namespaces to sockets.
///
/// It is a cache of what the business services have said (`Join`, `Leave`); they own the truth.
#[derive(Debug)]
pub(crate) struct Rooms {
    groups: Slab<Group>,
    namespaces: Vec<Names>,
    /// By socket key.
    memberships: Vec<Memberships>,
    /// Positions of those members that stand elsewhere than their group: they are being given what they missed.
    apart: HashMap<(u32, SocketKey), String, FixedState>,
    /// Positions of those members that do not keep up. What the group is given they are not.
    lagging: HashMap<(u32, SocketKey), String, FixedState>,
}

/// Names a room in the index while it has members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RoomKey(u32);

/// A socket is always in its namespace's group and, where it has one, in its user's, so rooms start at the third.
type Memberships = SmallVec<[Membership; 3]>;

/// A user's name within a tenant. Empty is the default tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserName<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) subject: &'a str,
}

type NameMap = HashMap<Rc<str>, u32, FixedState>;

#[derive(Debug, Clone, Copy)]
struct Membership {
    group: u32,
    /// Where the socket stands in the group's members.
    slot: u32,
}

#[derive(Debug)]
struct Group {
    namespace: NamespaceKey,
    name: GroupName,
    members: Vec<SocketKey>,
    /// Position of the last logged event that was given to the members; empty without one.
    position: String,
}

#[derive(Debug)]
enum GroupName {
    Everyone(TenantKey),
    User(TenantKey, Rc<str>),
    Room(Rc<str>),
}

#[derive(Debug)]
struct Names {
    tenants: Tenants,
    /// Rooms have no tenant here: business services have it in their names.
    rooms: NameMap,
}

impl Rooms {
    pub(crate) fn new(namespace_count: usize) -> Self {
        let mut groups = Slab::new();
        let namespaces = (0..namespace_count).map(|namespace| {
            let namespace = NamespaceKey(index_of(namespace));
            let everyone = |tenant| insert(&mut groups, namespace, GroupName::Everyone(tenant));
            Names { tenants: Tenants::new(everyone), rooms: NameMap::default() }
        });
        let namespaces = namespaces.collect();
        Self {
            groups,
            namespaces,
            memberships: Vec::new(),
            apart: HashMap::default(),
            lagging: HashMap::default(),
        }
    }

    /// Takes in a socket that was let into its namespace. One of no user belongs to the default tenant.
    pub(crate) fn enter(
        &mut self,
        namespace: NamespaceKey,
        socket: SocketKey,
        user: Option<UserName<'_>>,
    ) {
        if self.memberships.len() <= socket.index() {
            self.memberships.resize_with(socket.index() + 1, SmallVec::new);
        }
        let Some(names) = self.namespaces.get_mut(namespace.index()) else { return };
        let groups = &mut self.groups;
        let tenant = user.map_or("", |user| user.tenant);
        let everyone = |tenant| insert(groups, namespace, GroupName::Everyone(tenant));
        let (tenant, everyone) = names.tenants.enter(tenant, everyone);
        let user = user.and_then(|UserName { subject, .. }| {
            let user = |name| insert(groups, namespace, GroupName::User(tenant, name));
            names.tenants.enter_user(tenant, subject, user)
        });
        self.add(everyone, socket);
        if let Some(user) = user {
            self.add(user, socket);
        }
    }

    /// Puts a socket into a room whose log stands at `position`.
    pub(crate) fn join(
        &mut self,
        namespace: NamespaceKey,
        socket: SocketKey,
        room: &str,
        position: &str,
    ) {
        let Some(names) = self.namespaces.get_mut(namespace.index()) else { return };
        let group = match names.rooms.get(room) {
            Some(group) => *group,
            None => {
                let name: Rc<str> = room.into();
                let group = insert(&mut self.groups, namespace, GroupName::Room(Rc::clone(&name)));
                names.rooms.insert(name, group);
                group
            }
        };
        if !self.is_member(group, socket) {
            self.add(group, socket);
        }
        self.lagging.remove(&(group, socket));
        self.set_apart(group, socket, position);
    }

    /// Takes a socket out of a room.
    pub(crate) fn leave(&mut self, namespace: NamespaceKey, socket: SocketKey, room: &str) {
        let Some(group) = self.room(namespace, room) else { return };
        let Some(memberships) = self.memberships.get_mut(socket.index()) else { return };
        if let Some(place) = memberships.iter().position(|membership| membership.group == group) {
            let membership = memberships.swap_remove(place);
            self.take_out(socket, membership);
        }
    }

    /// Takes a socket out of everything.
    pub(crate) fn remove(&mut self, socket: SocketKey) {
        let Some(memberships) = self.memberships.get_mut(socket.index()) else { return };
        for membership in std::mem::take(memberships) {
            self.take_out(socket, membership);
        }
    }

    /// Remembers that all members of a room have been given its log up to `position`.
    pub(crate) fn advance(&mut self, namespace: NamespaceKey, room: &str, position: &str) {
        if let Some(key) = self.room(namespace, room)
            && let Some(group) = self.groups.get_mut(key as usize)
        {
            position.clone_into(&mut group.position);
            if !self.apart.is_empty() {
                self.apart.retain(|(group, _), _| *group != key);
            }
        }
    }

    /// Remembers that one member of a room has been given its log up to `position`.
    pub(crate) fn advance_one(
        &mut self,
        namespace: NamespaceKey,
        room: &str,
        socket: SocketKey,
        position: &str,
    ) {
        if let Some(group) = self.room(namespace, room)
            && self.is_member(group, socket)
            && !self.lagging.contains_key(&(group, socket))
        {
            self.set_apart(group, socket, position);
        }
    }

    /// Notes where a member stands: with the group, if it is alone in it.
    fn set_apart(&mut self, key: u32, socket: SocketKey, position: &str) {
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        if group.members.len() == 1 {
            position.clone_into(&mut group.position);
        }
        if group.position == position {
            self.apart.remove(&(key, socket));
        } else {
            self.apart.insert((key, socket), position.to_owned());
        }
    }

    /// The sockets of a tenant in a namespace.
    pub(crate) fn everyone(&self, namespace: NamespaceKey, tenant: &str) -> &[SocketKey] {
        let names = self.namespaces.get(namespace.index());
        self.members(names.and_then(|names| names.tenants.everyone(tenant)))
    }

    /// The sockets of a tenant's users with a subject, who may be of several issuers.
    pub(crate) fn of_user(&self, namespace: NamespaceKey, user: UserName<'_>) -> &[SocketKey] {
        let names = self.namespaces.get(namespace.index());
        self.members(names.and_then(|names| names.tenants.user(user)))
    }

    /// The sockets in a room.
    pub(crate) fn in_room(&self, namespace: NamespaceKey, room: &str) -> &[SocketKey] {
        self.members(self.room(namespace, room))
    }

    /// The rooms a socket is in, each with the position that it has been given.
    pub(crate) fn rooms_of(&self, socket: SocketKey) -> impl Iterator<Item = (&str, &str)> {
        let memberships = self.memberships.get(socket.index()).map_or(&[][..], |all| &all[..]);
        memberships.iter().filter_map(move |membership| {
            match &self.groups.get(membership.group as usize)?.name {
                GroupName::Room(name) => Some((&**name, self.standing(membership.group, socket)?)),
                GroupName::Everyone(_) | GroupName::User(..) => None,
            }
        })
    }

    fn room(&self, namespace: NamespaceKey, room: &str) -> Option<u32> {
        self.namespaces.get(namespace.index())?.rooms.get(room).copied()
    }

    fn members(&self, group: Option<u32>) -> &[SocketKey] {
        group
            .and_then(|group| self.groups.get(group as usize))
            .map_or(&[], |group| group.members.as_slice())
    }

    fn is_member(&self, group: u32, socket: SocketKey) -> bool {
        self.memberships
            .get(socket.index())
            .is_some_and(|all| all.iter().any(|membership| membership.group == group))
    }

    fn add(&mut self, key: u32, socket: SocketKey) {
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        let Some(memberships) = self.memberships.get_mut(socket.index()) else { return };
        memberships.push(Membership { group: key, slot: index_of(group.members.len()) });
        group.members.push(socket);
    }

    /// Closes the gap that a membership leaves in its group, and forgets the group when it was the last.
    fn take_out(&mut self, socket: SocketKey, gone: Membership) {
        self.apart.remove(&(gone.group, socket));
        self.lagging.remove(&(gone.group, socket));
        let Some(group) = self.groups.get_mut(gone.group as usize) else { return };
        group.members.swap_remove(gone.slot as usize);
        if let Some(moved) = group.members.get(gone.slot as usize)
            && let Some(memberships) = self.memberships.get_mut(moved.index())
            && let Some(membership) = memberships.iter_mut().find(|one| one.group == gone.group)
        {
            membership.slot = gone.slot;
        }
        if group.members.is_empty() {
            self.forget(gone.group);
        }
    }

    fn forget(&mut self, key: u32) {
        let Some(group) = self.groups.get(key as usize) else { return };
        let Some(names) = self.namespaces.get_mut(group.namespace.index()) else { return };
        match &group.name {
            GroupName::Everyone(tenant) => {
                if !names.tenants.leave(*tenant) {
                    return;
                }
            }
            GroupName::User(tenant, name) => names.tenants.leave_user(*tenant, name),
            GroupName::Room(name) => {
                names.rooms.remove(name);
            }
        }
        self.groups.remove(key as usize);
    }
}

fn insert(groups: &mut Slab<Group>, namespace: NamespaceKey, name: GroupName) -> u32 {
    let group = Group { namespace, name, members: Vec::new(), position: String::new() };
    index_of(groups.insert(group))
}

/// Indexes are kept in 32 bits: a process cannot hold four thousand million sockets.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn index_of(index: usize) -> u32 {
    index as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: NamespaceKey = NamespaceKey(1);

    fn socket(index: u32) -> SocketKey {
        SocketKey(index)
    }

    fn user(subject: &str) -> UserName<'_> {
        UserName { tenant: "", subject }
    }

    fn three_in_a_room() -> Rooms {
        let mut rooms = Rooms::new(2);
        for index in 0..3 {
            rooms.enter(CHAT, socket(index), Some(user(if index == 2 { "bob" } else { "alice" })));
            rooms.join(CHAT, socket(index), "lobby", "p1");
        }
        rooms
    }

    #[test]
    fn finds_sockets_by_room_user_and_namespace() {
        let rooms = three_in_a_room();

        assert_eq!(rooms.in_room(CHAT, "lobby"), [socket(0), socket(1), socket(2)]);
        assert_eq!(rooms.of_user(CHAT, user("alice")), [socket(0), socket(1)]);
        assert_eq!(rooms.everyone(CHAT, "").len(), 3);
        assert!(rooms.in_room(NamespaceKey(0), "lobby").is_empty());
        assert!(rooms.in_room(CHAT, "attic").is_empty());
    }

    #[test]
    fn a_socket_of_no_user_is_in_its_namespace_all_the_same() {
        let mut rooms = Rooms::new(2);

        rooms.enter(CHAT, socket(0), None);
        rooms.join(CHAT, socket(0), "lobby", "");

        assert_eq!(rooms.everyone(CHAT, ""), [socket(0)]);
        assert_eq!(rooms.in_room(CHAT, "lobby"), [socket(0)]);
        rooms.remove(socket(0));
        assert!(rooms.everyone(CHAT, "").is_empty());
    }

    #[test]
    fn a_socket_that_goes_leaves_everything_and_no_gap() {
        let mut rooms = three_in_a_room();

        rooms.remove(socket(0));
        rooms.leave(CHAT, socket(2), "lobby");

        assert_eq!(rooms.in_room(CHAT, "lobby"), [socket(1)]);
        assert_eq!(rooms.of_user(CHAT, user("alice")), [socket(1)]);
        assert_eq!(rooms.of_user(CHAT, user("bob")), [socket(2)]);
        rooms.remove(socket(1));
        assert!(rooms.in_room(CHAT, "lobby").is_empty());
    }

    #[test]
    fn joining_twice_is_joining_once() {
        let mut rooms = three_in_a_room();

        rooms.join(CHAT, socket(0), "lobby", "p2");

        assert_eq!(rooms.in_room(CHAT, "lobby").len(), 3);
        assert_eq!(rooms.rooms_of(socket(0)).collect::<Vec<_>>(), [("lobby", "p2")]);
    }

    #[test]
    fn empty_rooms_and_users_cost_nothing() {
        let mut rooms = three_in_a_room();

        for index in 0..3 {
            rooms.remove(socket(index));
        }

        assert_eq!(rooms.groups.len(), 2, "only the two namespaces are left");
        let names = rooms.namespaces.iter();
        assert!(names.into_iter().all(|names| names.tenants.is_bare() && names.rooms.is_empty()));
    }

    #[test]
    fn tenants_have_their_users_and_everyone_apart() {
        let mut rooms = three_in_a_room();
        let alice_of = |tenant| UserName { tenant, subject: "alice" };
        for (index, tenant) in [(3, "acme"), (4, "acme"), (5, "zinc")] {
            rooms.enter(CHAT, socket(index), Some(alice_of(tenant)));
        }

        assert_eq!(rooms.everyone(CHAT, ""), [socket(0), socket(1), socket(2)]);
        assert_eq!(rooms.everyone(CHAT, "acme"), [socket(3), socket(4)]);
        assert_eq!(rooms.of_user(CHAT, alice_of("")), [socket(0), socket(1)]);
        assert_eq!(rooms.of_user(CHAT, alice_of("acme")), [socket(3), socket(4)]);
        assert_eq!(rooms.of_user(CHAT, alice_of("zinc")), [socket(5)]);
        assert!(rooms.of_user(CHAT, UserName { tenant: "zinc", subject: "bob" }).is_empty());
        assert!(rooms.everyone(CHAT, "nobody's").is_empty());

        for index in 3..6 {
            rooms.remove(socket(index));
        }
        assert!(rooms.everyone(CHAT, "acme").is_empty());
        assert!(rooms.of_user(CHAT, alice_of("zinc")).is_empty());
        assert_eq!(rooms.everyone(CHAT, "").len(), 3);
        for index in 0..3 {
            rooms.remove(socket(index));
        }
        assert_eq!(rooms.groups.len(), 2, "tenants that have no socket cost nothing");
        assert!(rooms.namespaces.iter().all(|names| names.tenants.is_bare()));
    }

    #[test]
    fn a_member_that_is_led_through_the_log_stands_apart_until_the_room_goes_on() {
        let mut rooms = three_in_a_room();
        rooms.advance(CHAT, "lobby", "p5");

        rooms.advance_one(CHAT, "lobby", socket(1), "p3");
        assert_eq!(rooms.rooms_of(socket(1)).collect::<Vec<_>>(), [("lobby", "p3")]);
        assert_eq!(rooms.rooms_of(socket(2)).collect::<Vec<_>>(), [("lobby", "p5")]);

        rooms.advance(CHAT, "lobby", "p6");
        assert_eq!(rooms.rooms_of(socket(1)).collect::<Vec<_>>(), [("lobby", "p6")]);
        rooms.advance_one(CHAT, "lobby", socket(1), "p3");
        rooms.remove(socket(1));
        assert!(rooms.apart.is_empty());
    }

    #[test]
    fn a_newcomer_does_not_move_the_others() {
        let mut rooms = three_in_a_room();

        rooms.enter(CHAT, socket(3), Some(user("dan")));
        rooms.join(CHAT, socket(3), "lobby", "p9");

        assert_eq!(rooms.rooms_of(socket(0)).collect::<Vec<_>>(), [("lobby", "p1")]);
        assert_eq!(rooms.rooms_of(socket(3)).collect::<Vec<_>>(), [("lobby", "p9")]);
    }

    #[test]
    fn remembers_how_far_a_room_has_been_given() {
        let mut rooms = three_in_a_room();

        rooms.advance(CHAT, "lobby", "p7");
        rooms.advance(CHAT, "attic", "p9");

        assert_eq!(rooms.rooms_of(socket(1)).collect::<Vec<_>>(), [("lobby", "p7")]);
    }
}
