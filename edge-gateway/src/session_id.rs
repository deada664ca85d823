//! Unguessable names for sessions, sockets and links.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// 144 bits: a whole number of base64 characters.
const BYTES: usize = 18;

/// The name of an Engine.IO session, known to its client and the cluster's edges only. It tells which shard of which edge
/// has the session: two bytes for the edge's number, one for the shard, 120 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; BYTES]);

impl SessionId {
    /// A fresh name for a session of this shard.
    pub(crate) fn random(edge: u16, shard: u8) -> Self {
        let mut bytes = random_bytes();
        [bytes[0], bytes[1]] = edge.to_be_bytes();
        bytes[2] = shard;
        Self(bytes)
    }

    /// The name that a client gives; none if it cannot be one of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?)
    }

    /// The name that another edge gives.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// What others may know it by who must not learn it.
    pub(crate) fn hashed(self) -> Bytes {
        Bytes::copy_from_slice(&Sha256::digest(self.0))
    }

    /// The number of the edge that has the session, if it exists.
    pub(crate) fn edge(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// The shard of that edge.
    pub(crate) fn shard(self) -> usize {
        self.0[2].into()
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A fresh name of 24 characters from the URL-safe base64 alphabet.
pub(crate) fn random() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes())
}

/// A number that nobody else draws.
pub(crate) fn random_number() -> u128 {
    let bytes = random_bytes();
    bytes.iter().take(size_of::<u128>()).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// # Panics
///
/// When the operating system has no randomness to give: nothing can be kept safe then.
fn random_bytes() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_long_url_safe_and_do_not_repeat() {
        let names: HashSet<_> = (0..10_000).map(|_| random()).collect();

        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() == 24));
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        assert!(names.iter().all(|name| name.bytes().all(safe)));
    }

    #[test]
    fn no_bit_of_a_name_is_likelier_than_its_opposite() {
        const SAMPLES: u32 = 1_000_000;
        let mut names = HashSet::with_capacity(SAMPLES as usize);
        let mut ones = [0_u32; BYTES * 8];
        for _ in 0..SAMPLES {
            let SessionId(bytes) = SessionId::random(0, 0);
            for (place, count) in ones.iter_mut().enumerate() {
                *count += u32::from(bytes[place / 8] >> (place % 8) & 1);
            }
            assert!(names.insert(bytes), "a name came twice");
        }

        // Six standard deviations: of a fair coin's 120 such counts, one in four million runs has one outside.
        let (fixed, random) = ones.split_at(24);
        assert_eq!(fixed, [0; 24]);
        let half = SAMPLES / 2;
        for (place, count) in random.iter().enumerate() {
            assert!(count.abs_diff(half) < 3_000, "bit {place}: {count} of {SAMPLES}");
        }
    }

    #[test]
    fn a_session_is_found_by_what_its_client_says() {
        let id = SessionId::random(258, 3);

        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!((id.edge(), id.shard()), (258, 3));
        for other in ["", "__proto__", "constructor", "x", &"A".repeat(25), &"é".repeat(12)] {
            assert_eq!(SessionId::parse(other), None, "{other}");
        }
    }
}
