//! What the figures should be. A goal that is not met is printed, and fails nothing: a timing is no test.

use serde_json::{Value, json};

use crate::cases::Case;
use crate::cpu::Cpu;
use crate::memory::Memory;
use crate::stats::Summary;

/// A limit, and what was measured.
#[derive(Debug)]
pub struct Goal {
    /// What is limited.
    pub what: String,
    /// The limit.
    pub limit: f64,
    /// The measured value; if it is one of many, their median.
    pub measured: f64,
    /// The quartiles, if there are some.
    pub quartiles: Option<(f64, f64)>,
    /// What both are in; nothing for a ratio.
    pub unit: &'static str,
}

impl Goal {
    fn ratio(what: String, limit: f64, ratio: Summary) -> Self {
        Self { what, limit, measured: ratio.median, quartiles: Some((ratio.lower, ratio.upper)), unit: "" }
    }

    fn value(what: &str, limit: f64, measured: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), limit, measured, quartiles: None, unit }
    }

    /// Whether the measured value is within the limit.
    pub fn is_met(&self) -> bool {
        self.measured <= self.limit
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "limit": self.limit,
            "measured": self.measured,
            "quartiles": self.quartiles,
            "unit": self.unit,
            "met": self.is_met(),
        })
    }
}

/// The CPU time.
pub fn of_cpu(cpu: &Cpu) -> Vec<Goal> {
    use Case::{
        Listener, ListenerMany, ListenerOauth2, Lua, NoopListener, NoopUpstream, UpstreamBearer, UpstreamOauth2,
    };
    const LIMITS: [(Case, Case, f64); 8] = [
        (UpstreamBearer, NoopUpstream, 1.04),
        (UpstreamOauth2, NoopUpstream, 1.04),
        (UpstreamBearer, Lua, 1.0),
        (UpstreamOauth2, Lua, 1.0),
        (Listener, NoopListener, 1.08),
        (ListenerMany, Listener, 1.01),
        (UpstreamOauth2, UpstreamBearer, 1.01),
        (ListenerOauth2, Listener, 1.01),
    ];
    let goal = |(case, base, limit): (Case, Case, f64)| {
        Goal::ratio(format!("CPU: {} / {}", case.label(), base.label()), limit, cpu.ratio(case, base))
    };
    LIMITS.into_iter().map(goal).collect()
}

/// The memory.
pub fn of_memory(memory: &Memory) -> Vec<Goal> {
    vec![
        Goal::value(
            "memory a worker above the no-op, 1 server",
            2.0,
            memory.per_worker(1) - memory.per_worker(0),
            "MB",
        ),
        Goal::value("memory a server and worker, 10,000 servers", 1.0, memory.per_server_and_worker() / 1e3, "KB"),
    ]
}

/// The module.
pub fn of_module(bytes: u64) -> Vec<Goal> {
    let kilobytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e3;
    vec![Goal::value("size of the module", 1000.0, kilobytes, "KB")]
}

/// Requests that waited.
pub fn of_waiting(requests: usize) -> Vec<Goal> {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    vec![Goal::value("requests that waited while a token was replaced", 0.0, requests, "")]
}
