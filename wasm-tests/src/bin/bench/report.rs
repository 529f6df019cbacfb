//! The tables, as Markdown and as JSON.

use serde_json::{Map, Value, json};
use wasm_tests::repository;

use crate::cases::{CASES, Case};
use crate::cold_start::ColdStarts;
use crate::cpu::Cpu;
use crate::goals::{self, Goal};
use crate::latency::{Latencies, RATE};
use crate::memory::{Memory, SERVERS, WORKERS};
use crate::refresh::{self, Refreshes};
use crate::stats::Summary;
use crate::{Failure, WHOLE_RUN, progress};

/// Where the JSON goes, in the repository.
const FILE: &str = "dist/bench.json";

/// What is printed and kept. Every part is printed as soon as it is known, the goals last.
#[derive(Debug)]
pub struct Report {
    json: Map<String, Value>,
    goals: Vec<Goal>,
}

impl Report {
    /// Begins with the machine.
    pub fn new(machine: Value, rounds: usize) -> Self {
        let of = |name: &str| machine.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
        let cores = machine.get("cores").and_then(Value::as_u64).unwrap_or_default();
        let (cpu, kernel, envoy) = (of("cpu"), of("kernel"), of("envoy"));
        println!("{cpu}, {cores} cores, Linux {kernel}, Envoy {envoy}, {}, commit {}", of("h2load"), of("commit"));
        if rounds < WHOLE_RUN {
            println!(
                "\nA short run of {rounds} rounds: the figures are less certain than those of {WHOLE_RUN} or more."
            );
        }
        let json = Map::from_iter([("machine".to_owned(), machine), ("rounds".to_owned(), json!(rounds))]);
        Self { json, goals: Vec::new() }
    }

    /// The first table.
    pub fn cpu(&mut self, cpu: &Cpu) {
        let rounds = cpu.series(Case::Bare).len();
        println!(
            "\n### CPU time of Envoy a request\n\nMedian and quartiles of {rounds} rounds of {} requests.\n",
            cpu.requests
        );
        println!("| | µs | quartiles | over bare | quartiles |\n| --- | ---: | ---: | ---: | ---: |");
        let mut rows = Map::new();
        for case in CASES {
            let (time, ratio) = (cpu.time(case), cpu.ratio(case, Case::Bare));
            println!("| {} | {} | {} |", case.label(), cells(time, 1), cells(ratio, 3));
            let row = json!({"micros": time.json(), "over_bare": ratio.json(), "series": cpu.series(case)});
            rows.insert(case.key().to_owned(), row);
        }
        self.add("cpu", json!({"requests": cpu.requests, "cases": rows}), goals::of_cpu(cpu));
    }

    /// How long requests take.
    pub fn latency(&mut self, latencies: &Latencies) {
        println!("\n### Latency at {RATE} requests a second, in ms\n");
        println!("| | p50 | quartiles | p99 | quartiles |\n| --- | ---: | ---: | ---: | ---: |");
        let mut rows = Map::new();
        for (case, half, hundredth) in latencies {
            println!("| {} | {} | {} |", case.label(), cells(*half, 3), cells(*hundredth, 3));
            rows.insert(case.key().to_owned(), json!({"p50_ms": half.json(), "p99_ms": hundredth.json()}));
        }
        self.add("latency", json!({"rate": RATE, "cases": rows}), Vec::new());
    }

    /// How long a start takes.
    pub fn cold_start(&mut self, cold_starts: &ColdStarts) {
        println!("\n### From the start of the process to the first answered request\n");
        println!("| | ms | quartiles |\n| --- | ---: | ---: |");
        let mut rows = Map::new();
        for (case, millis) in cold_starts {
            println!("| {} | {} |", case.label(), cells(*millis, 0));
            rows.insert(case.key().to_owned(), json!({"ms": millis.json()}));
        }
        self.add("cold_start", Value::Object(rows), Vec::new());
    }

