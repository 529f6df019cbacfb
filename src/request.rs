//! A request as the core sees it: bytes in, changes out. The host's header map is one
//! implementation, the one in the tests another.

/// The pseudo-header with path and query.
pub const PATH: &str = ":path";

/// Where Envoy's router keeps the path that a route has rewritten.
pub const ORIGINAL_PATH: &str = "x-envoy-original-path";

/// Where Envoy keeps the caller's host that a route has rewritten.
pub const ORIGINAL_HOST: &str = "x-envoy-original-host";

/// The pseudo-header with the host; in HTTP/1.1, the header `Host`.
pub const AUTHORITY: &str = ":authority";

/// The pseudo-header with the status of a response.
pub const STATUS: &str = ":status";

/// The headers or trailers of one request. Names are lower case; values are any bytes.
pub trait Headers {
    /// The value of `name`; costs a call into the host and a copy.
    fn get(&self, name: &str) -> Option<Vec<u8>>;

    /// Removes every header called `name`.
    fn remove(&mut self, name: &str);

    /// Puts one header in place of every one called `name`.
    fn set(&mut self, name: &str, value: &[u8]);
}
