//! What other services call: tonic in, domain out.

mod callers;
mod convert;
mod exclusions;
mod request_error;
mod server;
mod watch;

use std::{sync::Arc, time::Duration};

use proto::chat::v1 as wire;
use service_kit::{
    clock,
    trace::{Span, TraceParent, Tracer},
};
use thiserror::Error;
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::SendTimeoutError},
        oneshot,
    },
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub use self::server::ServeError;
pub(crate) use self::server::{Exposure, Server};
use self::{
    convert::{PublishRequest, Target, WatchSocketsRequest},
    watch::Watcher,
};
use crate::{
    audit, client_view,
    edge_link::{self, Emit, Links},
    namespaces::Namespaces,
    room_key::RoomKey,
    room_log::{AppendError, ReadError, Unreadable},
    telemetry,
    worker::{Command, DeliveredTo, History, Presence, Publish, Published, Query, Rooms},
    workers::{WorkerIndex, Workers},
};

/// What this service is called in metrics and in the audit log.
pub(crate) const SERVICE: &str = "chat-service";

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Most calls of `WatchSockets` at a time.
const WATCHERS_MAX: usize = 64;

/// Most users listed in one answer.
const PRESENT_USERS_MAX: usize = 1000;

/// Most bytes of entries or profiles in one answer; the rest of a message is for what stands around them.
const PAGE_BYTES_MAX: usize = proto::MESSAGE_BYTES_MAX / 4;

/// The contract's `ChatService`.
#[derive(Debug)]
pub(crate) struct ChatGrpc {
    links: Links,
    workers: Workers,
    namespaces: Arc<Namespaces>,
    tracer: Tracer,
    /// Until then, edges may come back that an earlier life of this service has known.
    settled_at: Instant,
    watchers: Arc<Semaphore>,
}

/// Why a call was not carried out, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
enum AskError {
    #[error("the room's worker is busy")]
    Busy,
    #[error("the room's worker did not answer in time")]
    Silent,
    #[error("the service shuts down, or its log has failed")]
    Stopped,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl From<AskError> for Status {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy | AskError::Stopped | AskError::Unreadable(_) => {
                Self::unavailable(error.to_string())
            }
            AskError::Silent => Self::deadline_exceeded(error.to_string()),
        }
    }
}

impl From<AppendError> for AskError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Failed(_) => Self::Stopped,
            AppendError::Unreadable(unreadable) => Self::Unreadable(unreadable),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gap => Self::out_of_range(error.to_string()),
            ReadError::Unreadable(unreadable) => AskError::Unreadable(unreadable).into(),
        }
    }
}

impl ChatGrpc {
    pub(crate) fn new(
        links: Links,
        workers: Workers,
        namespaces: Arc<Namespaces>,
        tracer: Tracer,
        settled_at: Instant,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        Self { links, workers, namespaces, tracer, settled_at, watchers }
    }

    async fn ask<T>(
        &self,
        worker: WorkerIndex,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Query(Box::new(query(reply)));
        self.workers.queue(worker).send_timeout(command, CALL_TIMEOUT).await.map_err(|error| {
            match error {
                SendTimeoutError::Timeout(_) => AskError::Busy,
                SendTimeoutError::Closed(_) => AskError::Stopped,
            }
        })?;
        let answer = time::timeout(CALL_TIMEOUT, answer).await.map_err(|_| AskError::Silent)?;
        answer.map_err(|_| AskError::Stopped)
    }

    async fn publish_to_room(&self, publish: Publish) -> Result<Published, AskError> {
        let worker = match &publish {
            Publish::Logged { room, .. } | Publish::Volatile { room, .. } => self.workers.of(room),
        };
        Ok(self.ask(worker, |reply| Query::Publish(publish, reply)).await??)
    }

    /// Refuses a question about an inbox where nobody has one.
    fn check_inbox(&self, room: &RoomKey) -> Result<(), Status> {
        let events = self.namespaces.events(room.namespace());
        if room.is_inbox() && !events.is_some_and(|events| events.inboxes.are_kept()) {
            return Err(Status::failed_precondition("the namespace does not say inbox_issuer"));
        }
        Ok(())
    }

    /// Sends to the sockets of a user, or to all, without asking anyone where they are.
    fn publish_to_namespace(
        &self,
        request: &PublishRequest,
        target: edge_link::Target<'_>,
        trace: &str,
    ) {
        let emit = || Emit {
            event: &request.event,
            args: request.args(),
            volatile: true,
            position: None,
            except_users: &request.except_users,
        };
        self.links.send((request.realm(), target), emit, (trace, None), None);
    }
}

#[tonic::async_trait]
impl wire::chat_service_server::ChatService for ChatGrpc {
    type WatchSocketsStream = ReceiverStream<watch::Response>;

