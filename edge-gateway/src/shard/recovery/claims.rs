//! Takes over a socket that another shard or another edge has, because its client has come back here.
//!
//! ```text
//!  here                                     there
//!   │ claim: id, namespace, owner, offset ──► │ the socket waits on, and stays in its rooms
//!   │ ◄── its public id, rooms, what it missed│
//!   │ asks the business service ─► accepted   │
//!   │ in its rooms from now on                │
//!   │ fetch ────────────────────────────────► │ tells the business service that the socket has moved, waits until
//!   │                                         │ it knows, and so until nothing more can come, and ends the socket
//!   │ ◄── what it missed in between           │
//!   │ asks the business service ─► acknowledged: what was emitted to both places is in both
//!   │ the client gets all of it, in order     │
//! ```
//!
//! What was emitted to both in between is recognised and given once. What the socket joined and left where it was, after the
//! claim, it joins and leaves here too. From the last answer of the other shard on the socket
//! is here alone, and may be suspended like any other.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    rc::Weak,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use proto::edge::v1::Membership;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    Missed, Shard, Wanted,
    brought::{NoRoom, Share},
    elsewhere::find,
    recoverable::Search,
};
use crate::{
    session_id::SessionId,
    shard::{ConnectionKey, LinkKey, NamespaceKey, SocketKey, connect, connect::Entering},
    socket::{Identity, Stage},
    transport::mailbox::{Mailboxes, Place},
};

/// How long another shard may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Most sockets that are remembered because they were disconnected on their way elsewhere.
const DISCONNECTED_MAX: usize = 1024;

/// Asks a shard for a socket that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) wanted: Wanted,
    pub(crate) namespace: String,
    /// Subject, issuer and tenant; none where clients enter without a token.
    pub(crate) owner: Option<(String, String, String)>,
}

/// A socket on its way to where its client is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) settlement: Settlement,
    pub(crate) public_id: String,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) missed: Vec<Missed>,
}

/// What ends a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) id: SessionId,
    /// The shard that has the socket.
    pub(crate) shard: u8,
    /// Numbers the claims there: a later one makes it void.
    pub(crate) number: u64,
}

/// What became of a claimed socket where it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    Moved(Rest),
    /// Its business service has disconnected it meanwhile.
    Disconnected {
        close_connection: bool,
    },
}

/// What a socket leaves behind where it was, when nothing more can come for it there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rest {
    /// What it missed since it was claimed.
    pub(crate) missed: Vec<Missed>,
    /// The rooms that it was in at last.
    pub(crate) memberships: Vec<Membership>,
}

/// A claimed socket, with where it comes from.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) wanted: Wanted,
    pub(super) place: Place,
    pub(crate) claimed: Claimed,
    pub(super) share: Share,
}

impl Found {
    /// What its client calls it by.
    pub(in crate::shard) fn id(&self) -> SessionId {
        self.wanted.id
    }
}

/// The claims of a shard that are under way.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(super) mailboxes: Mailboxes,
    pub(super) shard: Weak<RefCell<Shard>>,
    own_shard: u8,
    pub(super) tasks: JoinSet<()>,
    /// At most one for each namespace that a connection asks for.
    under_way: HashMap<(ConnectionKey, NamespaceKey), Awaited, FixedState>,
    last_number: u64,
    waiting: Vec<Waiting>,
    /// Claimed sockets that were disconnected before their claims were settled, for as long as that may take.
    disconnected: VecDeque<Disconnected>,
}

#[derive(Debug)]
struct Disconnected {
    id: SessionId,
    handle: u64,
    number: u64,
    close_connection: bool,
    forget_at: Instant,
}

/// Who waits for the end of a claim.
#[derive(Debug)]
enum Awaited {
    /// The client that asked for it.
    Socket,
    /// Nobody: the client has left the namespace.
    Nothing,
    /// The same client, which has come back with this.
    Next(Box<(Entering, Option<Identity>)>),
}

