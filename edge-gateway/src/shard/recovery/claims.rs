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
//! What was emitted to both in between is recognised and given once. From the last answer of the other shard on the socket
//! is here alone, and may be suspended like any other.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Weak,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use proto::edge::v1::Membership;
use tokio::{sync::oneshot, task::JoinSet, time};

use super::{
    Missed, Shard, Wanted,
    recoverable::{Doubles, Search},
};
use crate::{
    close_reason::CloseReason,
    session_id::SessionId,
    shard::{ConnectionKey, LinkKey, NamespaceKey, SocketKey, connect, connect::Entering},
    socket::{Identity, Socket, Stage},
    transport::mailbox::{Mail, Mailboxes, Place},
};

/// How long another shard may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long after a socket has come here an event may still arrive that it was given elsewhere: the two links to its
/// business service are not in step.
const DOUBLES_TIME: Duration = Duration::from_secs(10);

/// Asks a shard for a socket that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) wanted: Wanted,
    pub(crate) namespace: String,
    /// Subject and issuer; none where clients enter without a token.
    pub(crate) owner: Option<(String, String)>,
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

/// A claimed socket, with where it comes from.
#[derive(Debug)]
pub(crate) struct Found {
    wanted: Wanted,
    place: Place,
    pub(crate) claimed: Claimed,
}

/// The claims of a shard that are under way.
#[derive(Debug)]
pub(crate) struct Claims {
    mailboxes: Mailboxes,
    shard: Weak<RefCell<Shard>>,
    own_shard: u8,
    tasks: JoinSet<()>,
    /// At most one for each namespace that a connection asks for.
    under_way: HashMap<(ConnectionKey, NamespaceKey), Awaited, FixedState>,
    last_number: u64,
    waiting: Vec<Waiting>,
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
enum Then {
    /// It has the socket here: fetch what it missed until now.
    Fetch,
    /// Whatever was emitted to the socket in both places has come to this one: go on after `offset`, with what of the rest
    /// came here too given once.
    GoOn { offset: Option<Box<str>>, rest: Vec<Missed> },
    /// It has it no more: hand over what came for it after this number of the log.
    Settle { reaches: u64, reply: oneshot::Sender<Option<Vec<Missed>>> },
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
        entering: Entering,
        identity: Option<Identity>,
        wanted: Wanted,
    ) {
        let claim = Claim {
            namespace: self.path_of(entering.namespace),
            owner: identity
                .as_ref()
                .map(Identity::owner)
                .map(|(subject, issuer)| (subject.to_owned(), issuer.to_owned())),
            wanted,
        };
        let claims = &mut self.recovery.claims;
        let (mailboxes, shard) = (claims.mailboxes.clone(), claims.shard.clone());
        let own_shard = claims.own_shard;
        claims.under_way.insert((entering.connection, entering.namespace), Awaited::Socket);
        claims.tasks.spawn_local(async move {
            let found = find(&mailboxes, Some(own_shard), claim).await;
            if let Some(shard) = shard.upgrade() {
                shard.borrow_mut().claim_ended(entering, identity, found.map(Box::new));
            }
        });
    }

    fn claim_ended(
        &mut self,
        entering: Entering,
        identity: Option<Identity>,
        found: Option<Box<Found>>,
    ) {
        if found.is_none() {
            self.common.metrics.recovered("unknown");
        }
        let place = (entering.connection, entering.namespace);
        let awaited = self.recovery.claims.under_way.remove(&place);
        match awaited {
            Some(Awaited::Socket) => return self.open(entering, identity, found),
            Some(Awaited::Next(next)) => self.admitted(next.0, next.1),
            Some(Awaited::Nothing) | None => {}
        }
        connect::finish(entering.span, "withdrawn");
    }

