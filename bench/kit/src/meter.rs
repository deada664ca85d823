//! What a server spends between two moments, and on how much.

use std::{collections::BTreeMap, time::Instant};

use bench_kit::{times::Times, usage::Cpu};

use crate::{
    profile::{Profiler, Samples},
    server::Server,
};

/// Named numbers of one run of a measure.
pub(crate) type Values = BTreeMap<String, f64>;

/// Adds the usual percentiles of times, in microseconds.
pub(crate) fn tell_times(times: &mut Times, values: &mut Values) {
    for (name, permille) in [("p50_us", 500), ("p99_us", 990), ("p999_us", 999)] {
        values.insert(name.to_owned(), times.permille(permille) * 1000.0);
    }
}

/// Running since [`Meter::start`].
#[derive(Debug)]
pub(crate) struct Meter {
    server: BTreeMap<&'static str, Cpu>,
    clients: Cpu,
    started_at: Instant,
    profiler: Option<Profiler>,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> anyhow::Result<Self> {
        let profiler = server.profiler()?;
        let clients = Cpu::of(std::process::id())?;
        Ok(Self { server: server.cpu()?, clients, started_at: Instant::now(), profiler })
    }

    /// Says what each of `count` has cost: all processes, the part outside of the kernel, each process, and the clients, which
    /// are nobody's merit and only show whether they could keep up.
    pub(crate) fn stop(self, server: &Server, count: f64) -> anyhow::Result<Values> {
        let seconds = self.started_at.elapsed().as_secs_f64();
        let spent = server.cpu()?;
        let clients = Cpu::of(std::process::id())? - self.clients;
        let each = |seconds: f64| seconds * 1e6 / count;
        let mut values = Values::new();
        let (mut total, mut user) = (0.0, 0.0);
        for (name, cpu) in spent {
            let cpu = cpu - self.server.get(name).copied().unwrap_or_default();
            total += cpu.seconds;
            user += cpu.user_seconds();
            values.insert(format!("cpu_us.{name}"), each(cpu.seconds));
        }
        values.insert("cpu_us".to_owned(), each(total));
        values.insert("user_us".to_owned(), each(user));
        values.insert("client_cpu_us".to_owned(), each(clients.seconds));
        values.insert("count".to_owned(), count);
        values.insert("per_second".to_owned(), count / seconds);
        values.insert("seconds".to_owned(), seconds);
        if let Some(profiler) = self.profiler {
            tell_profile(&profiler.stop()?, &mut values);
        }
        Ok(values)
    }
}

/// Adds what each process has spent on what, by the shares of its samples.
fn tell_profile(samples: &Samples, values: &mut Values) {
    for ((process, at), count) in samples {
        let of_process = samples.iter().filter(|((other, _), _)| other == process);
        let total: usize = of_process.map(|(_, count)| count).sum();
        let Some(spent) = values.get(&format!("cpu_us.{process}")) else { continue };
        let part = spent * *count as f64 / total as f64;
        values.insert(format!("profile_us.{process}.{}", at.name()), part);
    }
}
