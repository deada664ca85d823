//! Calls of services that do not go on, and callers that fall silent, at each listener for gRPC.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    floods::{
        ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, call,
        first_frame, frame,
    },
    support::{Cluster, Program, own_host, within},
};

/// How much later it may be noticed on a machine that is busy.
const LATENESS_MAX: Duration = Duration::from_secs(10);

/// What is served at one listener, and for how long at most.
struct Listener {
    address: SocketAddr,
    methods: BTreeSet<String>,
    /// How long a call may take that does not go on.
    call_bound: Duration,
    /// How long a connection may be silent, also where calls last as long as it.
    silence_bound: Duration,
}

async fn listeners() -> (Cluster, [Listener; 3]) {
    let mut cluster =
        Cluster::builder().edge("--edge-peer-listen", format!("{}:0", own_host())).start().await;
    let edges = cluster.process(Program::EdgeGateway).address("edge-gateway", "peers").await;
    let seconds = Duration::from_secs;
    let auth = Listener {
        address: cluster.auth,
        methods: proto::method_paths("sockeye.auth.v1"),
        call_bound: seconds(2),
        silence_bound: seconds(10 + 5),
    };
    let chat = Listener {
        address: cluster.chat,
        methods: &proto::method_paths("sockeye.chat.v1") | &proto::method_paths("sockeye.edge.v1"),
        call_bound: seconds(10),
        silence_bound: seconds(2 + 3),
    };
    let peers = Listener {
        address: edges,
        methods: proto::method_paths("sockeye.peer.v1"),
        call_bound: seconds(5),
        silence_bound: seconds(10 + 20),
    };
    (cluster, [auth, chat, peers])
}

/// A connection on which every method was called, and nothing follows the headers.
struct BegunCalls {
    stream: TcpStream,
    unread: Vec<u8>,
    begun: Instant,
    /// By stream.
    open: BTreeMap<u32, String>,
}

impl BegunCalls {
    async fn of(listener: &Listener) -> Self {
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        let open: BTreeMap<_, _> = (1..).step_by(2).zip(listener.methods.clone()).collect();
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        for (&number, path) in &open {
            bytes.extend(frame(HEADERS, END_HEADERS, number, &call(path)));
        }
        stream.write_all(&bytes).await.unwrap();
        Self { stream, unread: Vec::new(), begun: Instant::now(), open }
    }

    /// Answers pings until no call but that one is open; returns how long each took.
    async fn all_but(mut self, lasting: Option<&str>) -> BTreeMap<String, Duration> {
        let mut took = BTreeMap::new();
        while self.open.values().any(|path| Some(path.as_str()) != lasting) {
            let read = within("a call's end", self.stream.read_buf(&mut self.unread)).await;
            assert_ne!(read.unwrap(), 0, "{:?} are open", self.open);
            let mut pongs = Vec::new();
            while let Some((length, frame_)) = first_frame(&self.unread) {
                if frame_.kind == PING && frame_.flags & ACK == 0 {
                    pongs.extend(frame(PING, ACK, 0, frame_.payload));
                }
                let is_end = frame_.kind == RST_STREAM
                    || matches!(frame_.kind, HEADERS | DATA) && frame_.flags & END_STREAM != 0;
                if is_end && let Some(path) = self.open.remove(&frame_.stream) {
                    took.insert(path, self.begun.elapsed());
                }
                self.unread.drain(..length);
            }
            self.stream.write_all(&pongs).await.unwrap();
        }
        took
    }

    /// Answers no ping; returns how long the connection lasted.
    async fn silence(mut self) -> Duration {
        // A reset is an end as well.
        within("the end of a silent connection", self.stream.read_to_end(&mut self.unread))
            .await
            .ok();
        self.begun.elapsed()
    }
}

#[tokio::test]
async fn a_call_that_does_not_go_on_is_ended_within_its_bound_whatever_its_method() {
    let (_cluster, [auth, chat, peers]) = listeners().await;
    // Who has nothing to ask may keep it open, for as long as it answers pings.
    let questions = "/sockeye.auth.v1.AuthService/AuthenticateEach";

    let ended = async |listener: &Listener, lasting: Option<&str>| {
        let took = BegunCalls::of(listener).await.all_but(lasting).await;
        let ended = took.len() + usize::from(lasting.is_some());
        assert_eq!(ended, listener.methods.len());
        for (path, took) in took {
            assert!(took < listener.call_bound + LATENESS_MAX, "{path}: {took:?}");
        }
    };

    tokio::join!(ended(&auth, Some(questions)), ended(&chat, None), ended(&peers, None));
}

#[tokio::test]
async fn a_caller_that_falls_silent_is_cut_with_all_of_its_calls() {
    let (_cluster, listeners) = listeners().await;

    let cut = async |listener: &Listener| {
        let lasted = BegunCalls::of(listener).await.silence().await;
        assert!(lasted < listener.silence_bound + LATENESS_MAX, "{lasted:?}");
    };

    let [auth, chat, peers] = &listeners;
    tokio::join!(cut(auth), cut(chat), cut(peers));
}
