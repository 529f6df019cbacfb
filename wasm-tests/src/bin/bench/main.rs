//! `make bench`: what the filter costs, next to Envoy without it and to other ways of doing the same.
//!
//! Everything is measured in one run on one machine, so that the ratios hold whatever the machine is. How, and what the
//! columns mean, is in docs/performance.md.

mod cases;
mod cold_start;
mod cores;
mod cpu;
mod goals;
mod latency;
mod load;
mod machine;
mod memory;
mod refresh;
mod report;
mod stage;
mod stats;

use std::error::Error;
use std::process::ExitCode;

use cores::Cores;
use report::Report;
use stage::Stage;

/// Why something could not be measured.
type Failure = Box<dyn Error + Send + Sync>;

/// With fewer rounds, the quartiles say little.
const WHOLE_RUN: usize = 20;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("make bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let rounds = rounds()?;
    let only_cpu = only_cpu()?;
    let cores = Cores::of_this_process()?;
    let stage = Stage::build(cores).await?;
    let mut report = Report::new(machine::describe().await?, rounds);

    report.cpu(&cpu::measure(&stage, rounds).await?);
    if !only_cpu {
        let running = cases::start_all(&stage).await?;
        report.latency(&latency::measure(&running, &stage).await?);
        drop(running);
        report.cold_start(&cold_start::measure(&stage).await?);
        report.memory(&memory::measure(&stage).await?);
        report.refresh(&refresh::measure(&stage).await?);
        report.module_size(std::fs::metadata(wasm_tests::module())?.len());
    }
    report.write()
}

fn rounds() -> Result<usize, Failure> {
    let rounds = std::env::var("ROUNDS").unwrap_or_else(|_| "24".to_owned());
    match rounds.parse() {
        Ok(rounds) if rounds > 0 => Ok(rounds),
        _ => Err(format!("ROUNDS={rounds} is not a number of rounds").into()),
    }
}

fn only_cpu() -> Result<bool, Failure> {
    match std::env::var("ONLY").unwrap_or_default().as_str() {
        "" => Ok(false),
        "cpu" => Ok(true),
        other => Err(format!("ONLY={other} is not a part of the benchmark; `cpu` is").into()),
    }
}

/// Says on standard error what is going on; standard output has nothing but the tables.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}
