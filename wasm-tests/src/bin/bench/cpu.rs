//! The CPU time that Envoy takes for a request.

use std::io;
use std::path::PathBuf;

use wasm_tests::envoy::Envoy;

use crate::cases::{self, CASES, Case, Running};
use crate::load::{CONNECTIONS, Shape};
use crate::stage::Stage;
use crate::stats::Summary;
use crate::{Failure, progress};

/// How long one measurement takes, about, in seconds.
const DURATION: f64 = 0.44;

/// In how many parts a measurement is made, with those of all other cases between: a machine is now faster and now slower, for
/// seconds, and what is compared is to have its share of both.
const PARTS: usize = 4;

/// How many requests an Envoy has served before it is measured: V8 has compiled what is used often by then.
const WARM_UP: usize = 5_000;

/// After so many rounds all Envoys are started anew. Where a process happens to lie in memory makes it faster or slower by
/// several per cent for as long as it lives; this way that is part of the quartiles, and not of the figure.
const ROUNDS_OF_A_PROCESS: usize = 3;

/// The order of the cases is shuffled for each part of each round, the same way in every run.
const SEED: u64 = 0x6d63_7020_6175_7468;

/// Microseconds a request.
#[derive(Debug)]
pub struct Cpu {
    /// How many requests each measurement is of.
    pub requests: usize,
    /// Of each case, the measurements by round.
    series: Vec<(Case, Vec<f64>)>,
}

impl Cpu {
    /// What `case` takes.
    pub fn time(&self, case: Case) -> Summary {
        Summary::of(self.series(case))
    }

    /// What `case` takes, as a ratio to what `base` takes in the same round.
    pub fn ratio(&self, case: Case, base: Case) -> Summary {
        Summary::of_ratios(self.series(case), self.series(base))
    }

    /// All measurements of `case`, by round.
    pub fn series(&self, case: Case) -> &[f64] {
        self.series.iter().find(|(own, _)| *own == case).map_or(&[], |(_, series)| series)
    }
}

/// Measures each case once in each round.
///
/// # Errors
/// If an Envoy does not start, or a request fails.
pub async fn measure(stage: &Stage, rounds: usize) -> Result<Cpu, Failure> {
    let mut cpu = Cpu { requests: 0, series: CASES.iter().map(|case| (*case, Vec::new())).collect() };
    let mut random = Random(SEED);
    let mut running = Vec::new();
    for round in 0..rounds {
        if round % ROUNDS_OF_A_PROCESS == 0 {
            drop(std::mem::take(&mut running));
            running = cases::start_all(stage).await?;
            let pace = warm_up(&running, stage).await?;
            if cpu.requests == 0 {
                cpu.requests = ((DURATION / pace) as usize / PARTS).max(1) * PARTS;
            }
        }
        progress(&format!("CPU time, round {} of {rounds}", round + 1));
        cpu.measure_round(&running, stage, &mut random).await?;
    }
    Ok(cpu)
}

impl Cpu {
    async fn measure_round(&mut self, running: &[Running], stage: &Stage, random: &mut Random) -> Result<(), Failure> {
        let mut spent: Vec<_> = running.iter().map(|one| (one, 0)).collect();
        for _ in 0..PARTS {
            random.shuffle(&mut spent);
            for (one, nanos) in &mut spent {
                *nanos += nanos_for(one, stage, self.requests / PARTS).await?;
            }
        }
        for (one, nanos) in spent {
            let micros = f64::from(u32::try_from(nanos)?) / f64::from(u32::try_from(self.requests)?) / 1e3;
            if let Some((_, series)) = self.series.iter_mut().find(|(case, _)| *case == one.case) {
                series.push(micros);
            }
        }
        Ok(())
    }
}

/// Gives the seconds that a request takes where it takes the fewest.
async fn warm_up(running: &[Running], stage: &Stage) -> Result<f64, Failure> {
    let mut pace = f64::INFINITY;
    for one in running {
        let shape = Shape { requests: WARM_UP, connections: CONNECTIONS, rate: None };
        let seconds = stage.load.run(one.address, shape).await?;
        pace = pace.min(seconds / f64::from(u32::try_from(WARM_UP)?));
    }
    Ok(pace)
}

/// What so many requests cost.
async fn nanos_for(one: &Running, stage: &Stage, requests: usize) -> Result<u64, Failure> {
    let before = spent(&one.envoy)?;
    stage.load.run(one.address, Shape { requests, connections: CONNECTIONS, rate: None }).await?;
    Ok(spent(&one.envoy)? - before)
}

/// The nanoseconds that Envoy has run for until now, with all of its threads.
fn spent(envoy: &Envoy) -> io::Result<u64> {
    let mut sum = 0;
    for thread in PathBuf::from(format!("/proc/{}/task", envoy.id()?)).read_dir()? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += on_cpu(&text).ok_or_else(|| io::Error::other(format!("schedstat says {text:?}")))?;
    }
    Ok(sum)
}

/// Reads a schedstat: nanoseconds on a CPU, nanoseconds waited for one, and how often.
fn on_cpu(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// SplitMix64: good enough to shuffle, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Fisher and Yates's shuffle.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Random, on_cpu};
    use crate::cases::Case;
    use crate::stats::Summary;

    #[test]
    fn the_first_number_of_a_schedstat_is_the_time_on_a_cpu() {
        assert_eq!(on_cpu("1234567890 42 7\n"), Some(1_234_567_890));
        assert_eq!(on_cpu(""), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let series = vec![(Case::Bare, vec![10.0, 20.0, 40.0]), (Case::Lua, vec![11.0, 24.0, 44.0])];
        let cpu = Cpu { requests: 1, series };
        let ratio = cpu.ratio(Case::Lua, Case::Bare);
        assert!((ratio.median - 1.1).abs() < 1e-9 && (ratio.upper - 1.15).abs() < 1e-9, "{ratio:?}");
        assert_eq!(cpu.time(Case::Bare), Summary { lower: 15.0, median: 20.0, upper: 30.0 });
    }

    #[test]
    fn a_shuffle_loses_nothing_and_is_the_same_in_every_run() {
        let shuffled = || {
            let mut items: Vec<u8> = (0..11).collect();
            Random(1).shuffle(&mut items);
            items
        };
        let mut sorted = shuffled();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..11).collect::<Vec<u8>>());
        assert_eq!(shuffled(), shuffled());
        assert_ne!(shuffled(), sorted);
    }
}
