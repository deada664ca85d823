//! Knows which sockets there are, and which have come and gone lately, for services that watch; and where those of a user are, for
//! what is sent to it.

mod by_user;

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    hash::{Hash, Hasher},
    mem,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;
use thiserror::Error;
use tokio::sync::watch;

use self::by_user::ByUser;
use crate::{
    exclusions::Who,
    room_key::Realm,
    socket::{LinkKey, Socket, SocketKey},
};

/// Most changes that are kept for watchers that are behind, or away. It is more than one lost edge is likely to have sockets.
pub(crate) const CHANGES_MAX: usize = 65_536;

/// The label of the end of a socket whose edge was lost.
pub(crate) const EDGE_LOST: &str = "edge_lost";

/// Longest label that is passed on, in bytes.
const REASON_BYTES_MAX: usize = 64;

/// A clone is cheap.
#[derive(Debug, Clone)]
pub(crate) struct SocketRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Names this life of the registry in cursors.
    life: u64,
    /// Held for a few lines at a time, never across an await.
    state: Mutex<State>,
    /// Number of the last change.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    live: HashSet<ById>,
    /// The same sockets on the links that they are moving from. They may stay there, if their clients turn back.
    elsewhere: HashMap<Arc<str>, Vec<Arc<Socket>>>,
    /// All of these.
    by_user: ByUser,
    /// The last of them. None before somebody has watched: nobody can ask for them.
    changes: VecDeque<Change>,
    is_watched: bool,
}

/// A socket that is looked up by its public id, which is not kept beside it: there is one for each client.
#[derive(Debug)]
struct ById(Arc<Socket>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `Borrow` wants it.
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// A socket has come or gone.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) at_ms: u64,
    pub(crate) socket: Arc<Socket>,
    pub(crate) kind: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Opened,
    Closed { reason: Box<str> },
}

/// A place in the changes of one life of the registry. Watchers see an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    life: u64,
    number: u64,
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a cursor")]
pub(crate) struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}{:016x}", self.life, self.number)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseCursorError);
        }
        let half = |digits| u64::from_str_radix(digits, 16).map_err(|_| ParseCursorError);
        Ok(Self { life: half(&text[..16])?, number: half(&text[16..])? })
    }
}

/// What follows a place in the changes.
#[derive(Debug)]
pub(crate) enum Following {
    /// These, up to this place. There may be more.
    Changes(Vec<Change>, Cursor),
    /// Some are no longer known.
    Gone,
    /// They are of another life.
    OtherLife,
}

impl SocketRegistry {
    pub(crate) fn new(life: u64) -> Self {
        let (changed, _) = watch::channel(0);
        Self { shared: Arc::new(Shared { life, state: Mutex::default(), changed }) }
    }

    /// A socket is there: it has entered, or was announced, or moves here. Where it is the next life of what it was earlier,
    /// or is on another link as well, that is no change.
    pub(crate) fn note_opened(&self, socket: &Arc<Socket>, earlier: Option<SocketKey>, at_ms: u64) {
        let mut state = self.state();
        if state.take_in(socket, earlier) {
            let change = Change { at_ms, socket: Arc::clone(socket), kind: ChangeKind::Opened };
            self.note(&mut state, change);
        }
    }

    /// A socket has ended, unless it is on another link, or was announced again meanwhile.
    pub(crate) fn note_closed(&self, socket: &Arc<Socket>, reason: &str, at_ms: u64) {
        let mut state = self.state();
        if !state.take_out(socket) {
            return;
        }
        let reason = if reason.len() <= REASON_BYTES_MAX { reason } else { "unknown" };
        let kind = ChangeKind::Closed { reason: reason.into() };
        self.note(&mut state, Change { at_ms, socket: Arc::clone(socket), kind });
    }

    fn note(&self, state: &mut State, change: Change) {
        if !state.is_watched {
            return;
        }
        if state.changes.len() == CHANGES_MAX {
            state.changes.pop_front();
        }
        state.changes.push_back(change);
        self.shared.changed.send_modify(|last| *last += 1);
    }

