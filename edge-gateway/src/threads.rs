//! Runs threads that stand and fall together: when one ends, all are asked to.

use std::{io, sync::Arc, thread};

use service_kit::shutdown::Shutdown;
use tokio::{sync::Notify, task};

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
}