/// What goes on once a business service has acknowledged what it was told of a socket.
#[derive(Debug)]
struct Waiting {
    link: LinkKey,
    handle: u64,
    give_up_at: Instant,
    then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    /// It has the socket here: fetch what it missed until now.
    Fetch,
    /// Whatever was emitted to the socket in both places has come to this one: go on after `offset`, with what of the rest
    /// came here too given once.
    GoOn { offset: Option<Box<str>>, rest: Vec<Missed> },
    /// It has it no more: hand over what came for it after this number of the log.
    Settle { reaches: u64, reply: oneshot::Sender<Option<Settled>> },
}

impl Claims {
    pub(crate) fn new(mailboxes: Mailboxes, shard: Weak<RefCell<Shard>>, own_shard: u8) -> Self {
        Self {
            mailboxes,
            shard,
            own_shard,
            tasks: JoinSet::new(),
            under_way: HashMap::default(),
            last_number: 0,
            waiting: Vec::new(),
            disconnected: VecDeque::new(),
        }
    }

    /// A name for a socket that begins here.
    pub(super) fn new_id(&self) -> SessionId {
        SessionId::random(self.mailboxes.edge(), self.own_shard)
    }

    /// Whether a client may claim its socket from elsewhere when this edge has ended.
    pub(super) fn may_come_from_elsewhere(&self) -> bool {
        self.mailboxes.has_peers()
    }

    /// The client no longer wants to enter a namespace.
    pub(in crate::shard) fn withdraw(
        &mut self,
        connection: ConnectionKey,
        namespace: NamespaceKey,
    ) {
        if let Some(awaited) = self.under_way.get_mut(&(connection, namespace)) {
            *awaited = Awaited::Nothing;
        }
    }

