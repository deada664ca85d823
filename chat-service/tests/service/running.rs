//! Runs the service inside the test.

use std::{net::SocketAddr, time::Duration};

use chat_service::{ChatService, Config, RunError};
use clap::Parser;
use proto::chat::v1::chat_service_client::ChatServiceClient;
use service_kit::{
    ops::Readiness,
    shutdown::{Shutdown, ShutdownTrigger},
    trace::Tracer,
};
use tokio::{task::JoinHandle, time};
use tonic::transport::Channel;

use crate::edge::Edge;

/// How long a test waits for what must happen, on a machine that may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// A service on a port of its own, which ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    trigger: ShutdownTrigger,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_traced(flags, Tracer::disabled()).await
    }

    pub(crate) async fn start_traced(flags: &[&str], tracer: Tracer) -> Self {
        Self::run(&[flags, &["--chat-open-rooms"]].concat(), tracer).await
    }

    /// A service whose users may do what is allowed them, and nothing else.
    pub(crate) async fn start_closed(flags: &[&str]) -> Self {
        Self::run(flags, Tracer::disabled()).await
    }

    async fn run(flags: &[&str], tracer: Tracer) -> Self {
        let defaults = [
            "chat-service",
            "--chat-listen=127.0.0.1:0",
            "--chat-workers=3",
            "--chat-presence-grace=0s",
        ];
        let flags = defaults
            .iter()
            .filter(|default| {
                let name = default.split('=').next().unwrap();
                !flags.iter().any(|flag| flag.starts_with(name))
            })
            .chain(flags);
        let Settings { config } = Settings::parse_from(flags);
        let service = ChatService::bind(config, tracer, Readiness::new()).await.unwrap();
        let address = service.local_addr();
        let (trigger, shutdown) = Shutdown::new();
        Self { address, trigger, task: tokio::spawn(service.run(shutdown)) }
    }

    /// Starts another life of the service at the address of this one.
    pub(crate) async fn restart(self) -> Self {
        let listen = format!("--chat-listen={}", self.address);
        self.stop().await;
        Self::start_with(&[&listen]).await
    }

    pub(crate) async fn stop(self) {
        self.trigger.trigger();
        time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn chat(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.channel().await)
    }

    /// A link with this id, attached for the first time.
    pub(crate) async fn edge(&self, link_id: &str) -> Edge {
        let mut edge = Edge::new(link_id);
        edge.attach(self).await;
        edge
    }
}
