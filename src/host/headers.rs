//! The header maps of the stream at hand.

use log::error;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use crate::request::Headers;

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
        hostcalls::get_map_value_bytes(self.map, name).ok().flatten()
    }

    /// Envoy takes no name that is not of ASCII characters.
    fn all(&self) -> Vec<(String, Vec<u8>)> {
        hostcalls::get_map_bytes(self.map).unwrap_or_default()
    }

    fn remove(&mut self, name: &str) {
        self.has_failed |= hostcalls::remove_map_value(self.map, name).is_err();
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.has_failed |= hostcalls::set_map_value_bytes(self.map, name, Some(value)).is_err();
    }
}
