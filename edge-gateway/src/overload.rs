//! Whether the edge has room for more sessions: its memory, its descriptors, and how late its shards are.
//!
//! Each signal has two marks. From the low one on new sessions wait, the longer the nearer the high one is; from there on they
//! are refused until the signal is below the low mark again, or has been below the high one for a while. Sessions that are open go
//! on.

mod memory;
mod system;

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use service_kit::{ops::Condition, shutdown::Shutdown};
use tokio::time;

use self::{memory::InUse, system::System};
use crate::{config::OverloadConfig, shard::TICK, telemetry::Pressures};

/// How often memory and descriptors are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a client waits, at most, since a signal is near its high mark.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Pressure at and beyond the high mark, in thousandths.
const FULL: u32 = 1000;

/// New sessions are refused from this part of the memory on, in hundredths, and wait from the other on.
const MEMORY_PARTS: (u64, u64) = (90, 80);

/// How many descriptors are kept back, for links, requests and files: this many, or a fiftieth of all, but a quarter at most.
const DESCRIPTORS_RESERVED_MIN: u64 = 64;
const DESCRIPTORS_RESERVED_PART: u64 = 50;

/// How long a signal that was full must have been below its high mark, if it does not come below the low one. An allocator may keep
/// what it has for so long that it never does, and an edge that has just started would open sessions there.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// What weight one lateness has in the smoothed one: a shard that is late once is not overloaded.
const LAG_WEIGHT: u32 = 8;

/// Why no session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Memory,
    Descriptors,
    /// The shard is late with everything.
    Lag,
}

/// How the edge stands, as all of its ways in see it.
#[derive(Debug)]
pub(crate) struct Overload {
    memory: Signal,
    descriptors: Signal,
    /// One for each shard.
    lags: Box<[Signal]>,
    lag_max: Duration,
    memory_bytes_max: Option<u64>,
}

#[derive(Debug, Default)]
struct Signal {
    /// How near something is to its high mark, in thousandths of the way from the low one.
    pressure: AtomicU32,
    /// How often in a row it was seen below its high mark since it was full.
    below: AtomicU32,
}

/// Where a signal begins to matter, and where it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    low: u64,
    high: u64,
}

impl Overload {
    pub(crate) fn new(config: &OverloadConfig, shards: usize) -> Self {
        Self {
            memory: Signal::default(),
            descriptors: Signal::default(),
            lags: (0..shards).map(|_| Signal::default()).collect(),
            lag_max: config.lag_max,
            memory_bytes_max: config.memory_bytes_max.map(NonZeroU64::get),
        }
    }

    /// How long a session has to wait that is to be opened on this shard, or on any.
    pub(crate) fn delay(&self, shard: Option<u8>) -> Result<Duration, Cause> {
        let lag = match shard {
            Some(shard) => self.lags.get(usize::from(shard)).map(Signal::pressure),
            None => self.lags.iter().map(Signal::pressure).min(),
        };
        let pressures = [
            (self.memory.pressure(), Cause::Memory),
            (self.descriptors.pressure(), Cause::Descriptors),
            (lag.unwrap_or_default(), Cause::Lag),
        ];
        let (worst, cause) =
            pressures.into_iter().max_by_key(|(pressure, _)| *pressure).unwrap_or((0, Cause::Lag));
        if worst >= FULL { Err(cause) } else { Ok(DELAY_MAX * worst / FULL) }
    }

    /// The shard that is the least late. Those that are as late as each other take turns.
    pub(crate) fn roomiest(&self, turn: usize) -> u8 {
        let shards = self.lags.len().max(1);
        let in_turn = (0..shards).map(|ahead| (turn % shards + ahead) % shards);
        let roomiest = in_turn.min_by_key(|shard| self.lags.get(*shard).map(Signal::pressure));
        roomiest.and_then(|shard| u8::try_from(shard).ok()).unwrap_or_default()
    }

