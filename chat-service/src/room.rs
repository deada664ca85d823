//! Who is in one room, as pure state: commands in, changes out.

mod presence;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use self::presence::Presence;
pub(crate) use self::presence::{Notice, NoticeDue, Parting};
use crate::{
    socket::{LinkKey, SocketKey},
    user::User,
};

/// The sockets of a room, and the users behind them.
///
/// Presence is a matter of users: one is seen while at least one socket of its is in the room and not suspended, and for
/// the grace after that.
#[derive(Debug)]
pub(crate) struct Room {
    links: HashMap<LinkKey, HashMap<u64, Member>>,
    presence: Presence,
    /// Those who have suspended sockets here, and how many.
    suspended: BTreeMap<Arc<User>, usize>,
    /// The sockets that may not see who is here, by link.
    blind: HashMap<LinkKey, HashSet<u64>>,
    socket_count: usize,
}

#[derive(Debug)]
struct Member {
    user: Arc<User>,
    arrival: Arrival,
}

/// Whether a socket has its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Present,
    /// The socket is given everything, but nobody is there to be seen.
    Suspended,
}

/// What came of letting a socket in, or of its client's return.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It was in already.
    Already,
    /// Its user was seen already, or is not seen now.
    Socket,
    /// Its user is seen as of now.
    User,
}

/// What came of taking a socket out, or of the loss of its client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It was not in.
    Never,
    /// Its user is still in, with another socket, or was not seen.
    Socket,
    /// Its user has no socket left, and is seen until then.
    Going { user: Arc<User>, until: Instant },
    /// Its user is seen no more.
    User(Arc<User>),
}

impl Room {
    /// A room that tells its members of up to so many users one by one.
    pub(crate) fn new(list_max: usize) -> Self {
        Self {
            links: HashMap::new(),
            presence: Presence::new(list_max),
            suspended: BTreeMap::new(),
            blind: HashMap::new(),
            socket_count: 0,
        }
    }

    pub(crate) fn handle_join(
        &mut self,
        socket: SocketKey,
        user: &Arc<User>,
        arrival: Arrival,
    ) -> Joined {
        let sockets = self.links.entry(socket.link).or_default();
        if sockets.contains_key(&socket.handle) {
            return Joined::Already;
        }
        sockets.insert(socket.handle, Member { user: Arc::clone(user), arrival });
        self.socket_count += 1;
        match arrival {
            Arrival::Present => self.presence.note_here(user),
            Arrival::Suspended => {
                self.note_suspended(user);
                Joined::Socket
            }
        }
    }

    /// Whether a socket that is in may see who else is.
    pub(crate) fn note_sight(&mut self, socket: SocketKey, may_see: bool) {
        if !may_see && self.contains(socket) {
            self.blind.entry(socket.link).or_default().insert(socket.handle);
        } else {
            self.forget_blind(socket);
        }
    }

    /// The sockets of a link that may not see who is here, if there are any.
    pub(crate) fn blind_of(&self, link: LinkKey) -> Option<&HashSet<u64>> {
        self.blind.get(&link)
    }

    /// A socket has lost its client for a while. It stays in the room.
    pub(crate) fn handle_suspended(&mut self, socket: SocketKey, parting: Parting) -> Left {
        let is_present = |member: &&mut Member| member.arrival == Arrival::Present;
        let Some(member) = self.member_mut(socket).filter(is_present) else { return Left::Never };
        member.arrival = Arrival::Suspended;
        let user = Arc::clone(&member.user);
        self.note_suspended(&user);
        self.presence.note_gone(&user, parting)
    }

    /// A suspended socket has its client back; tells the user too.
    pub(crate) fn handle_resumed(&mut self, socket: SocketKey) -> Option<(Joined, Arc<User>)> {
        let is_suspended = |member: &&mut Member| member.arrival == Arrival::Suspended;
        let member = self.member_mut(socket).filter(is_suspended)?;
        member.arrival = Arrival::Present;
        let user = Arc::clone(&member.user);
        self.forget_suspended(&user);
        Some((self.presence.note_here(&user), user))
    }

    pub(crate) fn handle_leave(&mut self, socket: SocketKey, parting: Parting) -> Left {
        let Some(sockets) = self.links.get_mut(&socket.link) else { return Left::Never };
        let Some(member) = sockets.remove(&socket.handle) else { return Left::Never };
        if sockets.is_empty() {
            self.links.remove(&socket.link);
        }
        self.forget_blind(socket);
        self.forget(&member, parting)
    }

