//! What is measured, and how large.

mod churn;
mod deliveries;
mod echo;
mod edges;
mod fan_out;
mod idle;
mod mixed;

use std::{ops::Range, time::Duration};

use anyhow::{Context, bail};
use bench_kit::token::token;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::edges::Hold;
use self::fan_out::{Crowd, Span};
use crate::{
    client::Login,
    meter::Values,
    server::{Kind, Server, Start},
};

/// How long all clients of a run may take to get into their rooms.
const JOIN_TIMEOUT: Duration = Duration::from_secs(180);

/// One thing that is measured of each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    Fanout1,
    Fanout16,
    Fanout64,
    Fanout256,
    Paced,
    Rooms,
    Echo,
    Hop,
    Idle,
    Burst,
    Waves,
    Churn,
    Storm,
    Mixed,
    Small,
    Large,
    Link,
    Edges,
    Million,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scale {
    /// What the figures are published for.
    Full,
    /// To see within minutes where things are going.
    Quick,
    /// To see that the kit works.
    Smoke,
}

impl Scale {
    /// One of three, by size.
    const fn of<T: Copy>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }

    const fn span(self) -> Span {
        Span {
            settle: Duration::from_millis(self.of(1500, 1500, 100)),
            warm_up: Duration::from_millis(self.of(2000, 500, 50)),
            measured: Duration::from_millis(self.of(8000, 2000, 200)),
        }
    }

    /// After which a server has put away what it needed for what went before.
    const fn rest(self) -> Duration {
        Duration::from_millis(self.of(4000, 4000, 200))
    }

    /// How often idle clients are pinged, where it is not as each server has it.
    pub(crate) fn ping_interval(self) -> Option<Duration> {
        let interval = Duration::from_secs(5);
        self.of(None, Some(interval), Some(interval))
    }

    /// How long idle connections are looked at: two rounds of pings, if it is long enough to be published.
    const fn hold(self) -> Duration {
        Duration::from_millis(self.of(50_000, 10_000, 500))
    }

    const fn one_room(self) -> Crowd {
        Crowd { rooms: 1, members: self.of(1000, 1000, 20) }
    }

    const fn many_rooms(self) -> Crowd {
        Crowd { rooms: self.of(1000, 300, 4), members: self.of(10, 10, 5) }
    }

    const fn few_connections(self) -> Crowd {
        Crowd { rooms: 100, members: self.of(10, 10, 2) }
    }

    const fn many_connections(self) -> Crowd {
        Crowd { rooms: self.of(1500, 500, 110), members: self.of(10, 10, 2) }
    }

    /// How many edges there are where there are several, and how many clients each has. A process may have 20,000 descriptors, and
    /// some are not connections.
    const fn edges(self, measure: Measure) -> Option<(u16, usize)> {
        if matches!(measure, Measure::Edges) {
            Some(self.of((4, 15_000), (2, 2000), (2, 10)))
        } else if matches!(measure, Measure::Million) {
            Some(self.of((53, 18_900), (8, 5000), (2, 10)))
        } else {
            None
        }
    }
}

