//! Unguessable names for sessions, sockets and links.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Of a session's name: a whole number of base64 characters.
const BYTES: usize = 36;

/// Where its parts begin.
const SHARD_AT: usize = 2;
const BONDS_AT: usize = 3;
const PROOF_AT: usize = 20;

/// Of any other name: 144 bits, again a whole number of characters.
const NAME_BYTES: usize = 18;

/// The name of an Engine.IO session, known to its client and the cluster's edges only. It tells which shard of which edge
/// has the session: two bytes for the edge's number, one for the shard. A byte says what the session is bound to, 128 bits
/// are random, and 128 bits prove that a request has what the session is bound to; where it is bound to nothing they are
/// random, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; BYTES]);

impl SessionId {
    /// A fresh name for a session of this shard that is bound to nothing.
    pub(crate) fn random(edge: u16, shard: u8) -> Self {
        let mut bytes = random_bytes();
        [bytes[0], bytes[1]] = edge.to_be_bytes();
        bytes[SHARD_AT] = shard;
        bytes[BONDS_AT] = 0;
        Self(bytes)
    }

    /// The same, bound to what `hash` takes in.
    pub(crate) fn bound(self, bonds: u8, hash: impl FnOnce(&mut Sha256)) -> Self {
        let mut bytes = self.0;
        bytes[BONDS_AT] = bonds;
        let proof = Self(bytes).proof(hash);
        bytes[PROOF_AT..].copy_from_slice(&proof);
        Self(bytes)
    }

    /// What the session is bound to: bits that [`bound`](Self::bound) was given.
    pub(crate) fn bonds(self) -> u8 {
        self.0[BONDS_AT]
    }

    /// Whether `hash` takes in what the session is bound to.
    pub(crate) fn proves(self, hash: impl FnOnce(&mut Sha256)) -> bool {
        self.proof(hash) == self.0[PROOF_AT..]
    }

    fn proof(self, hash: impl FnOnce(&mut Sha256)) -> [u8; BYTES - PROOF_AT] {
        let mut hasher = Sha256::new();
        hasher.update(&self.0[BONDS_AT..PROOF_AT]);
        hash(&mut hasher);
        let mut proof = [0; BYTES - PROOF_AT];
        proof.copy_from_slice(&hasher.finalize()[..BYTES - PROOF_AT]);
        proof
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
        self.0[SHARD_AT].into()
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A fresh name of 24 characters from the URL-safe base64 alphabet.
pub(crate) fn random() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<NAME_BYTES>())
}

/// A number that nobody else draws.
pub(crate) fn random_number() -> u128 {
    u128::from_be_bytes(random_bytes())
}

/// # Panics
///
/// When the operating system has no randomness to give: nothing can be kept safe then.
fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RANDOM_AT: usize = BONDS_AT + 1;

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

        // Six standard deviations: of a fair coin's 256 such counts, one in two million runs has one outside.
        let (fixed, random) = ones.split_at(RANDOM_AT * 8);
        assert_eq!(fixed, [0; RANDOM_AT * 8]);
        // So many that nobody can guess are left where the proof is known, too.
        const { assert!(PROOF_AT - RANDOM_AT >= 16) };
        let half = SAMPLES / 2;
        for (place, count) in random.iter().enumerate() {
            assert!(count.abs_diff(half) < 3_000, "bit {place}: {count} of {SAMPLES}");
        }
    }

    #[test]
    fn a_bound_name_proves_what_it_is_bound_to_and_nothing_else() {
        let plain = SessionId::random(258, 3);
        let bound = plain.bound(5, |hasher| hasher.update("a"));

        assert_eq!((bound.edge(), bound.shard(), bound.bonds()), (258, 3, 5));
        assert_eq!(plain.bonds(), 0);
        assert!(bound.proves(|hasher| hasher.update("a")));
        assert!(!bound.proves(|hasher| hasher.update("b")));
        assert!(!bound.proves(|_| {}));
        assert_ne!(bound, SessionId::random(258, 3).bound(5, |hasher| hasher.update("a")));
    }

    #[test]
    fn a_session_is_found_by_what_its_client_says() {
        let id = SessionId::random(258, 3);

        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!((id.edge(), id.shard()), (258, 3));
        for other in ["", "__proto__", "constructor", "x", &"A".repeat(49), &"é".repeat(24)] {
            assert_eq!(SessionId::parse(other), None, "{other}");
        }
    }
}
