//! How much memory is in use of what there may be: of the process's control group, or by the process alone.

use std::{
    fs::{self, File},
    path::Path,
};

use super::system::read;

/// From here on a limit is none: version 1 of control groups has no other word for it.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Bytes that are in use, and how many may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    pub(super) used: u64,
    pub(super) limit: u64,
}

/// What is held against what. The files are read again and again, and stay open.
#[derive(Debug)]
pub(super) enum Memory {
    /// What the process has resident.
    Process { status: File, limit: u64 },
    /// What the process's control group, or one above it, has in use. Those are ended by the system when they are full, whichever
    /// of their processes has the memory.
    Groups(Vec<Group>),
}

/// A control group that has a limit.
#[derive(Debug)]
pub(super) struct Group {
    limit: File,
    usage: File,
    /// Where it says what it can do without.
    statistics: Option<File>,
    version: &'static Version,
}

/// What the files are called.
#[derive(Debug)]
struct Version {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// What the system takes back without anybody being worse off: files that nobody has read lately.
    inactive: &'static str,
}

const VERSION_1: Version = Version {
    root: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file ",
};

const VERSION_2: Version = Version {
    root: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    inactive: "inactive_file ",
};

impl Memory {
    /// Finds out what to look at: the process itself where it has a `limit` of its own, else the control groups that it is in and
    /// that have one, else the process against what the machine has. `root` is that of the file system. None if nothing of it
    /// can be read.
    pub(super) fn open(root: &Path, limit: Option<u64>) -> Option<Self> {
        let status = File::open(root.join("proc/self/status"));
        if let Some(limit) = limit {
            return Some(Self::Process { status: status.ok()?, limit });
        }
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let groups = groups.lines().filter_map(|line| groups_of(root, line));
        let groups: Vec<_> = groups.flatten().filter(|group| group.in_use().is_some()).collect();
        if !groups.is_empty() {
            return Some(Self::Groups(groups));
        }
        let machine = fs::read_to_string(root.join("proc/meminfo")).ok()?;
        Some(Self::Process { status: status.ok()?, limit: kib(&machine, "MemTotal:")? })
    }

    /// What is in use now, where it is nearest to its limit.
    pub(super) fn in_use(&self) -> Option<InUse> {
        match self {
            Self::Process { status, limit } => {
                let used = kib(&read(status)?, "VmRSS:")?;
                Some(InUse { used, limit: *limit })
            }
            Self::Groups(groups) => {
                let each = groups.iter().filter_map(Group::in_use);
                each.max_by(|one, other| {
                    let cross = |used: u64, limit: u64| u128::from(used) * u128::from(limit);
                    cross(one.used, other.limit).cmp(&cross(other.used, one.limit))
                })
            }
        }
    }
}

impl Group {
    /// None if it has no limit, or if that cannot be read.
    fn open(folder: &Path, version: &'static Version) -> Option<Self> {
        let open = |name| File::open(folder.join(name)).ok();
        let (limit, usage) = (open(version.limit)?, open(version.usage)?);
        Some(Self { limit, usage, statistics: open("memory.stat"), version })
    }

    fn in_use(&self) -> Option<InUse> {
        let number = |file| read(file)?.trim().parse::<u64>().ok();
        let limit = number(&self.limit).filter(|limit| *limit < UNLIMITED_BYTES)?;
        Some(InUse {
            used: number(&self.usage)?.saturating_sub(self.inactive().unwrap_or(0)),
            limit,
        })
    }

    /// What the group can do without: files that were read or written some time ago.
    fn inactive(&self) -> Option<u64> {
        let statistics = read(self.statistics.as_ref()?)?;
        let mut lines = statistics.lines();
        lines.find_map(|line| line.strip_prefix(self.version.inactive))?.trim().parse().ok()
    }
}

/// The group of a line, and those above it: `0::/a/b`, or `5:memory:/a/b` with version 1.
fn groups_of(root: &Path, line: &str) -> Option<Vec<Group>> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let version = match (number, controllers) {
        ("0", "") => &VERSION_2,
        (_, controllers) if controllers.split(',').any(|one| one == "memory") => &VERSION_1,
        _ => return None,
    };
    let root = root.join(version.root);
    // In a container the path may be that of the machine, of which nothing is seen but the end of it, as the root.
    let path = Path::new(path.trim_start_matches('/'));
    Some(path.ancestors().filter_map(|group| Group::open(&root.join(group), version)).collect())
}

