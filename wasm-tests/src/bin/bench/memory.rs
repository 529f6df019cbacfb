//! The memory of an Envoy process, by workers and servers.

use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::LISTENER;

use crate::cases::{MANY, with_servers};
use crate::load::Shape;
use crate::stage::{Stage, quiet, start};
use crate::stats::Summary;
use crate::{Failure, progress};

/// How many workers: the first and the last are what "per worker" goes by.
pub const WORKERS: [u32; 3] = [1, 4, 16];

/// How many servers this filter has; 0 is the filter that does nothing.
pub const SERVERS: [usize; 4] = [0, 1, 100, MANY];

/// How often each is started.
const TIMES: usize = 3;

/// So many requests a worker has had about, before its memory is looked at.
const REQUESTS: usize = 500;

/// Enough for the kernel to give each worker some.
const CONNECTIONS: usize = 16;

/// How often the load is repeated until each worker has had a connection.
const ATTEMPTS: usize = 20;

/// What one process has in RAM.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Resident {
    /// All of it (`VmRSS`), in KiB.
    all: f64,
    /// Without files, of which the program itself is one (`RssAnon`), in KiB.
    anonymous: f64,
}

/// One process.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How many servers this filter has; 0 is the filter that does nothing.
    pub servers: usize,
    /// Worker threads.
    pub workers: u32,
    /// `VmRSS` in KiB.
    pub all: Summary,
    /// `RssAnon` in KiB.
    pub anonymous: Summary,
}

/// All of them.
#[derive(Debug)]
pub struct Memory(pub Vec<Measured>);

impl Memory {
    /// KiB that each further worker takes above one of the filter that does nothing, with this many servers.
    pub fn per_worker(&self, servers: usize) -> f64 {
        self.slope(servers) - self.slope(0)
    }

    /// Bytes that each further server takes in each further worker.
    pub fn per_server_and_worker(&self) -> f64 {
        (self.slope(MANY) - self.slope(1)) * 1024.0 / further_servers()
    }

    /// Bytes that each further server takes in a process, whatever its workers.
    pub fn per_server_and_process(&self) -> f64 {
        (self.base(MANY) - self.base(1)) * 1024.0 / further_servers()
    }

    fn anonymous(&self, servers: usize, workers: u32) -> f64 {
        let found = self.0.iter().find(|one| one.servers == servers && one.workers == workers);
        found.map_or(f64::NAN, |one| one.anonymous.median)
    }

    /// What each further worker takes.
    fn slope(&self, servers: usize) -> f64 {
        let [few, _, many] = WORKERS;
        (self.anonymous(servers, many) - self.anonymous(servers, few)) / f64::from(many - few)
    }

    /// What is there without workers.
    fn base(&self, servers: usize) -> f64 {
        let [few, ..] = WORKERS;
        self.anonymous(servers, few) - self.slope(servers) * f64::from(few)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn further_servers() -> f64 {
    (MANY - 1) as f64
}

/// Starts an Envoy for each, sends it requests, and looks at its memory.
///
/// # Errors
/// If one does not start, or a request fails.
pub async fn measure(stage: &Stage) -> Result<Memory, Failure> {
    let mut memory = Vec::new();
    for servers in SERVERS {
        for workers in WORKERS {
            progress(&format!("memory: {workers} worker(s), {servers} server(s)"));
            let (mut all, mut anonymous) = (Vec::new(), Vec::new());
            for _ in 0..TIMES {
                let resident = of_one(servers, workers, stage).await?;
                all.push(resident.all);
                anonymous.push(resident.anonymous);
            }
            memory.push(Measured { servers, workers, all: Summary::of(&all), anonymous: Summary::of(&anonymous) });
        }
    }
    Ok(Memory(memory))
}

async fn of_one(servers: usize, workers: u32, stage: &Stage) -> Result<Resident, Failure> {
    let envoy = start(&with_servers(servers, stage), &Options { concurrency: workers, ..quiet() }).await?;
    let address = envoy.listener(LISTENER).await?;
    let count = usize::try_from(workers)?;
    let shape = Shape { requests: REQUESTS * count, connections: CONNECTIONS * count, rate: None };
    for _ in 0..ATTEMPTS {
        stage.load.run(address, shape).await?;
        if have_served(&envoy).await? == count {
            let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.id()?))?;
            return resident(&status).ok_or_else(|| "Linux does not say how much memory Envoy has".into());
        }
    }
    Err("there is a worker that no connection comes to".into())
}

/// How many workers have had a connection.
async fn have_served(envoy: &Envoy) -> Result<usize, Failure> {
    let stats = envoy.admin_get("/stats?filter=worker_[0-9]*.downstream_cx_total").await?;
    Ok(stats.lines().filter(|line| !line.ends_with(": 0")).count())
}

/// Reads `/proc/<id>/status`.
fn resident(status: &str) -> Option<Resident> {
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Resident { all: kibibytes("VmRSS:")?, anonymous: kibibytes("RssAnon:")? })
}

#[cfg(test)]
mod tests {
    use super::{MANY, Measured, Memory, Resident, resident};
    use crate::stats::Summary;

    #[test]
    fn a_status_says_how_much_is_resident() {
        let status = "Name:\tenvoy\nVmRSS:\t   81920 kB\nRssAnon:\t   40960 kB\nRssFile:\t   40960 kB\n";
        assert_eq!(resident(status), Some(Resident { all: 81920.0, anonymous: 40960.0 }));
        assert_eq!(resident("Name:\tenvoy\n"), None);
    }

    #[test]
    fn what_a_worker_takes_is_told_from_what_the_process_takes() {
        let measured = |servers, workers, kibibytes| {
            let summary = Summary::of(&[kibibytes]);
            Measured { servers, workers, all: summary, anonymous: summary }
        };
        let memory = Memory(vec![
            measured(0, 1, 10_100.0),
            measured(0, 16, 11_600.0), // 100 a worker
            measured(1, 1, 10_300.0),
            measured(1, 16, 14_800.0), // 300 a worker, above 10,000
            measured(MANY, 1, 40_297.0),
            measured(MANY, 16, 194_782.0), // 10,299 a worker, above 29,998
        ]);
        assert!((memory.per_worker(1) - 200.0).abs() < 1e-6);
        assert!((memory.per_server_and_worker() - 1024.0).abs() < 1e-6);
        assert!((memory.per_server_and_process() - 2047.795).abs() < 1e-2);
    }
}