impl Measure {
    /// What happens, for the report.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Fanout1 => "Fan-out to one large room, 1 message in flight",
            Self::Fanout16 => "Fan-out to one large room, 16 in flight",
            Self::Fanout64 => "Fan-out to one large room, 64 in flight",
            Self::Fanout256 => "Fan-out to one large room, 256 in flight",
            Self::Paced => "Messages to rooms of 10 at an equal pace",
            Self::Rooms => "Rooms of 10, one message in flight in each",
            Self::Echo => "Questions that are answered",
            Self::Hop => "One question at a time: the server alone, and through it",
            Self::Idle => "Idle connections in rooms of 10",
            Self::Burst => "Memory kept after broadcasts of 30 KB",
            Self::Waves => "Memory kept after three waves of clients",
            Self::Churn => "Connect, authenticate, join, leave",
            Self::Storm => "All come back after a restart",
            Self::Mixed => "A day of a chat",
            Self::Small => "Rooms of 10, 100 messages in flight, few connections",
            Self::Large => "Rooms of 10, 100 messages in flight, many connections",
            Self::Link => "Questions of so many that there is always one to take",
            Self::Edges => "Idle connections at several edges",
            Self::Million => "As many idle connections as there may be",
        }
    }

    /// What `cpu_us` is the price of.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Fanout1
            | Self::Fanout16
            | Self::Fanout64
            | Self::Fanout256
            | Self::Paced
            | Self::Rooms
            | Self::Small
            | Self::Large => "delivery",
            Self::Echo | Self::Hop | Self::Link => "round trip",
            Self::Idle | Self::Edges | Self::Million => "connection and second",
            Self::Burst | Self::Waves => "connection",
            Self::Churn => "client that came and went",
            Self::Storm => "client that came back",
            Self::Mixed => "second",
        }
    }

    /// Whether it matters how many there were per second: where the pace is not given.
    pub(crate) fn has_rate(self) -> bool {
        !matches!(self, Self::Paced | Self::Idle | Self::Mixed | Self::Edges | Self::Million)
    }

    /// Whether it says anything about this kind of server.
    pub(crate) fn is_for(self, kind: Kind) -> bool {
        if matches!(self, Self::Edges | Self::Million) {
            return kind == Kind::Sockeye;
        }
        match kind {
            // It knows one room and nothing else.
            Kind::SendLoop => {
                matches!(self, Self::Fanout1 | Self::Fanout16 | Self::Fanout64 | Self::Fanout256)
            }
            // Each client has two connections, for which a process lacks the descriptors in the larger runs.
            Kind::SockeyePolling | Kind::SocketioxidePolling | Kind::SocketIoPolling => {
                matches!(self, Self::Fanout1 | Self::Fanout16 | Self::Echo | Self::Churn)
            }
            // What a span costs is seen where the least else is done.
            Kind::SockeyeUntraced => matches!(self, Self::Fanout1 | Self::Rooms | Self::Echo),
            Kind::Sockeye
            | Kind::SockeyeJson
            | Kind::Socketioxide
            | Kind::SocketIo
            | Kind::Nestjs
            | Kind::Tungstenite => true,
        }
    }

    /// Starts a server of this kind, and measures it.
    pub(crate) fn run(self, kind: Kind, scale: Scale, start: &Start<'_>) -> anyhow::Result<Values> {
        let values = match scale.edges(self) {
            Some((edges, clients)) => Server::start_edges(edges, start)
                .and_then(|server| edges::hold(&server, clients, scale.hold(), scale.rest())),
            None => Server::start(kind, start).and_then(|mut server| self.of(&mut server, scale)),
        };
        let mut values = values.with_context(|| format!("{} of {}", self.title(), kind.name()))?;
        values.insert("clients".to_owned(), self.clients(scale) as f64);
        Ok(values)
    }

    /// How many clients there are, or come and go.
    fn clients(self, scale: Scale) -> usize {
        match self {
            Self::Fanout1 | Self::Fanout16 | Self::Fanout64 | Self::Fanout256 => {
                scale.one_room().clients()
            }
            Self::Paced | Self::Rooms | Self::Mixed => scale.many_rooms().clients(),
            Self::Small => scale.few_connections().clients(),
            Self::Large => scale.many_connections().clients(),
            Self::Echo => scale.of(100, 100, 5),
            Self::Link => scale.of(4000, 2000, 10),
            Self::Hop => 1,
            Self::Idle => scale.of(15_000, 5000, 50),
            Self::Burst => scale.of(2000, 1000, 10),
            Self::Waves => scale.of(10_000, 2000, 20),
            Self::Churn => scale.of(10_000, 2000, 40),
            Self::Storm => scale.of(5000, 1000, 20),
            Self::Edges | Self::Million => {
                scale.edges(self).map_or(0, |(edges, clients)| usize::from(edges) * clients)
            }
        }
    }

    fn of(self, server: &mut Server, scale: Scale) -> anyhow::Result<Values> {
        let (span, rest, clients) = (scale.span(), scale.rest(), self.clients(scale));
        match self {
            Self::Fanout1 => fan_out::closed_loop(server, scale.one_room(), 1, span),
            Self::Fanout16 => fan_out::closed_loop(server, scale.one_room(), 16, span),
            Self::Fanout64 => fan_out::closed_loop(server, scale.one_room(), 64, span),
            Self::Fanout256 => fan_out::closed_loop(server, scale.one_room(), 256, span),
            Self::Paced => {
                fan_out::paced(server, scale.many_rooms(), scale.of(1000.0, 500.0, 50.0), span)
            }
            Self::Rooms => {
                let crowd = scale.many_rooms();
                fan_out::closed_loop(server, crowd, crowd.rooms, span)
            }
            Self::Small => fan_out::closed_loop(server, scale.few_connections(), 100, span),
            Self::Large => fan_out::closed_loop(server, scale.many_connections(), 100, span),
            Self::Echo | Self::Link => echo::round_trips(server, clients, span),
            Self::Hop => echo::hop(server, span),
            Self::Idle => idle::connections(server, [clients / 3, clients], scale.hold(), rest),
            Self::Burst => idle::after_burst(server, clients, rest),
            Self::Waves => idle::after_waves(server, clients, rest),
            Self::Churn => churn::come_and_go(server, clients),
            Self::Storm => churn::storm(server, clients, span.settle),
            Self::Mixed => {
                mixed::day(server, scale.many_rooms(), scale.of(2000.0, 1000.0, 100.0), span)
            }
            Self::Edges | Self::Million => bail!("this is of several edges"),
        }
    }
}

/// Who these clients are, so many to a room.
fn logins(clients: Range<usize>, members: usize) -> anyhow::Result<impl Iterator<Item = Login>> {
    let logins: Result<Vec<_>, _> = clients.map(|client| login(client, members)).collect();
    Ok(logins?.into_iter())
}

fn login(client: usize, members: usize) -> anyhow::Result<Login> {
    let room = client / members;
    Ok(Login { token: token(&format!("user-{client}"))?, room: format!("room-{room}") })
}