    /// Takes note of how late a shard is at the moment, smoothed.
    pub(crate) fn observe_lag(&self, shard: u8, lag: Duration) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let high = micros(self.lag_max);
        if let Some(signal) = self.lags.get(usize::from(shard)).filter(|_| high > 0) {
            signal.observe(micros(lag), Marks { low: high / 2, high }, TICK);
        }
    }

    /// Returns whether memory and descriptors can be read.
    fn observe(&self, system: &System) -> [bool; 2] {
        let (memory, descriptors) = (system.memory(), System::descriptors());
        match memory {
            Some(InUse { used, limit }) => {
                self.memory.observe(used, Marks::of_memory(limit), LOOK_INTERVAL);
            }
            // A control group may lose its limit.
            None => self.memory.forget(),
        }
        if let Some((used, limit)) = descriptors {
            self.descriptors.observe(used, Marks::of_descriptors(limit), LOOK_INTERVAL);
        }
        [memory.is_some(), descriptors.is_some()]
    }

    /// Whether nothing should be kept that may be lost.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.memory.pressure() >= FULL
    }

    fn is_full(&self) -> bool {
        self.memory.pressure() >= FULL || self.descriptors.pressure() >= FULL
    }
}

impl Marks {
    fn of_memory(limit: u64) -> Self {
        let (high, low) = MEMORY_PARTS;
        let part = |hundredths: u64| limit / 100 * hundredths;
        Self { low: part(low), high: part(high) }
    }

    /// A small limit leaves half of itself, so that an edge that has been full can have room again.
    fn of_descriptors(limit: u64) -> Self {
        let reserved =
            DESCRIPTORS_RESERVED_MIN.max(limit / DESCRIPTORS_RESERVED_PART).min(limit / 4);
        let high = limit - reserved;
        Self { low: high - reserved, high }
    }
}

impl Signal {
    fn pressure(&self) -> u32 {
        self.pressure.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        self.pressure.store(0, Ordering::Relaxed);
    }

    /// Each signal has one observer, who comes at this interval.
    fn observe(&self, value: u64, Marks { low, high }: Marks, interval: Duration) {
        let is_below = self.pressure() >= FULL && value < high;
        let below = if is_below { self.below.load(Ordering::Relaxed) + 1 } else { 0 };
        self.below.store(below, Ordering::Relaxed);
        let is_settling = is_below && interval * below < SETTLED_AFTER;
        let pressure = if value >= high {
            FULL
        } else if value < low {
            0
        } else if is_settling {
            FULL
        } else {
            let way = (value - low).saturating_mul(FULL.into()) / (high - low);
            u32::try_from(way).unwrap_or(FULL).min(FULL - 1)
        };
        self.pressure.store(pressure, Ordering::Relaxed);
    }
}

/// How late a shard is with its timers, smoothed.
#[derive(Debug, Default)]
pub(crate) struct SmoothedLag(Duration);

impl SmoothedLag {
    pub(crate) fn take(&mut self, late: Duration) -> Duration {
        self.0 = (self.0 * (LAG_WEIGHT - 1) + late) / LAG_WEIGHT;
        self.0
    }
}