    /// How much memory it takes.
    pub fn memory(&mut self, memory: &Memory) {
        println!("\n### Memory of the Envoy process in MB: resident, and in use\n");
        let workers: String = WORKERS.iter().map(|workers| format!(" {workers} worker(s) |")).collect();
        println!("| |{workers} a further worker | above no-op |\n| --- | ---: | ---: | ---: | ---: | ---: |");
        for servers in SERVERS {
            let of_these = memory.0.iter().filter(|one| one.servers == servers);
            let cells: String =
                of_these.map(|one| format!(" {:.1}, {:.1} |", one.resident.median, one.in_use.median)).collect();
            let (further, above) = (memory.per_worker(servers), memory.per_worker(servers) - memory.per_worker(0));
            match servers {
                0 => println!("| no-op wasm |{cells} {further:.2} | |"),
                _ => println!("| ours, {servers} server(s) |{cells} {further:.2} | {above:.2} |"),
            }
        }
        let (in_worker, in_process) = (memory.per_server_and_worker(), memory.per_server_and_process());
        println!("\nA further server takes {in_worker:.0} bytes in each worker, and {in_process:.0} bytes once.");
        let row = |one: &crate::memory::Measured| {
            json!({
                "servers": one.servers,
                "workers": one.workers,
                "resident_mb": one.resident.json(),
                "in_use_mb": one.in_use.json(),
            })
        };
        let json = json!({
            "processes": memory.0.iter().map(row).collect::<Vec<_>>(),
            "mb_per_worker_above_noop": memory.per_worker(1) - memory.per_worker(0),
            "bytes_per_server_and_worker": in_worker,
            "bytes_per_server_and_process": in_process,
        });
        self.add("memory", json, goals::of_memory(memory));
    }

    /// What becomes of requests when a token is replaced.
    pub fn refresh(&mut self, seen: &Refreshes) {
        let (lifetime, workers, takes) = (refresh::LIFETIME, refresh::WORKERS, refresh::TAKES.as_millis());
        println!("\n### Tokens: {workers} workers, a token lives {lifetime} s, the token server takes {takes} ms\n");
        println!("| | |\n| --- | ---: |");
        println!("| token requests of the process before the first request | {} |", seen.fetches_before);
        println!("| requests under load | {} |", seen.requests);
        println!("| token requests of the process meanwhile | {} |", seen.fetches);
        println!("| the most in `waiting_requests` ({} looks during token requests) | {} |", seen.looks, seen.waiting);
        println!("| requests that took longer than {} ms | {} |", takes / 2, seen.slow);
        println!("| the slowest request, ms | {:.1} |", seen.slowest);
        let json = json!({
            "token_requests_before": seen.fetches_before,
            "requests": seen.requests,
            "token_requests": seen.fetches,
            "looks": seen.looks,
            "most_waiting": seen.waiting,
            "slow": seen.slow,
            "slowest_ms": seen.slowest,
        });
        let waited = seen.slow.max(usize::try_from(seen.waiting).unwrap_or_default());
        self.add("refresh", json, goals::of_waiting(waited));
    }

    /// How large the module is.
    pub fn module_size(&mut self, bytes: u64) {
        println!("\nThe module has {bytes} bytes.");
        self.add("module_bytes", json!(bytes), goals::of_module(bytes));
    }

    /// Ends with the goals, and writes the JSON.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn write(mut self) -> Result<(), Failure> {
        println!("\n### Goals\n\n| | at most | measured | quartiles | |\n| --- | ---: | ---: | ---: | --- |");
        for goal in &self.goals {
            let digits = if goal.unit.is_empty() { 3 } else { 2 };
            let number = |value: f64| format!("{value:.digits$} {}", goal.unit).trim_end().to_owned();
            let quartiles = goal.quartiles.map(|(lower, upper)| format!("{} – {}", number(lower), number(upper)));
            let verdict = if goal.is_met() { "met" } else { "**not met**" };
            let (limit, measured) = (number(goal.limit), number(goal.measured));
            println!("| {} | {limit} | {measured} | {} | {verdict} |", goal.what, quartiles.unwrap_or_default());
        }
        self.json.insert("goals".to_owned(), self.goals.iter().map(Goal::json).collect());
        let path = repository().join(FILE);
        std::fs::write(&path, format!("{:#}\n", Value::Object(self.json)))?;
        progress(&format!("all of it and every single measurement is in {FILE}"));
        Ok(())
    }

    fn add(&mut self, name: &str, json: Value, goals: Vec<Goal>) {
        self.json.insert(name.to_owned(), json);
        self.goals.extend(goals);
    }
}

/// The cells of a median and its quartiles.
fn cells(summary: Summary, digits: usize) -> String {
    let Summary { lower, median, upper } = summary;
    format!("{median:.digits$} | {lower:.digits$} – {upper:.digits$}")
}
