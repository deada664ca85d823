//! What the process has and may have, as the kernel says (`/proc`, control groups). Elsewhere than on Linux nothing is known.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

#[cfg(target_os = "linux")]
use rustix::process::{Resource, getrlimit};

use super::memory::{InUse, Memory};

/// More than any of the files that are read.
const FILE_BYTES_MAX: usize = 8 * 1024;

/// Files that are read again and again. They stay open: a process without descriptors must find that out.
#[derive(Debug)]
pub(super) struct System {
    memory: Option<Memory>,
}

impl System {
    /// The process may have so much memory, if that is known.
    pub(super) fn open(memory_bytes_max: Option<u64>) -> Self {
        Self { memory: Memory::open(Path::new("/"), memory_bytes_max) }
    }

    /// Memory that is in use, and how much may be.
    pub(super) fn memory(&self) -> Option<InUse> {
        self.memory.as_ref()?.in_use()
    }

    /// Descriptors that the process has, and how many it may have.
    pub(super) fn descriptors() -> Option<(u64, u64)> {
        let limit = descriptors_max()?;
        let folder = "/proc/self/fd";
        // The size of the folder, from Linux 6.2 on; before, it is 0. Looking into it takes a descriptor.
        let used = match fs::metadata(folder).ok()?.len() {
            0 => fs::read_dir(folder)
                .map_or(limit, |entries| u64::try_from(entries.count()).unwrap_or(limit)),
            used => used,
        };
        Some((used, limit))
    }
}

pub(super) fn read(file: &File) -> Option<String> {
    let mut bytes = vec![0; FILE_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(count);
    String::from_utf8(bytes).ok()
}

/// None if there is no limit.
#[cfg(target_os = "linux")]
fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
fn descriptors_max() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_descriptors() {
        let (before, limit) = System::descriptors().unwrap();
        let more: Vec<_> = (0..100).map(|_| File::open("/proc/self/status").unwrap()).collect();

        let (after, _) = System::descriptors().unwrap();

        // Other tests of this process open and close files meanwhile.
        assert!(after + 50 > before + 100 && after < limit, "{before} {after} {limit}");
        drop(more);
    }
}
