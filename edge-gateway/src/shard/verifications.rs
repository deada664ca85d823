//! The tokens that are being verified, and who waits for the verdicts.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Weak,
    time::Instant,
};

use foldhash::fast::FixedState;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::{ConnectionKey, NamespaceKey, Shard, connect::Entering, refresh::Refresh};
use crate::{auth::TokenVerifier, close_reason::CloseReason, contained::contained};

/// A client that wants to enter a namespace, on its way to the auth service.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(super) entering: Entering,
    pub(super) token: String,
}

/// The verifications under way: at most one for each namespace that a connection asks for. A client that goes on asking
/// and leaving has to wait for the end of the first: calls that are broken off in numbers would cost the auth service more,
/// and our connection to it.
#[derive(Debug)]
pub(crate) struct Verifications {
    verifier: TokenVerifier,
    shard: Weak<RefCell<Shard>>,
    tasks: JoinSet<()>,
    under_way: HashMap<(ConnectionKey, NamespaceKey), Awaited, FixedState>,
    /// The sockets whose new tokens are being verified, by handle.
    refreshing: HashSet<u64, FixedState>,
}

/// Who waits for the end of a verification.
#[derive(Debug)]
enum Awaited {
    /// The client that asked for it.
    Verdict,
    /// Nobody: the client has left the namespace.
    Nothing,
    /// The same client, which has come back with this.
    Next(Box<Connect>),
}

impl Verifications {
    pub(crate) fn new(verifier: TokenVerifier, shard: Weak<RefCell<Shard>>) -> Self {
        Self {
            verifier,
            shard,
            tasks: JoinSet::new(),
            under_way: HashMap::default(),
            refreshing: HashSet::default(),
        }
    }

    pub(super) fn start(&mut self, connect: Connect) {
        if let Some(awaited) = self.under_way.get_mut(&connect.key()) {
            *awaited = Awaited::Next(Box::new(connect));
            return;
        }
        self.under_way.insert(connect.key(), Awaited::Verdict);
        let verifier = self.verifier.clone();
        let (shard, connection) = (self.shard.clone(), connect.entering.connection);
        let verified = contained(verify(verifier, self.shard.clone(), connect));
        self.tasks.spawn_local(verified.map(move |verified| {
            if let (Err(_), Some(shard)) = (verified, shard.upgrade()) {
                shard.borrow_mut().close(connection, CloseReason::InternalError);
            }
        }));
    }

    /// The client no longer wants to enter a namespace.
    pub(crate) fn withdraw(&mut self, connection: ConnectionKey, namespace: NamespaceKey) {
        if let Some(awaited) = self.under_way.get_mut(&(connection, namespace)) {
            *awaited = Awaited::Nothing;
        }
    }

    /// Notes the end of a verification; returns whether its verdict is wanted.
    pub(super) fn finished(&mut self, connect: &Connect) -> bool {
        match self.under_way.remove(&connect.key()) {
            Some(Awaited::Verdict) => true,
            Some(Awaited::Next(next)) => {
                self.start(*next);
                false
            }
            Some(Awaited::Nothing) | None => false,
        }
    }

    pub(super) fn may_refresh(&self, refresh: Refresh) -> bool {
        !self.refreshing.contains(&refresh.socket)
    }

    pub(super) fn refresh(&mut self, refresh: Refresh, token: String) {
        self.refreshing.insert(refresh.socket);
        let (verifier, shard) = (self.verifier.clone(), self.shard.clone());
        self.tasks.spawn_local(async move {
            let asked_at = Instant::now();
            let outcome = verifier.verify(&token, None).await;
            let Some(shard) = shard.upgrade() else { return };
            let mut shard = shard.borrow_mut();
            shard.common.metrics.auth_seconds.record(asked_at.elapsed());
            shard.verifications.refreshing.remove(&refresh.socket);
            shard.refreshed(refresh, outcome);
        });
    }

    pub(crate) fn forget_finished(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

impl Connect {
    fn key(&self) -> (ConnectionKey, NamespaceKey) {
        (self.entering.connection, self.entering.namespace)
    }
}

/// Verifies one client's token and has the shard go on with the answer.
async fn verify(verifier: TokenVerifier, shard: Weak<RefCell<Shard>>, connect: Connect) {
    let parent = connect.entering.span.as_ref().map(|span| span.context());
    let asked_at = Instant::now();
    let outcome = verifier.verify(&connect.token, parent).await;
    let Some(shard) = shard.upgrade() else { return };
    let mut shard = shard.borrow_mut();
    shard.common.metrics.auth_seconds.record(asked_at.elapsed());
    shard.verified(connect, outcome);
}
