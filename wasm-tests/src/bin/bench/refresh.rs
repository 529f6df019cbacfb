//! Whether requests wait when a token is replaced, and how often a process asks for one.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use wasm_tests::client::PATIENCE;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::LISTENER;
use wasm_tests::token_server::{Behaviour, TokenServer};

use crate::cases::Case;
use crate::load::Shape;
use crate::stage::{ANY, Stage, quiet, start};
use crate::{Failure, progress};

/// How long a token lives, in seconds.
pub const LIFETIME: u64 = 4;

/// The token server takes this long, so that a request that waited for it would be seen to.
pub const TAKES: Duration = Duration::from_millis(250);

/// How many workers share a token.
pub const WORKERS: u32 = 4;

const RATE: usize = 500;

const CONNECTIONS: usize = 20;

const SECONDS: usize = 20;

/// How often the metrics are looked at.
const POLL: Duration = Duration::from_millis(5);

/// What was seen.
#[derive(Debug)]
pub struct Refreshes {
    /// The requests to the token server before the first request.
    pub fetches_before: usize,
    /// Those under load.
    pub fetches: usize,
    /// How many requests there were meanwhile.
    pub requests: usize,
    /// How often `waiting_requests` was looked at while a token request was under way.
    pub looks: usize,
    /// The most that it said at any time.
    pub waiting: i64,
    /// The requests that took longer than half of what the token server takes.
    pub slow: usize,
    /// What the slowest took, in milliseconds.
    pub slowest: f64,
}

/// Keeps up a steady load while tokens expire.
///
/// # Errors
/// If a request fails, or the token was never replaced.
pub async fn measure(stage: &Stage) -> Result<Refreshes, Failure> {
    progress(&format!("tokens of {LIFETIME} s under load for {SECONDS} s"));
    let tokens = TokenServer::start(ANY).await?;
    tokens.behave(Behaviour::Grants(json!(LIFETIME)));
    let config = Case::ListenerOauth2.config(stage.upstream, tokens.address());
    let envoy = start(&config, &Options { concurrency: WORKERS, ..quiet() }).await?;
    let address = envoy.listener(LISTENER).await?;
    let mut watch = Watch { envoy, tokens, looks: 0, waiting: 0 };
    timeout(PATIENCE, watch.first_token()).await??;
    let fetches_before = watch.tokens.asked().len();

    let shape = Shape { requests: RATE * SECONDS, connections: CONNECTIONS, rate: Some(RATE) };
    let latencies = tokio::select! {
        latencies = stage.load.latencies(address, shape) => latencies?,
        failure = watch.slow_down_and_look() => return Err(failure),
    };
    let fetches = watch.tokens.asked().len() - fetches_before;
    if fetches < 2 {
        return Err(format!("{fetches} tokens of {LIFETIME} s in {SECONDS} s: the token is not replaced").into());
    }
    let limit = TAKES.as_secs_f64() * 1e3 / 2.0;
    Ok(Refreshes {
        fetches_before,
        fetches,
        requests: latencies.len(),
        looks: watch.looks,
        waiting: watch.waiting,
        slow: latencies.iter().filter(|millis| **millis > limit).count(),
        slowest: latencies.iter().copied().fold(0.0, f64::max),
    })
}

/// Envoy and its token server, with an eye on both.
struct Watch {
    envoy: Envoy,
    tokens: TokenServer,
    looks: usize,
    waiting: i64,
}

impl Watch {
    async fn first_token(&self) -> Result<(), Failure> {
        while self.look().await?.fetched == 0 {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes every token request take its time, and looks at the metrics all the while. Ends only in failure.
    async fn slow_down_and_look(&mut self) -> Failure {
        loop {
            let asked = self.tokens.asked();
            let stats = match self.look().await {
                Ok(stats) => stats,
                Err(failure) => return failure,
            };
            self.waiting = self.waiting.max(stats.waiting);
            if stats.fetched >= asked.len() {
                // All are answered: the next is not to be.
                self.tokens.hold();
            } else {
                self.looks += 1;
                if asked.last().is_some_and(|last| last.at.elapsed() >= TAKES) {
                    self.tokens.release();
                }
            }
            sleep(POLL).await;
        }
    }

    async fn look(&self) -> Result<Stats, Failure> {
        Ok(Stats::read(&self.envoy.admin_get("/stats?filter=wasmcustom").await?))
    }
}

/// What the filter's metrics say.
#[derive(Debug, PartialEq, Eq)]
struct Stats {
    /// Token requests that are over.
    fetched: usize,
    /// Requests that wait for a token. The metric is not there before the first does.
    waiting: i64,
}

impl Stats {
    fn read(text: &str) -> Self {
        let mut stats = Self { fetched: 0, waiting: 0 };
        for (name, value) in text.lines().filter_map(|line| line.rsplit_once(": ")) {
            if name.contains(".token_fetches.") {
                stats.fetched += value.parse::<usize>().unwrap_or_default();
            } else if name.contains(".waiting_requests.") {
                stats.waiting += value.parse::<i64>().unwrap_or_default();
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn metrics_are_found_by_name() {
        let text = "wasmcustom.mcp_upstream_auth.requests.outcome.injected.server.tools: 70\n\
            wasmcustom.mcp_upstream_auth.token_fetches.outcome.granted.server.tools: 2\n\
            wasmcustom.mcp_upstream_auth.token_fetches.outcome.refused.server.tools: 1\n\
            wasmcustom.mcp_upstream_auth.waiting_requests.server.tools: 5\n\
            wasmcustom.mcp_upstream_auth.token_fetch_ms.server.tools: P0(nan,1) P100(nan,2)\n";
        assert_eq!(Stats::read(text), Stats { fetched: 3, waiting: 5 });
        assert_eq!(Stats::read(""), Stats { fetched: 0, waiting: 0 });
    }
}
