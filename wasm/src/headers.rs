//! The header maps of the stream at hand.

use log::error;
use mcp_upstream_auth::request::Headers;

use crate::abi::{self, MapType};

/// A header map of the stream at hand.
pub struct HeaderMap {
    map: MapType,
    /// Whether Envoy refused a change. A request must not leave half changed.
    pub has_failed: bool,
}

impl HeaderMap {
    /// The map of this kind.
    pub fn new(map: MapType) -> Self {
        Self { map, has_failed: false }
    }

    /// For where it is too late to refuse the request.
    pub fn report_failure(&self) {
        if self.has_failed {
            error!("mcp-upstream-auth: Envoy refused a change of trailers or of a response");
        }
    }
}

impl Headers for HeaderMap {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        abi::header(self.map, name)
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        abi::visit_headers(self.map, |name, value| {
            // Envoy takes only names of ASCII characters.
            all.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        });
        all
    }

    fn remove(&mut self, name: &str) {
        self.has_failed |= abi::remove_header(self.map, name).is_err();
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.has_failed |= abi::set_header(self.map, name, value).is_err();
    }
}
