//! Keeps what is in files that operators replace while the process runs: certificates, keys, secrets.

use std::{
    error::Error,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::{Counter, counter, describe_counter};
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{self, MissedTickBehavior},
};
use zeroize::Zeroizing;

/// How often files are looked at. A look costs one call of the system for each, and reads nothing that has not changed.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

const RELOADS: &str = "sockeye_file_reloads_total";

/// A file, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFile {
    /// The setting's environment variable.
    pub setting: &'static str,
    /// Where the file is.
    pub path: PathBuf,
}

impl SettingFile {
    /// Returns the file at `path`, which `setting` names.
    pub fn new(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { setting, path: path.into() }
    }
}

/// Why files are of no use. Nothing of their content is in it.
#[derive(Debug, thiserror::Error)]
pub enum ReadFilesError<E: Error + 'static> {
    /// One of them cannot be read.
    #[error("{setting} names {}, which cannot be read", path.display())]
    Read {
        /// The setting's environment variable.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of them is larger than what is read.
    #[error("{setting} names {}, which is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The setting's environment variable.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// What they hold is not what it should be.
    #[error(transparent)]
    Content(E),
}

/// What one or more files hold, read again when one of them is replaced or written to.
///
/// Files that go together, such as a certificate and its key, are read together. While they cannot be read or do not go
/// together, what they held before stays in force, the failure is counted, and they are read again at each look.
#[derive(Debug)]
pub struct WatchedFiles<T> {
    current: watch::Receiver<Arc<T>>,
    /// Looks at the files for as long as anyone holds this.
    _watching: Arc<JoinSet<()>>,
}

impl<T> Clone for WatchedFiles<T> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone(), _watching: Arc::clone(&self._watching) }
    }
}

impl<T: Send + Sync + 'static> WatchedFiles<T> {
    /// Reads files, and watches them from then on. `name` says in logs and metrics which they are; `parse` is given what is
    /// in them, in their order.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or `parse` makes nothing of them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open<E: Error + Send + Sync + 'static>(
        name: impl Into<FilesName>,
        files: Vec<SettingFile>,
        parse: impl Fn(&[&[u8]]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, ReadFilesError<E>> {
        describe_counter!(RELOADS, "Files that were read again since they changed, by outcome.");
        let name = name.into();
        let source = Source { name, files, parse };
        // Looked at before they are read: what is changed in between looks changed at the next look.
        let seen = source.stamps();
        let (sender, current) = watch::channel(Arc::new(source.read()?));
        let mut watching = JoinSet::new();
        watching.spawn(watch(Arc::new(source), seen, sender));
        Ok(Self { current, _watching: Arc::new(watching) })
    }

    /// Returns what the files held when they were last in good order.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.borrow())
    }

    /// Waits until they hold something else than at the last call, and returns it. The first call waits for the first
    /// change. It can be given up at any time.
    pub async fn changed(&mut self) -> Arc<T> {
        if self.current.changed().await.is_err() {
            // Nobody looks any more, since the runtime ends.
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.current.borrow_and_update())
    }
}

/// What files are called in logs and metrics.
#[derive(Debug, Clone)]
pub struct FilesName {
    kind: &'static str,
    /// Whose they are, where there may be several of a kind.
    owner: Option<String>,
}

impl FilesName {
    /// Those of this kind that `owner` has.
    pub fn of(kind: &'static str, owner: impl Into<String>) -> Self {
        Self { kind, owner: Some(owner.into()) }
    }

    fn reloads(&self, outcome: &'static str) -> Counter {
        let Self { kind, owner } = self;
        match owner.clone() {
            None => counter!(RELOADS, "files" => *kind, "outcome" => outcome),
            Some(owner) => {
                counter!(RELOADS, "files" => *kind, "owner" => owner, "outcome" => outcome)
            }
        }
    }
}

impl From<&'static str> for FilesName {
    fn from(kind: &'static str) -> Self {
        Self { kind, owner: None }
    }
}

/// The files, and what makes sense of them.
struct Source<P> {
    name: FilesName,
    files: Vec<SettingFile>,
    parse: P,
}

/// What tells a file from what it was before; none while there is no such file.
type Stamp = Option<[i64; 7]>;

impl<P> Source<P> {
    fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(|file| file.path.metadata().ok().as_ref().map(stamp)).collect()
    }

    fn read<T, E: Error + 'static>(&self) -> Result<T, ReadFilesError<E>>
    where
        P: Fn(&[&[u8]]) -> Result<T, E>,
    {
        let contents: Result<Vec<_>, _> = self.files.iter().map(read).collect();
        let contents = contents?;
        let slices: Vec<&[u8]> = contents.iter().map(|contents| contents.as_slice()).collect();
        (self.parse)(&slices).map_err(ReadFilesError::Content)
    }
}

/// The file that is at the end of all links, and when it was changed.
fn stamp(metadata: &Metadata) -> [i64; 7] {
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

/// Reads a whole file, if it is one and not too large. It may hold a secret, which is wiped once it has been made something of.
fn read<E: Error + 'static>(file: &SettingFile) -> Result<Zeroizing<Vec<u8>>, ReadFilesError<E>> {
    let SettingFile { setting, path } = file;
    let failed = |source| ReadFilesError::Read { setting, path: path.clone(), source };
    let contents = read_bounded(path).map_err(failed)?;
    if u64::try_from(contents.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(ReadFilesError::TooLarge { setting, path: path.clone() });
    }
    Ok(contents)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe would be opened for as long as nobody writes to it, and could be read once only.
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    // With room from the start, and for the read that finds the end: what is moved as a buffer grows is not wiped.
    let room = metadata.len().min(FILE_BYTES_MAX).saturating_add(64);
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
    Ok(contents)
}

