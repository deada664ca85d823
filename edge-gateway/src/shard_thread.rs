//! The thread of one shard: its runtime, its tasks, and the order in which they end.

use std::{
    cell::RefCell, io, num::NonZeroU32, panic::resume_unwind, rc::Rc, sync::Arc, time::Instant,
};

use http::Uri;
use metrics::Histogram;
use service_kit::{ops::Condition, shutdown::Shutdown, trace::Tracer};
use tokio::{
    net::TcpListener,
    runtime::{self, LocalOptions},
    task::JoinSet,
    time::{self, Duration},
};

use crate::{
    application::Application,
    auth::TokenVerifier,
    backend_link::{BackendLink, driver},
    client_address::ClientAddresses,
    client_handshake::Policy,
    client_tls::ClientTls,
    config::{Config, DEFAULT_AUTH_URL},
    connection::{Common, PayloadBounds},
    cors::Cors,
    dialer::Dialer,
    hosts::Hosts,
    namespaces::NamespaceSettings,
    origins::Origins,
    overload::{Overload, SmoothedLag},
    quota::{AddressLimits, IdentityLimits, Steady},
    revocation_watch,
    server::{Admission, Clients, Open, ResponseHeaders, Server, client_bundle::ClientBundle},
    session_binding::SessionBinding,
    session_id,
    shard::{
        Limits, LinkKey, Namespace, NamespaceKey, Parts, Recovery, Shard, SharedShard, TICK,
        claims::Claims, drain, verifications::Verifications,
    },
    telemetry::Metrics,
    ticks::Ticks,
    transport::mailbox::{self, Mailbox, Mailboxes},
};

/// How long connections may take to write what is left for them after the drain.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// How many threads look up names and compress large answers for one shard. Clients decide how many of those there are, so
/// the rest waits.
const HELPER_THREADS_MAX: usize = 4;

/// Longer than any process lives, and short enough that no clock overflows.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// One shard before it runs.
#[derive(Debug)]
pub(crate) struct ShardThread {
    pub(crate) application: Application,
    pub(crate) number: u8,
    pub(crate) mailbox: Mailbox,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) config: Config,
    pub(crate) namespaces: Vec<NamespaceSettings>,
    pub(crate) tracer: Tracer,
    pub(crate) pages: axum::Router,
    pub(crate) client_bundle: Option<Arc<ClientBundle>>,
    pub(crate) edge_id: Arc<str>,
    pub(crate) metrics: Metrics,
    pub(crate) chat_link: Condition,
    pub(crate) dialer: Dialer,
    pub(crate) address_limits: Arc<AddressLimits>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) identity_limits: Arc<IdentityLimits>,
}

impl ShardThread {
    /// Runs until shutdown is asked for and the connections are gone.
    pub(crate) fn run(
        self,
        listener: std::net::TcpListener,
        shutdown: Shutdown,
        edge_shutdown: Shutdown,
    ) -> io::Result<()> {
        // Not a `LocalSet`: to wake it, and whatever else a runtime blocks on, is a system call each time.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HELPER_THREADS_MAX)
            .build_local(LocalOptions::default())?;
        let serving = runtime.spawn_local(async {
            let clients = Clients::Listener(TcpListener::from_std(listener)?);
            self.serve((clients, Ticks::of_kernel(TICK)?), shutdown, edge_shutdown).await
        });
        runtime.block_on(serving).unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }

