//! How many sockets one user has, how many one tenant, and how much each of them sends.
//!
//! A socket keeps what it shares with the others of its user and tenant: an event looks nothing up and takes no lock.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    allowance::{Allowance, Steady},
    surpluses::{Surpluses, Whose},
    tallies::{Full, Held, Tallies},
};
use crate::{
    config::{ClientLimitConfig, IdentityLimitConfig},
    socket::Identity,
};

/// What may be sent at once is what may be sent in so many seconds.
const BURST_SECONDS: u32 = 2;

/// What all users and tenants may have, and what each of them has.
#[derive(Debug, Default)]
pub(crate) struct IdentityLimits {
    subjects: Option<Limited>,
    tenants: Option<Limited>,
    /// For whom a socket was let in for which one that waits has to go.
    surpluses: Surpluses,
}

/// What one of a kind may have. There is none where nothing is limited.
#[derive(Debug)]
struct Limited {
    tallies: Tallies,
    sockets_max: Option<NonZeroU32>,
    events: Option<Steady>,
    bytes: Option<Steady>,
}

/// What a socket shares with the others of its user, and of its tenant.
#[derive(Debug)]
pub(crate) struct Shares {
    subject: Option<Held>,
    tenant: Option<Held>,
    /// The socket waits for its client.
    is_waiting: bool,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    Subject,
    Tenant,
}

/// A user or a tenant has sent too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Events { party: Party, retry_after: Duration },
    Bytes { party: Party, retry_after: Duration },
}

/// A user or a tenant has as many sockets as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManySockets(pub(crate) Party);

impl IdentityLimits {
    pub(crate) fn of(config: &ClientLimitConfig) -> Self {
        Self::new(config.identities, config.payload_bytes_max, Instant::now())
    }

    /// A message of `message_bytes_max` always fits into an allowance that is whole.
    fn new(config: IdentityLimitConfig, message_bytes_max: NonZeroU32, now: Instant) -> Self {
        let limited = |sockets_max, events: Option<_>, bytes: Option<_>| {
            let is_limited = events.is_some() || bytes.is_some() || Option::is_some(&sockets_max);
            is_limited.then(|| Limited {
                tallies: Tallies::new(now),
                sockets_max,
                events: events.map(|rate| Steady::new(rate, burst(rate))),
                bytes: bytes.map(|rate| Steady::new(rate, burst(rate).max(message_bytes_max))),
            })
        };
        let IdentityLimitConfig {
            subject_sockets_max,
            subject_events_per_second,
            subject_bytes_per_second,
            tenant_sockets_max,
            tenant_events_per_second,
            tenant_bytes_per_second,
        } = config;
        Self {
            subjects: limited(
                subject_sockets_max,
                subject_events_per_second,
                subject_bytes_per_second,
            ),
            tenants: limited(tenant_sockets_max, tenant_events_per_second, tenant_bytes_per_second),
            surpluses: Surpluses::default(),
        }
    }

    /// Takes in a socket, if its user and its tenant may have one more. One that was there before and has `moved` is taken in
    /// however many there are: for a moment it is in two places. Sockets that wait for their clients keep nobody out: one of
    /// them has [to go](Self::surpluses_since) then. None where nothing is limited.
    pub(crate) fn enter(
        &self,
        identity: &Identity,
        has_moved: bool,
        now: Instant,
    ) -> Result<Option<Box<Shares>>, TooManySockets> {
        let subject = hold(self.subjects.as_ref(), &identity.owner(), has_moved, now);
        let subject = subject.map_err(|Full| TooManySockets(Party::Subject))?;
        let tenant = hold(self.tenants.as_ref(), &identity.tenant, has_moved, now);
        let tenant = tenant.map_err(|Full| TooManySockets(Party::Tenant))?;
        if !has_moved && is_beyond(self.subjects.as_ref(), subject.as_ref()) {
            // One of its user's goes, which is one of its tenant's, too.
            self.surpluses.note_user(identity);
        } else if !has_moved && is_beyond(self.tenants.as_ref(), tenant.as_ref()) {
            self.surpluses.note_tenant();
        }
        let is_limited = subject.is_some() || tenant.is_some();
        Ok(is_limited.then(|| Box::new(Shares { subject, tenant, is_waiting: false })))
    }

    /// Whose sockets that wait may have to go, on whatever shard they are, since there were so `many`; and how many there are now.
    pub(crate) fn surpluses_since(&self, many: u64) -> (u64, Vec<Whose>) {
        self.surpluses.since(many)
    }

    /// Whether the user or the tenant has more sockets than it may have, those that wait among them.
    pub(crate) fn are_beyond(&self, shares: &Shares) -> bool {
        is_beyond(self.subjects.as_ref(), shares.subject.as_ref())
            || is_beyond(self.tenants.as_ref(), shares.tenant.as_ref())
    }

    /// Takes an event of so many bytes off the allowances of its socket's user and tenant. One that is refused does not count for
    /// whoever is asked later, and not as bytes where it is one event too many.
    pub(crate) fn take(&self, shares: &Shares, bytes: usize, now: Instant) -> Result<(), Exceeded> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        take(Party::Subject, self.subjects.as_ref(), shares.subject.as_ref(), (bytes, now))?;
        take(Party::Tenant, self.tenants.as_ref(), shares.tenant.as_ref(), (bytes, now))
    }
}

