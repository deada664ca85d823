//! How many sessions one address opens, and how many it has at a time.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::{
    allowance::Steady,
    tallies::{Full, Held, Tallies},
};
use crate::config::AddressLimitConfig;

/// When to come again if an address has all the connections it may have.
const FULL_FOR: Duration = Duration::from_secs(10);

/// Length of the networks of IPv6 that count as one address: whoever has one has all that are in it.
const NETWORK_BITS_6: u32 = 64;

/// What all addresses may have, and what each of them has.
#[derive(Debug)]
pub(crate) struct AddressLimits {
    unlimited: Vec<IpNet>,
    opens: Steady,
    connections_max: u32,
    sessions: Tallies,
    /// Connections that still speak HTTP.
    http: Tallies,
}

/// A client whose address has room for it.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) address: IpAddr,
    /// None where addresses are not limited.
    pub(crate) held: Option<Held>,
    /// How long it has to wait.
    pub(crate) delay: Duration,
}

/// Why an address has no room for one more client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressRefusal {
    /// It opens too many sessions.
    Opens { retry_after: Duration },
    /// It has too many.
    Connections { retry_after: Duration },
}

impl Admitted {
    /// A client that is not counted.
    pub(crate) fn freely(address: IpAddr) -> Self {
        Self { address, held: None, delay: Duration::ZERO }
    }
}

impl AddressLimits {
    pub(crate) fn new(config: &AddressLimitConfig, now: Instant) -> Self {
        Self {
            unlimited: config.unlimited_addresses.clone(),
            opens: Steady::new(config.opens_per_second, config.opens_burst),
            connections_max: config.connections_max.get(),
            sessions: Tallies::new(now),
            http: Tallies::new(now),
        }
    }

    /// Lets a client open a session, now or within `delay_max`.
    pub(crate) fn open(
        &self,
        address: IpAddr,
        now: Instant,
        delay_max: Duration,
    ) -> Result<Admitted, AddressRefusal> {
        if self.is_unlimited(address) {
            return Ok(Admitted::freely(address));
        }
        let tally = self.sessions.of(&network(address), now);
        let now_ns = self.sessions.ns(now);
        // Held first: one that finds no room does not wear the allowance down.
        let held = tally
            .hold(self.connections_max)
            .map_err(|Full| AddressRefusal::Connections { retry_after: FULL_FOR })?;
        let reserved = held.tally().opens.reserve(now_ns, self.opens, delay_max);
        let delay = reserved.map_err(|retry_after| AddressRefusal::Opens { retry_after })?;
        Ok(Admitted { address, held: Some(held), delay })
    }

    /// Takes a client back that has [opened](Self::open) no session after all.
    pub(crate) fn opened_none(&self, client: Admitted) {
        if let Some(held) = client.held {
            held.tally().opens.give_back(self.opens);
        }
    }

    /// Takes in a connection that is going to speak HTTP, as long as it does; none if its address has too many of those.
    pub(crate) fn connect(&self, address: IpAddr, now: Instant) -> Option<Option<Held>> {
        if self.is_unlimited(address) {
            return Some(None);
        }
        self.http.of(&network(address), now).hold(self.connections_max).ok().map(Some)
    }

    fn is_unlimited(&self, address: IpAddr) -> bool {
        self.unlimited.iter().any(|network| network.contains(&address))
    }
}

impl AddressRefusal {
    pub(crate) const fn retry_after(self) -> Duration {
        match self {
            Self::Opens { retry_after } | Self::Connections { retry_after } => retry_after,
        }
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(inner) => {
            let bits = inner.to_bits() >> (u128::BITS - NETWORK_BITS_6);
            IpAddr::V6((bits << (u128::BITS - NETWORK_BITS_6)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(connections: u32, per_second: u32, burst: u32) -> (AddressLimits, Instant) {
        let count = |count| NonZeroU32::new(count).unwrap();
        let config = AddressLimitConfig {
            connections_max: count(connections),
            opens_per_second: count(per_second),
            opens_burst: count(burst),
            unlimited_addresses: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let now = Instant::now();
        (AddressLimits::new(&config, now), now)
    }

    fn open(
        limits: &AddressLimits,
        address: &str,
        now: Instant,
    ) -> Result<Admitted, AddressRefusal> {
        limits.open(address.parse().unwrap(), now, Duration::from_secs(1))
    }

    #[test]
    fn an_address_has_so_many_sessions_and_no_more() {
        let (limits, now) = limits(2, 1000, 1000);

        let (first, _second) =
            (open(&limits, "203.0.113.7", now).unwrap(), open(&limits, "203.0.113.7", now));

        let retry_after = FULL_FOR;
        let full = AddressRefusal::Connections { retry_after };
        assert_eq!(open(&limits, "203.0.113.7", now).unwrap_err(), full);
        assert!(open(&limits, "203.0.113.8", now).is_ok(), "another address");
        drop(first);
        assert!(open(&limits, "203.0.113.7", now).is_ok());
    }

    #[test]
    fn an_address_that_opens_too_fast_waits_and_is_then_refused() {
        let (limits, now) = limits(1000, 2, 3);
        let delay = |now| open(&limits, "203.0.113.7", now).map(|one| one.delay.as_millis());

        let delays: Vec<_> = (0..5).map(|_| delay(now)).collect();

        assert_eq!(delays, [Ok(0), Ok(0), Ok(0), Ok(500), Ok(1000)]);
        let retry_after = Duration::from_millis(500);
        assert_eq!(delay(now), Err(AddressRefusal::Opens { retry_after }));
        assert_eq!(delay(now + retry_after), Ok(1000));
        assert_eq!(delay(now + Duration::from_secs(10)), Ok(0));
    }

    #[test]
    fn who_opens_no_session_after_all_does_not_count() {
        let (limits, now) = limits(2, 1, 2);
        let client = || open(&limits, "203.0.113.7", now);
        let _first = client().unwrap();

        for _ in 0..100 {
            let client = client().unwrap();
            assert!(client.delay.is_zero());
            limits.opened_none(client);
        }

        assert!(client().unwrap().delay.is_zero());
        assert!(!client().unwrap().delay.is_zero(), "who opens one counts");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (limits, now) = limits(1, 1000, 1000);

        let _held = open(&limits, "2001:db8::1", now).unwrap();

        assert!(open(&limits, "2001:db8::ffff:0:0:2", now).is_err());
        assert!(open(&limits, "2001:db8:0:1::1", now).is_ok());
    }

    #[test]
    fn some_addresses_are_not_limited() {
        let (limits, now) = limits(1, 1, 1);

        let all: Vec<_> = (0..100).map(|_| open(&limits, "10.1.2.3", now)).collect();

        assert!(all.iter().all(|one| one.as_ref().is_ok_and(|one| one.delay.is_zero())));
        assert!((0..100).all(|_| limits.connect("10.1.2.3".parse().unwrap(), now).is_some()));
    }

    #[test]
    fn connections_that_speak_http_are_bounded_too() {
        let (limits, now) = limits(2, 1, 1);
        let connect = || limits.connect("203.0.113.7".parse().unwrap(), now);

        let (first, _second) = (connect().unwrap(), connect().unwrap());

        assert!(connect().is_none());
        drop(first);
        assert!(connect().is_some());
    }
}
