//! The memory of an Envoy process, by workers and servers.

use serde_json::Value;
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

/// Bytes in a MB.
const MB: f64 = 1e6;

/// What one process has, in MB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// In RAM, the program itself included (`VmRSS`).
    resident: f64,
    /// Of that, what is no file's (`RssAnon`) and not free in the hands of Envoy's allocator. Compiling the module takes
    /// much that is free afterwards, and workers are made of that first: by what is resident, they would cost nothing.
    in_use: f64,
}

/// One process.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How many servers this filter has; 0 is the filter that does nothing.
    pub servers: usize,
    /// Worker threads.
    pub workers: u32,
    /// What is in RAM, in MB.
    pub resident: Summary,
    /// What is needed of that, in MB.
    pub in_use: Summary,
}

/// All of them.
#[derive(Debug)]
pub struct Memory(pub Vec<Measured>);

impl Memory {
    /// MB in use by each further worker.
    pub fn per_worker(&self, servers: usize) -> f64 {
        let [few, _, many] = WORKERS;
        (self.in_use(servers, many) - self.in_use(servers, few)) / f64::from(many - few)
    }

    /// Bytes that each further server takes in each further worker.
    pub fn per_server_and_worker(&self) -> f64 {
        (self.per_worker(MANY) - self.per_worker(1)) * MB / further_servers()
    }

    /// Bytes that each further server takes in a process, whatever its workers.
    pub fn per_server_and_process(&self) -> f64 {
        (self.without_workers(MANY) - self.without_workers(1)) * MB / further_servers()
    }

    fn in_use(&self, servers: usize, workers: u32) -> f64 {
        let found = self.0.iter().find(|one| one.servers == servers && one.workers == workers);
        found.map_or(f64::NAN, |one| one.in_use.median)
    }

    fn without_workers(&self, servers: usize) -> f64 {
        let [few, ..] = WORKERS;
        self.in_use(servers, few) - self.per_worker(servers) * f64::from(few)
    }
}

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
            let (mut resident, mut in_use) = (Vec::new(), Vec::new());
            for _ in 0..TIMES {
                let held = of_one(servers, workers, stage).await?;
                resident.push(held.resident);
                in_use.push(held.in_use);
            }
            let (resident, in_use) = (Summary::of(&resident), Summary::of(&in_use));
            memory.push(Measured { servers, workers, resident, in_use });
        }
    }
    Ok(Memory(memory))
}

async fn of_one(servers: usize, workers: u32, stage: &Stage) -> Result<Held, Failure> {
    let envoy = start(&with_servers(servers, stage), &Options { concurrency: workers, ..quiet() }).await?;
    let address = envoy.listener(LISTENER).await?;
    let count = usize::try_from(workers)?;
    let shape = Shape { requests: REQUESTS * count, connections: CONNECTIONS * count, rate: None };
    for _ in 0..ATTEMPTS {
        stage.load.run(address, shape).await?;
        if have_served(&envoy).await? == count {
            let allocator = serde_json::from_str(&envoy.admin_get("/memory").await?)?;
            let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.id()?))?;
            return held(&status, &allocator).ok_or_else(|| "nobody says how much memory Envoy has".into());
        }
    }
    Err("there is a worker that no connection comes to".into())
}

/// How many workers have had a connection.
async fn have_served(envoy: &Envoy) -> Result<usize, Failure> {
    let stats = envoy.admin_get("/stats?filter=worker_[0-9]*.downstream_cx_total").await?;
    Ok(stats.lines().filter(|line| !line.ends_with(": 0")).count())
}

/// Reads `/proc/<id>/status` and what Envoy's admin interface says of its allocator.
fn held(status: &str, allocator: &Value) -> Option<Held> {
    let of_linux = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0 / MB)
    };
    let of_envoy = |name: &str| Some(allocator.get(name)?.as_str()?.parse::<f64>().ok()? / MB);
    let free = of_envoy("heap_size")? - of_envoy("pageheap_unmapped")? - of_envoy("allocated")?;
    Some(Held { resident: of_linux("VmRSS:")?, in_use: of_linux("RssAnon:")? - free })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MANY, Measured, Memory, held};
    use crate::stats::Summary;

    #[test]
    fn what_the_allocator_has_free_is_not_in_use() {
        let status = "Name:\tenvoy\nVmRSS:\t   81920 kB\nRssAnon:\t   40960 kB\nRssFile:\t   40960 kB\n";
        let allocator = json!({"allocated": "9000000", "heap_size": "18000000", "pageheap_unmapped": "4000000"});
        let held = held(status, &allocator).unwrap();
        assert!((held.resident - 83.886_08).abs() < 1e-9);
        // 41.94304 less the 5 that are neither allocated nor given back.
        assert!((held.in_use - 36.943_04).abs() < 1e-9);
    }

    #[test]
    fn what_nobody_says_is_not_known() {
        assert_eq!(held("Name:\tenvoy\n", &json!({})), None);
    }

    #[test]
    fn what_a_worker_takes_is_told_from_what_the_process_takes() {
        let measured = |servers, workers, megabytes| {
            let summary = Summary::of(&[megabytes]);
            Measured { servers, workers, resident: summary, in_use: summary }
        };
        let memory = Memory(vec![
            measured(0, 1, 10.1),
            measured(0, 16, 11.6), // 0.1 a worker
            measured(1, 1, 10.3),
            measured(1, 16, 14.8),       // 0.3 a worker, above 10
            measured(MANY, 1, 40.299),   // above 29.998 …
            measured(MANY, 16, 194.784), // … 10.299 a worker: 9.999 more, a thousand bytes for each further server
        ]);
        assert!((memory.per_worker(1) - memory.per_worker(0) - 0.2).abs() < 1e-9);
        assert!((memory.per_server_and_worker() - 1000.0).abs() < 1e-6);
        // (30.0 - 10.0) MB for 9,999 servers
        assert!((memory.per_server_and_process() - 2000.2).abs() < 0.01);
    }
}
