//! Gives servers and clients cores of their own, so that they do not take time from each other.

use std::io;

use anyhow::ensure;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which cores are whose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    servers: CpuSet,
    clients: CpuSet,
}

impl Cores {
    /// The last cores that this process may use are for clients from now on, on this thread and on those that it starts.
    pub(crate) fn divide(for_clients: usize) -> anyhow::Result<Self> {
        let all = sched_getaffinity(None)?;
        let (mut servers, mut clients) = (CpuSet::new(), CpuSet::new());
        let usable = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let for_servers = (all.count() as usize).saturating_sub(for_clients);
        for (nth, core) in usable.enumerate() {
            if nth < for_servers { &mut servers } else { &mut clients }.set(core);
        }
        ensure!(
            servers.count() > 0 && clients.count() > 0,
            "of {} cores, {for_clients} cannot be for clients and others for servers",
            all.count()
        );
        sched_setaffinity(None, &clients)?;
        Ok(Self { servers, clients })
    }

    /// Starts a server. A process has the cores of the thread that starts it.
    pub(crate) fn start<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        sched_setaffinity(None, &self.servers)?;
        let started = start();
        sched_setaffinity(None, &self.clients)?;
        started
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command, thread};

    use super::*;

    fn allowed(status: &str) -> &str {
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim()
    }

    #[test]
    fn servers_and_clients_share_no_core() {
        // On a thread of its own, whose cores it changes.
        thread::spawn(|| {
            let all = sched_getaffinity(None).unwrap().count();
            if all < 2 {
                assert!(Cores::divide(1).is_err());
                return;
            }
            let cores = Cores::divide(1).unwrap();
            let mut print = Command::new("cat");
            print.arg("/proc/self/status");
            let server = cores.start(|| print.output()).unwrap().stdout;
            let client = fs::read_to_string("/proc/thread-self/status").unwrap();

            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
            assert_ne!(allowed(&String::from_utf8(server).unwrap()), allowed(&client));
            assert_eq!(cores.servers.count() + 1, all);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn both_must_have_a_core() {
        let all = sched_getaffinity(None).unwrap().count() as usize;

        assert!(Cores::divide(0).is_err());
        assert!(Cores::divide(all).is_err());
    }
}
