//! Tells every part of a process, once and for good, that it should stop.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

/// A request to stop that any number of tasks can wait for.
///
/// It is level-triggered: once asked, it stays asked, and a task that starts to wait afterwards does not wait at all.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
    /// Listens for signals for as long as anyone holds this.
    _listener: Option<Arc<JoinSet<()>>>,
}

/// Asks for the shutdown, when told to and at the latest when dropped: nobody else could.
#[derive(Debug)]
pub struct ShutdownTrigger {
    asked: watch::Sender<bool>,
}

impl Shutdown {
    /// Returns a shutdown that the first SIGTERM or SIGINT asks for.
    ///
    /// # Errors
    ///
    /// When the process may not handle signals.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (trigger, Self { asked, .. }) = Self::new();

        let mut listener = JoinSet::new();
        listener.spawn(async move {
            let received = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = received, "shutdown requested");
            trigger.trigger();
        });
        Ok(Self { asked, _listener: Some(Arc::new(listener)) })
    }

    /// Returns a shutdown and what asks for it.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger { asked: sender }, Self { asked: receiver, _listener: None })
    }

    /// Waits until the shutdown is asked for.
    pub async fn requested(&self) {
        let mut asked = self.asked.clone();
        while !*asked.borrow_and_update() {
            if asked.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells whether the shutdown was asked for.
    pub fn is_requested(&self) -> bool {
        *self.asked.borrow()
    }
}

impl ShutdownTrigger {
    /// Asks for the shutdown. Further calls change nothing.
    pub fn trigger(&self) {
        self.asked.send_replace(true);
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.trigger();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    fn is_pending(future: impl Future) -> bool {
        let mut future = pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        matches!(future.as_mut().poll(&mut context), Poll::Pending)
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_it_is_asked_for() {
        let (trigger, shutdown) = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        assert!(is_pending(shutdown.requested()));

        trigger.trigger();

        waiting.await.unwrap();
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn once_asked_it_stays_asked() {
        let (trigger, shutdown) = Shutdown::new();

        trigger.trigger();
        shutdown.requested().await;
        drop(trigger);

        assert!(!is_pending(shutdown.requested()));
        assert!(!is_pending(shutdown.clone().requested()));
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_lost_trigger_asks_for_it() {
        let (trigger, shutdown) = Shutdown::new();

        drop(trigger);

        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
