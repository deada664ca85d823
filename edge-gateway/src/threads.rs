//! Runs threads that stand and fall together: when one ends, all are asked to.

use std::{io, pin::pin, sync::Arc, thread};

use service_kit::shutdown::{Shutdown, ShutdownTrigger};
use tokio::{
    sync::Notify,
    task::{self, JoinSet},
};

use crate::RunError;

/// Runs `work` on a thread of its own each, named `<name>-0` and so on, until all have ended. They are asked to end when
/// `shutdown` is, or as soon as one of them has ended: half an edge is worse than none.
pub(crate) async fn run<W>(
    name: &str,
    work: impl IntoIterator<Item = W>,
    shutdown: Shutdown,
) -> Result<(), RunError>
where
    W: FnOnce(Shutdown) -> io::Result<()> + Send + 'static,
{
    let (stop, stopping) = Shutdown::new();
    let ended = Arc::new(Notify::new());
    let mut threads = Vec::new();
    for (number, work) in work.into_iter().enumerate() {
        let stopping = stopping.clone();
        let end = NotifyOnDrop(Arc::clone(&ended));
        let thread = thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
            let _end = end;
            work(stopping)
        });
        threads.push(thread.map_err(RunError::Start)?);
    }
    let joined = task::spawn_blocking(|| {
        threads.into_iter().map(thread::JoinHandle::join).collect::<Vec<_>>()
    });
    tokio::select! {
        () = shutdown.requested() => {}
        () = ended.notified() => {}
    }
    stop.trigger();
    for outcome in joined.await.map_err(|_| RunError::Panicked)? {
        outcome.map_err(|_| RunError::Panicked)?.map_err(RunError::Ended)?;
    }
    Ok(())
}

/// Runs the threads to their end, and asks for it when `shutdown` is requested, or when one of the tasks `beside` them panics. One
/// that ends has nothing left to do.
pub(crate) async fn stand_with(
    beside: &mut JoinSet<()>,
    threads: impl Future<Output = Result<(), RunError>>,
    (shutdown, stop): (&Shutdown, &ShutdownTrigger),
) -> Result<(), RunError> {
    let mut threads = pin!(threads);
    let mut has_panicked = false;
    loop {
        tokio::select! {
            // Where it is asked for before they begin, they are not to begin without it.
            biased;
            () = shutdown.requested(), if !has_panicked => {
                stop.trigger();
                return threads.await;
            }
            Some(ended) = beside.join_next() => {
                if ended.is_err() {
                    has_panicked = true;
                    stop.trigger();
                }
            }
            outcome = &mut threads => {
                return if has_panicked { Err(RunError::Panicked) } else { outcome };
            }
        }
    }
}

/// Tells of a thread's end, also when it is a panic.
struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{runtime, time};

    use super::*;

    fn wait(shutdown: &Shutdown) {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(shutdown.requested());
    }

    async fn run_two(
        first: fn(&Shutdown) -> io::Result<()>,
        shutdown: Shutdown,
    ) -> Result<(), RunError> {
        let other = |shutdown: &Shutdown| {
            wait(shutdown);
            Ok(())
        };
        let both: [fn(&Shutdown) -> io::Result<()>; 2] = [first, other];
        let work = both.map(|work| move |shutdown: Shutdown| work(&shutdown));
        time::timeout(Duration::from_secs(10), run("test", work, shutdown)).await.unwrap()
    }

    #[tokio::test]
    async fn all_end_when_asked_to() {
        let (trigger, shutdown) = Shutdown::new();
        trigger.trigger();

        let outcome = run_two(
            |shutdown| {
                wait(shutdown);
                Ok(())
            },
            shutdown,
        );

        assert!(outcome.await.is_ok());
    }

    #[tokio::test]
    async fn one_that_fails_takes_the_others_along() {
        let (_trigger, shutdown) = Shutdown::new();

        let failed = run_two(|_| Err(io::Error::other("gone")), shutdown.clone()).await;
        let panicked = run_two(|_| panic!("on purpose"), shutdown).await;

        assert!(matches!(failed, Err(RunError::Ended(_))), "{failed:?}");
        assert!(matches!(panicked, Err(RunError::Panicked)), "{panicked:?}");
    }

    #[tokio::test]
    async fn threads_end_with_a_task_beside_them_that_panics_and_not_with_one_that_is_done() {
        let (_trigger, shutdown) = Shutdown::new();
        let (stop, stopping) = Shutdown::new();
        let mut beside = JoinSet::new();
        beside.spawn(async {});
        let (go, goes) = Shutdown::new();
        beside.spawn(async move {
            goes.requested().await;
            panic!("on purpose");
        });
        let threads = async {
            assert!(!stopping.is_requested());
            go.trigger();
            stopping.requested().await;
            Ok(())
        };

        let outcome = stand_with(&mut beside, threads, (&shutdown, &stop)).await;

        assert!(matches!(outcome, Err(RunError::Panicked)), "{outcome:?}");
    }

    #[tokio::test]
    async fn threads_end_as_well_when_shutdown_is_asked_for() {
        let (trigger, shutdown) = Shutdown::new();
        let (stop, stopping) = Shutdown::new();
        let threads = async {
            trigger.trigger();
            stopping.requested().await;
            Ok(())
        };

        let outcome = stand_with(&mut JoinSet::new(), threads, (&shutdown, &stop)).await;

        assert!(outcome.is_ok(), "{outcome:?}");
    }

    #[tokio::test]
    async fn threads_that_begin_when_shutdown_has_been_asked_for_hear_of_it_at_once() {
        for _ in 0..32 {
            let (trigger, shutdown) = Shutdown::new();
            trigger.trigger();
            let (stop, stopping) = Shutdown::new();
            let threads =
                async { if stopping.is_requested() { Ok(()) } else { Err(RunError::Panicked) } };

            let outcome = stand_with(&mut JoinSet::new(), threads, (&shutdown, &stop)).await;

            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
}
