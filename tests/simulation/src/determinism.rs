//! Makes the process take its time and its random numbers from the simulation and not from the system.
//!
//! The functions that the standard library and every other crate ask are defined here, and so win over those of the C
//! library. Whatever hashes, picks a branch of `select!`, draws an id or reads a clock gets the same in each run of a seed.

#![expect(unsafe_code, reason = "the C library's functions can be replaced by no safe means")]

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::runtime::{Handle, Id};

use crate::random::next;

/// What the clocks show when a simulation begins: some day in 2026, and some hours after the machine was started.
const WALL_START: Duration = Duration::from_secs(1_780_000_000);
const MONOTONIC_START: Duration = Duration::from_secs(100_000);

/// Whether a simulation runs. Until then, and in processes that only start others, the system is asked.
static SIMULATES: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CLOCKS: Clocks = const {
        Clocks { start: Cell::new(None), elapsed: Cell::new(Duration::ZERO), hosts: RefCell::new(Vec::new()) }
    };
}

#[derive(Debug)]
struct Clocks {
    start: Cell<Option<Instant>>,
    /// Since the start, as far as no runtime knows better.
    elapsed: Cell<Duration>,
    /// The runtime of each host, and how far its wall clock is off.
    hosts: RefCell<Vec<(Id, i64)>>,
}

/// Begins the simulation with a seed; the process stays in it.
pub(crate) fn begin(seed: u64) {
    RANDOM.store(seed, Ordering::Relaxed);
    SIMULATES.store(true, Ordering::Release);
    CLOCKS.with(|clocks| clocks.start.set(Some(Instant::now())));
}

/// Tells what time it is where no host runs.
pub(crate) fn set_elapsed(elapsed: Duration) {
    CLOCKS.with(|clocks| clocks.elapsed.set(elapsed));
}

/// Returns the time since the start, as the running host sees it.
pub(crate) fn elapsed() -> Duration {
    CLOCKS.with(Clocks::elapsed)
}

/// Returns what a clock that is right shows at a time since the start, in milliseconds since 1970.
pub(crate) fn unix_ms(elapsed: Duration) -> u64 {
    u64::try_from((WALL_START + elapsed).as_millis()).unwrap_or(u64::MAX)
}

/// Moves the wall clock of the runtime that this is called on; replaces what was said before.
pub(crate) fn set_skew(skew_ms: i64) {
    let id = Handle::current().id();
    CLOCKS.with(|clocks| {
        let mut hosts = clocks.hosts.borrow_mut();
        hosts.retain(|(known, _)| *known != id);
        hosts.push((id, skew_ms));
    });
}

impl Clocks {
    fn elapsed(&self) -> Duration {
        match (Handle::try_current(), self.start.get()) {
            // The runtime's own clock stands still, save where the simulation moves it.
            (Ok(_), Some(start)) => tokio::time::Instant::now().into_std().duration_since(start),
            _ => self.elapsed.get(),
        }
    }

    fn wall(&self) -> Duration {
        let skew = Handle::try_current().map_or(0, |handle| {
            let hosts = self.hosts.borrow();
            hosts.iter().find(|(id, _)| *id == handle.id()).map_or(0, |(_, skew_ms)| *skew_ms)
        });
        let wall = WALL_START + self.elapsed();
        let skewed = Duration::from_millis(skew.unsigned_abs());
        if skew < 0 { wall - skewed } else { wall + skewed }
    }
}

/// Fills `buffer` with what the seed says comes next.
///
/// # Safety
///
/// As `getrandom(2)`: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: libc::c_uint) -> isize {
    if !SIMULATES.load(Ordering::Acquire) {
        // SAFETY: the arguments are the caller's, who keeps the promises of the call.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return filled as isize;
    }
    let mut state = RANDOM.load(Ordering::Relaxed);
    for index in 0..length {
        // SAFETY: the caller says that so many bytes may be written.
        unsafe { buffer.add(index).write(next(&mut state) as u8) };
    }
    RANDOM.store(state, Ordering::Relaxed);
    length.cast_signed()
}

/// Tells the simulated time of whichever clock is asked for.
///
/// # Safety
///
/// As `clock_gettime(2)`: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    if !SIMULATES.load(Ordering::Acquire) {
        // SAFETY: the arguments are the caller's, who keeps the promises of the call.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as libc::c_int;
    }
    let is_wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    // Where the thread is ending, nobody looks at the time any more.
    let now =
        CLOCKS.try_with(
            |clocks| {
                if is_wall { clocks.wall() } else { MONOTONIC_START + clocks.elapsed() }
            },
        );
    let now = now.unwrap_or(MONOTONIC_START);
    let told = libc::timespec {
        tv_sec: now.as_secs().cast_signed(),
        tv_nsec: i64::from(now.subsec_nanos()),
    };
    // SAFETY: the caller says that it may be written.
    unsafe { time.write(told) };
    0
}
