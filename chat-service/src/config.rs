//! Settings of the chat service.

mod grpc;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize, ParseIntError},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, builder::BoolishValueParser};
use service_kit::cores;
use thiserror::Error;

pub use self::grpc::GrpcConfig;
use crate::{
    namespaces::{NamespaceSettings, Namespaces},
    room_log::{Durability, Retention},
    toml_file::TomlFileError,
    workers::WORKERS_MAX,
};

/// With more users than this, telling everyone about each of them is never what one wants.
const LIST_MAX_MAX: usize = 1000;

/// Settings of the chat service. Each is both a flag and an environment variable.
#[derive(Debug, Clone, Args)]
#[group(id = "chat-service")]
pub struct Config {
    /// Address on which edges and other services are served over gRPC.
    #[arg(
        id = "chat-listen",
        long = "chat-listen",
        env = "CHAT_LISTEN",
        default_value = "127.0.0.1:50052",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,

    /// TLS with the other services, and who may call.
    #[command(flatten)]
    pub grpc: GrpcConfig,

    /// Tells callers the contracts, by gRPC reflection. For development: whoever may call anything may ask.
    #[arg(
        id = "chat-grpc-reflection",
        long = "chat-grpc-reflection",
        env = "CHAT_GRPC_REFLECTION",
        value_parser = BoolishValueParser::new()
    )]
    pub grpc_reflection: bool,

    /// Address on which health, readiness and metrics are served over HTTP. Off unless set.
    #[arg(
        id = "chat-ops-listen",
        long = "chat-ops-listen",
        env = "CHAT_OPS_LISTEN",
        value_name = "ADDR"
    )]
    pub ops_listen: Option<SocketAddr>,

    /// How many workers share the rooms, from 1 to 64, and how many threads a process has that is the chat service alone. One for
    /// each two cores unless set: the other cores are for edges.
    #[arg(
        id = "chat-workers",
        long = "chat-workers",
        env = "CHAT_WORKERS",
        value_name = "COUNT",
        value_parser = parse_workers
    )]
    pub workers: Option<NonZeroUsize>,

    /// File with the namespaces that have terms of their own: how much their rooms keep.
    #[arg(
        id = "chat-namespaces-file",
        long = "chat-namespaces-file",
        env = "CHAT_NAMESPACES_FILE",
        value_name = "FILE"
    )]
    pub namespaces_file: Option<PathBuf>,

    /// Lets everybody who is let into a namespace do everything in its rooms, where the file does not say who may. Otherwise users
    /// may do what their tokens say.
    #[arg(id = "chat-open-rooms", long = "chat-open-rooms", env = "CHAT_OPEN_ROOMS")]
    pub open_rooms: bool,

    /// Directory for the rooms' history. It is kept in memory, and lost with the process, unless set.
    #[arg(
        id = "chat-data-dir",
        long = "chat-data-dir",
        env = "CHAT_DATA_DIR",
        value_name = "DIRECTORY"
    )]
    pub data_dir: Option<PathBuf>,

    /// Most bytes of all rooms' history in the directory. Its files take up to twice as much.
    #[arg(
        id = "chat-data-bytes-max",
        long = "chat-data-bytes-max",
        env = "CHAT_DATA_BYTES_MAX",
        default_value = "10737418240",
        value_name = "BYTES"
    )]
    pub data_bytes_max: NonZeroU64,

    /// What a message survives once it is acknowledged: `memory`, `disk` or `disk+fsync`. The last, where there is a
    /// directory, and the first where there is none, unless set.
    #[arg(
        id = "chat-durability",
        long = "chat-durability",
        env = "CHAT_DURABILITY",
        value_name = "DURABILITY",
        value_parser = parse_durability
    )]
    pub durability: Option<Durability>,

    /// How many events of a room are kept.
    #[arg(
        id = "chat-history-count-max",
        long = "chat-history-count-max",
        env = "CHAT_HISTORY_COUNT_MAX",
        default_value = "1000",
        value_name = "COUNT"
    )]
    pub history_count_max: NonZeroUsize,

    /// How long an event of a room is kept.
    #[arg(
        id = "chat-history-age-max",
        long = "chat-history-age-max",
        env = "CHAT_HISTORY_AGE_MAX",
        default_value = "24h",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub history_age_max: Duration,

    /// How many users are followed in all rooms together, where namespaces say `delivery_watermark`; one in two rooms counts
    /// twice.
    #[arg(
        id = "chat-followed-users-max",
        long = "chat-followed-users-max",
        env = "CHAT_FOLLOWED_USERS_MAX",
        default_value = "1000000",
        value_name = "COUNT"
    )]
    pub followed_users_max: NonZeroUsize,

    /// How many kicks and bans are remembered in all rooms together.
    #[arg(
        id = "chat-exclusions-max",
        long = "chat-exclusions-max",
        env = "CHAT_EXCLUSIONS_MAX",
        default_value = "100000",
        value_name = "COUNT"
    )]
    pub exclusions_max: NonZeroUsize,

    /// How many users may be banned from one room at a time.
    #[arg(
        id = "chat-room-bans-max",
        long = "chat-room-bans-max",
        env = "CHAT_ROOM_BANS_MAX",
        default_value = "1000",
        value_name = "COUNT"
    )]
    pub room_bans_max: NonZeroUsize,

    /// How many rooms a socket may join each second, in the long run.
    #[arg(
        id = "chat-joins-per-second",
        long = "chat-joins-per-second",
        env = "CHAT_JOINS_PER_SECOND",
        default_value = "20",
        value_name = "COUNT"
    )]
    pub joins_per_second: NonZeroU32,

    /// How many rooms a socket may join at once; it may be in 256.
    #[arg(
        id = "chat-joins-burst",
        long = "chat-joins-burst",
        env = "CHAT_JOINS_BURST",
        default_value = "300",
        value_name = "COUNT"
    )]
    pub joins_burst: NonZeroU32,

    /// How long the sockets of an edge stay in their rooms while its link is down.
    #[arg(
        id = "chat-link-grace",
        long = "chat-link-grace",
        env = "CHAT_LINK_GRACE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub link_grace: Duration,

    /// How long a user is still seen in a room whose last connection there was lost; one that is back by then was never gone
    /// for the others.
    #[arg(
        id = "chat-presence-grace",
        long = "chat-presence-grace",
        env = "CHAT_PRESENCE_GRACE",
        default_value = "3s",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub presence_grace: Duration,

    /// Up to how many users a room is told who comes and goes, at most 1000. Above, it is told how many there are.
    #[arg(
        id = "chat-presence-list-max",
        long = "chat-presence-list-max",
        env = "CHAT_PRESENCE_LIST_MAX",
        default_value = "100",
        value_name = "COUNT",
        value_parser = parse_list_max
    )]
    pub presence_list_max: usize,

    /// Adds the trace id of each sampled message to the message, as `trace`.
    #[arg(
        id = "chat-expose-trace-ids",
        long = "chat-expose-trace-ids",
        env = "CHAT_EXPOSE_TRACE_IDS"
    )]
    pub expose_trace_ids: bool,
}

