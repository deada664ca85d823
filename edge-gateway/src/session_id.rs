//! Unguessable names for sessions, sockets and links.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// 144 bits: more than can be guessed, and a whole number of base64 characters.
const BYTES: usize = 18;

/// A fresh name of 24 characters from the URL-safe base64 alphabet.
///
/// # Panics
///
/// When the operating system has no randomness to give: nothing can be kept safe then.
pub(crate) fn random() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
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
}