impl Shares {
    /// Notes whether the socket waits for its client.
    pub(crate) fn set_waiting(&mut self, waits: bool) {
        if std::mem::replace(&mut self.is_waiting, waits) == waits {
            return;
        }
        for held in self.subject.iter().chain(&self.tenant) {
            if waits { held.wait() } else { held.go_on() }
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.set_waiting(false);
    }
}

impl Exceeded {
    pub(crate) const fn retry_after(self) -> Duration {
        match self {
            Self::Events { retry_after, .. } | Self::Bytes { retry_after, .. } => retry_after,
        }
    }
}

fn is_beyond(limited: Option<&Limited>, held: Option<&Held>) -> bool {
    let max = limited.and_then(|limited| limited.sockets_max);
    max.zip(held).is_some_and(|(max, held)| held.is_beyond(max.get()))
}

fn burst(per_second: NonZeroU32) -> NonZeroU32 {
    per_second.saturating_mul(const { NonZeroU32::new(BURST_SECONDS).unwrap() })
}

fn hold(
    limited: Option<&Limited>,
    who: &impl std::hash::Hash,
    has_moved: bool,
    now: Instant,
) -> Result<Option<Held>, Full> {
    let Some(limited) = limited else { return Ok(None) };
    let max = limited.sockets_max.filter(|_| !has_moved).map_or(u32::MAX, NonZeroU32::get);
    limited.tallies.of(who, now).hold(max).map(Some)
}

fn take(
    party: Party,
    limited: Option<&Limited>,
    held: Option<&Held>,
    (bytes, now): (u64, Instant),
) -> Result<(), Exceeded> {
    let (Some(limited), Some(held)) = (limited, held) else { return Ok(()) };
    let now_ns = limited.tallies.ns(now);
    let take = |rate: Option<Steady>, allowance: &Allowance, amount| match rate {
        Some(rate) => allowance.take(now_ns, rate, amount),
        None => Ok(()),
    };
    take(limited.events, &held.tally().events, 1)
        .map_err(|retry_after| Exceeded::Events { party, retry_after })?;
    take(limited.bytes, &held.tally().bytes, bytes)
        .map_err(|retry_after| Exceeded::Bytes { party, retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::{Point, TokenMarks};

    const NOTHING: IdentityLimitConfig = IdentityLimitConfig {
        subject_sockets_max: None,
        subject_events_per_second: None,
        subject_bytes_per_second: None,
        tenant_sockets_max: None,
        tenant_events_per_second: None,
        tenant_bytes_per_second: None,
    };

    fn limits(config: IdentityLimitConfig) -> (IdentityLimits, Instant) {
        let now = Instant::now();
        (IdentityLimits::new(config, NonZeroU32::new(1000).unwrap(), now), now)
    }

    fn count(count: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(count)
    }

    fn identity(subject: &str, issuer: &str, tenant: &str) -> Identity {
        Identity {
            subject: subject.into(),
            issuer: issuer.into(),
            tenant: tenant.into(),
            profile: bytes::Bytes::new(),
            expires_at_unix_ms: u64::MAX,
            capabilities: None,
            marks: TokenMarks::of("", &proto::auth::v1::TokenMarks::default()),
            checked: Point::of(&proto::auth::v1::RevocationPoint::default()),
        }
    }

    #[test]
    fn a_user_has_so_many_sockets_and_no_more() {
        let (limits, now) =
            limits(IdentityLimitConfig { subject_sockets_max: count(2), ..NOTHING });
        let enter = |issuer, tenant, moved| {
            limits.enter(&identity("alice", issuer, tenant), moved, now).map(|one| one.unwrap())
        };

        let (first, _second) = (enter("a", "", false).unwrap(), enter("a", "", false).unwrap());

        assert_eq!(enter("a", "", false).unwrap_err(), TooManySockets(Party::Subject));
        assert!(enter("b", "", false).is_ok(), "another issuer's");
        assert!(enter("a", "t", false).is_ok(), "another tenant's");
        let moved = enter("a", "", true).unwrap();
        drop(first);
        assert!(enter("a", "", false).is_err(), "the one that has moved counts");
        drop(moved);
        assert!(enter("a", "", false).is_ok());
    }

    #[test]
    fn sockets_that_wait_for_their_clients_keep_nobody_out() {
        let (limits, now) =
            limits(IdentityLimitConfig { subject_sockets_max: count(1), ..NOTHING });
        let enter = || limits.enter(&identity("alice", "a", ""), false, now).map(Option::unwrap);
        let mut first = enter().unwrap();

        first.set_waiting(true);
        assert_eq!(limits.surpluses_since(0), (0, vec![]));
        assert!(!limits.are_beyond(&first));
        let second = enter().unwrap();

        let alice = Whose::User { tenant: "".into(), subject: "alice".into() };
        assert_eq!(limits.surpluses_since(0), (1, vec![alice]));
        assert!(limits.are_beyond(&first));
        assert_eq!(enter().unwrap_err(), TooManySockets(Party::Subject));
        drop(first);
        assert!(!limits.are_beyond(&second));
        assert_eq!(enter().unwrap_err(), TooManySockets(Party::Subject));
        drop(second);
        assert!(enter().is_ok());
    }

    #[test]
    fn each_shard_hears_for_whom_sockets_have_to_go() {
        let max = IdentityLimitConfig {
            subject_sockets_max: count(1),
            tenant_sockets_max: count(2000),
            ..NOTHING
        };
        let (limits, now) = limits(max);
        let enter = |subject: &str, tenant| {
            let mut held = limits.enter(&identity(subject, "a", tenant), false, now).unwrap();
            held.as_mut().unwrap().set_waiting(true);
            held
        };
        let user = |subject: &str, tenant: &str| Whose::User {
            tenant: tenant.into(),
            subject: subject.into(),
        };
        let _waiting = (enter("alice", "t"), enter("bob", "t"));

        let mut held = vec![enter("alice", "t"), enter("bob", "t")];
        assert_eq!(limits.surpluses_since(0), (2, vec![user("alice", "t"), user("bob", "t")]));
        assert_eq!(limits.surpluses_since(1), (2, vec![user("bob", "t")]));
        assert_eq!(limits.surpluses_since(2), (2, vec![]));

        held.extend((0..1996).map(|user| enter(&user.to_string(), "t")));
        assert_eq!(limits.surpluses_since(2), (2, vec![]), "2000 of the tenant are not too many");
        held.push(enter("one more", "t"));
        assert_eq!(limits.surpluses_since(2), (3, vec![Whose::Anybody]));

        held.extend((0..1025).map(|_| enter("alice", "u")));
        assert_eq!(limits.surpluses_since(3).1, vec![user("alice", "u"); 1024]);
        held.push(enter("alice", "u"));
        assert_eq!(limits.surpluses_since(3).1, [Whose::Anybody], "they are too many to name");
        assert_eq!(limits.surpluses_since(4).1.len(), 1024);
    }

    #[test]
    fn a_tenant_has_so_many_sockets_whoever_has_them() {
        let (limits, now) = limits(IdentityLimitConfig { tenant_sockets_max: count(2), ..NOTHING });
        let enter = |subject, tenant| limits.enter(&identity(subject, "a", tenant), false, now);

        let _held = (enter("alice", "t").unwrap(), enter("bob", "t").unwrap());

        assert_eq!(enter("carol", "t").unwrap_err(), TooManySockets(Party::Tenant));
        assert!(enter("carol", "u").is_ok());
        assert!(enter("carol", "").is_ok());
    }

    #[test]
    fn all_sockets_of_a_user_share_one_allowance_of_events() {
        let (limits, now) =
            limits(IdentityLimitConfig { subject_events_per_second: count(2), ..NOTHING });
        let enter = |subject| limits.enter(&identity(subject, "a", ""), false, now).unwrap();
        let sockets = [enter("alice").unwrap(), enter("alice").unwrap()];
        let take = |socket: usize, now| limits.take(&sockets[socket], 1_000_000, now);

        assert!((0..4).all(|event| take(event % 2, now).is_ok()), "bytes are not limited");

        let retry_after = Duration::from_millis(500);
        let party = Party::Subject;
        assert_eq!(take(1, now), Err(Exceeded::Events { party, retry_after }));
        assert_eq!(take(0, now + retry_after), Ok(()));
        assert!(limits.take(&enter("bob").unwrap(), 1, now).is_ok());
    }

    #[test]
    fn all_sockets_of_a_tenant_share_one_allowance_of_bytes() {
        let (limits, now) =
            limits(IdentityLimitConfig { tenant_bytes_per_second: count(1000), ..NOTHING });
        let enter = |subject, tenant| limits.enter(&identity(subject, "a", tenant), false, now);
        let (alice, bob) = (enter("alice", "t").unwrap(), enter("bob", "t").unwrap());
        let take =
            |socket: &Option<Box<Shares>>, bytes| limits.take(socket.as_ref().unwrap(), bytes, now);

        assert!(take(&alice, 1500).is_ok());

        let retry_after = Duration::from_millis(1);
        let party = Party::Tenant;
        assert_eq!(take(&bob, 501), Err(Exceeded::Bytes { party, retry_after }));
        assert_eq!(take(&bob, 500), Ok(()), "to the last byte");
        assert!(take(&enter("alice", "u").unwrap(), 500).is_ok());
    }

    #[test]
    fn the_largest_message_fits_into_the_smallest_allowance() {
        let (limits, now) =
            limits(IdentityLimitConfig { subject_bytes_per_second: count(1), ..NOTHING });
        let alice = limits.enter(&identity("alice", "a", ""), false, now).unwrap().unwrap();

        assert!(limits.take(&alice, 1000, now).is_ok());
        assert!(limits.take(&alice, 1, now).is_err());
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_kept() {
        let (limits, now) = limits(NOTHING);

        assert!(limits.enter(&identity("alice", "a", "t"), false, now).unwrap().is_none());
    }
}