    /// Hands a socket over to where its client is, or says that it is not here.
    pub(crate) fn claimed(&mut self, claim: &Claim) -> Option<Claimed> {
        let namespace = self.namespace(&claim.namespace)?;
        let owner = claim.owner.as_ref().map(|(subject, issuer)| (&**subject, &**issuer));
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
        reply: oneshot::Sender<Option<Vec<Missed>>>,
    ) {
        let key = self.recovery.by_id.get(&id).copied();
        let socket = key.and_then(|key| self.sockets.get_mut(key.index()));
        let Some(socket) = socket else { return };
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
    fn settled(&mut self, handle: u64, reaches: u64) -> Option<Vec<Missed>> {
        let key = self.socket_by_handle(handle)?;
        let socket = self.drop_socket(key)?;
        let log = self.recovery.log(socket.namespace)?;
        let recoverable = socket.recoverable.as_ref()?;
        self.common.metrics.recovered("handed_over");
        recoverable.missed_after(&Search::of(&socket, log, None), reaches)
    }

    /// A claimed socket has been let in: it is in its rooms from now on.
    pub(in crate::shard) fn begin_arrival(
        &mut self,
        key: SocketKey,
        namespace: NamespaceKey,
        found: Box<Found>,
    ) {
        self.make_recoverable(key, Some(found.wanted.id));
        for Membership { room, position } in &found.claimed.memberships {
            self.rooms.join(namespace, key, room, position);
            self.note_join(key, room);
        }
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let handle = socket.handle;
        socket.stage = Stage::Arriving { found: Some(found) };
        self.wait_for_acknowledgement(handle, namespace, Then::Fetch);
    }

    /// Fetches the rest of what a socket missed: its business service sends whatever comes from now on here.
    fn fetch_rest(&mut self, handle: u64) {
        let socket = self.socket_by_handle(handle).and_then(|key| self.sockets.get(key.index()));
        let Some(Socket { stage: Stage::Arriving { found: Some(found) }, .. }) = socket else {
            return;
        };
        let (place, settlement) = (found.place, found.claimed.settlement);
        let claims = &mut self.recovery.claims;
        let (mailboxes, shard) = (claims.mailboxes.clone(), claims.shard.clone());
        claims.tasks.spawn_local(async move {
            let rest = fetch(&mailboxes, place, settlement).await;
            if let Some(shard) = shard.upgrade() {
                shard.borrow_mut().fetched(handle, rest);
            }
        });
    }

    /// Ends what a socket is elsewhere, when its business service does not want it here: its client must not go on there.
    pub(in crate::shard) fn end_elsewhere(&mut self, key: SocketKey) {
        let found = match self.sockets.get(key.index()).map(|socket| &socket.stage) {
            Some(
                Stage::Opening { found: Some(found), .. } | Stage::Arriving { found: Some(found) },
            ) => found,
            Some(
                Stage::Opening { .. }
                | Stage::Arriving { .. }
                | Stage::Live
                | Stage::Suspended { .. },
            )
            | None => return,
        };
        let (place, settlement) = (found.place, found.claimed.settlement);
        let claims = &mut self.recovery.claims;
        let mailboxes = claims.mailboxes.clone();
        claims.tasks.spawn_local(async move {
            // What it missed is of no use to anybody.
            drop(fetch(&mailboxes, place, settlement).await);
        });
    }

    fn wait_for_acknowledgement(&mut self, handle: u64, namespace: NamespaceKey, then: Then) {
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
        while self.recovery.claims.tasks.try_join_next().is_some() {}
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

    /// Everything that a claimed socket missed elsewhere is here. Without it the claim is void: another one came after it,
    /// or the other shard has ended, and the client must try again.
    ///
    /// Some of it was emitted to the socket here too, and may still be on its way: this link need not be as fast as the
    /// other one. It has come when the business service has acknowledged what it is told now.
    fn fetched(&mut self, handle: u64, rest: Option<Vec<Missed>>) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        let Some(rest) = rest else {
            let connection = socket.connection;
            return self.close(connection, CloseReason::Replaced);
        };
        let Stage::Arriving { found } = &mut socket.stage else { return };
        let Some(found) = found.take() else { return };
        let Found { wanted, claimed, .. } = *found;
        let offset = wanted.offset.map(String::into_boxed_str);
        let logged = rest.iter().filter(|one| one.is_logged).map(|one| one.fingerprint).collect();
        let brought = claimed.missed.into_iter().chain(rest.iter().cloned()).collect();
        if let Some(recoverable) = &mut socket.recoverable {
            let numbers = Vec::new();
            recoverable.bring(offset.clone(), brought, Doubles { numbers, logged });
        }
        let (namespace, identity) = (socket.namespace, socket.identity.clone());
        self.recovery.doubles_until = Some(Instant::now() + DOUBLES_TIME);
        if let Some(link) = self.link_of(namespace) {
            link.socket_resumed(handle, identity.as_deref());
        }
        self.wait_for_acknowledgement(handle, namespace, Then::GoOn { offset, rest });
    }

    /// Lets a socket go on here, unless its client has been lost meanwhile: then it waits for it.
    fn arrived(&mut self, handle: u64, offset: Option<&str>, rest: &[Missed]) {
        let Some(key) = self.socket_by_handle(handle) else { return };
        let Some(socket) = self.sockets.get(key.index()) else { return };
        let Some(log) = self.recovery.log(socket.namespace) else { return };
        let Some(recoverable) = &socket.recoverable else { return };
        let numbers = recoverable.doubles(&Search::of(socket, log, None), rest);
        let Some(socket) = self.sockets.get_mut(key.index()) else { return };
        if let Some(recoverable) = &mut socket.recoverable {
            recoverable.note_doubles(numbers);
        }
        if !matches!(socket.stage, Stage::Arriving { .. }) {
            return;
        }
        socket.stage = Stage::Live;
        let connection = socket.connection;
        let Some(socket) = self.sockets.get(key.index()) else { return };
        match self.missed_by(socket, offset, None) {
            Some(missed) => self.go_on(key, &missed),
            None => self.close(connection, CloseReason::SlowConsumer),
        }
    }
}

/// Why a socket ends whose client has taken it elsewhere.
const MOVED: &str = "moved";

/// Looks for a socket wherever it may be, but for `shard`.
pub(crate) async fn find(mailboxes: &Mailboxes, shard: Option<u8>, claim: Claim) -> Option<Found> {
    for place in mailboxes.elsewhere(shard, claim.wanted.id) {
        let (reply, answered) = oneshot::channel();
        let mail = Mail::Claim { claim: Box::new(claim.clone()), reply };
        if mailboxes.send_to(place, mail).await.is_err() {
            continue;
        }
        if let Ok(Ok(Some(claimed))) = time::timeout(ANSWER_TIMEOUT, answered).await {
            return Some(Found { wanted: claim.wanted, place, claimed });
        }
    }
    None
}

async fn fetch(mailboxes: &Mailboxes, place: Place, settlement: Settlement) -> Option<Vec<Missed>> {
    let (reply, answered) = oneshot::channel();
    mailboxes.send_to(place, Mail::Settle { settlement, reply }).await.ok()?;
    // The holder itself waits for its business service.
    time::timeout(ANSWER_TIMEOUT * 2, answered).await.ok()?.ok()?
}
