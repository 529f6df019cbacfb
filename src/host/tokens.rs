//! What Envoy does for tokens: time, shared data, queues, calls to token servers, and requests held back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use prost::Message;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, Status};

use super::plugin::Plugin;
use crate::request::STATUS;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Event, Failure, FailureKind, Host, LARGEST_BODY, Refusal, Reply, TokenRequest, Waiter};

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
        let (value, version) = hostcalls::get_shared_data(key).ok()?;
        Some((value.unwrap_or_default(), version?))
    }

    fn write(&self, key: &str, value: &[u8], version: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(value), version).is_ok()
    }

    /// A queue wakes the last one that asked for its name, so each has a name of its own.
    fn make_queue(&self) -> Option<u32> {
        hostcalls::register_shared_queue(&format!("mcp_upstream_auth.{:x}.{:x}", self.random(), self.random())).ok()
    }

    /// A queue whose VM is gone is no mistake.
    fn tell(&self, queue: u32, message: &str) {
        let _ = hostcalls::enqueue_shared_queue(queue, Some(message.as_bytes()));
    }

    fn call(&self, request: &TokenRequest<'_>) -> Result<u32, Failure> {
        let headers = request.headers.iter().map(|(name, value)| (*name, value.expose())).collect();
        let body = request.body.expose().as_bytes();
        hostcalls::dispatch_http_call(request.cluster, headers, Some(body), Vec::new(), request.timeout).map_err(
            |status| match status {
                Status::BadArgument => Failure::new(FailureKind::ClusterUnknown, "Envoy has no cluster of that name"),
                _ => Failure::new(FailureKind::Unavailable, "Envoy knows no healthy host there"),
            },
        )
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
    let now = hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH);
    Time::since_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// The answer to a call, as long as its callback runs; `None` if it broke off, and has no headers then.
pub fn with_reply<T>(headers: usize, body_size: usize, read: impl FnOnce(Option<Reply<'_>>) -> T) -> T {
    if headers == 0 {
        return read(None);
    }
    let header = |name| hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name).ok().flatten();
    let status = header(STATUS).and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
    let retry_after = header("retry-after");
    let size = body_size.min(LARGEST_BODY + 1);
    let body = if size == 0 {
        Vec::new()
    } else {
        hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok().flatten().unwrap_or_default()
    };
    read(status.map(|status| Reply { status, retry_after: retry_after.as_deref(), body: &body }))
}

/// The messages in a queue of this VM.
pub fn messages(queue: u32) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || hostcalls::dequeue_shared_queue(queue).ok().flatten())
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
    let result = match hostcalls::call_foreign_function("sign", Some(&arguments.encode_to_vec())) {
        Ok(result) => result.unwrap_or_default(),
        Err(Status::NotFound) => return Err("this Envoy cannot sign; 1.37 and newer can".to_owned()),
        Err(status) => return Err(format!("Envoy answers {status:?}")),
    };
    match SignResult::decode(result.as_slice()) {
        Ok(SignResult { is_signed: true, signature }) => Ok(signature),
        _ => Err("Envoy does not take it for a private key".to_owned()),
    }
}