    /// Takes out every socket of a link; tells which users are seen until then and no longer.
    pub(crate) fn handle_link_gone(&mut self, link: LinkKey, until: Instant) -> Vec<Arc<User>> {
        let sockets = self.links.remove(&link).unwrap_or_default();
        self.blind.remove(&link);
        let mut going = Vec::new();
        for member in sockets.into_values() {
            if let Left::Going { user, .. } = self.forget(&member, Parting::Until(until)) {
                going.push(user);
            }
        }
        going.sort_unstable();
        going
    }

    /// The time of a parting has come: returns the user if it has not been back since.
    pub(crate) fn handle_grace_over(
        &mut self,
        user: &Arc<User>,
        until: Instant,
    ) -> Option<Arc<User>> {
        self.presence.handle_grace_over(user, until)
    }

    /// Decides how the others are told of a change: at once, or by a notice that is due at this time.
    pub(crate) fn note_change(&mut self, due_at: Instant) -> Notice {
        self.presence.note_change(due_at)
    }

    /// The members may not know who is there: they are told by a notice, due at this time if none is due already.
    pub(crate) fn owe_notice(&mut self, due_at: Instant) -> Notice {
        self.presence.owe_notice(due_at)
    }

    /// The time of a notice has come: tells what it is to say.
    pub(crate) fn handle_notice_due(&mut self, due_at: Instant) -> Option<NoticeDue> {
        self.presence.handle_notice_due(due_at)
    }

    /// Whether the users are too many to be told one by one.
    pub(crate) fn is_counted(&self) -> bool {
        self.presence.is_counted()
    }

    pub(crate) fn contains(&self, socket: SocketKey) -> bool {
        self.links.get(&socket.link).is_some_and(|sockets| sockets.contains_key(&socket.handle))
    }

    /// Whether nobody is in it, nor seen in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.socket_count == 0 && self.presence.user_count() == 0
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

    /// Whether a user is seen.
    pub(crate) fn sees(&self, user: &User) -> bool {
        self.presence.sees(user)
    }

    /// Whether a user has a socket here whose client is away and may come back.
    pub(crate) fn awaits(&self, user: &User) -> bool {
        self.suspended.contains_key(user)
    }

    /// With how many sockets a user is there.
    pub(crate) fn sockets_of(&self, user: &User) -> usize {
        self.presence.sockets_of(user)
    }

    /// The users of some sockets of a link.
    pub(crate) fn users_of<'a>(
        &'a self,
        link: LinkKey,
        handles: &'a [u64],
    ) -> impl Iterator<Item = &'a Arc<User>> {
        let sockets = self.links.get(&link);
        handles.iter().filter_map(move |handle| Some(&sockets?.get(handle)?.user))
    }

    /// How many users are seen.
    pub(crate) fn user_count(&self) -> usize {
        self.presence.user_count()
    }

    /// The users that are seen.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &Arc<User>> {
        self.presence.seen()
    }

    /// The users that are seen and the number of their sockets, by subject.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&User, usize)> {
        self.presence.users()
    }

    /// The links that have sockets here, each with the number of these.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkKey, usize)> {
        self.links.iter().map(|(link, sockets)| (*link, sockets.len()))
    }

    fn forget(&mut self, member: &Member, parting: Parting) -> Left {
        self.socket_count -= 1;
        match member.arrival {
            Arrival::Present => self.presence.note_gone(&member.user, parting),
            Arrival::Suspended => {
                self.forget_suspended(&member.user);
                Left::Socket
            }
        }
    }

    fn forget_blind(&mut self, socket: SocketKey) {
        if let Some(blind) = self.blind.get_mut(&socket.link) {
            blind.remove(&socket.handle);
            if blind.is_empty() {
                self.blind.remove(&socket.link);
            }
        }
    }

    fn note_suspended(&mut self, user: &Arc<User>) {
        *self.suspended.entry(Arc::clone(user)).or_default() += 1;
    }

    fn forget_suspended(&mut self, user: &User) {
        if let Some(sockets) = self.suspended.get_mut(user) {
            *sockets -= 1;
            if *sockets == 0 {
                self.suspended.remove(user);
            }
        }
    }

    fn member_mut(&mut self, socket: SocketKey) -> Option<&mut Member> {
        self.links.get_mut(&socket.link)?.get_mut(&socket.handle)
    }
}

#[cfg(test)]
mod tests;
