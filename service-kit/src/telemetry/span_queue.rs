//! Keeps finished spans, within a bound, until they are sent to the collector in batches.
//!
//! The SDK's own batch processors keep the number of spans they drop to themselves, block while they shut down, and
//! give a hanging collector no deadline.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant, MissedTickBehavior},
};

/// Spans that wait at most. Above it, the newest are dropped and counted.
const QUEUE_SPANS_MAX: usize = 8192;
/// Spans sent at once.
const BATCH_SPANS_MAX: usize = 512;
/// For how long a span waits for others to go with.
const SEND_INTERVAL: Duration = Duration::from_secs(1);
/// For how long the collector may take for one batch. After it, the batch is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the log tells that spans are lost.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Takes finished spans from wherever they end. Never waits.
#[derive(Debug, Clone)]
pub(super) struct SpanQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    service_name: &'static str,
    // Held for a push and for a swap. Finished spans come from many threads, and wake the sender once per batch.
    waiting: Mutex<Vec<SpanData>>,
    batch_is_full: Notify,
}

/// Takes spans out of the queue and sends them.
#[derive(Debug)]
pub(super) struct SpanSender<E> {
    shared: Arc<Shared>,
    exporter: E,
    lost: LossReport,
}

/// Tells operators, once in a while, that spans are lost.
#[derive(Debug, Default)]
struct LossReport {
    warned_at: Option<Instant>,
    lost_count: usize,
}

/// Returns a queue and what empties it into `exporter`.
pub(super) fn span_queue<E>(service_name: &'static str, exporter: E) -> (SpanQueue, SpanSender<E>) {
    let shared =
        Arc::new(Shared { service_name, waiting: Mutex::default(), batch_is_full: Notify::new() });
    let sender = SpanSender { shared: Arc::clone(&shared), exporter, lost: LossReport::default() };
    (SpanQueue { shared }, sender)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest spans, as many as are sent at once.
    fn take_batch(&self) -> Vec<SpanData> {
        let mut waiting = self.lock();
        if waiting.len() <= BATCH_SPANS_MAX {
            mem::take(&mut *waiting)
        } else {
            waiting.drain(..BATCH_SPANS_MAX).collect()
        }
    }

    fn count_dropped(&self, reason: &'static str, count: usize) {
        metrics::counter!(
            "sockeye_telemetry_spans_dropped_total",
            "service" => self.service_name,
            "reason" => reason
        )
        .increment(count as u64);
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let mut waiting = self.shared.lock();
        let is_full = waiting.len() >= QUEUE_SPANS_MAX;
        if !is_full {
            waiting.push(span);
        }
        let completes_batch = !is_full && waiting.len() == BATCH_SPANS_MAX;
        drop(waiting);

        if is_full {
            self.shared.count_dropped("queue_full", 1);
        }
        if completes_batch {
            self.shared.batch_is_full.notify_one();
        }
    }

    /// Does nothing: the sender flushes when it is told to stop.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// Does nothing: the sender flushes when it is told to stop.
    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl<E: SpanExporter> SpanSender<E> {
    /// Sends spans until told to stop, and then what is left.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut interval = time::interval(SEND_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = interval.tick() => false,
                () = self.shared.batch_is_full.notified() => false,
                _ = &mut stop => true,
            };
            self.send_waiting().await;
            if is_last {
                return;
            }
        }
    }

    async fn send_waiting(&mut self) {
        loop {
            let batch = self.shared.take_batch();
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let span_count = batch.len();
        let reason = match time::timeout(SEND_TIMEOUT, self.exporter.export(batch)).await {
            Ok(Ok(())) => return,
            Ok(Err(_)) => "collector_failed",
            Err(_) => "collector_timeout",
        };
        self.shared.count_dropped(reason, span_count);
        self.lost.add(self.shared.service_name, reason, span_count);
    }
}

impl LossReport {
    /// Counts lost spans, and tells of all since the last time unless that was a short while ago.
    fn add(&mut self, service_name: &'static str, reason: &'static str, count: usize) {
        self.lost_count += count;
        let now = Instant::now();
        if self.warned_at.is_some_and(|warned_at| now - warned_at < WARN_INTERVAL) {
            return;
        }
        tracing::warn!(
            service = service_name,
            reason,
            lost_count = self.lost_count,
            "spans are lost: the collector does not take them"
        );
        *self = Self { warned_at: Some(now), lost_count: 0 };
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider};
    use opentelemetry_sdk::{error::OTelSdkError, trace::SdkTracerProvider};

    use super::*;

    /// Keeps the sizes of the batches, or fails for as long as it is told to.
    #[derive(Debug, Clone, Default)]
    struct Exporter {
        is_down: bool,
        sizes: Arc<Mutex<Vec<usize>>>,
    }

    impl SpanExporter for Exporter {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.sizes.lock().unwrap().push(batch.len());
            if self.is_down { Err(OTelSdkError::InternalFailure(String::new())) } else { Ok(()) }
        }
    }

    fn end_spans(queue: &SpanQueue, count: usize) {
        let provider = SdkTracerProvider::builder().with_span_processor(queue.clone()).build();
        let tracer = provider.tracer("test");
        for _ in 0..count {
            drop(tracer.start("work"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_go_in_batches_and_the_last_ones_when_told_to_stop() {
        let exporter = Exporter::default();
        let (queue, sender) = span_queue("test", exporter.clone());
        end_spans(&queue, 2 * BATCH_SPANS_MAX + 3);
        let (stop, stopped) = oneshot::channel();

        drop(stop);
        sender.run(stopped).await;

        assert_eq!(*exporter.sizes.lock().unwrap(), [BATCH_SPANS_MAX, BATCH_SPANS_MAX, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_span_goes_after_an_interval_and_a_full_batch_at_once() {
        let exporter = Exporter::default();
        let (queue, sender) = span_queue("test", exporter.clone());
        let (_stop, stopped) = oneshot::channel();
        let running = tokio::spawn(sender.run(stopped));
        time::sleep(SEND_INTERVAL / 2).await;

        end_spans(&queue, 1);
        time::sleep(SEND_INTERVAL / 4).await;
        assert!(exporter.sizes.lock().unwrap().is_empty());
        time::sleep(SEND_INTERVAL / 2).await;
        assert_eq!(*exporter.sizes.lock().unwrap(), [1]);

        end_spans(&queue, BATCH_SPANS_MAX);
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*exporter.sizes.lock().unwrap(), [1, BATCH_SPANS_MAX]);
        running.abort();
    }

    #[test]
    fn a_full_queue_keeps_the_oldest_spans() {
        let (queue, _sender) = span_queue("test", Exporter::default());

        end_spans(&queue, QUEUE_SPANS_MAX + 1);

        assert_eq!(queue.shared.lock().len(), QUEUE_SPANS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failing_collector_does_not_take_is_dropped_and_told_once_in_a_while() {
        let exporter = Exporter { is_down: true, ..Exporter::default() };
        let (queue, mut sender) = span_queue("test", exporter.clone());

        end_spans(&queue, BATCH_SPANS_MAX + 7);
        sender.send_waiting().await;

        assert_eq!(*exporter.sizes.lock().unwrap(), [BATCH_SPANS_MAX, 7]);
        assert!(queue.shared.lock().is_empty());
        assert_eq!(sender.lost.lost_count, 7, "the first batch was told of, the second waits");

        time::advance(WARN_INTERVAL).await;
        end_spans(&queue, 1);
        sender.send_waiting().await;
        assert_eq!(sender.lost.lost_count, 0);
    }
}
