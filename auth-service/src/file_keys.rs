//! Keys out of files that are read again when they change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use service_kit::watched_files::{FilesName, ReadFilesError, SettingFile, WatchedFiles};
use tokio::time::Instant;

use crate::algorithm::Algorithm;
use crate::config::{self, ReadSecretError};
use crate::hs256_secret::Hs256Secret;
use crate::identity::Identity;
use crate::key_set::{KeySet, LoadKeysError};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::verify::verify;

/// What the files are called in logs and metrics.
const NAME: &str = "auth_keys";

/// So many sets of former keys are kept at most. Whoever replaces files more often within the overlap loses the oldest.
const FORMER_COUNT_MAX: usize = 8;

/// Keys for the tokens of one issuer, and where they come from.
#[derive(Debug)]
pub(crate) struct FileKeys {
    sources: KeySources,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    /// Those of the start.
    Read(KeySet),
    /// Those that the files hold now. Of the ones before, no more is kept than is of use.
    Watched(WatchedFiles<Keyring>),
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub(crate) struct KeySources {
    /// The secret that is in no file.
    pub(crate) secret: Option<Hs256Secret>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) public_key_files: Vec<PathBuf>,
    /// What names the file of the secret, and those of public keys.
    pub(crate) settings: [&'static str; 2],
    /// The algorithms that there must be keys of, and no others. All where it is none.
    pub(crate) algorithms: Option<Vec<Algorithm>>,
}

/// The keys of the moment, and those before them that are good for some time yet.
pub(crate) struct Keyring {
    keys: Arc<KeySet>,
    secret: Option<Hs256Secret>,
    /// The last first.
    former: Vec<Former>,
    /// What the files held, to tell a change from a touch.
    contents: SecretSlice<u8>,
}

#[derive(Debug, Clone)]
struct Former {
    keys: Arc<KeySet>,
    until: Instant,
}

impl FileKeys {
    pub(crate) fn new(sources: KeySources, loaded: KeySet) -> Self {
        let algorithms = loaded.algorithms().to_vec();
        Self { sources, algorithms, keys: Keys::Read(loaded) }
    }

    /// Returns the algorithms of the keys that were there at the start.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Reads the files again whenever they change, from now on. What they held before is good for `overlap` then. Logs and
    /// metrics name the issuer.
    ///
    /// # Errors
    ///
    /// When they are of no use.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn watch(
        &mut self,
        issuer: &str,
        overlap: Duration,
    ) -> Result<(), ReadFilesError<KeyFileError>> {
        let files = self.sources.files();
        if files.is_empty() {
            return Ok(());
        }
        let sources = self.sources.clone();
        let last = Mutex::new(None);
        let read = move |contents: &[&[u8]]| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let ring = sources.read(contents, last.as_ref(), overlap)?;
            *last = Some(ring.clone());
            Ok(ring)
        };
        let files = WatchedFiles::open(FilesName::of(NAME, issuer), files, read)?;
        self.keys = Keys::Watched(files);
        Ok(())
    }

    /// Returns what the files hold, if they are watched.
    pub(crate) fn watched(&self) -> Option<WatchedFiles<Keyring>> {
        match &self.keys {
            Keys::Read(_) => None,
            Keys::Watched(watched) => Some(watched.clone()),
        }
    }

    /// Verifies a token with the keys of the moment, and with former ones if none of those has signed it.
    pub(crate) fn verify(
        &self,
        token: &str,
        rules: &Rules,
        now_unix_ms: u64,
    ) -> Result<Identity, Refusal> {
        let ring = match &self.keys {
            Keys::Read(keys) => return verify(token, keys, rules, now_unix_ms),
            Keys::Watched(watched) => watched.current(),
        };
        let outcome = verify(token, &ring.keys, rules, now_unix_ms);
        if !is_about_the_key(&outcome) {
            return outcome;
        }
        let now = Instant::now();
        let former = ring.former.iter().filter(|former| now < former.until);
        let mut outcomes = former.map(|former| verify(token, &former.keys, rules, now_unix_ms));
        outcomes.find(|outcome| !is_about_the_key(outcome)).unwrap_or(outcome)
    }
}

/// Whether another key may decide otherwise.
fn is_about_the_key(outcome: &Result<Identity, Refusal>) -> bool {
    matches!(outcome, Err(Refusal::Signature | Refusal::UnknownKey | Refusal::Algorithm))
}

impl Keyring {
    /// Returns the secret of the moment, which tokens are signed with.
    pub(crate) fn secret(&self) -> Option<&Hs256Secret> {
        self.secret.as_ref()
    }
}

impl Clone for Keyring {
    fn clone(&self) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            secret: self.secret.clone(),
            former: self.former.clone(),
            contents: self.contents.clone(),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("former", &self.former.len()).finish_non_exhaustive()
    }
}