    /// As [`run`](Self::run), on the runtime that it is called on.
    pub(crate) async fn serve(
        self,
        (clients, ticks): (Clients, Ticks),
        shutdown: Shutdown,
        edge_shutdown: Shutdown,
    ) -> io::Result<()> {
        let outbox_bytes_max = to_usize(self.config.client_limits.outbox_bytes_max);
        let payload = payload_bounds(&self.config);
        let common = Rc::new(Common::new(payload, outbox_bytes_max, self.metrics.clone()));
        let policy = Policy::of(&self.namespaces);
        let (namespaces, urls) = routing(self.namespaces, &policy);
        let auth_url = self.config.auth_url.clone().unwrap_or(Uri::from_static(DEFAULT_AUTH_URL));
        let verifier = TokenVerifier::new(auth_url, &self.dialer);
        let links = links(&namespaces, urls.len(), &self.edge_id, &self.metrics);
        let shard: SharedShard = Rc::new_cyclic(|shard| {
            let claims = Claims::new(self.mailboxes.clone(), shard.clone(), self.number);
            let parts = Parts {
                application: self.application,
                limits: limits(&self.config, self.identity_limits, self.admission.overload()),
                common: Rc::clone(&common),
                tracer: self.tracer,
                verifications: Verifications::new(verifier.clone(), shard.clone()),
                recovery: Recovery::new(&namespaces, notice(&self.config), claims),
                ws_namespace: find(&namespaces, &self.config.ws_namespace),
                namespaces,
                links,
            };
            RefCell::new(Shard::new(parts, Instant::now()))
        });

        let mut background =
            background(&shard, urls, &self.dialer, verifier, self.config.coalesce_max);
        let overload = Arc::clone(self.admission.overload());
        let lateness = Lateness::new(self.number, overload, &self.metrics);
        background.spawn_local(tick(Rc::clone(&shard), ticks, self.chat_link, lateness));

        let (drained, is_drained) = Shutdown::new();
        let mut mail = JoinSet::new();
        mail.spawn_local(mailbox::serve(Rc::clone(&shard), self.mailbox, is_drained));

        let server = Rc::new(Server {
            application: self.application,
            shard: Rc::clone(&shard),
            common,
            pages: self.pages,
            open: Open::of(&self.config),
            allows_eio3: self.config.allow_eio3,
            client_bundle: self.client_bundle,
            origins: Origins::of(&self.config.http.origins.allowed),
            hosts: Hosts::of(&self.config.http.allowed_hosts),
            binding: SessionBinding::of(&self.config.http),
            cors: Cors::new(self.config.http.origins.cors),
            addresses: ClientAddresses::of(&self.config.client_addresses),
            address_limits: self.address_limits,
            policy,
            admission: self.admission,
            tls: self.tls,
            response_headers: ResponseHeaders::of(&self.config.tls),
            mailboxes: self.mailboxes,
            edge_number: self.config.number,
            shard_number: self.number,
            edge_shutdown,
        });
        let mut connections = tokio::select! {
            connections = server.accept(clients, &shutdown) => connections,
            error = failure(&mut background, &mut mail) => return Err(error),
        };
        drain::run(&shard).await;
        let last_writes = async {
            // Those with polls of sessions that were closed are told so, for which mail must be read.
            while connections.join_next().await.is_some() {}
            drained.trigger();
            while mail.join_next().await.is_some() {}
        };
        if time::timeout(LAST_WRITES, last_writes).await.is_err() {
            tracing::debug!("connections were cut at the end of the drain");
        }
        Ok(())
    }
}

/// Waits for the end of one of the tasks that run for as long as the shard does: it has panicked, and without timers, links or
/// mail a shard is of no use.
async fn failure(background: &mut JoinSet<()>, mail: &mut JoinSet<()>) -> io::Error {
    tokio::select! {
        _ = background.join_next() => {}
        _ = mail.join_next() => {}
    }
    io::Error::other("a task of the shard has failed")
}

/// Starts what runs for as long as the shard does.
fn background(
    shard: &SharedShard,
    urls: Vec<Uri>,
    dialer: &Dialer,
    verifier: TokenVerifier,
    coalesce_max: Duration,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn_local(verifier.clone().run());
    tasks.spawn_local(revocation_watch::run(Rc::clone(shard), verifier));
    for (index, url) in urls.into_iter().enumerate() {
        let link = (LinkKey(index), url);
        tasks.spawn_local(driver::run(Rc::clone(shard), link, dialer.clone(), coalesce_max));
    }
    tasks
}

/// How late a shard's timers are, and who wants to know.
struct Lateness {
    shard: u8,
    overload: Arc<Overload>,
    smoothed: SmoothedLag,
    seconds: Histogram,
}

impl Lateness {
    fn new(shard: u8, overload: Arc<Overload>, metrics: &Metrics) -> Self {
        let seconds = metrics.loop_lag_seconds.clone();
        Self { shard, overload, smoothed: SmoothedLag::default(), seconds }
    }

    fn observe(&mut self, late: Duration) {
        self.seconds.record(late);
        self.overload.observe_lag(self.shard, self.smoothed.take(late));
    }
}

