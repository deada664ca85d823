//! Knows which sockets there are on which link, and concludes the ends that no edge has told.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::edge::v1::SocketOpened;
use tokio::{runtime::Handle, time};

/// Why a socket has ended that was gone when its edge came back.
pub(crate) const REASON_LOST: &str = "unknown";

/// Why one has ended whose edge did not come back.
pub(crate) const EDGE_LOST: &str = "edge_lost";

/// See the module. A service to which ends matter keeps this where it outlives its process.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    lease: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<String, Link>,
    /// Subject and reason, in the order in which they came to be known.
    concluded: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Link {
    /// By handle.
    sockets: HashMap<u64, Known>,
    /// Those that the stream of now has not named, until all are announced.
    unannounced: HashSet<u64>,
    streams: u64,
}

#[derive(Debug)]
struct Known {
    socket_id: String,
    subject: String,
}

/// One stream of a link. Its lease begins when this is dropped.
#[derive(Debug)]
pub(super) struct LinkStream {
    ends: Ends,
    link_id: String,
    number: u64,
}

impl Ends {
    /// An edge whose link has not come back after `lease` is lost.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, state: Arc::default() }
    }

    /// Who has ended, and why, in the order in which it came to be known.
    pub(crate) fn concluded(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().concluded.clone()
    }

    /// Begins the lease of each link that is known: for a process that has just started.
    pub(super) fn begin_leases(&self) {
        let links = self.state.lock().unwrap();
        for (link_id, link) in &links.links {
            self.begin_lease(link_id.clone(), link.streams);
        }
    }

    pub(super) fn attach(&self, link_id: &str) -> LinkStream {
        let mut state = self.state.lock().unwrap();
        let link = state.links.entry(link_id.to_owned()).or_default();
        link.unannounced = link.sockets.keys().copied().collect();
        link.streams += 1;
        LinkStream { ends: self.clone(), link_id: link_id.to_owned(), number: link.streams }
    }

    /// Where nothing keeps time any more, the next process begins the lease.
    fn begin_lease(&self, link_id: String, stream: u64) {
        let Ok(runtime) = Handle::try_current() else { return };
        let ends = self.clone();
        runtime.spawn(async move {
            time::sleep(ends.lease).await;
            let mut state = ends.state.lock().unwrap();
            if state.links.get(&link_id).is_some_and(|link| link.streams == stream) {
                let gone = state.links.remove(&link_id).unwrap_or_default();
                state.conclude(gone.sockets.into_values(), EDGE_LOST);
            }
        });
    }
}

impl State {
    fn conclude(&mut self, gone: impl Iterator<Item = Known>, reason: &str) {
        self.concluded.extend(gone.map(|known| (known.subject, reason.to_owned())));
    }
}

impl LinkStream {
    pub(super) fn opened(&self, handle: u64, opened: &SocketOpened) {
        let mut state = self.ends.state.lock().unwrap();
        if opened.recovered {
            // It lives here from now on, whatever becomes of the link that it came from.
            for link in state.links.values_mut() {
                link.sockets.retain(|_, known| known.socket_id != opened.socket_id);
            }
        }
        let subject = opened.identity.as_ref().expect("a socket has an identity").subject.clone();
        let known = Known { socket_id: opened.socket_id.clone(), subject };
        let link = state.links.entry(self.link_id.clone()).or_default();
        link.unannounced.remove(&handle);
        link.sockets.insert(handle, known);
    }

    pub(super) fn closed(&self, handle: u64, reason: &str) {
        let mut state = self.ends.state.lock().unwrap();
        let link = state.links.get_mut(&self.link_id);
        let gone = link.and_then(|link| link.sockets.remove(&handle));
        state.conclude(gone.into_iter(), reason);
    }

    pub(super) fn all_announced(&self) {
        let mut state = self.ends.state.lock().unwrap();
        let Some(link) = state.links.get_mut(&self.link_id) else { return };
        let unannounced = mem::take(&mut link.unannounced);
        let gone: Vec<Known> =
            unannounced.iter().filter_map(|handle| link.sockets.remove(handle)).collect();
        state.conclude(gone.into_iter(), REASON_LOST);
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.ends.begin_lease(mem::take(&mut self.link_id), self.number);
    }
}