impl KeySources {
    /// The file of the secret first, if there is one.
    fn files(&self) -> Vec<SettingFile> {
        let [secret_file, public_key_files] = self.settings;
        let secret = self.secret_file.iter().map(|path| SettingFile::new(secret_file, path));
        let public = self.public_key_files.iter();
        secret.chain(public.map(|path| SettingFile::new(public_key_files, path))).collect()
    }

    fn read(
        &self,
        contents: &[&[u8]],
        last: Option<&Keyring>,
        overlap: Duration,
    ) -> Result<Keyring, KeyFileError> {
        let whole = SecretSlice::from(contents.join(&b"\0"[..]));
        if let Some(last) =
            last.filter(|last| last.contents.expose_secret() == whole.expose_secret())
        {
            return Ok(last.clone());
        }
        let (secret, keys) = self.parse(contents)?;
        let now = Instant::now();
        let mut former = Vec::new();
        if let Some(last) = last {
            former.push(Former { keys: Arc::clone(&last.keys), until: now + overlap });
            former.extend(last.former.iter().filter(|former| now < former.until).cloned());
            former.truncate(FORMER_COUNT_MAX);
        }
        Ok(Keyring { keys: Arc::new(keys), secret, former, contents: whole })
    }

    fn parse(&self, contents: &[&[u8]]) -> Result<(Option<Hs256Secret>, KeySet), KeyFileError> {
        let mut contents = contents.iter().copied();
        let secret = match &self.secret_file {
            None => self.secret.clone(),
            Some(path) => Some(config::parse_secret(path, contents.next().unwrap_or_default())?),
        };
        let files = self.public_key_files.iter().zip(contents);
        let keys = KeySet::parse(secret.as_ref(), files)?;
        let Some(wanted) = &self.algorithms else { return Ok((secret, keys)) };
        let of_keys = keys.algorithms();
        let other = of_keys.iter().find(|algorithm| !wanted.contains(algorithm));
        let lacking = wanted.iter().find(|algorithm| !of_keys.contains(algorithm));
        match other.or(lacking) {
            Some(algorithm) => Err(KeyFileError::Algorithms { name: algorithm.name() }),
            None => Ok((secret, keys)),
        }
    }
}

/// Why files of keys are of no use. Nothing secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(transparent)]
    Secret(#[from] ReadSecretError),
    #[error(transparent)]
    Keys(#[from] LoadKeysError),
    #[error(
        "the keys are not those of the issuer's algorithms: {name} is lacking, or there are keys for it"
    )]
    Algorithms { name: &'static str },
    #[error("the client secret cannot be sent")]
    ClientSecret,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> KeySources {
        let secret_file = Some(PathBuf::from("secret"));
        KeySources {
            secret: None,
            secret_file,
            public_key_files: Vec::new(),
            settings: ["SECRET", "KEYS"],
            algorithms: None,
        }
    }

    fn secret(number: usize) -> String {
        format!("secret number {number:040}\n")
    }

    fn read(number: usize, last: Option<&Keyring>, overlap: Duration) -> Keyring {
        sources().read(&[secret(number).as_bytes()], last, overlap).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_replaced_is_kept_for_the_overlap_and_no_longer() {
        let overlap = Duration::from_secs(60);
        let first = read(1, None, overlap);

        let second = read(2, Some(&first), overlap);
        tokio::time::advance(Duration::from_secs(59)).await;
        let third = read(3, Some(&second), overlap);
        let touched = read(3, Some(&third), overlap);
        tokio::time::advance(Duration::from_secs(1)).await;
        let fourth = read(4, Some(&touched), overlap);

        let counts = [&first, &second, &third, &touched, &fourth].map(|ring| ring.former.len());
        assert_eq!(counts, [0, 1, 2, 2, 2]);
        assert!(Arc::ptr_eq(&fourth.former[0].keys, &third.keys));
        assert!(Arc::ptr_eq(&fourth.former[1].keys, &second.keys));
    }

    #[tokio::test]
    async fn no_more_former_keys_are_kept_than_may_be() {
        let overlap = Duration::from_secs(60);
        let mut ring = read(0, None, overlap);

        for number in 1..=FORMER_COUNT_MAX + 1 {
            ring = read(number, Some(&ring), overlap);
            assert_eq!(ring.former.len(), number.min(FORMER_COUNT_MAX));
        }
    }

    #[tokio::test]
    async fn what_is_of_no_use_is_told_without_its_text() {
        let overlap = Duration::from_secs(60);
        let error = sources().read(&[b"short secret"], None, overlap).unwrap_err();

        let told = format!("{error} {error:?}");
        assert!(told.contains("secret cannot be used") && !told.contains("short secret"), "{told}");
        let ring = read(1, None, overlap);
        assert!(!format!("{ring:?}").contains("number"), "{ring:?}");
    }
}
