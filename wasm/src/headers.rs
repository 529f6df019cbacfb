//! The header maps of the stream at hand.

use log::error;
use mcp_upstream_auth::http::request::Headers;

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

    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        abi::visit_headers(self.map, see);
    }

    fn remove(&mut self, name: &str) {
        self.has_failed |= abi::remove_header(self.map, name).is_err();
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.has_failed |= abi::set_header(self.map, name, value).is_err();
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        self.has_failed |= abi::add_header(self.map, name, value).is_err();
    }
}