/// Looks at the files until nobody wants to know any more.
async fn watch<T, E, P>(
    source: Arc<Source<P>>,
    mut seen: Vec<Stamp>,
    current: watch::Sender<Arc<T>>,
) where
    T: Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
    P: Fn(&[&[u8]]) -> Result<T, E> + Send + Sync + 'static,
{
    let mut looks = time::interval_at(time::Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_failed = false;
    let (files, owner) = (source.name.kind, source.name.owner.as_deref());
    looks.tick().await;
    // Not before: files are opened before there are metrics.
    for outcome in ["loaded", "failed"] {
        source.name.reloads(outcome).increment(0);
    }
    looks.reset_immediately();
    loop {
        looks.tick().await;
        let before = seen.clone();
        let looked_at = Arc::clone(&source);
        // A disk that hangs must not stop a thread that serves others.
        let look = task::spawn_blocking(move || {
            let stamps = looked_at.stamps();
            let is_due = has_failed || stamps != before;
            (stamps, is_due.then(|| looked_at.read()))
        });
        let Ok((stamps, read)) = look.await else {
            tracing::error!(files, owner, "files could not be looked at");
            continue;
        };
        let is_new = stamps != seen;
        seen = stamps;
        let Some(read) = read else { continue };
        match read {
            Ok(value) => {
                has_failed = false;
                source.name.reloads("loaded").increment(1);
                tracing::info!(files, owner, "changed files are in force");
                current.send_replace(Arc::new(value));
            }
            Err(error) => {
                has_failed = true;
                source.name.reloads("failed").increment(1);
                if is_new {
                    let error = anyhow::Error::new(error);
                    tracing::error!(
                        files,
                        owner,
                        error = format!("{error:#}"),
                        "changed files are of no use, and what they held before stays in force"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, str::Utf8Error};

    use super::*;

    fn both(dir: &Path) -> Vec<SettingFile> {
        ["ONE", "TWO"].map(|setting| SettingFile::new(setting, dir.join(setting))).into()
    }

    fn write(dir: &Path, one: impl AsRef<[u8]>, two: impl AsRef<[u8]>) {
        fs::write(dir.join("ONE"), one).unwrap();
        fs::write(dir.join("TWO"), two).unwrap();
    }

    fn text(contents: &[&[u8]]) -> Result<String, Utf8Error> {
        let texts: Result<Vec<_>, _> = contents.iter().map(|one| str::from_utf8(one)).collect();
        Ok(texts?.join(" "))
    }

    fn open(dir: &Path) -> Result<WatchedFiles<String>, ReadFilesError<Utf8Error>> {
        WatchedFiles::open("test", both(dir), text)
    }

    // Time stands still but for the waits: no look is waited for.
    #[tokio::test(start_paused = true)]
    async fn what_is_written_to_a_file_is_in_force_after_a_look() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "b");
        let mut watched = open(dir.path()).unwrap();
        assert_eq!(*watched.current(), "a b");

        fs::write(dir.path().join("TWO"), "c").unwrap();

        let begin = time::Instant::now();
        assert_eq!(*watched.changed().await, "a c");
        assert_eq!(begin.elapsed(), LOOK_INTERVAL);
        assert_eq!(*watched.clone().current(), "a c");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_to_another_folder_brings_both_files_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
        for (folder, text) in [(&old, "1"), (&new, "2")] {
            fs::create_dir(folder).unwrap();
            write(folder, text, text);
        }
        // As Kubernetes brings what a secret holds: a link is replaced, and no file is written to.
        let current = dir.path().join("current");
        symlink(&old, &current).unwrap();
        let mut watched = open(&current).unwrap();
        assert_eq!(*watched.current(), "1 1");

        symlink(&new, dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &current).unwrap();

        assert_eq!(*watched.changed().await, "2 2");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_no_use_leaves_the_old_in_force_until_it_is_put_right() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "b");
        let mut watched = open(dir.path()).unwrap();

        let mut still = watched.clone();
        for broken in [&b"\xff"[..], &vec![b'a'; 1024 * 1024 + 1]] {
            fs::write(dir.path().join("ONE"), broken).unwrap();
            assert!(time::timeout(LOOK_INTERVAL * 5, still.changed()).await.is_err());
            assert_eq!(*watched.current(), "a b");
        }
        fs::remove_file(dir.path().join("ONE")).unwrap();
        assert!(time::timeout(LOOK_INTERVAL * 5, still.changed()).await.is_err());

        fs::write(dir.path().join("ONE"), "good").unwrap();
        assert_eq!(*watched.changed().await, "good b");
    }

    #[tokio::test]
    async fn an_error_names_the_setting_and_the_file_and_nothing_of_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let told = |files: Result<_, _>| format!("{:#}", anyhow::Error::new(files.err().unwrap()));
        let path = |name: &str| dir.path().join(name).display().to_string();

        fs::write(dir.path().join("ONE"), "a").unwrap();
        let missing = told(open(dir.path()));
        assert!(missing.starts_with(&format!("TWO names {}, which cannot", path("TWO"))));

        write(dir.path(), "a", vec![b'x'; 1024 * 1024 + 1]);
        let large = format!("TWO names {}, which is larger than 1048576 bytes", path("TWO"));
        assert_eq!(told(open(dir.path())), large);

        fs::remove_file(dir.path().join("TWO")).unwrap();
        fs::create_dir(dir.path().join("TWO")).unwrap();
        assert!(told(open(dir.path())).ends_with("it is no regular file"));
    }

    #[tokio::test]
    async fn the_largest_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", vec![b'x'; 1024 * 1024]);

        assert_eq!(open(dir.path()).unwrap().current().len(), 2 + 1024 * 1024);
    }
}
