//! Runs one link: over streams that come and break, and lives that end and begin.

use std::{
    collections::{BTreeSet, VecDeque},
    future,
    sync::Arc,
    time::Duration,
};

use proto::{edge::v1 as wire, encoded::Encoded};
use service_kit::clock;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task,
    time::{self, Instant},
};

use super::{
    frame::{Frame, Hello},
    life::Life,
    links::Links,
    outbox::{Breakage, Outbox},
    planned::Planned,
    stream::{Inbound, Outbound, StreamEnd},
};
use crate::{
    client_view::TYPING,
    namespaces::Namespaces,
    socket::{LinkKey, Socket},
    socket_registry::EDGE_LOST,
    worker::Command,
    workers::{WorkerIndex, Workers},
};

/// How many events are begun before streams and clocks are looked at again: those of a full frame, so that their answers are one
/// as well.
const STEPS_MAX: usize = 256;

/// How long a link may take, when the service shuts down, to finish what it has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A new stream of a link.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) hello: Hello,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
}

/// One shard of one edge.
///
/// Its *stream* may break and be replaced. Its *life* is what both sides remember: sockets, rooms, what is on the way. A
/// life outlasts its stream by the grace. When it cannot be resumed, a new one begins, and the edge announces its
/// sockets; those of earlier lives stay in the rooms until they are announced, or for the grace, so that nobody is told
/// that users have left who have not.
#[derive(Debug)]
pub(super) struct Link {
    links: Links,
    id: Box<str>,
    attachments: mpsc::Receiver<Attachment>,
    stream: Option<(Inbound, Outbound)>,
    life: Option<Life>,
    last_frame_at: Instant,
    /// When the life ends, while there is no stream.
    life_ends_at: Option<Instant>,
    earlier: Vec<EarlierLife>,
    planned: VecDeque<Planned>,
    drain_ends_at: Option<Instant>,
}

/// A life whose sockets are still in the rooms.
#[derive(Debug)]
struct EarlierLife {
    until: Instant,
    key: LinkKey,
    sockets: Vec<Arc<Socket>>,
}

/// What a link waits for, besides its streams and clocks.
#[derive(Debug, Default)]
struct Blocked {
    /// Nothing: there is more to do.
    by_nothing: bool,
    by_worker: Option<WorkerIndex>,
    /// The stream takes no more frames at present.
    by_stream: bool,
}

impl Link {
    pub(super) fn new(links: Links, id: Box<str>, attachments: mpsc::Receiver<Attachment>) -> Self {
        Self {
            links,
            id,
            attachments,
            stream: None,
            life: None,
            last_frame_at: Instant::now(),
            life_ends_at: None,
            earlier: Vec::new(),
            planned: VecDeque::new(),
            drain_ends_at: None,
        }
    }