impl Config {
    /// How many workers there are.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(|| cores::half().min(WORKERS_MAX), NonZeroUsize::get)
    }

    pub(crate) fn namespaces(&self) -> Result<Namespaces, TomlFileError> {
        let retention =
            Retention { count_max: self.history_count_max, age_max: self.history_age_max };
        let durability = self.durability.unwrap_or(match self.data_dir {
            Some(_) => Durability::DiskFsync,
            None => Durability::Memory,
        });
        let settings = NamespaceSettings { retention, durability };
        let namespaces = Namespaces::read(self.namespaces_file.as_deref(), settings)?;
        Ok(namespaces.with_open_rooms(self.open_rooms))
    }
}

#[derive(Debug, Error)]
#[error("not `memory`, `disk` or `disk+fsync`")]
struct ParseDurabilityError;

fn parse_durability(text: &str) -> Result<Durability, ParseDurabilityError> {
    let all = [Durability::Memory, Durability::Disk, Durability::DiskFsync];
    all.into_iter().find(|durability| durability.label() == text).ok_or(ParseDurabilityError)
}

#[derive(Debug, Error)]
enum ParseCountError {
    #[error("not a number")]
    NotANumber(#[from] ParseIntError),
    #[error("more than {0}")]
    TooMany(usize),
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, ParseCountError> {
    let count: NonZeroUsize = text.parse()?;
    if count.get() > WORKERS_MAX { Err(ParseCountError::TooMany(WORKERS_MAX)) } else { Ok(count) }
}

fn parse_list_max(text: &str) -> Result<usize, ParseCountError> {
    let count = text.parse()?;
    if count > LIST_MAX_MAX { Err(ParseCountError::TooMany(LIST_MAX_MAX)) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        let args = [&["chat-service"], args].concat();
        Cli::try_parse_from(args).map(|cli| cli.config)
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = parse(&[]).unwrap();

        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 50052)));
        assert_eq!((config.ops_listen, config.workers), (None, None));
        assert_eq!(config.history_count_max.get(), 1000);
        assert_eq!(config.history_age_max, Duration::from_secs(24 * 60 * 60));
        assert_eq!(config.data_bytes_max.get(), 10 << 30);
        assert_eq!((config.data_dir.as_ref(), config.durability), (None, None));
        assert_eq!(config.followed_users_max.get(), 1_000_000);
        assert_eq!((config.exclusions_max.get(), config.room_bans_max.get()), (100_000, 1000));
        assert_eq!(config.link_grace, Duration::from_secs(10));
        assert_eq!(config.presence_grace, Duration::from_secs(3));
        assert_eq!(config.presence_list_max, 100);
        assert!(!config.expose_trace_ids && !config.open_rooms);
        assert!((1..=WORKERS_MAX).contains(&config.worker_count()));
        assert_eq!(config.worker_count(), cores::half().min(WORKERS_MAX));
    }

    #[test]
    fn messages_survive_what_they_can_unless_told_otherwise() {
        let durability = |args: &[&str]| {
            let config = parse(args).unwrap();
            config.namespaces().unwrap().get("/chat").durability.label()
        };

        assert_eq!(durability(&[]), "memory");
        assert_eq!(durability(&["--chat-data-dir", "d"]), "disk+fsync");
        assert_eq!(durability(&["--chat-data-dir", "d", "--chat-durability", "disk"]), "disk");
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert_eq!(parse(&["--chat-workers", "64"]).unwrap().worker_count(), 64);
        for args in [
            ["--chat-workers", "0"],
            ["--chat-workers", "65"],
            ["--chat-history-count-max", "0"],
            ["--chat-followed-users-max", "0"],
            ["--chat-exclusions-max", "0"],
            ["--chat-room-bans-max", "0"],
            ["--chat-link-grace", "10"],
            ["--chat-presence-grace", "3"],
            ["--chat-presence-list-max", "1001"],
            ["--chat-durability", "tape"],
            ["--chat-data-bytes-max", "0"],
            ["--chat-listen", "somewhere"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }
}