    /// All sockets, and the place of the changes that follow.
    pub(crate) fn snapshot(&self) -> (Vec<Arc<Socket>>, Cursor) {
        let mut state = self.state();
        state.is_watched = true;
        (state.live.iter().map(|ById(socket)| Arc::clone(socket)).collect(), self.end())
    }

    /// At most so many changes after a place.
    pub(crate) fn following(&self, after: Cursor, count_max: usize) -> Following {
        if after.life != self.shared.life {
            return Following::OtherLife;
        }
        let state = self.state();
        let end = self.end();
        // A cursor from beyond the end is not one that was given out.
        let Some(behind) = end.number.checked_sub(after.number) else { return Following::Gone };
        let Some(first) = (state.changes.len() as u64).checked_sub(behind) else {
            return Following::Gone;
        };
        // At most as many as there are changes.
        let changes = state.changes.iter().skip(first as usize).take(count_max);
        let changes: Vec<Change> = changes.cloned().collect();
        let number = after.number + changes.len() as u64;
        Following::Changes(changes, Cursor { number, ..end })
    }

    /// The sockets of a tenant in a namespace that are somebody's, on whatever links they are.
    pub(crate) fn of(&self, realm: Realm<'_>, who: &Who) -> Vec<Arc<Socket>> {
        let state = self.state();
        match who {
            Who::Socket(id) => {
                let elsewhere = state.elsewhere.get(&**id).into_iter().flatten();
                let live = state.live.get(&**id).map(|ById(socket)| socket);
                let found = live.into_iter().chain(elsewhere);
                found.filter(|socket| socket.realm() == realm).cloned().collect()
            }
            Who::User { subject, .. } => {
                let called_so = state.by_user.of(realm, subject);
                called_so.filter(|socket| who.is(socket)).cloned().collect()
            }
        }
    }

    /// Does something with the links that have sockets of a user, but for one socket. Where no issuer is named, of all users of
    /// this subject. Meanwhile none of these sockets comes or goes: what is put on their links stands before the answer to an edge
    /// that one of them has moved, and so where it is found by then.
    pub(crate) fn with_links_of<T>(
        &self,
        realm: Realm<'_>,
        (subject, issuer): (&str, &str),
        except: Option<SocketKey>,
        act: impl FnOnce(&[LinkKey]) -> T,
    ) -> T {
        let mut links = SmallVec::<[LinkKey; 4]>::new();
        let state = self.state();
        for socket in state.by_user.of(realm, subject) {
            let is_meant = issuer.is_empty() || socket.user.issuer() == issuer;
            if is_meant && Some(socket.key) != except && !links.contains(&socket.key.link) {
                links.push(socket.key.link);
            }
        }
        act(&links)
    }

