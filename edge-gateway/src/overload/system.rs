//! What the process has and may have, as the kernel says (`/proc`, control groups). Elsewhere than on Linux nothing is known.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// More than any of the files that are read.
const FILE_BYTES_MAX: usize = 8 * 1024;

/// From here on a limit is none: version 1 of control groups has no other word for it.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Files that are read again and again. They stay open: a process without descriptors must find that out.
#[derive(Debug)]
pub(super) struct System {
    status: Option<File>,
    limits: Option<File>,
}

impl System {
    pub(super) fn open() -> Self {
        let open = |path| File::open(path).ok();
        Self { status: open("/proc/self/status"), limits: open("/proc/self/limits") }
    }

    /// Bytes of memory that the process has resident.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(&read(self.status.as_ref()?)?)
    }

    /// Descriptors that the process has, and how many it may have.
    pub(super) fn descriptors(&self) -> Option<(u64, u64)> {
        let limit = descriptors_max(&read(self.limits.as_ref()?)?)?;
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

fn read(file: &File) -> Option<String> {
    let mut bytes = vec![0; FILE_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(count);
    String::from_utf8(bytes).ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// None if there is no limit.
fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The least memory that the process's control group, or one above it, may have; none if none has a limit.
pub(super) fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(limit_files).flatten().filter_map(|file| limit(&file)).min()
}

/// The files that may have a limit for a group and those above it, by its line: `0::/a/b`, or `5:memory:/a/b` with version 1.
fn limit_files(line: &str) -> Option<Vec<PathBuf>> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, name) = match (number, controllers) {
        ("0", "") => ("/sys/fs/cgroup", "memory.max"),
        (_, controllers) if controllers.split(',').any(|one| one == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = Path::new(path.trim_start_matches('/'));
    Some(path.ancestors().map(|group| Path::new(root).join(group).join(name)).collect())
}

fn limit(file: &Path) -> Option<u64> {
    let limit: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < UNLIMITED_BYTES).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_resident() {
        let status = "Name:\tedge\nVmHWM:\t  9000 kB\nVmRSS:\t  8192 kB\nThreads:\t4\n";

        assert_eq!(resident_bytes(status), Some(8192 * 1024));
        assert_eq!(resident_bytes("VmRSS: many kB\n"), None);
        assert_eq!(resident_bytes(""), None);
    }

    #[test]
    fn limits_say_how_many_descriptors_there_may_be() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";

        assert_eq!(descriptors_max(limits), Some(1024));
        assert_eq!(descriptors_max("Max open files  unlimited unlimited files"), None);
    }

    #[test]
    fn a_group_is_limited_by_those_above_it() {
        let files = |line| {
            let files = limit_files(line).unwrap_or_default();
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };

        assert_eq!(
            files("0::/a/b"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(files("9:cpu,memory:/"), [root]);
        assert!(files("3:cpu:/a").is_empty());
        assert!(files("nonsense").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_descriptors() {
        let system = System::open();
        let (before, limit) = system.descriptors().unwrap();
        let more: Vec<_> = (0..100).map(|_| File::open("/proc/self/status").unwrap()).collect();

        let (after, _) = system.descriptors().unwrap();

        // Other tests of this process open and close files meanwhile.
        assert!(after + 50 > before + 100 && after < limit, "{before} {after} {limit}");
        assert!(system.resident_bytes().is_some_and(|bytes| bytes > 1_000_000));
        drop(more);
    }
}
