//! Keeps a link's stream up: attaches, carries frames both ways, and attaches again after a break.

use std::{
    future,
    time::{Duration, Instant},
};

use http::Uri;
use proto::{
    MESSAGE_BYTES_MAX,
    edge::{
        encoded::edge_link_client::EdgeLinkClient,
        v1::{BackendFrame, EdgeFrame},
    },
    encoded::Encoded,
};
use tokio::{
    sync::mpsc,
    task,
    time::{self, error::Elapsed},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{SequenceError, inbox::Inbox};
use crate::{
    dialer::Dialer,
    shard::{LinkKey, SharedShard},
};

/// How many frames may wait inside the stream. What waits before that is merged into larger frames.
const STREAM_FRAMES_MAX: usize = 4;

/// How often clients are read before what they have sent is sent on. With a third time nothing more was gained.
const GATHERING_PASSES_MAX: usize = 2;

/// How long a business service may take to answer the hello.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The first and the longest pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long nothing is heard before the business service is pinged, and how long the answer may take. It is as with the chat
/// service's lease of 10 s: when the network is cut, both sides know after half of it.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the business service did not answer the hello in time")]
    Silent(#[from] Elapsed),
    #[error("the business service answered {}", .0.code())]
    Status(#[from] Status),
    #[error("the business service ended the stream")]
    Ended,
    #[error("the business service began without a welcome")]
    NoWelcome,
    #[error("the business service broke the order of frames")]
    Sequence(#[from] SequenceError),
}

/// Runs until it is dropped. One warning for each outage, not for each attempt.
pub(crate) async fn run(
    shard: SharedShard,
    (link, url): (LinkKey, Uri),
    dialer: Dialer,
    coalesce_max: Duration,
) {
    let endpoint = Endpoint::from(url.clone())
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = dialer.channel(&endpoint);
    let mut pause = PAUSE_MIN;
    let mut reported = false;
    loop {
        let Err(error) = stream(&shard, link, &channel, coalesce_max).await;
        let was_up = {
            let mut shard = shard.borrow_mut();
            let was_up = shard.links.get(link.0).is_some_and(super::BackendLink::is_attached);
            shard.detached(link);
            was_up
        };
        if was_up || !reported {
            tracing::warn!(%error, backend = %url, "link to a business service is down");
            reported = true;
        }
        pause = if was_up { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        time::sleep(pause).await;
    }
}

/// Adds the frames that are there behind the first one, and never waits for more. Tells how the stream has ended behind them, if it
/// has.
async fn fill(
    inbox: &mut Inbox,
    first: Result<Option<BackendFrame>, Status>,
    inbound: &mut Streaming<BackendFrame>,
) -> Result<(), StreamError> {
    let now = time::Instant::now();
    inbox.push(first?.ok_or(StreamError::Ended)?, now);
    while !inbox.is_full() {
        tokio::select! {
            biased;
            received = inbound.message() => {
                inbox.push(received?.ok_or(StreamError::Ended)?, now);
            }
            () = future::ready(()) => break,
        }
    }
    Ok(())
}

/// Carries out what has come.
fn carry_out(shard: &SharedShard, link: LinkKey, inbox: &mut Inbox) -> Result<(), SequenceError> {
    let mut shard = shard.borrow_mut();
    if inbox.held_until().is_some() {
        shard.common.metrics.coalesced.increment(1);
    }
    let began_at = time::Instant::now();
    let is_shared = shard.apply(link, inbox.take())?;
    inbox.carried_out(is_shared, began_at, time::Instant::now());
    Ok(())
}

/// Lets clients be read of whom the kernel knows by now, as long as that brings events: each frame costs the two services system
/// calls and wake-ups. Nothing is waited for.
async fn gather(shard: &SharedShard, link: LinkKey) {
    let mut before = 0;
    for _ in 0..GATHERING_PASSES_MAX {
        let queued = shard.borrow().links.get(link.0).map_or(0, super::BackendLink::queued_events);
        if queued == before || queued >= super::FRAME_EVENTS_MAX {
            return;
        }
        before = queued;
        task::yield_now().await;
    }
}

async fn stream(
    shard: &SharedShard,
    link: LinkKey,
    channel: &Channel,
    coalesce_max: Duration,
) -> Result<std::convert::Infallible, StreamError> {
    let (outbound, frames) = mpsc::channel::<Encoded<EdgeFrame>>(STREAM_FRAMES_MAX);
    let (hello, wake) = {
        let shard = shard.borrow();
        let state = shard.links.get(link.0).ok_or(StreamError::Ended)?;
        (state.hello(Instant::now()), state.wake())
    };
    // The channel is new and empty, and its receiver is right here.
    outbound.try_send(hello).map_err(|_| StreamError::Ended)?;
    let mut client = EdgeLinkClient::new(channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let attach = client.attach(ReceiverStream::new(frames));
    let mut inbound = time::timeout(ATTACH_TIMEOUT, attach).await??.into_inner();

    let first = time::timeout(ATTACH_TIMEOUT, inbound.message()).await??;
    let first = first.ok_or(StreamError::Ended)?;
    let welcome = first.welcome.clone().ok_or(StreamError::NoWelcome)?;
    {
        let mut shard = shard.borrow_mut();
        shard.attached(link, &welcome)?;
        shard.apply(link, vec![first])?;
    }
    tracing::info!(backend.id = welcome.backend_id, resumed = welcome.resumed, "link is up");

    let mut inbox = Inbox::new(coalesce_max);
    loop {
        let has_frame = shard.borrow().links.get(link.0).is_some_and(super::BackendLink::has_frame);
        tokio::select! {
            received = inbound.message() => {
                let end = fill(&mut inbox, received, &mut inbound).await;
                if end.is_err() || inbox.is_full() || inbox.held_until().is_none() {
                    carry_out(shard, link, &mut inbox)?;
                }
                end?;
            }
            () = sleep_until(inbox.held_until()) => {
                carry_out(shard, link, &mut inbox)?;
            }
            permit = outbound.reserve(), if has_frame => {
                let permit = permit.map_err(|_| StreamError::Ended)?;
                gather(shard, link).await;
                let mut shard = shard.borrow_mut();
                let link = shard.links.get_mut(link.0).ok_or(StreamError::Ended)?;
                permit.send(link.next_frame(Instant::now()));
            }
            () = wake.notified() => {}
        }
    }
}

async fn sleep_until(deadline: Option<time::Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}