/// Looks at memory and descriptors for as long as the edge runs, and tells balancers when there is no room.
pub(crate) async fn watch(
    overload: Arc<Overload>,
    pressures: Pressures,
    has_room: Condition,
    ended: Shutdown,
) {
    let system = System::open(overload.memory_bytes_max);
    let signals = ["memory", "descriptors"];
    let readable = overload.observe(&system);
    for (signal, _) in signals.into_iter().zip(readable).filter(|(_, is_readable)| !is_readable) {
        tracing::warn!(signal, "cannot be read, so that a want of it refuses nobody");
    }
    let mut looks = time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = ended.requested() => return,
        }
        let gauges = [&pressures.memory_readable, &pressures.descriptors_readable];
        for (gauge, is_readable) in gauges.into_iter().zip(overload.observe(&system)) {
            gauge.set(f64::from(u8::from(is_readable)));
        }
        has_room.set(!overload.is_full());
        let part = |signal: &Signal| f64::from(signal.pressure()) / f64::from(FULL);
        pressures.memory.set(part(&overload.memory));
        pressures.descriptors.set(part(&overload.descriptors));
        pressures.lag.set(overload.lags.iter().map(part).fold(0.0, f64::max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { low: 800, high: 900 };

    fn overload() -> Overload {
        let memory_bytes_max = NonZeroU64::new(1000);
        let lag_max = Duration::from_secs(1);
        Overload::new(&OverloadConfig { memory_bytes_max, lag_max }, 2)
    }

    #[test]
    fn whoever_comes_near_the_high_mark_waits_and_is_then_refused() {
        let overload = overload();
        let delay = |value| {
            overload.memory.observe(value, MARKS, LOOK_INTERVAL);
            overload.delay(Some(0))
        };

        assert_eq!(delay(799), Ok(Duration::ZERO));
        assert_eq!(delay(850), Ok(Duration::from_millis(2500)));
        assert_eq!(delay(899), Ok(Duration::from_millis(4950)));
        assert!(!overload.is_short_of_memory());
        assert_eq!(delay(900), Err(Cause::Memory));
        assert!(overload.is_short_of_memory());
    }

    #[test]
    fn refusals_go_on_until_the_low_mark() {
        let overload = overload();

        overload.descriptors.observe(900, MARKS, LOOK_INTERVAL);
        overload.descriptors.observe(800, MARKS, LOOK_INTERVAL);
        assert_eq!(overload.delay(None), Err(Cause::Descriptors));
        assert!(overload.is_full());
        overload.descriptors.observe(799, MARKS, LOOK_INTERVAL);

        assert_eq!(overload.delay(None), Ok(Duration::ZERO));
        assert!(!overload.is_full());
    }

    #[test]
    fn refusals_end_where_memory_is_not_given_back_but_is_enough() {
        let overload = overload();
        let delay = |value, seconds: u32| {
            for _ in 0..seconds * 4 {
                overload.memory.observe(value, MARKS, LOOK_INTERVAL);
            }
            overload.delay(None)
        };

        assert_eq!(delay(900, 60), Err(Cause::Memory));
        assert_eq!(delay(850, 9), Err(Cause::Memory));
        assert_eq!(delay(900, 1), Err(Cause::Memory));
        assert_eq!(delay(850, 9), Err(Cause::Memory), "not so long in a row");
        assert_eq!(delay(850, 1), Ok(Duration::from_millis(2500)));
        assert_eq!(delay(850, 60), Ok(Duration::from_millis(2500)));
        assert_eq!(delay(900, 1), Err(Cause::Memory));
    }

    #[test]
    fn descriptors_are_kept_back_and_most_of_them_used() {
        let marks = [0, 64, 128, 256, 1024, 20_000].map(|limit| {
            let Marks { low, high } = Marks::of_descriptors(limit);
            (low, high)
        });

        let expected = [(0, 0), (32, 48), (64, 96), (128, 192), (896, 960), (19_200, 19_600)];
        assert_eq!(marks, expected);
    }

    #[test]
    fn a_shard_that_is_late_refuses_its_own_clients_only() {
        let overload = overload();
        let mut lag = SmoothedLag::default();

        overload.observe_lag(1, lag.take(Duration::from_secs(7)));
        assert!(overload.delay(Some(1)).is_ok_and(|delay| !delay.is_zero()), "late once");
        overload.observe_lag(1, lag.take(Duration::from_secs(2)));

        assert_eq!(overload.delay(Some(1)), Err(Cause::Lag));
        assert_eq!(overload.delay(Some(0)), Ok(Duration::ZERO));
        assert_eq!(overload.delay(None), Ok(Duration::ZERO), "the other has room");
        for _ in 0..8 {
            overload.observe_lag(1, lag.take(Duration::ZERO));
        }
        assert_eq!(overload.delay(Some(1)), Ok(Duration::ZERO));
    }

    #[test]
    fn clients_that_may_come_to_any_shard_come_to_the_one_with_the_most_room() {
        let config = OverloadConfig { memory_bytes_max: None, lag_max: Duration::from_secs(1) };
        let overload = Overload::new(&config, 3);
        let turns = || [0, 1, 2, 3, usize::MAX].map(|turn| overload.roomiest(turn));

        assert_eq!(turns(), [0, 1, 2, 0, 0]);
        overload.observe_lag(0, Duration::from_millis(900));
        assert_eq!(turns(), [1, 1, 2, 1, 1]);
        overload.observe_lag(1, Duration::from_secs(1));
        overload.observe_lag(2, Duration::from_millis(950));
        assert_eq!(turns(), [0; 5]);
    }

    #[test]
    fn a_signal_without_marks_is_never_full() {
        let config = OverloadConfig { memory_bytes_max: None, lag_max: Duration::ZERO };
        let overload = Overload::new(&config, 1);

        overload.observe_lag(0, Duration::from_secs(3600));

        assert_eq!(overload.delay(Some(0)), Ok(Duration::ZERO));
    }
}
