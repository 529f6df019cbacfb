//! A request as the core sees it: bytes in, changes out. The host's header map is one
//! implementation, the one in the tests another.

use crate::http::body::Payload;
use crate::time::Time;

/// The pseudo-header with path and query.
pub const PATH: &str = ":path";

/// The pseudo-header with the method.
pub const METHOD: &str = ":method";

/// Where Envoy's router keeps the path that a route has rewritten.
pub const ORIGINAL_PATH: &str = "x-envoy-original-path";

/// Where Envoy keeps the caller's host that a route has rewritten.
pub const ORIGINAL_HOST: &str = "x-envoy-original-host";

/// The pseudo-header with the host; in HTTP/1.1, the header `Host`.
pub const AUTHORITY: &str = ":authority";

/// The pseudo-header with the status of a response.
pub const STATUS: &str = ":status";

/// Reads an Envoy attribute of a request by its path.
pub type Attributes<'a> = &'a dyn Fn(&[&str]) -> Option<Vec<u8>>;

/// The head of one request, and what is known beside it.
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a mut dyn Headers,
    /// Its attributes. What is read from them costs every request.
    pub attributes: Attributes<'a>,
    /// Its body, as far as that is known.
    pub payload: Payload,
    /// The time, which costs a call into the host.
    pub now: &'a dyn Fn() -> Time,
}

/// The header by which an upgrade and other names are said to be for the next hop alone (RFC 9110 §7.6.1).
const CONNECTION: &str = "connection";

impl Request<'_> {
    /// Leaves of `Connection` what an upgrade needs. Envoy removes it from all other requests, but passes its value on as it
    /// is: `Connection: Upgrade, Authorization` would make the next proxy drop the credential.
    pub fn narrow_connection(&mut self) {
        const UPGRADE: &[u8] = b"upgrade";
        // An upgrade never ends with its head.
        let connection = (self.payload != Payload::Absent).then(|| self.headers.get(CONNECTION)).flatten();
        if connection.is_some_and(|connection| !connection.eq_ignore_ascii_case(UPGRADE)) {
            self.headers.set(CONNECTION, UPGRADE);
        }
    }

    /// Whether what follows the head is no body: Envoy has every upgrade, that of HTTP/2 as well, in this header.
    pub fn takes_over_the_connection(&self) -> bool {
        self.headers.get("upgrade").is_some()
    }
}

/// The headers or trailers of one request. Names are lower case; values are any bytes.
pub trait Headers {
    /// The value of `name`; costs a call into the host and a copy.
    fn get(&self, name: &str) -> Option<Vec<u8>>;

    /// Hands each header to `see`, in their order; one call into the host, whatever their number.
    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8]));

    /// All of them in their order, those that come twice as well. Envoy takes only names of ASCII characters.
    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        self.visit(&mut |name, value| all.push((String::from_utf8_lossy(name).into_owned(), value.to_vec())));
        all
    }

    /// Removes every header called `name`.
    fn remove(&mut self, name: &str);

    /// Puts one header in place of every one called `name`.
    fn set(&mut self, name: &str, value: &[u8]);

    /// Puts a header behind those called `name`.
    fn add(&mut self, name: &str, value: &[u8]);
}
