//! An edge that sends every message back as it came.

use std::net::SocketAddr;

use edge_gateway::{BindError, EdgeGateway};
use service_kit::shutdown::{Shutdown, ShutdownTrigger};

use super::{AbortOnDrop, Client, config, poller::Poller, relay, tls::Relay, tls_of};

pub(crate) const WEBSOCKET: &str = "/engine.io/?EIO=4&transport=websocket";

pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) webtransport: Option<SocketAddr>,
    _shutdown: ShutdownTrigger,
    _running: AbortOnDrop,
    _relay: Option<Relay>,
}

impl Echo {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let (tls_flags, files) = tls_of(flags);
        let tls_flags = tls_flags.iter().map(String::as_str);
        let flags: Vec<_> = flags.iter().copied().chain(tls_flags).collect();
        let edge = Self::bound(&flags).await;
        let (address, webtransport) = (edge.local_addr(), edge.webtransport_addr());
        let (trigger, shutdown) = Shutdown::new();
        let running = tokio::spawn(async move { edge.run(shutdown).await.unwrap() });
        let relay = relay(address, files, false);
        let address = relay.as_ref().map_or(address, |relay| relay.address);
        let running = AbortOnDrop(running);
        Self { address, webtransport, _shutdown: trigger, _running: running, _relay: relay }
    }

    /// One that listens and does not run yet.
    pub(crate) async fn bound(flags: &[&str]) -> EdgeGateway {
        let flags = ["--edge-shards=2"].iter().chain(flags).map(|&flag| flag.to_owned());
        EdgeGateway::bind_echo(config(flags)).await.unwrap()
    }

    /// Why one with these settings does not start.
    pub(crate) async fn refused(flags: &[&str]) -> BindError {
        let flags = flags.iter().map(|&flag| flag.to_owned());
        EdgeGateway::bind_echo(config(flags)).await.unwrap_err()
    }

    /// A session on long-polling.
    pub(crate) async fn polling(&self) -> Poller {
        self.unopened().opened().await
    }

    pub(crate) fn unopened(&self) -> Poller {
        Poller::at(self.address, "/engine.io/?EIO=4&transport=")
    }

    /// A session on a WebSocket, after its handshake.
    pub(crate) async fn websocket(&self) -> Client {
        let mut client = Client::connect(self.address, WEBSOCKET).await;
        let open = client.text().await;
        assert!(open.starts_with("0{\"sid\":\""), "{open}");
        client
    }
}
