//! This edge's part in its cluster: the listener for the others, and the ways to them.

use std::{collections::HashMap, net::SocketAddr};

use service_kit::{grpc::GrpcSecurity, mutual_tls::MutualTls, shutdown::Shutdown};
use tokio::task::JoinSet;

use super::{
    PeerAddress,
    forwarder::{Forwarder, Timing},
    listener::PeerListener,
    service::PeerService,
};
use crate::{
    BindError,
    config::Config,
    shard_thread::to_usize,
    telemetry::Metrics,
    transport::mailbox::{self, Mailbox, Mailboxes},
};

/// The cluster as this edge takes part in it; one that is alone has neither listener nor peers.
#[derive(Debug)]
pub(crate) struct Cluster {
    listener: Option<PeerListener>,
    service: PeerService,
    peers: Vec<(PeerAddress, Mailbox)>,
    tls: Option<MutualTls>,
    timing: Timing,
    metrics: Metrics,
}

impl Cluster {
    /// Binds the listener, if there is to be one. Returns also the ways to this edge's shards and to the others, and each
    /// shard's end of them.
    pub(crate) async fn bind(
        config: &Config,
        shards: usize,
        metrics: Metrics,
        security: &GrpcSecurity,
    ) -> Result<(Self, Mailboxes, Vec<Mailbox>), BindError> {
        let others = config.validated_peers()?;
        let listener = match config.peer_listen {
            Some(address) => Some(
                PeerListener::bind(address, security, metrics.limit_hits.peer_calls.clone())
                    .await
                    .map_err(|source| BindError::Listen { address, source })?,
            ),
            None => None,
        };
        let mut senders = HashMap::new();
        let mut peers = Vec::new();
        for address in others {
            let (sender, mailbox) = mailbox::mailbox();
            senders.insert(address.number, sender);
            peers.push((address, mailbox));
        }
        let unknown_edge = metrics.forwards.unknown_edge.clone();
        let (mailboxes, boxes) = Mailboxes::new(config.number, shards, senders, unknown_edge);
        let service = PeerService {
            edge: config.number,
            mailboxes: mailboxes.of_this_edge(),
            payload_bytes_max: to_usize(config.client_limits.payload_bytes_max),
        };
        let timing = Timing {
            stall: config.ping_interval.saturating_add(config.ping_timeout),
            drain: config.drain_timeout,
        };
        let tls = security.tls.clone();
        Ok((Self { listener, service, peers, tls, timing, metrics }, mailboxes, boxes))
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(PeerListener::local_addr)
    }

    /// Runs until the shards have ended and the requests under way as well. `shutdown` asks for that, `shards_ended` tells
    /// that nobody brings any more requests.
    pub(crate) async fn run(self, shutdown: Shutdown, shards_ended: Shutdown) {
        let mut tasks = JoinSet::new();
        for (address, mailbox) in self.peers {
            let metrics = self.metrics.clone();
            let (tls, shutdown) = (self.tls.clone(), shutdown.clone());
            let forwarder = Forwarder::new(address, tls, metrics, self.timing, shutdown);
            tasks.spawn(forwarder.run(mailbox));
        }
        if let Some(listener) = self.listener {
            tasks.spawn(listener.run(self.service, shards_ended));
        }
        tasks.join_all().await;
    }
}