    /// Tells of each change that comes after this.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn end(&self) -> Cursor {
        Cursor { life: self.shared.life, number: *self.shared.changed.borrow() }
    }

    /// A panic under the lock would leave the state whole: each change is one call on a map or a queue.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the socket was not there before.
    fn take_in(&mut self, socket: &Arc<Socket>, earlier: Option<SocketKey>) -> bool {
        self.by_user.add(socket);
        let is_replaced = |one: &Arc<Socket>| one.key == socket.key || Some(one.key) == earlier;
        if !self.live.contains(&*socket.id) {
            return self.live.insert(ById(Arc::clone(socket)));
        }
        let mut elsewhere = self.elsewhere.get_mut(&socket.id).into_iter().flatten();
        if let Some(place) = elsewhere.find(|one| is_replaced(one)) {
            let replaced = mem::replace(place, Arc::clone(socket));
            self.by_user.remove(&replaced);
            return false;
        }
        if let Some(ById(before)) = self.live.replace(ById(Arc::clone(socket))) {
            if is_replaced(&before) {
                self.by_user.remove(&before);
            } else {
                self.elsewhere.entry(Arc::clone(&socket.id)).or_default().push(before);
            }
        }
        false
    }

    /// Whether the socket is nowhere any more.
    fn take_out(&mut self, socket: &Arc<Socket>) -> bool {
        self.by_user.remove(socket);
        let is_live =
            self.live.get(&*socket.id).is_some_and(|ById(live)| Arc::ptr_eq(live, socket));
        let mut next = None;
        if let Some(elsewhere) = self.elsewhere.get_mut(&socket.id) {
            elsewhere.retain(|one| !Arc::ptr_eq(one, socket));
            next = if is_live { elsewhere.pop() } else { None };
            if elsewhere.is_empty() {
                self.elsewhere.remove(&socket.id);
            }
        }
        match next {
            Some(next) => {
                self.live.replace(ById(next));
                false
            }
            None if is_live => self.live.remove(&*socket.id),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;
    use crate::{socket::LinkKey, user::User};

    fn socket(link: u64, id: &str) -> Arc<Socket> {
        let key = SocketKey { link: LinkKey(link), handle: 1 };
        let user = User::parse("ann", "test", b"{}").unwrap();
        Arc::new(Socket::new(key, id.into(), "/".into(), user))
    }

    fn following(registry: &SocketRegistry, after: Cursor) -> (Vec<(String, String)>, Cursor) {
        let Following::Changes(changes, end) = registry.following(after, 10) else {
            panic!("they are known")
        };
        let seen = changes.iter().map(|change| {
            let kind = match &change.kind {
                ChangeKind::Opened => "opened".to_owned(),
                ChangeKind::Closed { reason } => reason.to_string(),
            };
            (change.socket.id.to_string(), kind)
        });
        (seen.collect(), end)
    }

    fn pair(id: &str, kind: &str) -> (String, String) {
        (id.to_owned(), kind.to_owned())
    }

    #[test]
    fn whoever_has_a_place_is_told_what_came_after_it_as_often_as_it_asks() {
        let registry = SocketRegistry::new(7);
        let (one, two) = (socket(1, "one"), socket(1, "two"));
        registry.note_opened(&one, None, 0);
        let (live, start) = registry.snapshot();
        assert_eq!(live.len(), 1);

        registry.note_opened(&two, None, 0);
        registry.note_closed(&one, "client_disconnect", 0);
        registry.note_closed(&one, "client_disconnect", 0);

        for _ in 0..2 {
            let (seen, end) = following(&registry, start);
            assert_eq!(seen, [pair("two", "opened"), pair("one", "client_disconnect")]);
            assert_eq!(following(&registry, end).0, []);
        }
        assert_eq!(registry.snapshot().0.len(), 1);
    }

    #[test]
    fn a_cursor_survives_its_text_form_and_nothing_else_is_one() {
        let cursor = Cursor { life: u64::MAX, number: 1 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));

        for bad in ["", "x", "+fffffffffffffff0000000000000001", "ééééééééé"] {
            assert_eq!(bad.parse::<Cursor>(), Err(ParseCursorError));
        }
    }

    #[test]
    fn a_socket_that_moves_to_another_link_has_not_ended() {
        let registry = SocketRegistry::new(7);
        let (here, there) = (socket(1, "one"), socket(2, "one"));
        let (_, start) = registry.snapshot();

        registry.note_opened(&here, None, 0);
        registry.note_opened(&there, None, 0);
        registry.note_closed(&here, "moved", 0);
        registry.note_closed(&there, &"x".repeat(65), 0);

        assert_eq!(following(&registry, start).0, [pair("one", "opened"), pair("one", "unknown")]);
    }

    #[test]
    fn a_socket_whose_client_turns_back_on_its_way_has_not_ended() {
        let registry = SocketRegistry::new(7);
        let (here, there) = (socket(1, "one"), socket(2, "one"));
        let (_, start) = registry.snapshot();
        registry.note_opened(&here, None, 0);
        registry.note_opened(&there, None, 0);

        registry.note_closed(&there, "transport_closed", 0);
        let live = registry.snapshot().0;
        assert!(live.len() == 1 && Arc::ptr_eq(&live[0], &here));
        registry.note_closed(&here, "client_disconnect", 0);

        let seen = [pair("one", "opened"), pair("one", "client_disconnect")];
        assert_eq!(following(&registry, start).0, seen);
        assert!(registry.state().elsewhere.is_empty());
    }

    #[test]
    fn a_socket_that_is_announced_where_it_is_moving_from_has_not_ended() {
        let registry = SocketRegistry::new(7);
        let [here, there, announced] = [1, 2, 3].map(|link| socket(link, "one"));
        let (_, start) = registry.snapshot();
        registry.note_opened(&here, None, 0);
        registry.note_opened(&there, None, 0);
        registry.note_opened(&announced, Some(here.key), 0);

        registry.note_closed(&announced, "moved", 0);
        registry.note_closed(&here, EDGE_LOST, 0);
        assert_eq!(following(&registry, start).0, [pair("one", "opened")]);
        registry.note_closed(&there, "client_disconnect", 0);

        assert_eq!(following(&registry, start).0[1], pair("one", "client_disconnect"));
        assert!(registry.state().elsewhere.is_empty());
    }

    #[test]
    fn a_socket_that_is_announced_again_ends_with_its_next_life() {
        let registry = SocketRegistry::new(7);
        let (before, after) = (socket(1, "one"), socket(2, "one"));
        let (_, start) = registry.snapshot();
        registry.note_opened(&before, None, 0);
        registry.note_opened(&after, Some(before.key), 0);

        registry.note_closed(&after, "client_disconnect", 0);
        registry.note_closed(&before, EDGE_LOST, 0);

        let seen = [pair("one", "opened"), pair("one", "client_disconnect")];
        assert_eq!(following(&registry, start).0, seen);
    }

    #[test]
    fn what_is_no_longer_known_is_not_told_in_part() {
        let registry = SocketRegistry::new(7);
        let (_, start) = registry.snapshot();
        let one = socket(1, "one");
        for _ in 0..CHANGES_MAX / 2 {
            registry.note_opened(&one, None, 0);
            registry.note_closed(&one, "moved", 0);
        }
        assert!(matches!(registry.following(start, 1), Following::Changes(..)));

        registry.note_opened(&one, None, 0);

        assert!(matches!(registry.following(start, 1), Following::Gone));
        let beyond = Cursor { number: u64::MAX, ..start };
        assert!(matches!(registry.following(beyond, 1), Following::Gone));
        let other = Cursor { life: 8, ..start };
        assert!(matches!(registry.following(other, 1), Following::OtherLife));
    }

    fn of(link: u64, handle: u64, user: (&str, &str)) -> Arc<Socket> {
        let key = SocketKey { link: LinkKey(link), handle };
        let id = format!("{link}-{handle}").as_str().into();
        Arc::new(Socket::new(key, id, "/".into(), User::parse(user.0, user.1, b"{}").unwrap()))
    }

    fn links_of(registry: &SocketRegistry, user: (&str, &str)) -> Vec<u64> {
        links_in(registry, Realm::of_default("/"), user, None)
    }

    fn links_in(
        registry: &SocketRegistry,
        realm: Realm<'_>,
        user: (&str, &str),
        except: Option<SocketKey>,
    ) -> Vec<u64> {
        let links = registry.with_links_of(realm, user, except, <[_]>::to_vec);
        let mut links: Vec<u64> = links.into_iter().map(|link| link.0).collect();
        links.sort_unstable();
        links
    }

    #[test]
    fn knows_the_links_of_a_user_but_for_one_socket() {
        let registry = SocketRegistry::new(7);
        let sockets = [
            of(1, 1, ("ann", "a")),
            of(2, 1, ("ann", "a")),
            of(3, 1, ("ann", "b")),
            of(3, 2, ("bob", "a")),
        ];
        sockets.iter().for_each(|socket| registry.note_opened(socket, None, 0));

        assert_eq!(links_of(&registry, ("ann", "a")), [1, 2]);
        assert_eq!(links_of(&registry, ("ann", "")), [1, 2, 3]);
        assert!(links_of(&registry, ("cid", "a")).is_empty());
        let but_for = Some(sockets[1].key);
        assert_eq!(links_in(&registry, Realm::of_default("/"), ("ann", "a"), but_for), [1]);
        assert!(links_in(&registry, Realm::of_default("/x"), ("ann", "a"), None).is_empty());
        let of_another = Realm { tenant: "acme", namespace: "/" };
        assert!(links_in(&registry, of_another, ("ann", "a"), None).is_empty());

        registry.note_closed(&sockets[0], "client_disconnect", 0);
        assert_eq!(links_of(&registry, ("ann", "a")), [2]);
    }

    #[test]
    fn a_socket_knows_whether_others_are_called_by_the_same_subject() {
        let registry = SocketRegistry::new(7);
        let [first, second, issued_elsewhere] =
            [of(1, 1, ("ann", "a")), of(2, 1, ("ann", "a")), of(3, 1, ("ann", "b"))];
        let other = of(1, 2, ("bob", "a"));
        let known = || [&first, &second, &issued_elsewhere, &other].map(|one| one.has_namesakes());
        for socket in [&first, &other] {
            registry.note_opened(socket, None, 0);
        }
        assert_eq!(known(), [false; 4]);

        registry.note_opened(&second, None, 0);
        assert_eq!(known(), [true, true, false, false]);
        registry.note_opened(&issued_elsewhere, None, 0);
        assert_eq!(known(), [true, true, true, false]);
        registry.note_closed(&first, "client_disconnect", 0);
        assert_eq!(known()[1..], [true, true, false]);
        registry.note_closed(&second, "client_disconnect", 0);
        assert_eq!(known()[2..], [false, false]);
    }

    #[test]
    fn a_socket_that_moves_is_on_both_links_and_one_that_is_replaced_is_not() {
        let registry = SocketRegistry::new(7);
        let [here, there, announced] = [1, 2, 3].map(|link| socket(link, "one"));
        registry.note_opened(&here, None, 0);
        registry.note_opened(&there, None, 0);
        assert_eq!(links_of(&registry, ("ann", "test")), [1, 2]);

        registry.note_opened(&announced, Some(here.key), 0);
        registry.note_closed(&here, EDGE_LOST, 0);
        assert_eq!(links_of(&registry, ("ann", "test")), [2, 3]);

        registry.note_closed(&announced, "moved", 0);
        registry.note_closed(&there, "client_disconnect", 0);
        assert!(links_of(&registry, ("ann", "test")).is_empty());
    }

    /// What stands on a link.
    #[derive(Clone, Copy)]
    enum Sent {
        Arrived,
        Event(usize),
        Left,
    }

    #[test]
    fn what_is_sent_to_a_user_finds_its_socket_however_it_moves() {
        const EVENTS: usize = 200;
        let registry = SocketRegistry::new(7);
        let links: [Mutex<Vec<Sent>>; 2] = Default::default();
        let push = |link: u64, sent| links[link as usize].lock().unwrap().push(sent);
        let arrive = |link| {
            push(link, Sent::Arrived);
            let socket = socket(link, "one");
            registry.note_opened(&socket, None, 0);
            socket
        };
        let are_sent = AtomicBool::new(false);
        let mut here = arrive(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !are_sent.load(Ordering::Relaxed) {
                    let there = arrive(1 - here.key.link.0);
                    registry.note_closed(&here, "moved", 0);
                    push(here.key.link.0, Sent::Left);
                    here = there;
                }
            });
            for event in 0..EVENTS {
                let realm = Realm::of_default("/");
                registry.with_links_of(realm, ("ann", "test"), None, |links| {
                    // Long enough for a socket to move, if it could.
                    (0..100).for_each(|_| thread::yield_now());
                    links.iter().for_each(|link| push(link.0, Sent::Event(event)));
                });
            }
            are_sent.store(true, Ordering::Relaxed);
        });

        let mut found = [false; EVENTS];
        for link in links {
            let mut is_here = false;
            for sent in link.into_inner().unwrap() {
                match sent {
                    Sent::Arrived => is_here = true,
                    Sent::Left => is_here = false,
                    Sent::Event(number) => found[number] |= is_here,
                }
            }
        }
        assert_eq!(found.iter().position(|found| !found), None);
    }
}
