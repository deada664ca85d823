//! Floods of HTTP/2 against each listener for gRPC, as raw frames: others are answered meanwhile, and memory stays bounded.

use std::{net::SocketAddr, time::Duration};

use proto::peer::v1::{PollRequest, edge_peer_client::EdgePeerClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{Cluster, Process, Program, own_host, within};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Why a listener ends a flood.
const ENHANCE_YOUR_CALM: u32 = 11;

/// How many frames a flood has, unless it is cut off before.
const FRAMES: u32 = 200_000;

/// How much a service's process may grow by all floods together.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// The same where edges call. Many requests may be under way there: 16,384 on each of the two connections of a flood, at 7 KiB.
const PEER_GROWTH_BYTES_MAX: u64 = 6 * GROWTH_BYTES_MAX;

/// For how long a flood goes on while nothing of it is taken.
const STALL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// Requests that are given up at once (CVE-2023-44487).
    RapidReset,
    /// Requests that the listener has to give up itself, because what follows is wrong (CVE-2025-8671).
    MadeReset,
    /// Each asks for an answer (CVE-2019-9512).
    Pings,
    /// Each asks for an acknowledgement (CVE-2019-9515).
    Settings,
    /// Headers that do not end (RUSTSEC-2024-0332).
    Continuations,
    /// A body without bytes that does not end (RUSTSEC-2026-0258).
    EmptyData,
    /// Requests that do not go on, with as many bytes of headers as every listener takes.
    OpenCalls,
}

const FLOODS: [Flood; 7] = [
    Flood::RapidReset,
    Flood::MadeReset,
    Flood::Pings,
    Flood::Settings,
    Flood::Continuations,
    Flood::EmptyData,
    Flood::OpenCalls,
];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, in HPACK without its table: nothing is remembered.
pub(crate) fn call(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // `POST` and `http` of the static table, and three names of it: path, authority, content-type.
    let (path, authority) =
        ([&[0x04], &text(path)[..]].concat(), [&[0x01], &text("a")[..]].concat());
    let content = [&[0x0f, 0x10], &text("application/grpc")[..]].concat();
    let te = [&[0x00], &text("te")[..], &text("trailers")[..]].concat();
    [&[0x83, 0x86][..], &path, &authority, &content, &te].concat()
}

impl Flood {
    /// What comes before it.
    fn opening(self, path: &str) -> Vec<u8> {
        match self {
            Self::RapidReset | Self::MadeReset | Self::Pings | Self::Settings | Self::OpenCalls => {
                Vec::new()
            }
            Self::Continuations => frame(HEADERS, 0, 1, &call(path)),
            Self::EmptyData => frame(HEADERS, END_HEADERS, 1, &call(path)),
        }
    }

    /// The part with this number.
    fn part(self, number: u32, path: &str) -> Vec<u8> {
        match self {
            Self::RapidReset => {
                let stream = 2 * number + 1;
                let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &call(path));
                [headers, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            }
            Self::MadeReset => {
                let stream = 2 * number + 1;
                let headers = frame(HEADERS, END_HEADERS, stream, &call(path));
                // A window that grows beyond the largest there is is an error of the stream.
                [headers, frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())].concat()
            }
            Self::Pings => frame(PING, 0, 0, &u64::from(number).to_be_bytes()),
            Self::Settings => frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
            Self::Continuations => {
                // A header of its own, with a value of some length.
                let value = [b'v'; 100];
                frame(CONTINUATION, 0, 1, &[&[0, 1, b'n', 100][..], &value].concat())
            }
            Self::EmptyData => frame(DATA, 0, 1, &[]),
            Self::OpenCalls => {
                let value = [b'v'; 100];
                let header = [&[0, 1, b'n', 100][..], &value].concat();
                let headers = [call(path), header.repeat(12)].concat();
                frame(HEADERS, END_HEADERS, 2 * number + 1, &headers)
            }
        }
    }

    /// What comes back where it took place: it was answered to its end, or ended for what it is, and not for how it is written.
    fn expected_answers(self) -> Answers {
        let is_answered = matches!(self, Self::Pings | Self::Settings);
        Answers {
            // The first is for the settings that each connection begins with.
            acknowledged: if is_answered { FRAMES + 1 } else { 1 },
            ended_for: (!is_answered).then_some(ENHANCE_YOUR_CALM),
        }
    }

    /// Floods a listener until all is written, the connection is cut, or nothing is taken any more. Returns what was answered, if
    /// that is read.
    async fn run(
        self,
        address: SocketAddr,
        path: &'static str,
        reads_answers: bool,
    ) -> Option<Answers> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (answers, mut requests) = stream.into_split();
        let (reading, answers) = if reads_answers {
            (Some(tokio::spawn(Answers::read(answers))), None)
        } else {
            (None, Some(answers))
        };
        self.write(&mut requests, path).await;
        requests.shutdown().await.ok();
        drop(answers);
        Some(within("the last answer", reading?).await.unwrap())
    }

    async fn write(self, requests: &mut OwnedWriteHalf, path: &str) {
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        bytes.extend(self.opening(path));
        for number in 0..FRAMES {
            bytes.extend(self.part(number, path));
            if bytes.len() < 32 * 1024 && number < FRAMES - 1 {
                continue;
            }
            let written = time::timeout(STALL, requests.write_all(&bytes)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
            bytes.clear();
        }
    }
}

