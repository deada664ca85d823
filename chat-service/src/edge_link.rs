//! Serves the edges: one stream for each shard of an edge, one link behind each stream that outlives it.

mod course;
mod declared;
mod direct;
mod edge_clock;
mod frame;
pub(crate) mod fuzzing;
mod instructions;
mod lease;
mod life;
mod link;
mod links;
mod memory;
mod outbox;
mod planned;
mod reentries;
mod renewal;
mod sent;
mod stream;

use std::time::Duration;

use proto::edge::{encoded::edge_link_server, v1 as wire};
use tokio::time;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::{
    direct::Target,
    instructions::{Audience, Emit, Instructions},
    lease::Lease,
    links::{LinkSettings, Links},
    outbox::{OUTBOX_BYTES_MAX, Outbox, Ticket},
};
use self::{
    link::Attachment,
    stream::{Inbound, Outbound, Outgoing, StreamEnd},
};

/// How long an edge may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The contract's `EdgeLink`.
#[derive(Debug)]
pub(crate) struct EdgeLinkService {
    links: Links,
}

impl EdgeLinkService {
    pub(crate) fn new(links: Links) -> Self {
        Self { links }
    }
}

#[tonic::async_trait]
impl edge_link_server::EdgeLink for EdgeLinkService {
    type AttachStream = Outgoing;

    /// Answers before the hello has come: some clients send nothing until they have seen an answer.
    async fn attach(
        &self,
        request: Request<Streaming<wire::EdgeFrame>>,
    ) -> Result<Response<Outgoing>, Status> {
        let (outbound, outgoing) = stream::outbound();
        let inbound = Inbound { frames: request.into_inner() };
        self.links.spawn(greet(self.links.clone(), inbound, outbound));
        Ok(Response::new(outgoing))
    }
}

/// Waits for the hello and hands the stream to its link.
async fn greet(links: Links, mut inbound: Inbound, outbound: Outbound) {
    let first = tokio::select! {
        first = time::timeout(HELLO_TIMEOUT, inbound.next()) => first,
        () = links.shutdown().requested() => return outbound.end(StreamEnd::ShuttingDown),
    };
    let Ok(Some(first)) = first else {
        return outbound.end(StreamEnd::NoHello);
    };
    match first.try_into() {
        Ok(hello) => links.attach(Attachment { hello, inbound, outbound }),
        Err(error) => outbound.end(StreamEnd::Malformed(error)),
    }
}