    fn disconnected(&self, is_it: impl Fn(&Disconnected) -> bool) -> Option<Settled> {
        let found = self.disconnected.iter().find(|one| is_it(one))?;
        Some(Settled::Disconnected { close_connection: found.close_connection })
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Shard {
    /// Whether the client must wait for the end of a claim that it asked for before. Then it goes on with this.
    pub(in crate::shard) fn waits_for_claim(
        &mut self,
        entering: Entering,
        identity: Option<Identity>,
    ) -> Option<(Entering, Option<Identity>)> {
        let place = (entering.connection, entering.namespace);
        match self.recovery.claims.under_way.get_mut(&place) {
            Some(awaited) => {
                *awaited = Awaited::Next(Box::new((entering, identity)));
                None
            }
            None => Some((entering, identity)),
        }
    }

    /// Looks for a socket elsewhere, and then goes on with the client that wants it.
    pub(in crate::shard) fn claim_elsewhere(
        &mut self,
        mut entering: Entering,
        identity: Option<Identity>,
        wanted: Wanted,
    ) {
        // Where nobody has it, the business service may know it.
        entering.wanted = Some(wanted.clone());
        let claim = Claim {
            namespace: self.path_of(entering.namespace),
            owner: identity.as_ref().map(Identity::owner).map(|(subject, issuer, tenant)| {
                (subject.to_owned(), issuer.to_owned(), tenant.to_owned())
            }),
            wanted,
        };
        let claims = &mut self.recovery.claims;
        let (mailboxes, shard) = (claims.mailboxes.clone(), claims.shard.clone());
        let own_shard = claims.own_shard;
        claims.under_way.insert((entering.connection, entering.namespace), Awaited::Socket);
        claims.tasks.spawn_local(async move {
            let found = find(&mailboxes, Some(own_shard), &claim).await;
            if let Some(shard) = shard.upgrade() {
                let found = found.map(|found| (claim.wanted, found));
                shard.borrow_mut().claim_ended(entering, identity, found);
            }
        });
    }

    fn claim_ended(
        &mut self,
        entering: Entering,
        identity: Option<Identity>,
        found: Option<(Wanted, (Place, Claimed))>,
    ) {
        let found = found.map(|(wanted, found)| self.take_in(wanted, found));
        match found {
            Some(Ok(_)) => {}
            Some(Err(NoRoom)) => self.common.metrics.recovered("no_room"),
            None => self.common.metrics.recovered("unknown"),
        }
        let found = found.and_then(Result::ok);
        let place = (entering.connection, entering.namespace);
        let awaited = self.recovery.claims.under_way.remove(&place);
        match awaited {
            Some(Awaited::Socket) => {
                if let Some((entering, identity)) = self.unless_revoked(entering, identity) {
                    self.open(entering, identity, found);
                }
                return;
            }
            Some(Awaited::Next(next)) => self.admitted(next.0, next.1),
            Some(Awaited::Nothing) | None => {}
        }
        connect::finish(entering.span, "withdrawn");
    }

    /// Hands a socket over to where its client is, or says that it is not here.
    pub(crate) fn claimed(&mut self, claim: &Claim) -> Option<Claimed> {
        let namespace = self.namespace(&claim.namespace)?;
        let owner = claim.owner.as_ref();
        let owner = owner.map(|(subject, issuer, tenant)| (&**subject, &**issuer, &**tenant));
        let found = self.find_recoverable(namespace, owner, &claim.wanted);
        let (key, missed) = found.ok()?;
        self.suspend_elsewhere(key);
        let number = self.recovery.claims.next_number();
        let shard = self.recovery.claims.own_shard;
        let reaches = self.recovery.log(namespace)?.last();
        let memberships = self.memberships(key.index());
        let socket = self.sockets.get_mut(key.index())?;
        socket.recoverable.as_mut()?.claim(number, reaches);
        let settlement = Settlement { id: claim.wanted.id, shard, number };
        Some(Claimed { settlement, public_id: socket.public_id.to_string(), memberships, missed })
    }

    /// Begins to end a socket that was handed over. What it was given until its business service knows of its end goes
    /// with it; nothing if the claim is void.
    pub(crate) fn settle(
        &mut self,
        Settlement { id, number, .. }: Settlement,
        reply: oneshot::Sender<Option<Settled>>,
    ) {
        let key = self.recovery.by_id.get(&id).copied();
        let socket = key.and_then(|key| self.sockets.get_mut(key.index()));
        let Some(socket) = socket else {
            let disconnected =
                self.recovery.claims.disconnected(|one| (one.id, one.number) == (id, number));
            // Whoever asked may have stopped waiting.
            reply.send(disconnected).ok();
            return;
        };
        let claimed = socket.recoverable.as_ref().and_then(|one| one.claimed(number));
        let (Some(reaches), Stage::Suspended { ends_at, .. }) = (claimed, &mut socket.stage) else {
            return;
        };
        // Its end is this from now on, and not that of the window.
        *ends_at = Instant::now() + ANSWER_TIMEOUT * 2;
        let (handle, namespace) = (socket.handle, socket.namespace);
        // Nobody may claim it again.
        self.recovery.by_id.remove(&id);
        if let Some(link) = self.link_of(namespace) {
            link.socket_closed(handle, MOVED, Vec::new());
        }
        self.wait_for_acknowledgement(handle, namespace, Then::Settle { reaches, reply });
    }

    /// The business service knows of a socket's end: nothing more will come for it.
    fn settled(&mut self, handle: u64, reaches: u64) -> Option<Settled> {
        let Some(key) = self.socket_by_handle(handle) else {
            return self.recovery.claims.disconnected(|one| one.handle == handle);
        };
        let memberships = self.memberships(key.index());
        let socket = self.drop_socket(key)?;
        let log = self.recovery.log(socket.namespace)?;
        let recoverable = socket.recoverable.as_ref()?;
        self.common.metrics.recovered("handed_over");
        let missed = recoverable.missed_after(&Search::of(&socket, log, None), reaches)?;
        Some(Settled::Moved(Rest { missed, memberships }))
    }

    /// Notes that a business service has disconnected a socket that is on its way elsewhere, where its client will be told.
    /// Returns whether the business service has been told of its end already.
    pub(in crate::shard) fn disconnected_on_its_way(
        &mut self,
        key: SocketKey,
        close_connection: bool,
    ) -> bool {
        let Some(socket) = self.sockets.get(key.index()) else { return false };
        let claim = socket.recoverable.as_ref().and_then(|one| Some((one.id, one.claim_number()?)));
        let Some((id, number)) = claim else { return false };
        let handle = socket.handle;
        let forget_at = Instant::now() + ANSWER_TIMEOUT * 2;
        let claims = &mut self.recovery.claims;
        if claims.disconnected.len() == DISCONNECTED_MAX {
            claims.disconnected.pop_front();
        }
        claims.disconnected.push_back(Disconnected {
            id,
            handle,
            number,
            close_connection,
            forget_at,
        });
        self.is_settling(handle)
    }

    /// Whether a socket has ended here, as far as its business service is told.
    pub(in crate::shard) fn is_settling(&self, handle: u64) -> bool {
        let is_it = |one: &Waiting| one.handle == handle && matches!(one.then, Then::Settle { .. });
        self.recovery.claims.waiting.iter().any(is_it)
    }

    pub(super) fn wait_for_acknowledgement(
        &mut self,
        handle: u64,
        namespace: NamespaceKey,
        then: Then,
    ) {
        let Some(link) = self.namespaces.get(namespace.index()).map(|one| one.link) else { return };
        let give_up_at = Instant::now() + ANSWER_TIMEOUT;
        self.recovery.claims.waiting.push(Waiting { link, handle, give_up_at, then });
    }

    /// Goes on with the claims whose sockets a business service has acknowledged.
    pub(in crate::shard) fn go_on_with_claims(&mut self, link: LinkKey) {
        if self.recovery.claims.waiting.is_empty() {
            return;
        }
        let Some(state) = self.links.get(link.0) else { return };
        let unacknowledged: HashSet<u64, FixedState> = state.unacknowledged_sockets().collect();
        let is_done = |one: &mut Waiting| one.link == link && !unacknowledged.contains(&one.handle);
        let done: Vec<Waiting> = self.recovery.claims.waiting.extract_if(.., is_done).collect();
        for Waiting { handle, then, .. } in done {
            match then {
                Then::Fetch => self.fetch_rest(handle),
                Then::GoOn { offset, rest } => self.arrived(handle, offset.as_deref(), &rest),
                Then::Settle { reaches, reply } => {
                    // Whoever asked may have stopped waiting.
                    reply.send(self.settled(handle, reaches)).ok();
                }
            }
        }
    }

    /// A business service that starts anew knows nothing of the sockets whose ends it was to hear of.
    pub(in crate::shard) fn abandon_settlements(&mut self, link: LinkKey) {
        self.end_settlements(|one| one.link == link);
    }

    /// Gives up what no business service has acknowledged in time.
    pub(super) fn expire_claims(&mut self, now: Instant) {
        self.end_settlements(|one| one.give_up_at <= now);
        let is_over =
            |one: &mut Waiting| matches!(one.then, Then::GoOn { .. }) && one.give_up_at <= now;
        let over: Vec<Waiting> = self.recovery.claims.waiting.extract_if(.., is_over).collect();
        for Waiting { handle, then, .. } in over {
            if let Then::GoOn { offset, rest } = then {
                self.arrived(handle, offset.as_deref(), &rest);
            }
        }
        let claims = &mut self.recovery.claims;
        while claims.disconnected.pop_front_if(|one| one.forget_at <= now).is_some() {}
        while claims.tasks.try_join_next().is_some() {}
    }

    /// Without an answer the other shard gives the client up, who then tries again.
    fn end_settlements(&mut self, is_over: impl Fn(&Waiting) -> bool) {
        let is_over = |one: &mut Waiting| matches!(one.then, Then::Settle { .. }) && is_over(one);
        let over: Vec<Waiting> = self.recovery.claims.waiting.extract_if(.., is_over).collect();
        for Waiting { handle, .. } in over {
            if let Some(key) = self.socket_by_handle(handle) {
                self.drop_socket(key);
            }
        }
    }
}

/// Why a socket ends whose client has taken it elsewhere.
const MOVED: &str = "moved";
