//! How many connections of other services a listener has open, in all and of one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};

const OPEN: &str = "sockeye_grpc_connections";
const REFUSED: &str = "sockeye_grpc_refused_connections_total";

/// The connections of one listener. It is shared by all who count in it.
#[derive(Debug, Clone)]
pub(super) struct OpenConnections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: &'static str,
    max: usize,
    /// Whoever has one address only must not keep all others out.
    max_of_address: usize,
    open: Mutex<Open>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// The right to be open, for as long as it lives.
#[derive(Debug)]
pub(super) struct Permit {
    connections: OpenConnections,
    address: IpAddr,
}

impl OpenConnections {
    pub(super) fn new(service: &'static str, max: NonZeroUsize) -> Self {
        describe_gauge!(OPEN, "Open connections of other services.");
        describe_counter!(REFUSED, "Connections of other services that were closed, by reason.");
        for reason in ["connections", "address_connections", "silent"] {
            counter!(REFUSED, "service" => service, "reason" => reason).increment(0);
        }
        let gauge = gauge!(OPEN, "service" => service);
        gauge.set(0);
        let max = max.get();
        let open = Mutex::default();
        Self(Arc::new(Inner { service, max, max_of_address: max.div_ceil(2), open, gauge }))
    }

    /// Lets one more connection of `address` be open; none where too many are.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Permit> {
        let mut open = self.open();
        let of_address = open.of_address.get(&address).copied().unwrap_or_default();
        let refusal = if open.count >= self.0.max {
            "connections"
        } else if of_address >= self.0.max_of_address {
            "address_connections"
        } else {
            open.count += 1;
            open.of_address.insert(address, of_address + 1);
            self.0.gauge.increment(1);
            return Some(Permit { connections: self.clone(), address });
        };
        self.count_refusal(refusal);
        None
    }

    fn count_refusal(&self, reason: &'static str) {
        counter!(REFUSED, "service" => self.0.service, "reason" => reason).increment(1);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts that the connection is closed since its caller says nothing.
    pub(super) fn count_silence(&self) {
        self.connections.count_refusal("silent");
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.0.gauge.decrement(1);
        let mut open = self.connections.open();
        open.count = open.count.saturating_sub(1);
        match open.of_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.of_address.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_open_at_a_time_and_half_of_them_of_one_address() {
        for (max, max_of_address) in [(1, 1), (2, 1), (5, 3), (6, 3)] {
            let connections = OpenConnections::new("test", NonZeroUsize::new(max).unwrap());
            let [one, other, third] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));

            let mut of_one = Vec::new();
            of_one.extend((0..=max).map_while(|_| connections.admit(one)));
            let mut of_other = Vec::new();
            of_other.extend((0..=max).map_while(|_| connections.admit(other)));

            assert_eq!(of_one.len(), max_of_address, "{max}");
            assert_eq!(of_other.len(), max - max_of_address, "{max}");
            assert!(connections.admit(third).is_none());
            of_one.pop();
            let _in_its_place = connections.admit(third).unwrap();
            drop((of_one, of_other));
            assert_eq!(
                connections.open().of_address.len(),
                1,
                "nothing is kept of addresses that are gone"
            );
        }
    }
}