    /// Runs until nothing is left of the link, or until the service shuts down.
    pub(super) async fn run(mut self, first: Attachment) {
        let links = self.links.clone();
        self.handle_attachment(first);
        loop {
            let blocked = self.advance();
            if self.is_drained() {
                return self.end_stream(StreamEnd::ShuttingDown);
            }
            if self.is_idle() && self.links.retire(&self.id, &self.attachments) {
                return;
            }

            let may_read = self.may_read();
            let outbox = self.life.as_ref().map(|life| life.outbox.clone());
            let deadline = self.next_deadline();
            let is_draining = self.drain_ends_at.is_some();
            let (inbound, outbound) = match &mut self.stream {
                Some((inbound, outbound)) => (Some(inbound), Some(&*outbound)),
                None => (None, None),
            };
            tokio::select! {
                Some(attachment) = self.attachments.recv(), if !is_draining => {
                    self.handle_attachment(attachment);
                }
                frame = next_frame(inbound), if may_read => self.handle_received(frame),
                () = closed(outbound) => self.detach(),
                () = writable(outbound), if blocked.by_stream => {}
                () = changed(outbox.as_ref()) => {}
                permit = permit(&links.settings().workers, blocked.by_worker) => {
                    self.send_planned(permit);
                }
                () = sleep_until(deadline) => self.handle_timeout(Instant::now()),
                () = links.shutdown().requested(), if !is_draining => self.drain(),
                () = task::yield_now(), if blocked.by_nothing => {}
            }
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self) -> Blocked {
        let dropped = self.life.as_ref().map_or(0, |life| life.outbox.take_dropped());
        self.links.settings().metrics.volatile_dropped.increment(dropped);
        match self.life.as_ref().and_then(|life| life.outbox.standing().broken) {
            Some(Breakage::Overflow) => {
                self.links.settings().metrics.overflows.increment(1);
                self.give_up(StreamEnd::Overflowed);
            }
            Some(Breakage::Loss) => self.give_up(StreamEnd::Lost),
            None => {}
        }
        let mut blocked = self.begin_events();
        blocked.by_stream = self.write_frames();
        blocked
    }

    fn begin_events(&mut self) -> Blocked {
        let settings = self.links.settings();
        if let Some(life) = &mut self.life {
            life.go_on_catching_up(&settings.workers, &mut self.planned);
            life.go_on_reentering(&self.links, &mut self.planned);
        }
        // One time does for so few: to read the clock costs a good part of what an event does.
        let now = Instant::now();
        for _ in 0..STEPS_MAX {
            if self.life.as_ref().is_some_and(|life| !life.may_begin()) {
                return Blocked::default();
            }
            if let Some(mut planned) = self.planned.pop_front() {
                match settings.workers.queue(planned.worker).try_reserve() {
                    Ok(permit) => {
                        planned.reserve();
                        permit.send(planned.command);
                    }
                    Err(TrySendError::Full(())) => {
                        let by_worker = Some(planned.worker);
                        self.planned.push_front(planned);
                        return Blocked { by_worker, ..Blocked::default() };
                    }
                    // The worker was stopped, and with it the service.
                    Err(TrySendError::Closed(())) => {}
                }
            } else {
                let Some(life) = &mut self.life else { return Blocked::default() };
                if !life.begin_next((&self.links, now), &mut self.planned) {
                    return Blocked::default();
                }
            }
        }
        Blocked { by_nothing: true, ..Blocked::default() }
    }

    /// Writes what the stream takes; tells whether something is left.
    fn write_frames(&mut self) -> bool {
        let (Some((_, outbound)), Some(life)) = (&self.stream, &mut self.life) else {
            return false;
        };
        while let Some(permit) = outbound.try_reserve() {
            let Some(frame) = life.next_frame() else { return false };
            permit.send(frame);
        }
        life.has_output()
    }

    fn send_planned(&mut self, permit: Option<mpsc::Permit<'_, Command>>) {
        if let (Some(permit), Some(mut planned)) = (permit, self.planned.pop_front()) {
            planned.reserve();
            permit.send(planned.command);
        }
    }

    fn handle_attachment(&mut self, attachment: Attachment) {
        let Attachment { hello, inbound, outbound } = attachment;
        self.end_stream(StreamEnd::Replaced);
        let resumed = self.resume(&hello);
        if !resumed {
            self.end_life(Instant::now() + self.links.settings().lease.length());
            self.begin_life(&hello);
        }
        let received = self.life.as_ref().map_or(0, |life| life.received);
        let welcome = wire::Welcome {
            backend_id: self.life.as_ref().map(|life| self.id_of(life)).unwrap_or_default(),
            resumed,
            received,
            takes_repeats: true,
            refills: true,
            refreshes: true,
            memory: self.life.as_ref().map_or(0, |life| life.outbox.memory()),
            volatile_events: volatile_events(&self.links.settings().namespaces),
            delivery_reports: delivery_reports(&self.links.settings().namespaces, &hello),
            ..wire::Welcome::default()
        };
        // The stream is new: it has room.
        if let Some(permit) = outbound.try_reserve() {
            let frame = wire::BackendFrame { welcome: Some(welcome), ..Default::default() };
            permit.send(Encoded::from(&frame));
        }
        self.stream = Some((inbound, outbound));
        self.last_frame_at = Instant::now();
        self.life_ends_at = None;
        tracing::info!(edge.id = hello.edge_id, link.id = &*self.id, resumed, "edge link attached");
    }

    /// Continues the present life, if both sides remember the same.
    fn resume(&mut self, hello: &Hello) -> bool {
        let is_known = |life: &Life| hello.backend_id == self.id_of(life);
        if !self.life.as_ref().is_some_and(is_known) {
            return false;
        }
        let Some(life) = self.life.as_mut().filter(|life| !life.outbox.is_closed()) else {
            return false;
        };
        let Ok(confirmed) = life.sent.resume(hello.received) else { return false };
        life.outbox.confirm(confirmed);
        true
    }

    /// What a life is called on the wire. The process alone is not enough: an edge may never have heard of a life that began
    /// with a stream that broke at once, and must not be taken to know what it knows.
    fn id_of(&self, life: &Life) -> String {
        format!("{}-{}", self.links.settings().backend_id, life.key().0)
    }

    fn begin_life(&mut self, hello: &Hello) {
        let settings = self.links.settings();
        let outbox = Outbox::new(self.links.next_life());
        let earlier = self.earlier.last().map(|life| life.key);
        self.links.set_present(&self.id, Some((outbox.clone(), hello.namespaces.clone())));
        self.life = Some(Life::new(outbox, &hello.namespaces, earlier));
        settings.metrics.links.increment(1);
    }

    /// Ends the present life. Its sockets stay in the rooms until then, or until they are announced.
    fn end_life(&mut self, sockets_leave_at: Instant) {
        let Some(life) = self.life.take() else { return };
        life.outbox.close();
        self.planned.retain(|planned| !planned.ends_with_its_life());
        self.links.set_present(&self.id, None);
        let metrics = &self.links.settings().metrics;
        metrics.links.decrement(1);
        metrics.sockets.decrement(life.socket_count() as f64);
        let (key, sockets) = (life.key(), life.into_sockets());
        self.earlier.push(EarlierLife { until: sockets_leave_at, key, sockets });
    }

    fn handle_received(&mut self, frame: Option<wire::EdgeFrame>) {
        let Some(frame) = frame else { return self.detach() };
        self.last_frame_at = Instant::now();
        let Some(life) = &mut self.life else { return };
        let taken = match Frame::try_from(frame) {
            Ok(frame) => life.handle_frame(frame, self.links.settings(), &mut self.planned),
            Err(error) => Err(StreamEnd::Malformed(error)),
        };
        match taken {
            Ok(()) => {}
            // What is missing comes again on the next stream.
            Err(StreamEnd::Hole) => self.end_stream(StreamEnd::Hole),
            Err(end) => self.give_up(end),
        }
    }

    /// Ends stream and life: the edge is to come back and announce its sockets.
    fn give_up(&mut self, end: StreamEnd) {
        tracing::warn!(link.id = &*self.id, error = %end, "edge link given up");
        self.end_stream(end);
        self.end_life(Instant::now() + self.links.settings().lease.length());
    }

    fn lease_ends_at(&self) -> Instant {
        self.links.settings().lease.ends_at(self.last_frame_at, Instant::now())
    }

    fn detach(&mut self) {
        tracing::info!(link.id = &*self.id, "edge link detached");
        self.stream = None;
        self.life_ends_at = Some(self.lease_ends_at());
    }

    fn end_stream(&mut self, end: StreamEnd) {
        if let Some((_, outbound)) = self.stream.take() {
            outbound.end(end);
            self.life_ends_at = Some(self.lease_ends_at());
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.life.is_some() && is_due(self.life_ends_at, now) {
            tracing::info!(link.id = &*self.id, "edge link did not come back");
            self.end_life(now);
        }
        let settings = self.links.settings();
        for life in self.earlier.extract_if(.., |life| life.until <= now) {
            let gone = |worker| Planned { worker, command: Command::LinkGone(life.key) };
            self.planned.extend(settings.workers.all().map(gone));
            for socket in &life.sockets {
                self.links.memory().note_lost(socket, now);
                settings.registry.note_closed(socket, EDGE_LOST, clock::unix_ms());
            }
        }
    }

    /// Begins nothing more, and finishes the rest. What was not begun is not acknowledged: the edge answers it.
    fn drain(&mut self) {
        self.drain_ends_at = Some(Instant::now() + DRAIN_TIMEOUT);
        if let Some(life) = &mut self.life {
            life.drop_backlog();
        }
    }

    fn is_drained(&self) -> bool {
        let Some(drain_ends_at) = self.drain_ends_at else { return false };
        let has_work = self.life.as_ref().is_some_and(|life| {
            life.outbox.standing().has_work || life.has_output() || !self.planned.is_empty()
        });
        self.stream.is_none() || !has_work || drain_ends_at <= Instant::now()
    }

    fn is_idle(&self) -> bool {
        self.stream.is_none()
            && self.life.is_none()
            && self.earlier.is_empty()
            && self.planned.is_empty()
    }

    fn may_read(&self) -> bool {
        self.drain_ends_at.is_none()
            && self.life.as_ref().is_some_and(|life| !life.backlog_is_full())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let life_ends_at = self.life_ends_at.filter(|_| self.life.is_some());
        let earlier = self.earlier.iter().map(|life| life.until);
        earlier.chain(life_ends_at).chain(self.drain_ends_at).min()
    }
}

fn is_due(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

/// The names of clients' events that are worth nothing later, whatever the namespace.
fn volatile_events(namespaces: &Namespaces) -> Vec<String> {
    let mut names = BTreeSet::from([TYPING]);
    let declared = || namespaces.all_events().flat_map(|(_, events)| events.iter());
    names.extend(declared().filter(|event| event.is_volatile()).map(|event| &*event.name));
    for event in declared().filter(|event| !event.is_volatile()) {
        names.remove(&*event.name);
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The namespaces of an edge of which it is to report how far clients have got.
fn delivery_reports(namespaces: &Namespaces, hello: &Hello) -> Vec<String> {
    let wanted: BTreeSet<&str> = namespaces.following().collect();
    let own = hello.namespaces.iter().filter(|namespace| wanted.contains(namespace.as_str()));
    own.cloned().collect()
}

async fn next_frame(inbound: Option<&mut Inbound>) -> Option<wire::EdgeFrame> {
    match inbound {
        Some(inbound) => inbound.next().await,
        None => future::pending().await,
    }
}

async fn closed(outbound: Option<&Outbound>) {
    match outbound {
        Some(outbound) => outbound.closed().await,
        None => future::pending().await,
    }
}

async fn writable(outbound: Option<&Outbound>) {
    match outbound {
        Some(outbound) => outbound.writable().await,
        None => future::pending().await,
    }
}

async fn changed(outbox: Option<&Outbox>) {
    match outbox {
        Some(outbox) => outbox.changed().await,
        None => future::pending().await,
    }
}

async fn permit(
    workers: &Workers,
    worker: Option<WorkerIndex>,
) -> Option<mpsc::Permit<'_, Command>> {
    match worker {
        Some(worker) => workers.queue(worker).reserve().await.ok(),
        None => future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}