/// A number of KiB behind `name`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A file system with these files.
    fn files(texts: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in texts {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn in_use(root: &TempDir, limit: Option<u64>) -> Option<(u64, u64)> {
        let InUse { used, limit } = Memory::open(root.path(), limit)?.in_use()?;
        Some((used, limit))
    }

    const STATUS: (&str, &str) =
        ("proc/self/status", "Name:\tedge\nVmHWM:\t  9000 kB\nVmRSS:\t  8192 kB\nThreads:\t4\n");
    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:  1048576 kB\nMemFree:  1 kB\n");

    #[test]
    fn a_group_has_in_use_what_cannot_be_taken_back() {
        let root = files(&[
            STATUS,
            MACHINE,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "104857600\n"),
            ("sys/fs/cgroup/memory.current", "94371840\n"),
            ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 10485760\nactive_file 5\n"),
        ]);

        assert_eq!(in_use(&root, None), Some((80 * MIB, 100 * MIB)));
        assert_eq!(in_use(&root, Some(MIB)), Some((8 * MIB, MIB)), "the setting is the process's");
    }

    #[test]
    fn what_is_read_is_that_of_the_moment() {
        let root = files(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "100\n"),
            ("sys/fs/cgroup/memory.stat", "inactive_file 0\n"),
        ]);
        let memory = Memory::open(root.path(), None).unwrap();
        let write = |name, text: &str| {
            fs::write(root.path().join("sys/fs/cgroup").join(name), text).unwrap();
        };

        write("memory.current", "900\n");
        write("memory.max", "2000\n");
        assert_eq!(memory.in_use(), Some(InUse { used: 900, limit: 2000 }));
        write("memory.max", "max\n");
        assert_eq!(memory.in_use(), None, "it has no limit any more");
    }

    #[test]
    fn the_group_that_is_nearest_to_its_limit_counts() {
        let root = files(&[
            ("proc/self/cgroup", "0::/pod/container\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("sys/fs/cgroup/pod/memory.current", "900\n"),
            ("sys/fs/cgroup/pod/memory.stat", "inactive_file 0\n"),
            ("sys/fs/cgroup/pod/container/memory.max", "500\n"),
            ("sys/fs/cgroup/pod/container/memory.current", "100\n"),
            ("sys/fs/cgroup/pod/container/memory.stat", "inactive_file 0\n"),
        ]);

        assert_eq!(in_use(&root, None), Some((900, 1000)));
    }

    #[test]
    fn a_group_that_does_not_say_what_it_can_do_without_needs_all_of_it() {
        let root = files(&[
            ("proc/self/cgroup", "0::/pod\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("sys/fs/cgroup/pod/memory.current", "900\n"),
        ]);

        assert_eq!(in_use(&root, None), Some((900, 1000)));
    }

    #[test]
    fn groups_of_version_1_are_read_too() {
        let root = files(&[
            STATUS,
            MACHINE,
            ("proc/self/cgroup", "3:cpu:/a\n9:cpu,memory:/docker/a\nnonsense\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n"),
        ]);

        assert_eq!(in_use(&root, None), Some((500, 1000)));
    }

    #[test]
    fn without_a_limited_group_the_machine_is_the_limit() {
        let unlimited = files(&[
            STATUS,
            MACHINE,
            ("proc/self/cgroup", "4:memory:/\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 200\n"),
        ]);
        assert_eq!(in_use(&unlimited, None), Some((8 * MIB, 1024 * MIB)));
        assert_eq!(in_use(&files(&[STATUS, MACHINE]), None), Some((8 * MIB, 1024 * MIB)));

        assert_eq!(in_use(&files(&[STATUS]), None), None);
        assert_eq!(in_use(&files(&[MACHINE]), Some(MIB)), None);
        let wrong = ("proc/self/status", "VmRSS: many kB\n");
        assert_eq!(in_use(&files(&[wrong, MACHINE]), None), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory() {
        let memory = Memory::open(Path::new("/"), None).unwrap();

        assert!(memory.in_use().is_some_and(|InUse { used, limit }| {
            used > 1_000_000 && used < limit && limit > 100_000_000
        }));
    }
}
