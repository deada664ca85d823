//! Gives tickets that stand for a token, each once and for a short while.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::identity::Identity;
use crate::refusal::Refusal;

/// How a ticket begins. No token does: neither a JWT nor what a bearer token may be has a colon.
const PREFIX: &str = "ticket:";

const LIFETIME: Duration = Duration::from_secs(30);

/// Most tickets that are given and not used: 28 MB of memory.
const COUNT_MAX: usize = 50_000;

/// Most tickets of one user that are given and not used, so that one user does not use up those of all.
const COUNT_PER_SUBJECT_MAX: u32 = 16;

const RANDOM_BYTES: usize = 32;

/// The SHA-256 of a ticket. Looking one up by it tells nothing about those that there are.
type TicketHash = [u8; 32];

/// An issuer and one of its subjects.
type Subject = (String, String);

/// The tickets that were given and may still be used.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    unused: HashMap<TicketHash, (Identity, Instant)>,
    /// The same, by when they end.
    by_end: BTreeSet<(Instant, TicketHash)>,
    counts: HashMap<Subject, u32>,
}

/// A ticket and its end.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) ticket: SecretString,
    pub(crate) expires_at_unix_ms: u64,
}

/// Whether the text is a ticket, good or not.
pub(crate) fn is_ticket(token: &str) -> bool {
    token.starts_with(PREFIX)
}

impl Tickets {
    /// Gives a ticket for whom a token speaks for.
    pub(crate) fn issue(
        &self,
        identity: Identity,
        now: Instant,
        now_unix_ms: u64,
    ) -> Result<Ticket, IssueTicketError> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| IssueTicketError::Random)?;
        let ticket = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let left_ms = identity.expires_at_unix_ms.saturating_sub(now_unix_ms);
        let lifetime = LIFETIME.min(Duration::from_millis(left_ms));
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(0);

        let mut given = self.given();
        given.forget_before(now);
        if given.unused.len() >= COUNT_MAX {
            return Err(IssueTicketError::Full);
        }
        let count = given.counts.entry(subject_of(&identity)).or_default();
        if *count >= COUNT_PER_SUBJECT_MAX {
            return Err(IssueTicketError::SubjectFull);
        }
        *count += 1;
        let hash = hash_of(&ticket);
        let until = now + lifetime;
        given.unused.insert(hash, (identity, until));
        given.by_end.insert((until, hash));
        Ok(Ticket { ticket: ticket.into(), expires_at_unix_ms: now_unix_ms + lifetime_ms })
    }

    /// Takes a ticket, which is void from then on.
    pub(crate) fn redeem(&self, ticket: &str, now: Instant) -> Result<Identity, Refusal> {
        let (identity, until) = self.given().take(&hash_of(ticket)).ok_or(Refusal::Ticket)?;
        if now < until { Ok(identity) } else { Err(Refusal::Ticket) }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    fn take(&mut self, hash: &TicketHash) -> Option<(Identity, Instant)> {
        let (identity, until) = self.unused.remove(hash)?;
        self.by_end.remove(&(until, *hash));
        let subject = subject_of(&identity);
        if let Some(count) = self.counts.get_mut(&subject) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&subject);
            }
        }
        Some((identity, until))
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((until, hash)) = self.by_end.first().copied() {
            if now < until {
                return;
            }
            self.take(&hash);
        }
    }
}

fn subject_of(identity: &Identity) -> Subject {
    (identity.issuer.clone(), identity.subject.clone())
}

fn hash_of(ticket: &str) -> TicketHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, ticket.as_bytes()).as_ref());
    hash
}

/// Why there is no ticket for a token that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssueTicketError {
    #[error("as many tickets are out as may be")]
    Full,
    #[error("as many tickets of this subject are out as may be")]
    SubjectFull,
    #[error("the system gives no randomness")]
    Random,
}

impl IssueTicketError {
    /// Returns the name that the audit log uses.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Full => "too_many_tickets",
            Self::SubjectFull => "too_many_tickets_of_subject",
            Self::Random => "no_randomness",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::identity::TokenMarks;

    const NOW_MS: u64 = 1_800_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn identity(subject: &str) -> Identity {
        Identity {
            subject: subject.to_owned(),
            issuer: "https://id.example".to_owned(),
            tenant: String::new(),
            name: None,
            expires_at_unix_ms: NOW_MS + 3_600_000,
            marks: TokenMarks::default(),
            capabilities: Vec::new(),
        }
    }

    fn issue(tickets: &Tickets, identity: Identity, now: Instant) -> String {
        let ticket = tickets.issue(identity, now, NOW_MS).unwrap();
        ticket.ticket.expose_secret().to_owned()
    }