    async fn watch_sockets(
        &self,
        request: Request<wire::WatchSocketsRequest>,
    ) -> Result<Response<Self::WatchSocketsStream>, Status> {
        let WatchSocketsRequest { tenant, namespace, cursor } = request.into_inner().try_into()?;
        let permit = Arc::clone(&self.watchers).try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many watch already"))?;
        let (sender, responses) = mpsc::channel(watch::RESPONSES_MAX);
        let registry = self.links.registry().clone();
        let watcher =
            Watcher::new(registry, (tenant, namespace.into_owned()), self.settled_at, sender);
        let shutdown = self.links.shutdown().clone();
        self.links.spawn(async move {
            watcher.run(cursor, shutdown).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<wire::PublishResponse>, Status> {
        let parent = request.metadata().get("traceparent");
        let parent = parent.and_then(|text| text.to_str().ok()).and_then(TraceParent::parse);
        let request = PublishRequest::try_from(request.into_inner())?;
        let request = request.hold_to_declaration(&self.namespaces)?;
        let PublishRequest { namespace, event, .. } = &request;
        let mut span = telemetry::publish_span(&self.tracer, parent, namespace, event);

        let trace = span.as_ref().map(Span::context);
        let published = match &request.target {
            Target::Room(room) | Target::Inbox(room) => {
                self.publish_to_room(request.to_room(room, trace)).await
            }
            Target::User { subject, issuer } => {
                let trace = service_kit::trace::traceparent_of(span.as_ref());
                let target = edge_link::Target::User { subject, issuer };
                self.publish_to_namespace(&request, target, &trace);
                Ok(Published::Volatile)
            }
            Target::Everyone => {
                let trace = service_kit::trace::traceparent_of(span.as_ref());
                self.publish_to_namespace(&request, edge_link::Target::Everyone, &trace);
                Ok(Published::Volatile)
            }
        };
        match published {
            Ok(published) => Ok(Response::new(published.into())),
            Err(error) => {
                if let Some(span) = &mut span {
                    span.fail("unavailable");
                }
                Err(error.into())
            }
        }
    }

    async fn history(
        &self,
        request: Request<wire::HistoryRequest>,
    ) -> Result<Response<wire::HistoryResponse>, Status> {
        let history = History::try_from(request.into_inner())?;
        self.check_inbox(&history.room)?;
        let room = history.room.clone();
        let page =
            self.ask(self.workers.of(&room), |reply| Query::History(history, reply)).await??;
        let entries = page.entries.iter().map(|entry| wire::HistoryEntry {
            position: entry.position.to_string(),
            event: entry.event.to_string(),
            data: client_view::entry_object(room.name_for_clients(), entry),
            at_unix_ms: entry.at_ms,
        });
        Ok(Response::new(wire::HistoryResponse { entries: entries.collect(), more: page.more }))
    }

    async fn presence(
        &self,
        request: Request<wire::PresenceRequest>,
    ) -> Result<Response<wire::PresenceResponse>, Status> {
        let presence = Presence::try_from(request.into_inner())?;
        let worker = self.workers.of(&presence.room);
        let present = self.ask(worker, |reply| Query::Presence(presence, reply)).await?;
        let users = present.users.into_iter().map(|(subject, profile, sockets)| {
            wire::PresentUser { subject, profile, sockets: convert::count(sockets) }
        });
        let count = convert::count(present.count);
        Ok(Response::new(wire::PresenceResponse { users: users.collect(), count }))
    }

    async fn delivered_to(
        &self,
        request: Request<wire::DeliveredToRequest>,
    ) -> Result<Response<wire::DeliveredToResponse>, Status> {
        let asked = DeliveredTo::try_from(request.into_inner())?;
        self.check_inbox(&asked.room)?;
        if self.namespaces.followed_users_max(asked.room.namespace()).is_none() {
            let problem = "the namespace does not say delivery_watermark";
            return Err(Status::failed_precondition(problem));
        }
        let worker = self.workers.of(&asked.room);
        let page = self.ask(worker, |reply| Query::Delivered(asked, reply)).await??;
        Ok(Response::new(page.into()))
    }

    async fn rooms(
        &self,
        request: Request<wire::RoomsRequest>,
    ) -> Result<Response<wire::RoomsResponse>, Status> {
        let rooms = Rooms::try_from(request.into_inner())?;
        let mut found = Vec::new();
        for worker in self.workers.all() {
            let rooms = rooms.clone();
            let summaries = self.ask(worker, |reply| Query::Rooms(rooms, reply)).await?;
            found.extend(summaries.map_err(AskError::from)?);
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found.truncate(rooms.limit);
        let rooms = found.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::RoomsResponse { rooms }))
    }

    async fn kick(
        &self,
        request: Request<wire::KickRequest>,
    ) -> Result<Response<wire::KickResponse>, Status> {
        let call = audit::call(audit::KICK, &request);
        let put_out = self.put_out(exclusions::kick(request.into_inner())?, call).await?;
        Ok(Response::new(put_out.into()))
    }

    async fn ban(
        &self,
        request: Request<wire::BanRequest>,
    ) -> Result<Response<wire::BanResponse>, Status> {
        let call = audit::call(audit::BAN, &request);
        let ban = exclusions::ban(request.into_inner(), clock::unix_ms())?;
        Ok(Response::new(self.put_out(ban, call).await?.into()))
    }

    async fn unban(
        &self,
        request: Request<wire::UnbanRequest>,
    ) -> Result<Response<wire::UnbanResponse>, Status> {
        let call = audit::call(audit::UNBAN, &request);
        let was_banned = self.lift_ban(request.into_inner(), call).await?;
        Ok(Response::new(wire::UnbanResponse { was_banned }))
    }

    async fn list_bans(
        &self,
        request: Request<wire::ListBansRequest>,
    ) -> Result<Response<wire::ListBansResponse>, Status> {
        Ok(Response::new(self.bans(request.into_inner()).await?.into()))
    }
}
