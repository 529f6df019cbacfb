//! How long a request takes from the caller's side, when Envoy has time.

use crate::cases::{CASES, Case, Running};
use crate::load::Shape;
use crate::stage::Stage;
use crate::stats::{Summary, quantile};
use crate::{Failure, progress};

/// Requests a second: what any machine manages, so that none waits for another.
pub const RATE: usize = 1000;

/// How many requests one measurement is of.
const REQUESTS: usize = 2000;

/// How many measurements of each case there are.
const ROUNDS: usize = 3;

/// On several connections, h2load sends in the same instant, so that its requests wait for each other.
const CONNECTIONS: usize = 1;

/// Of each case, milliseconds: half of all requests take less than the first, all but a hundredth less than the second.
pub type Latencies = Vec<(Case, Summary, Summary)>;

/// Measures the cases in turns.
///
/// # Errors
/// If a request fails.
pub async fn measure(running: &[Running], stage: &Stage) -> Result<Latencies, Failure> {
    let shape = Shape { requests: REQUESTS, connections: CONNECTIONS, rate: Some(RATE) };
    let mut series: Vec<_> = CASES.iter().map(|case| (*case, Vec::new(), Vec::new())).collect();
    for round in 1..=ROUNDS {
        progress(&format!("latency, round {round} of {ROUNDS}"));
        for one in running {
            let mut latencies = stage.load.latencies(one.address, shape).await?;
            latencies.sort_by(f64::total_cmp);
            if let Some((_, halves, hundredths)) = series.iter_mut().find(|(case, ..)| *case == one.case) {
                halves.push(quantile(&latencies, 0.5));
                hundredths.push(quantile(&latencies, 0.99));
            }
        }
    }
    let summary =
        |(case, halves, hundredths): &(Case, Vec<f64>, Vec<f64>)| (*case, Summary::of(halves), Summary::of(hundredths));
    Ok(series.iter().map(summary).collect())
}