/// Looks at the shard's timers, and tells operators whether all business services can be reached.
async fn tick(shard: SharedShard, mut ticks: Ticks, chat_link: Condition, mut lateness: Lateness) {
    loop {
        lateness.observe(ticks.next().await);
        let mut shard = shard.borrow_mut();
        shard.tick(Instant::now());
        chat_link.set(shard.links.iter().all(BackendLink::is_attached) && !shard.draining);
    }
}

/// The namespaces, and the business services they go to: one link for each, however many namespaces it has.
fn routing(namespaces: Vec<NamespaceSettings>, policy: &Policy) -> (Vec<Namespace>, Vec<Uri>) {
    let mut urls: Vec<Uri> = Vec::new();
    let namespaces = namespaces
        .into_iter()
        .map(|settings| {
            let known = urls.iter().position(|url| *url == settings.backend);
            let link = known.unwrap_or_else(|| {
                urls.push(settings.backend.clone());
                urls.len() - 1
            });
            let origins = policy.allowed_origins(&settings);
            Namespace { settings, link: LinkKey(link), origins }
        })
        .collect();
    (namespaces, urls)
}

fn find(namespaces: &[Namespace], path: &str) -> NamespaceKey {
    namespaces
        .iter()
        .position(|namespace| namespace.settings.path == path)
        .and_then(|index| u32::try_from(index).ok())
        .map_or(NamespaceKey::FIRST, NamespaceKey::new)
}

fn links(
    namespaces: &[Namespace],
    count: usize,
    edge_id: &str,
    metrics: &Metrics,
) -> Vec<BackendLink> {
    let edge_id: Rc<str> = edge_id.into();
    (0..count)
        .map(|index| {
            let carried = namespaces.iter().filter(|one| one.link == LinkKey(index));
            let paths = carried.map(|one| one.settings.path.clone()).collect();
            let (edge_id, link_id) = (Rc::clone(&edge_id), session_id::random());
            BackendLink::new(edge_id, link_id, paths, metrics.clone(), Instant::now())
        })
        .collect()
}

/// How far back the ping may be that the client of a broken connection has answered last: its pong came within the ping
/// timeout, after the interval came another ping, and the end was noticed after the timeout. A tick for each of these.
fn notice(config: &Config) -> Duration {
    let timeouts = config.ping_timeout.saturating_mul(2);
    config.ping_interval.saturating_add(timeouts).saturating_add(3 * TICK)
}

fn payload_bounds(config: &Config) -> PayloadBounds {
    let for_strangers = to_usize(config.client_limits.unauthenticated_payload_bytes_max);
    PayloadBounds::new(for_strangers, to_usize(config.client_limits.payload_bytes_max))
}

fn limits(config: &Config, identities: Arc<IdentityLimits>, overload: &Arc<Overload>) -> Limits {
    let bytes_per_second = config.client_limits.bytes_per_second;
    // The largest message fits into an allowance that is whole.
    let bytes_burst = bytes_per_second
        .saturating_add(bytes_per_second.get())
        .max(config.client_limits.payload_bytes_max);
    Limits {
        ping_interval: config.ping_interval,
        ping_timeout: config.ping_timeout,
        connect_timeout: config.connect_timeout.min(LONGEST),
        event_timeout: config.event_timeout.min(LONGEST),
        events: Steady::new(
            config.client_limits.events_per_second,
            config.client_limits.events_burst,
        ),
        bytes: Steady::new(bytes_per_second, bytes_burst),
        json_depth_max: to_usize(config.client_limits.json_depth_max),
        awaited_answers_max: to_usize(config.client_limits.awaited_answers_max),
        identities,
        overload: Arc::clone(overload),
        drain_timeout: config.drain_timeout.min(LONGEST),
        confirm_interval: config.confirm_interval.min(LONGEST),
        expiry_warning: config.expiry_warning.min(LONGEST),
    }
}

pub(crate) fn to_usize(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    #[tokio::test]
    async fn a_shard_ends_with_a_task_of_its_own_that_panics() {
        for panics in [0, 1] {
            let (mut background, mut mail) = (JoinSet::new(), JoinSet::new());
            background.spawn(future::pending());
            mail.spawn(future::pending());
            let tasks = if panics == 0 { &mut background } else { &mut mail };
            tasks.spawn(async { panic!("on purpose") });

            let ended = time::timeout(LAST_WRITES, failure(&mut background, &mut mail)).await;

            assert_eq!(ended.unwrap().to_string(), "a task of the shard has failed");
        }
    }
}
