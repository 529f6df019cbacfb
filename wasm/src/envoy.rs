//! What Envoy does for tokens: time, shared data, queues, calls to token servers, and requests held back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use mcp_upstream_auth::http::request::STATUS;
use mcp_upstream_auth::refusal::Reason;
use mcp_upstream_auth::secret::Secret;
use mcp_upstream_auth::time::Time;
use mcp_upstream_auth::token::{Event, Failure, FailureKind, Host, LARGEST_BODY, Refusal, Reply, TokenRequest, Waiter};
use prost::Message;

use crate::abi::{self, BufferType, MapType, Status};
use crate::contexts;
use crate::plugin::{Plugin, refuse};

/// What the log says of a callout that came back to this filter.
const CLUSTER_FILTERED: &str = "the cluster has this filter in its own http_filters, so the filter would wait for \
                                itself; name a cluster without the filter";

/// Envoy, for the tokens of one plugin.
pub struct Envoy<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
}

impl Host for Envoy<'_> {
    fn now(&self) -> Time {
        now()
    }

    /// The standard library seeds its hash maps by the system's random numbers, and each anew.
    fn random(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }

    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        abi::shared_data(key)
    }

    fn write(&self, key: &str, value: &[u8], version: Option<u32>) -> bool {
        abi::set_shared_data(key, value, version.unwrap_or_default()).is_ok()
    }

    /// A queue wakes the last one that asked for its name, so each has a name of its own.
    fn make_queue(&self) -> Option<u32> {
        abi::register_shared_queue(&format!("mcp_upstream_auth.{:x}.{:x}", self.random(), self.random())).ok()
    }

    /// A queue whose VM is gone is no mistake.
    fn tell(&self, queue: u32, message: &str) {
        let _ = abi::enqueue(queue, message.as_bytes());
    }

    fn call(&self, request: &TokenRequest<'_>) -> Result<u32, Failure> {
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.expose().as_bytes())).collect();
        let body = request.body.expose().as_bytes();
        let (call, came_back) =
            contexts::during_callout(|| abi::http_call(request.cluster, &headers, body, request.timeout));
        if !came_back.is_empty() {
            for stream in came_back {
                self.plugin.in_context(stream, || {
                    refuse(Reason::TokenClusterFiltered.into());
                });
            }
            // This is also the answer to the callout. Nobody waits for that any more.
            return Err(Failure::new(FailureKind::ClusterFiltered, CLUSTER_FILTERED));
        }
        call.map_err(|status| match status {
            Status::BAD_ARGUMENT => Failure::new(FailureKind::ClusterUnknown, "Envoy has no cluster of that name"),
            _ => Failure::new(
                FailureKind::NoHealthyHost,
                "Envoy has no healthy host in that cluster, or its circuit_breakers leave no room",
            ),
        })
    }

    fn sign(&self, pem: &Secret, text: &[u8]) -> Result<Vec<u8>, String> {
        sign(pem, text)
    }

    fn wake_after(&self, delay: Option<Duration>) {
        self.plugin.look_at_tokens_after(delay);
    }

    fn settle(&self, waiter: &Waiter, outcome: Result<(), Refusal>) {
        self.plugin.in_context(waiter.context, || self.plugin.settle(waiter, outcome));
    }

    fn report(&self, server: &str, event: Event) {
        self.plugin.metrics.count_token_event(server, event);
    }
}

/// The time by Envoy's clock.
pub fn now() -> Time {
    Time::since_epoch(Duration::from_nanos(abi::current_time_nanoseconds()))
}

/// The answer to a call, as long as its callback runs; `None` if it broke off, and has no headers then.
pub fn with_reply<T>(headers: usize, body_size: usize, read: impl FnOnce(Option<Reply<'_>>) -> T) -> T {
    if headers == 0 {
        return read(None);
    }
    let header = |name| abi::header(MapType::CallResponseHeaders, name);
    let status = header(STATUS).and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
    let (retry_after, content_encoding) = (header("retry-after"), header("content-encoding"));
    let size = body_size.min(LARGEST_BODY + 1);
    let body =
        if size == 0 { Vec::new() } else { abi::buffer(BufferType::CallResponseBody, 0, size).unwrap_or_default() };
    let (retry_after, content_encoding) = (retry_after.as_deref(), content_encoding.as_deref());
    read(status.map(|status| Reply { status, retry_after, content_encoding, body: &body }))
}

/// The messages in a queue of this VM.
pub fn messages(queue: u32) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || abi::dequeue(queue))
}

/// A request to sign, as Envoy's foreign function `sign` takes it.
#[derive(Message)]
struct SignArguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "3")]
    text: Vec<u8>,
    #[prost(string, tag = "4")]
    private_key_pem: String,
}

/// What it answers.
#[derive(Message)]
struct SignResult {
    #[prost(bool, tag = "1")]
    is_signed: bool,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

fn sign(pem: &Secret, text: &[u8]) -> Result<Vec<u8>, String> {
    let arguments = SignArguments {
        hash_function: "sha256".to_owned(),
        text: text.to_vec(),
        private_key_pem: pem.expose().to_owned(),
    };
    let result = match abi::call_foreign_function("sign", &arguments.encode_to_vec()) {
        Ok(result) => result,
        Err(Status::NOT_FOUND) => return Err("this Envoy cannot sign; 1.37 and newer can".to_owned()),
        Err(status) => return Err(format!("Envoy answers {status:?}")),
    };
    match SignResult::decode(result.as_slice()) {
        Ok(SignResult { is_signed: true, signature }) => Ok(signature),
        _ => Err("Envoy does not take it for a private key".to_owned()),
    }
}
