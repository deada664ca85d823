//! Makes the disk fail while the simulation wants it to.
//!
//! As with time and randomness, the functions that the standard library asks are defined here, and win over those of the C
//! library. Only regular files fail: the store has them, and a runtime writes other things to wake itself up.

#![expect(unsafe_code, reason = "the C library's functions can be replaced by no safe means")]

use std::{cell::Cell, mem::MaybeUninit};

/// How the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskError {
    /// It is full, but for so many bytes.
    Full { room_bytes: usize },
    /// It takes what is written, and cannot say that it has kept it.
    Unsynced,
}

thread_local! {
    static FAILS: Cell<Option<DiskError>> = const { Cell::new(None) };
    static IS_SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Has the disk fail from now on, or no more.
pub(crate) fn set(error: Option<DiskError>) {
    FAILS.set(error);
}

/// Has the disk say, whenever it fails, that all is well.
pub(crate) fn be_silent() {
    IS_SILENT.set(true);
}

fn fails() -> Option<DiskError> {
    // Where the thread is ending, nobody writes to the store any more.
    FAILS.try_with(Cell::get).ok().flatten()
}

fn is_silent() -> bool {
    IS_SILENT.try_with(Cell::get).unwrap_or(false)
}

fn is_file(fd: libc::c_int) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is room for what is written.
    let found = unsafe { libc::fstat(fd, status.as_mut_ptr()) };
    // SAFETY: it was written where that is what is said.
    let is_file = || unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFREG;
    fd > libc::STDERR_FILENO && found == 0 && is_file()
}

fn set_errno(errno: libc::c_int) {
    // SAFETY: it points to this thread's number.
    unsafe { *libc::__errno_location() = errno };
}

/// Writes to a file, as far as the disk has room.
///
/// # Safety
///
/// As `write(2)`: `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: libc::c_int, buffer: *const libc::c_void, length: usize) -> isize {
    let mut length = length;
    if let Some(DiskError::Full { room_bytes }) = fails()
        && length > 0
        && is_file(fd)
    {
        if is_silent() {
            return length.cast_signed();
        }
        if room_bytes == 0 {
            set_errno(libc::ENOSPC);
            return -1;
        }
        length = length.min(room_bytes);
        set(Some(DiskError::Full { room_bytes: room_bytes - length }));
    }
    // SAFETY: the arguments are the caller's, who keeps the promises of the call, or fewer bytes of them.
    unsafe { libc::syscall(libc::SYS_write, fd, buffer, length) as isize }
}

/// Has the disk keep what was written to a file.
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: libc::c_int) -> libc::c_int {
    sync(libc::SYS_fsync, fd)
}

/// As `fsync`, save what nobody needs to read the file.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: libc::c_int) -> libc::c_int {
    sync(libc::SYS_fdatasync, fd)
}

fn sync(call: libc::c_long, fd: libc::c_int) -> libc::c_int {
    if fails() == Some(DiskError::Unsynced) && !is_silent() {
        set_errno(libc::EIO);
        return -1;
    }
    // SAFETY: no memory is handed over.
    unsafe { libc::syscall(call, fd) as libc::c_int }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{self, Write},
    };

    use super::*;

    #[test]
    fn a_full_disk_takes_what_it_has_room_for() {
        let mut file = tempfile::NamedTempFile::new().unwrap();

        set(Some(DiskError::Full { room_bytes: 3 }));
        let written = file.write_all(b"hello");
        set(None);

        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(file.path()).unwrap(), b"hel");
        file.write_all(b"p").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"help");
    }

    #[test]
    fn a_disk_that_cannot_tell_fails_both_ways_of_asking() {
        let mut file = tempfile::tempfile().unwrap();

        set(Some(DiskError::Unsynced));
        let results = [file.write_all(b"hello"), file.sync_data(), file.sync_all()];
        set(None);

        let codes = results.map(|result| result.err().and_then(|error| error.raw_os_error()));
        assert_eq!(codes, [None, Some(libc::EIO), Some(libc::EIO)]);
        file.sync_all().unwrap();
    }
}
