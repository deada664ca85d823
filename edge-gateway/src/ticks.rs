//! When a shard looks at its deadlines.

use std::{io, time::Duration};

use tokio::time::{self, Interval, MissedTickBehavior};

/// Comes again and again. Those that were missed do not come later.
#[derive(Debug)]
pub(crate) enum Ticks {
    #[cfg(target_os = "linux")]
    Kernel(timerfd::Timer),
    Runtime(Interval),
}

impl Ticks {
    /// Each costs a sleeping shard one wake-up: a timer of the runtime costs it two or three, since the runtime looks at it
    /// on its way from slot to slot of its wheel, and a system call, since it is the earliest when it is set again.
    ///
    /// # Errors
    ///
    /// When the kernel gives no timer.
    pub(crate) fn of_kernel(period: Duration) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        return timerfd::Timer::start(period).map(Self::Kernel);
        #[cfg(not(target_os = "linux"))]
        Ok(Self::of_runtime(period))
    }

    /// By the runtime's clock, which tests may have in their hands.
    pub(crate) fn of_runtime(period: Duration) -> Self {
        let mut interval = time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self::Runtime(interval)
    }

    /// Waits for the next one, and tells how late it is. May be dropped and called again.
    ///
    /// # Panics
    ///
    /// When the kernel's timer cannot be read: nobody would be pinged without it, and the edge is to end.
    pub(crate) async fn next(&mut self) -> Duration {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(timer) => timer.next().await.expect("a timer of the kernel's can be read"),
            Self::Runtime(interval) => interval.tick().await.elapsed(),
        }
    }
}

#[cfg(target_os = "linux")]
mod timerfd {
    use std::time::Instant;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::{io::AsyncReadExt, net::unix::pipe};

    use super::{Duration, io};

    /// A timer of the kernel's (timerfd).
    #[derive(Debug)]
    pub(crate) struct Timer {
        /// It is no pipe, but read like one, and the runtime does not mind.
        fd: pipe::Receiver,
        period: Duration,
        /// The next tick that has not been told.
        due: Instant,
    }

    impl Timer {
        pub(super) fn start(period: Duration) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let every = Timespec::try_from(period).map_err(io::Error::other)?;
            let times = Itimerspec { it_interval: every, it_value: every };
            let due = Instant::now() + period;
            timerfd_settime(&fd, TimerfdTimerFlags::empty(), &times)?;
            Ok(Self { fd: pipe::Receiver::from_owned_fd_unchecked(fd)?, period, due })
        }

        pub(super) async fn next(&mut self) -> io::Result<Duration> {
            // With more room than there is to read, the runtime knows that nothing is left, and does not ask.
            let mut count = [0; 16];
            let length = self.fd.read(&mut count).await?;
            let late = self.due.elapsed();
            // Those that have passed since the last one was told: fewer in a process's life than this holds.
            let passed =
                count[..length].first_chunk().map_or(1, |count| u64::from_ne_bytes(*count));
            self.due += self.period.saturating_mul(passed.try_into().unwrap_or(u32::MAX));
            Ok(late)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{hint, time::Instant};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    async fn next(ticks: &mut Ticks) -> Duration {
        time::timeout(Duration::from_secs(10), ticks.next()).await.unwrap()
    }

    async fn come_at_their_pace(mut ticks: Ticks, first: u32) {
        let begun = Instant::now();
        for _ in 0..5 {
            next(&mut ticks).await;
        }
        assert!(begun.elapsed() + Duration::from_millis(2) >= PERIOD * (4 + first));
    }

    async fn tell_how_late_they_are_and_do_not_come_later(mut ticks: Ticks) {
        next(&mut ticks).await;
        let begun = Instant::now();
        // The thread has something else to do.
        while begun.elapsed() < PERIOD * 5 {
            hint::spin_loop();
        }

        let asked = Instant::now();
        let late = next(&mut ticks).await;
        let after = next(&mut ticks).await;
        let next_was_due = Instant::now() - after;

        assert!(late + Duration::from_millis(2) >= PERIOD * 4, "{late:?}");
        // All that were missed had been due before.
        assert!(next_was_due + Duration::from_millis(2) >= asked, "{after:?} after {late:?}");
    }

    #[tokio::test]
    async fn ticks_of_the_kernel_come_at_their_pace() {
        come_at_their_pace(Ticks::of_kernel(PERIOD).unwrap(), 1).await;
    }

    #[tokio::test]
    async fn ticks_of_the_runtime_come_at_their_pace() {
        come_at_their_pace(Ticks::of_runtime(PERIOD), 0).await;
    }

    #[tokio::test]
    async fn late_ticks_of_the_kernel_say_so() {
        tell_how_late_they_are_and_do_not_come_later(Ticks::of_kernel(PERIOD).unwrap()).await;
    }

    #[tokio::test]
    async fn late_ticks_of_the_runtime_say_so() {
        tell_how_late_they_are_and_do_not_come_later(Ticks::of_runtime(PERIOD)).await;
    }
}