/// What a listener has said to a flood.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    /// Of pings, and of settings.
    acknowledged: u32,
    /// Why it ended the connection, by the codes of RFC 9113, if it said so.
    ended_for: Option<u32>,
}

impl Answers {
    async fn read(mut stream: OwnedReadHalf) -> Self {
        let mut answers = Self::default();
        let mut unread = Vec::new();
        // A connection that is cut with an error has ended, too.
        while stream.read_buf(&mut unread).await.is_ok_and(|count| count > 0) {
            while let Some((length, frame)) = first_frame(&unread) {
                let is_ack = matches!(frame.kind, PING | SETTINGS) && frame.flags & ACK != 0;
                answers.acknowledged += u32::from(is_ack);
                if let (GOAWAY, [_, _, _, _, code @ ..]) = (frame.kind, frame.payload) {
                    let code = code.first_chunk().map(|code| u32::from_be_bytes(*code));
                    answers.ended_for = code;
                }
                unread.drain(..length);
            }
        }
        answers
    }
}

pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// The first frame, and how many bytes it takes; none while it is not there.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<(usize, Frame<'_>)> {
    let [high, middle, low, kind, flags, stream @ ..] = bytes else { return None };
    let length = 9 + usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap();
    let payload = bytes.get(9..length)?;
    let stream = u32::from_be_bytes(*stream.first_chunk()?);
    Some((length, Frame { kind: *kind, flags: *flags, stream, payload }))
}

/// How somebody else is answered at a listener, on a connection of its own.
async fn answer(address: SocketAddr) -> Code {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = within("another connection", channel.connect()).await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let asked = health.check(HealthCheckRequest::default());
    match within("an answer to somebody else", asked).await {
        Ok(_) => Code::Ok,
        // Edges answer each other nothing but what they ask each other.
        Err(_) => {
            let request = PollRequest { session: "no session".into() };
            let poll = EdgePeerClient::new(channel).poll(request).await;
            poll.map_or_else(|status| status.code(), |_| Code::Ok)
        }
    }
}

async fn survives(
    process: &mut Process,
    (address, path): (SocketAddr, &'static str),
    expected: Code,
    growth_bytes_max: u64,
) {
    assert_eq!(answer(address).await, expected);
    let before = process.resident_bytes();
    for flood in FLOODS {
        let mut floods = JoinSet::new();
        for reads_answers in [true, false] {
            floods.spawn(flood.run(address, path, reads_answers));
        }
        loop {
            assert_eq!(answer(address).await, expected, "{flood:?}");
            assert!(process.is_running(), "{flood:?}");
            let growth = process.resident_bytes().saturating_sub(before);
            assert!(growth < growth_bytes_max, "{flood:?}: {growth} bytes");
            let ended = time::timeout(Duration::from_millis(20), floods.join_next()).await;
            match ended {
                Ok(None) => break,
                Ok(Some(ended)) => {
                    if let Some(mut answers) = ended.unwrap() {
                        if flood == Flood::OpenCalls && answers.ended_for.is_none() {
                            // Each call was refused before there were too many of them.
                            answers.ended_for = flood.expected_answers().ended_for;
                        }
                        assert_eq!(answers, flood.expected_answers(), "{flood:?} {path}");
                    }
                }
                Err(_) => {}
            }
        }
        assert_eq!(answer(address).await, expected, "after {flood:?}");
    }
}

#[tokio::test]
async fn floods_leave_the_auth_service_there_for_others() {
    let mut cluster = Cluster::start().await;
    let address = cluster.auth;
    let path = "/sockeye.auth.v1.AuthService/Authenticate";

    let process = cluster.process(Program::AuthService);
    survives(process, (address, path), Code::Ok, GROWTH_BYTES_MAX).await;

    cluster.socket_io("alice").await;
}

#[tokio::test]
async fn floods_leave_the_chat_service_there_for_others() {
    let mut cluster = Cluster::start().await;
    let address = cluster.chat;
    let process = cluster.process(Program::ChatService);

    for path in ["/sockeye.chat.v1.ChatService/Publish", "/sockeye.edge.v1.EdgeLink/Attach"] {
        survives(process, (address, path), Code::Ok, GROWTH_BYTES_MAX).await;
    }

    let mut alice = cluster.socket_io("alice").await;
    alice.request("join", serde_json::json!("lobby")).await;
}

#[tokio::test]
async fn floods_leave_the_listener_for_edges_there_for_others() {
    let listen = format!("{}:0", own_host());
    let mut cluster = Cluster::builder().edge("--edge-peer-listen", listen).start().await;
    let process = cluster.process(Program::EdgeGateway);
    let address = process.address("edge-gateway", "peers").await;

    for path in ["/sockeye.peer.v1.EdgePeer/Post", "/sockeye.peer.v1.EdgePeer/Poll"] {
        survives(process, (address, path), Code::InvalidArgument, PEER_GROWTH_BYTES_MAX).await;
    }

    cluster.socket_io("alice").await;
}