    #[test]
    fn a_ticket_is_good_once() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = issue(&tickets, identity("ada"), now);

        assert!(is_ticket(&ticket));
        assert_eq!(tickets.redeem(&ticket, now), Ok(identity("ada")));
        assert_eq!(tickets.redeem(&ticket, now), Err(Refusal::Ticket));
        for other in ["ticket:", "ticket:AAAA", &ticket[..49], &format!("{ticket}A")] {
            assert_eq!(tickets.redeem(other, now), Err(Refusal::Ticket), "{other}");
        }
    }

    #[test]
    fn a_ticket_is_good_for_30_seconds_and_never_beyond_the_token() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        let almost = start + LIFETIME - Duration::from_millis(1);

        let ticket = tickets.issue(identity("ada"), start, NOW_MS).unwrap();
        assert_eq!(ticket.expires_at_unix_ms, NOW_MS + 30_000);
        assert!(tickets.redeem(ticket.ticket.expose_secret(), almost).is_ok());
        let ticket = issue(&tickets, identity("ada"), start);
        assert_eq!(tickets.redeem(&ticket, start + LIFETIME), Err(Refusal::Ticket));
        let short = Identity { expires_at_unix_ms: NOW_MS + 1000, ..identity("ada") };
        let ticket = tickets.issue(short.clone(), start, NOW_MS).unwrap();
        assert_eq!(ticket.expires_at_unix_ms, NOW_MS + 1000);
        let ticket = ticket.ticket.expose_secret();
        assert_eq!(tickets.redeem(ticket, start + SECOND), Err(Refusal::Ticket));
        assert!(tickets.redeem(&issue(&tickets, short, start), start).is_ok());
    }

    #[test]
    fn a_subject_has_16_tickets_and_others_have_theirs() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let given: Vec<_> = (0..16).map(|_| issue(&tickets, identity("ada"), now)).collect();

        let refused = tickets.issue(identity("ada"), now, NOW_MS).unwrap_err();
        assert_eq!(refused, IssueTicketError::SubjectFull);
        issue(&tickets, identity("bob"), now);
        let namesake = Identity { issuer: "other".to_owned(), ..identity("ada") };
        issue(&tickets, namesake, now);
        tickets.redeem(&given[3], now).unwrap();
        issue(&tickets, identity("ada"), now);
        assert!(tickets.issue(identity("ada"), now, NOW_MS).is_err());
        issue(&tickets, identity("ada"), now + LIFETIME);
    }

    #[test]
    fn no_more_are_out_than_may_be() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        let short = Identity { expires_at_unix_ms: NOW_MS + 1000, ..identity("short") };
        issue(&tickets, short, start);
        for number in 1..COUNT_MAX {
            issue(&tickets, identity(&format!("user-{number}")), start);
        }

        let refused = tickets.issue(identity("ada"), start, NOW_MS).unwrap_err();
        assert_eq!(refused, IssueTicketError::Full);
        let ticket = issue(&tickets, identity("ada"), start + SECOND);
        let almost = start + LIFETIME - SECOND;
        let refused = tickets.issue(identity("bob"), almost, NOW_MS).unwrap_err();
        assert_eq!(refused, IssueTicketError::Full);
        tickets.redeem(&ticket, almost).unwrap();
        issue(&tickets, identity("bob"), almost);
        issue(&tickets, identity("ada"), start + LIFETIME);

        let given = tickets.given();
        assert_eq!((given.unused.len(), given.by_end.len(), given.counts.len()), (2, 2, 2));
    }

    #[test]
    fn tickets_that_were_used_keep_nobody_from_having_some() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for _ in 0..=COUNT_MAX {
            let ticket = issue(&tickets, identity("ada"), now);
            tickets.redeem(&ticket, now).unwrap();
        }

        issue(&tickets, identity("bob"), now);

        let given = tickets.given();
        assert_eq!((given.unused.len(), given.by_end.len(), given.counts.len()), (1, 1, 1));
    }

    #[test]
    fn tickets_are_random_and_show_nowhere() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let mut seen = HashSet::new();
        for number in 0..1000 {
            let ticket = tickets.issue(identity(&number.to_string()), now, NOW_MS).unwrap();
            let text = ticket.ticket.expose_secret().to_owned();
            assert!(!format!("{ticket:?}").contains(&text[PREFIX.len()..]));
            assert_eq!(text.len(), PREFIX.len() + 43);
            assert!(seen.insert(text));
        }
        let shown = format!("{tickets:?}");
        assert!(seen.iter().all(|ticket| !shown.contains(&ticket[PREFIX.len()..])));
    }
}
