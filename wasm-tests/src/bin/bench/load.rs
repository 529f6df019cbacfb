//! The load generator: h2load, which comes with nghttp2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;
use wasm_tests::demo::{CALL, CALL_HEADERS};

use crate::Failure;
use crate::cores::Cores;

/// What the caller's own `Authorization` is.
pub const CALLERS: (&str, &str) = ("authorization", "Bearer the-callers-own-key");

/// A second credential of the caller's.
pub const CALLERS_OTHER: (&str, &str) = ("x-api-key", "the-callers-other-key");

/// The path of every request, which leads to the cluster `tools`.
pub const PATH: &str = "/tools/mcp";

/// How many bytes a body has.
const BODY: usize = 1024;

/// How many connections there are: enough to keep Envoy busy.
pub const CONNECTIONS: usize = 32;

/// Longer than any one measurement takes, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Makes requests.
#[derive(Debug)]
pub struct Load {
    core: usize,
    files: TempDir,
}

/// How the requests come.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many requests.
    pub requests: usize,
    /// Over how many connections.
    pub connections: usize,
    /// How many of them in a second; else each as soon as the one before it is answered.
    pub rate: Option<usize>,
}

impl Load {
    /// A load generator on its core.
    ///
    /// # Errors
    /// If the body of the requests cannot be written down for it.
    pub fn new(cores: Cores) -> Result<Self, Failure> {
        let load = Self { core: cores.load, files: TempDir::new()? };
        std::fs::write(load.body_file(), body())?;
        Ok(load)
    }

    /// Sends requests to Envoy at `address` and gives the seconds that it took.
    ///
    /// # Errors
    /// If a single answer is not 2xx.
    pub async fn run(&self, address: SocketAddr, shape: Shape) -> Result<f64, Failure> {
        let output = self.h2load(address, shape, &[]).await?;
        seconds(&checked(&output, shape.requests)?)
    }

    /// The same, and gives the milliseconds that each of them took.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub async fn latencies(&self, address: SocketAddr, shape: Shape) -> Result<Vec<f64>, Failure> {
        let log = TempDir::new_in(self.files.path())?;
        let path = log.path().join("log");
        let output = self.h2load(address, shape, &[format!("--log-file={}", path.display())]).await?;
        checked(&output, shape.requests)?;
        let latencies = latencies(&tokio::fs::read_to_string(path).await?)?;
        match latencies.len() == shape.requests {
            true => Ok(latencies),
            false => Err(format!("h2load logged {} of {} requests", latencies.len(), shape.requests).into()),
        }
    }

    async fn h2load(&self, address: SocketAddr, shape: Shape, more: &[String]) -> Result<Output, Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string(), "h2load", "--h1", "--threads=1"]);
        command.arg(format!("--requests={}", shape.requests));
        command.arg(format!("--clients={}", shape.connections));
        if let Some(rate) = shape.rate {
            command.arg(format!("--rps={}", rate / shape.connections));
        }
        for (name, value) in headers() {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        command.arg("--data").arg(self.body_file()).args(more).arg(format!("http://{address}{PATH}"));
        let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
        Ok(timeout(PATIENCE, running).await.map_err(|_| "h2load does not come to an end")??)
    }

    fn body_file(&self) -> PathBuf {
        self.files.path().join("body")
    }
}

/// The body of every request: the call of `make run`, with as long a text to echo as makes it 1 KB.
pub fn body() -> String {
    const TEXT: &str = "hello";
    CALL.replacen(TEXT, &"o".repeat(BODY + TEXT.len() - CALL.len()), 1)
}

/// The headers of every request: those of an MCP client that has two credentials of its own.
pub fn headers() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = CALL_HEADERS.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(CALLERS.0));
    others.chain([CALLERS, CALLERS_OTHER])
}

/// What h2load printed, if all `requests` were answered 2xx.
fn checked(output: &Output, requests: usize) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && succeeded(&text) == Some(requests) {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("of {requests} requests, not all were answered 2xx; h2load says:\n{text}{errors}").into())
}

/// The number of 2xx answers in what h2load prints.
fn succeeded(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    line.split_once(" 2xx")?.0.parse().ok()
}

/// How long it took, in what h2load prints.
fn seconds(text: &str) -> Result<f64, Failure> {
    const UNITS: [(&str, f64); 3] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let line = text.lines().find_map(|line| line.strip_prefix("finished in "));
    let time = line.and_then(|line| line.split_once(',')).map(|(time, _)| time);
    let read = |time: &str| {
        let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((time.strip_suffix(suffix)?, unit)))?;
        Some(number.parse::<f64>().ok()? * unit)
    };
    time.and_then(read).ok_or_else(|| format!("h2load does not say how long it took:\n{text}").into())
}

/// The milliseconds in h2load's log: a line for each request, of its start, status and microseconds.
fn latencies(log: &str) -> Result<Vec<f64>, Failure> {
    let read = |line: &str| {
        let mut columns = line.split('\t').skip(1);
        let status: i32 = columns.next()?.parse().ok()?;
        let micros: f64 = columns.next()?.parse().ok()?;
        (200..300).contains(&status).then_some(micros / 1e3)
    };
    let read = |line| read(line).ok_or_else(|| format!("in h2load's log, this is no answer of 2xx: {line}").into());
    log.lines().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::{body, latencies, seconds, succeeded};

    const PRINTED: &str = "starting benchmark...\nprogress: 100% done\n\n\
        finished in 801.91ms, 12470.18 req/s, 2.72MB/s\n\
        requests: 10000 total, 10000 started, 10000 done, 9999 succeeded, 1 failed, 0 errored, 0 timeout\n\
        status codes: 9999 2xx, 0 3xx, 1 4xx, 0 5xx\n";

    #[test]
    fn the_answers_of_2xx_are_counted() {
        assert_eq!(succeeded(PRINTED), Some(9999));
        assert_eq!(succeeded("finished in 1.2s\n"), None);
    }

    #[test]
    fn a_body_is_a_call_of_1_kb() {
        assert_eq!(body().len(), 1024);
        let call: serde_json::Value = serde_json::from_str(&body()).unwrap();
        assert_eq!(call["method"], "tools/call");
    }

    #[test]
    fn a_time_has_a_unit() {
        assert!((seconds(PRINTED).unwrap() - 0.801_91).abs() < 1e-9);
        assert!((seconds("finished in 6.40s, 1562.51 req/s\n").unwrap() - 6.4).abs() < 1e-9);
        assert!((seconds("finished in 950us, 1 req/s\n").unwrap() - 0.000_95).abs() < 1e-9);
        assert!(seconds("nothing\n").is_err());
    }

    #[test]
    fn a_latency_is_in_the_third_column() {
        let log = "1700000000000000\t200\t1500\n1700000000000100\t204\t250\n";
        assert_eq!(latencies(log).unwrap(), [1.5, 0.25]);
    }

    #[test]
    fn an_answer_that_is_none_is_no_latency() {
        assert!(latencies("1700000000000000\t-1\t1500\n").is_err());
        assert!(latencies("1700000000000000\t503\t1500\n").is_err());
        assert!(latencies("1700000000000000\n").is_err());
    }
}
