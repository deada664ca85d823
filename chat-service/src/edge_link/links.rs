//! All links of this process, by their ids.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use service_kit::{shutdown::Shutdown, trace::Tracer};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};

use super::{
    lease::Lease,
    link::{Attachment, Link},
    memory::Memory,
    outbox::Outbox,
    stream::StreamEnd,
};
use crate::{
    declared_events::Rate,
    namespaces::Namespaces,
    room_rules::SharedCapabilities,
    socket::{LinkKey, Socket},
    socket_registry::SocketRegistry,
    telemetry::Metrics,
    workers::Workers,
};

/// Most links. An edge has one for each of its shards.
const LINKS_MAX: usize = 4096;

/// How many streams of one link may wait to replace the present one.
const ATTACHMENTS_MAX: usize = 4;

/// What every link needs.
#[derive(Debug)]
pub(crate) struct LinkSettings {
    /// This life of the process, for `Welcome.backend_id`.
    pub(crate) backend_id: String,
    /// The number of the first life of a link: another one in each life of the process.
    pub(crate) first_life: u64,
    /// How long a link without a stream keeps its sockets.
    pub(crate) lease: Lease,
    pub(crate) registry: SocketRegistry,
    pub(crate) namespaces: Arc<Namespaces>,
    /// What the users of all sockets may do.
    pub(crate) capabilities: SharedCapabilities,
    /// How often each socket may ask to join a room.
    pub(crate) joins: Rate,
    pub(crate) workers: Workers,
    pub(crate) tracer: Tracer,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// A clone is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: LinkSettings,
    lives: AtomicU64,
    memory: Memory,
    /// How many of the links that are reachable have still to announce their sockets.
    unannounced: AtomicUsize,
    /// Held for a few lines at a time, never across an await.
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    slots: HashMap<Box<str>, Slot>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Slot {
    attachments: mpsc::Sender<Attachment>,
    /// Where to reach its sockets.
    present: Option<Present>,
}

#[derive(Debug)]
struct Present {
    outbox: Outbox,
    namespaces: Vec<String>,
}

impl Links {
    pub(crate) fn new(settings: LinkSettings) -> Self {
        let (lives, registry) = (AtomicU64::new(settings.first_life), Mutex::default());
        let (memory, unannounced) = (Memory::default(), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { settings, lives, memory, unannounced, registry }) }
    }

    pub(super) fn settings(&self) -> &LinkSettings {
        &self.shared.settings
    }

    pub(crate) fn lease(&self) -> Lease {
        self.shared.settings.lease
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// The sockets of all links.
    pub(crate) fn registry(&self) -> &SocketRegistry {
        &self.shared.settings.registry
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shared.settings.shutdown
    }

    /// Runs a task that ends by itself, at the latest when the service shuts down.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut registry = self.slots();
        while registry.tasks.try_join_next().is_some() {}
        registry.tasks.spawn(task);
    }

    /// Hands a new stream to its link.
    pub(super) fn attach(&self, attachment: Attachment) {
        if self.shutdown().is_requested() {
            return attachment.outbound.end(StreamEnd::ShuttingDown);
        }
        let mut registry = self.slots();
        let mut attachment = attachment;
        if let Some(slot) = registry.slots.get(&attachment.hello.link_id) {
            match slot.attachments.try_send(attachment) {
                Ok(()) => return,
                Err(TrySendError::Full(attachment)) => {
                    return attachment.outbound.end(StreamEnd::Replaced);
                }
                // The link has failed. A new one takes its place; the edge announces its sockets.
                Err(TrySendError::Closed(returned)) => attachment = returned,
            }
        }
        if registry.slots.len() == LINKS_MAX {
            drop(registry);
            tracing::error!("too many edge links");
            return attachment.outbound.end(StreamEnd::TooManyLinks);
        }

        let (sender, attachments) = mpsc::channel(ATTACHMENTS_MAX);
        let id = attachment.hello.link_id.clone();
        registry.slots.insert(id.clone(), Slot { attachments: sender, present: None });
        registry.tasks.spawn(Link::new(self.clone(), id, attachments).run(attachment));
    }

    /// Names a new life of a link.
    pub(super) fn next_life(&self) -> LinkKey {
        LinkKey(self.shared.lives.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a link reachable, or unreachable, for what is sent to users and to everyone.
    pub(super) fn set_present(&self, id: &str, present: Option<(Outbox, Vec<String>)>) {
        let mut registry = self.slots();
        if let Some(slot) = registry.slots.get_mut(id) {
            slot.present = present.map(|(outbox, namespaces)| Present { outbox, namespaces });
        }
        self.count_unannounced(&registry);
    }

    /// Every socket of a link is in the registry from now on.
    pub(super) fn note_all_announced(&self, outbox: &Outbox) {
        outbox.note_all_announced();
        self.count_unannounced(&self.slots());
    }

    fn count_unannounced(&self, registry: &Registry) {
        let present = registry.slots.values().filter_map(|slot| slot.present.as_ref());
        let count = present.filter(|present| !present.outbox.is_all_announced()).count();
        self.shared.unannounced.store(count, Ordering::Release);
    }

    /// Whether no other socket is known of somebody whom an issuer calls by the same subject, and none is to be announced.
    pub(super) fn is_alone(&self, socket: &Socket) -> bool {
        // In this order: those who are announced meanwhile are in the registry before the count is lower.
        self.shared.unannounced.load(Ordering::Acquire) == 0 && !socket.has_namesakes()
    }

    /// Forgets a link that has nothing left to do, unless a stream has come for it by now.
    pub(super) fn retire(&self, id: &str, attachments: &mpsc::Receiver<Attachment>) -> bool {
        let mut registry = self.slots();
        let idle = attachments.is_empty();
        if idle {
            registry.slots.remove(id);
        }
        idle
    }

    /// The outboxes of the links that carry a namespace, as far as they are wanted.
    pub(super) fn outboxes(
        &self,
        namespace: &str,
        is_wanted: impl Fn(&Outbox) -> bool,
    ) -> Vec<Outbox> {
        let registry = self.slots();
        let present = registry.slots.values().filter_map(|slot| slot.present.as_ref());
        present
            .filter(|present| present.namespaces.iter().any(|carried| carried == namespace))
            .map(|present| &present.outbox)
            .filter(|outbox| is_wanted(outbox))
            .cloned()
            .collect()
    }

    /// Waits for all links to end, which they do when the service shuts down.
    pub(crate) async fn ended(&self) {
        let mut tasks = mem::take(&mut self.slots().tasks);
        while tasks.join_next().await.is_some() {}
    }

    /// A panic under the lock would leave the registry whole: each change is one call on a map.
    fn slots(&self) -> MutexGuard<'_, Registry> {
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
