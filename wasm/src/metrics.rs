//! Metrics as Envoy keeps them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use log::debug;
use mcp_upstream_auth::filter::Verdict;
use mcp_upstream_auth::metrics::{self, Kind};
use mcp_upstream_auth::refusal::Reason;
use mcp_upstream_auth::token::Event;

use crate::abi::{self, MetricType, Status};

/// The metrics of one configuration. Each is defined when it first counts, so that ten thousand
/// servers do not make as many metrics before there is a request.
#[derive(Default)]
pub struct Metrics {
    requests: Ids<Verdict>,
    others: Ids<String>,
}

type Ids<K> = RefCell<HashMap<K, u32>>;

impl Metrics {
    /// Counts a request to `server`.
    pub fn count_request(&self, verdict: Verdict, server: Option<&str>) {
        let id = id(&self.requests, verdict, MetricType::Counter, || metrics::requests(verdict.outcome, server));
        noted(id.map(|id| abi::increment_metric(id, 1)));
    }

    /// Counts an answer of `server` that the caller does not get.
    pub fn count_refused_reply(&self, reason: Reason, server: &str) {
        self.note(metrics::refused_reply(reason, server));
    }

    /// Counts what becomes of the tokens of `server`.
    pub fn count_token_event(&self, server: &str, event: Event) {
        for metric in metrics::token(event, server) {
            self.note(metric);
        }
    }

    fn note(&self, (name, kind): (String, Kind)) {
        let envoys = match kind {
            Kind::Count => MetricType::Counter,
            Kind::Add(_) | Kind::Set(_) => MetricType::Gauge,
            Kind::Sample(_) => MetricType::Histogram,
        };
        let id = id(&self.others, name.clone(), envoys, || name);
        noted(id.map(|id| match kind {
            Kind::Count => abi::increment_metric(id, 1),
            Kind::Add(change) => abi::increment_metric(id, change),
            Kind::Set(value) | Kind::Sample(value) => abi::record_metric(id, value),
        }));
    }
}

fn id<K: Eq + Hash>(ids: &Ids<K>, key: K, kind: MetricType, name: impl FnOnce() -> String) -> Option<u32> {
    let mut ids = ids.borrow_mut();
    ids.get(&key).copied().or_else(|| {
        let id = abi::define_metric(kind, &name()).ok()?;
        ids.insert(key, id);
        Some(id)
    })
}

fn noted(result: Option<Result<(), Status>>) {
    if let Some(Err(status)) = result {
        debug!("mcp-upstream-auth: a metric is lost: {status:?}");
    }
}
