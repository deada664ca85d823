//! Reads the gauges of services: each host has its own, as each process has.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The gauges of one host, by their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Gauges {
    /// Runs a service from its start to its end; what it makes of gauges is found here, and what an earlier life of the host
    /// has made is not.
    pub(crate) async fn record<T>(&self, service: impl Future<Output = T>) -> T {
        self.values().clear();
        let mut service = pin!(service);
        poll_fn(|cx| metrics::with_local_recorder(self, || service.as_mut().poll(cx))).await
    }

    /// What a gauge shows; nothing where its service has not made it.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.values().get(name).map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }

    /// All that show less than nothing.
    pub(crate) fn negative(&self) -> Vec<String> {
        let values = self.values();
        let shown =
            values.iter().map(|(name, bits)| (name, f64::from_bits(bits.load(Ordering::Relaxed))));
        shown
            .filter(|(_, value)| *value < 0.0)
            .map(|(name, value)| format!("{name} {value}"))
            .collect()
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.values().entry(key.name().to_owned()).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
