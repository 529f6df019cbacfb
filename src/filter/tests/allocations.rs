//! How often the way of a request asks for memory: not at all but for what its host hands over.

use allocation_counter::measure;

use super::refused_credentials::{BEARER, OAUTH2, injected};
use super::{decided, filter, request};
use crate::filter::Filter;
use crate::http::request::Headers;

/// A header map that keeps nothing, and whose values are all the same.
struct NoHeaders(&'static [u8]);

impl Headers for NoHeaders {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        Some(self.0.to_vec())
    }

    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        see(b":status", self.0);
        see(b"content-type", b"application/json");
    }

    fn remove(&mut self, _: &str) {}

    fn set(&mut self, _: &str, _: &[u8]) {}

    fn add(&mut self, _: &str, _: &[u8]) {}
}

/// How often the filter asks for memory for one request and its answer.
fn allocations(filter: &Filter) -> u64 {
    let exchange = || {
        let decided = decided(filter.on_request(&mut request(&|_| Some(b"s".to_vec()), &mut NoHeaders(b"/mcp"))));
        filter.on_response(decided, &mut NoHeaders(b"200"), &|_| None);
    };
    exchange();
    measure(exchange).count_total
}

#[test]
fn the_way_of_a_request_asks_for_no_memory_but_for_what_its_host_hands_over() {
    let basic = r#"{"type": "BASIC", "username": "u", "password": "p""#;
    let headers = r#"{"type": "HEADERS", "headers": {"a": "1", "b": "2"}"#;
    for auth in [BEARER, OAUTH2, basic, headers] {
        let server = format!(r#"{{"host": "h", "auth": {auth}}}}}"#);
        let (only, among) = (filter(&server), filter(&format!(r#"{{"servers": {{"s": {server}, "t": {server}}}}}"#)));
        injected(&only);
        injected(&among);
        assert_eq!(allocations(&only), 0, "{auth}");
        // The name of the cluster.
        assert_eq!(allocations(&among), 1, "{auth}");
    }
}

#[test]
fn it_does_not_matter_how_many_servers_there_are() {
    let servers: Vec<_> = (0..1000).map(|index| format!(r#""{index}": {{"host": "h"}}"#)).collect();
    let many =
        filter(&format!(r#"{{"servers": {{"s": {{"host": "h", "auth": {BEARER}}}}}, {}}}}}"#, servers.join(", ")));
    assert_eq!(allocations(&many), 1);
}
