//! Runs one service of the process, from its start to its end.

use std::time::Duration;

use anyhow::{Context, anyhow};
use service_kit::shutdown::{Shutdown, ShutdownTrigger};
use tokio::{task::JoinSet, time};

/// A service that runs. Dropping it cuts it off.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    stop: ShutdownTrigger,
    stop_timeout: Duration,
    ended: Shutdown,
    /// Holds one task.
    task: JoinSet<anyhow::Result<()>>,
}

impl Part {
    /// Starts `run` with the shutdown that [`stop`](Self::stop) asks for, and then waits for at most `stop_timeout`.
    pub(crate) fn start<R, E>(
        name: &'static str,
        stop_timeout: Duration,
        run: impl FnOnce(Shutdown) -> R,
    ) -> Self
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (stop, shutdown) = Shutdown::new();
        let (ends_here, ended) = Shutdown::new();
        let running = run(shutdown);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Dropped at the end of the task, also when that is a panic.
            let _ends_here = ends_here;
            running.await.with_context(|| format!("{name} failed"))
        });
        Self { name, stop, stop_timeout, ended, task }
    }

    /// Waits until the service has ended, by itself or not.
    pub(crate) async fn ended(&self) {
        self.ended.requested().await;
    }

    /// Stops the service and waits for its end.
    ///
    /// # Errors
    ///
    /// When it failed, or ended before it was told to. A service that outlasts its time is cut off, which is none.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let ended_by_itself = self.ended.is_requested();
        self.stop.trigger();
        let Ok(ended) = time::timeout(self.stop_timeout, self.task.join_next()).await else {
            tracing::warn!(service = self.name, "service did not stop in time and is cut off");
            return Ok(());
        };
        if let Some(result) = ended {
            result.with_context(|| format!("{} failed", self.name))??;
        }
        if ended_by_itself { Err(anyhow!("{} ended by itself", self.name)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future, io};

    use super::*;

    const STOP_TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_part_runs_until_it_is_told_to_stop() {
        let part = Part::start("part", STOP_TIMEOUT, |shutdown| async move {
            shutdown.requested().await;
            Ok::<_, Infallible>(())
        });

        assert!(!part.ended.is_requested());
        part.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_noticed_and_an_error() {
        let part = Part::start("part", STOP_TIMEOUT, |_| future::ready(Ok::<_, Infallible>(())));

        part.ended().await;

        assert_eq!(part.stop().await.unwrap_err().to_string(), "part ended by itself");
    }

    #[tokio::test]
    async fn a_part_that_fails_says_why() {
        let part = Part::start("part", STOP_TIMEOUT, |_| {
            future::ready(Err(io::Error::other("out of paper")))
        });

        part.ended().await;

        assert_eq!(format!("{:#}", part.stop().await.unwrap_err()), "part failed: out of paper");
    }

    #[tokio::test]
    async fn a_part_that_panics_is_noticed_and_an_error() {
        let part = Part::start("part", STOP_TIMEOUT, |_| async {
            assert!(future::ready(false).await, "out of paper");
            Ok::<_, Infallible>(())
        });

        part.ended().await;

        assert_eq!(part.stop().await.unwrap_err().to_string(), "part failed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_stop_is_cut_off() {
        let part =
            Part::start("part", STOP_TIMEOUT, |_| future::pending::<Result<(), Infallible>>());
        let asked_at = time::Instant::now();

        part.stop().await.unwrap();

        assert_eq!(asked_at.elapsed(), STOP_TIMEOUT);
    }
}
