//! What leaves the filter, for every kind of credential and every way of choosing a server.

mod allocations;
mod aws;
mod filter_state;
mod refused_credentials;

use std::cell::Cell;

use super::{Decided, Decision, Filter, Outcome};
use crate::payload::Payload;
use crate::refusal::Reason;
use crate::request::{Attributes, Headers, Request};
use crate::time::Time;

/// A header map like Envoy's: names without case, duplicates kept until replaced.
#[derive(Clone, Debug, PartialEq)]
struct FakeHeaders {
    entries: Vec<(String, Vec<u8>)>,
    reads: Cell<usize>,
}

impl FakeHeaders {
    fn new(entries: &[(&str, &str)]) -> Self {
        let entry = |(name, value): &(&str, &str)| (name.to_lowercase(), value.as_bytes().to_vec());
        Self { entries: entries.iter().map(entry).collect(), reads: Cell::new(0) }
    }

    fn lines(&self) -> Vec<String> {
        self.entries.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }
}

impl Headers for FakeHeaders {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.reads.set(self.reads.get() + 1);
        self.entries.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        self.entries.clone()
    }

    fn remove(&mut self, name: &str) {
        self.entries.retain(|(own, _)| own != name);
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.entries.push((name.to_owned(), value.to_vec()));
    }
}

fn filter(config: &str) -> Filter {
    Filter::from_config(config.as_bytes(), &|_| None).unwrap()
}

fn caller() -> FakeHeaders {
    FakeHeaders::new(&[
        (":method", "POST"),
        (":path", "/mcp?a=1"),
        (":authority", "gateway.example"),
        ("Authorization", "Bearer theirs"),
        ("authorization", "Basic theirs"),
        ("X-API-KEY", "theirs"),
        ("content-length", "2"),
        ("cookie", "session=theirs"),
        ("proxy-authorization", "theirs"),
        ("mcp-session-id", "1"),
    ])
}

const KEPT: [&str; 3] = [":method: POST", ":path: /mcp?a=1", "mcp-session-id: 1"];

/// The decision on a request that does not wait.
fn decided(decision: Decision) -> Decided {
    match decision {
        Decision::Final(decided) => decided,
        Decision::Wait(..) | Decision::Read(..) => panic!("it waits"),
    }
}

/// A request without a body, at noon.
fn request<'a>(attributes: Attributes<'a>, headers: &'a mut dyn Headers) -> Request<'a> {
    Request { headers, attributes, payload: Payload::Absent, now: &|| Time::NOON }
}

fn no_attribute(_: &[&str]) -> Option<Vec<u8>> {
    panic!("the only server needs no attribute")
}

#[test]
fn each_kind_replaces_the_callers_credentials_by_its_own() {
    for (auth, expected) in [
        (r#"{"type": "BEARER", "token": "t"}"#, vec!["authorization: Bearer t"]),
        (r#"{"type": "BASIC", "username": "u", "password": "p"}"#, vec!["authorization: Basic dTpw"]),
        (r#"{"type": "API_KEY", "header": "X-API-Key", "value": "k"}"#, vec!["x-api-key: k"]),
        (
            r#"{"type": "HEADERS", "headers": {"X-Client-ID": "g", "Cookie": "c=1"}}"#,
            vec!["cookie: c=1", "x-client-id: g"],
        ),
    ] {
        let mut headers = caller();
        let filter = filter(&format!(r#"{{"host": "up.example", "auth": {auth}}}"#));
        let verdict = decided(filter.on_request(&mut request(&no_attribute, &mut headers))).verdict;
        assert_eq!(verdict.outcome, Outcome::Injected, "{auth}");
        assert_eq!(headers.lines(), [&KEPT[..], &[":authority: up.example"], &expected].concat(), "{auth}");
        assert_eq!(headers.reads.get(), 0, "{auth}: a header read on the hot path");
    }
}

#[test]
fn a_key_in_the_query_costs_one_read() {
    let mut headers = caller();
    let filter = filter(r#"{"host": "up.example", "auth": {"type": "API_KEY", "query": "a", "value": "k"}}"#);
    assert_eq!(
        decided(filter.on_request(&mut request(&no_attribute, &mut headers))).verdict.outcome,
        Outcome::Injected
    );
    assert_eq!(headers.get(":path").unwrap(), b"/mcp?a=k");
    assert_eq!(headers.reads.get(), 2, "one by the filter, one by this test");
}

#[test]
fn a_request_without_a_path_is_refused_where_the_query_carries_the_key() {
    let filter = filter(r#"{"host": "up.example", "auth": {"type": "API_KEY", "query": "a", "value": "k"}}"#);
    for headers in [&[][..], &[(":path", "*")], &[(":path", "")]] {
        let outcome =
            decided(filter.on_request(&mut request(&no_attribute, &mut FakeHeaders::new(headers)))).verdict.outcome;
        assert_eq!(outcome, Outcome::Rejected(Reason::NoPath), "{headers:?}");
    }
}

#[test]
fn no_credential_still_means_that_the_callers_are_removed() {
    for auth in ["", r#", "auth": {}"#, r#", "auth": null"#, r#", "auth": {"type": "none"}"#] {
        let mut headers = caller();
        let filter = filter(&format!(r#"{{"host": "up.example"{auth}}}"#));
        let verdict = decided(filter.on_request(&mut request(&no_attribute, &mut headers))).verdict;
        assert_eq!(verdict.outcome, Outcome::Stripped, "{auth}");
        assert_eq!(headers.lines(), [&KEPT[..], &[":authority: up.example"]].concat(), "{auth}");
    }
}

#[test]
fn strip_headers_are_taken_instead_of_the_default_ones() {
    for (strip, kept) in [
        (r#"[]"#, vec!["cookie: session=theirs", "proxy-authorization: theirs", "mcp-session-id: 1"]),
        (r#"["Cookie", "COOKIE", "Authorization"]"#, vec!["proxy-authorization: theirs", "mcp-session-id: 1"]),
        (r#"["MCP-Session-Id"]"#, vec!["cookie: session=theirs", "proxy-authorization: theirs"]),
    ] {
        let mut headers = caller();
        filter(&format!(r#"{{"host": "h", "stripHeaders": {strip}}}"#))
            .on_request(&mut request(&no_attribute, &mut headers));
        assert_eq!(
            headers.lines(),
            [&[":method: POST", ":path: /mcp?a=1"][..], &kept, &[":authority: h"]].concat(),
            "{strip}"
        );
    }
}

#[test]
fn the_server_is_chosen_by_one_attribute() {
    for (select_by, path) in [
        ("", vec!["xds", "cluster_name"]),
        (r#""selectBy": "cluster","#, vec!["xds", "cluster_name"]),
        (r#""selectBy": "route","#, vec!["xds", "route_name"]),
        (r#""selectBy": "metadata","#, vec!["xds", "route_metadata", "filter_metadata", "mcp_upstream_auth", "server"]),
    ] {
        let filter = filter(&format!(
            r#"{{{select_by} "servers": {{
                "one": {{"host": "one.example", "auth": {{"type": "Bearer", "token": "1"}}}},
                "two": {{"host": "two.example", "auth": {{"type": "bearer", "token": "2"}}}}
            }}}}"#
        ));
        for (name, number) in [("one", "1"), ("two", "2")] {
            let mut headers = caller();
            let read = |asked: &[&str]| {
                assert_eq!(asked, path);
                Some(name.as_bytes().to_vec())
            };
            let verdict = decided(filter.on_request(&mut request(&read, &mut headers))).verdict;
            assert_eq!(&*filter.servers().get(verdict.server.unwrap()).unwrap().name, name);
            assert_eq!(headers.get("authorization").unwrap(), format!("Bearer {number}").as_bytes());
            assert_eq!(headers.get(":authority").unwrap(), format!("{name}.example").as_bytes());
        }
    }
}

#[test]
fn an_unmatched_request_is_refused_stripped_or_left_alone() {
    let untouched = caller().lines();
    let stripped: Vec<String> =
        [":method: POST", ":path: /mcp?a=1", ":authority: gateway.example", "mcp-session-id: 1"]
            .map(str::to_owned)
            .to_vec();
    for (unmatched, outcome, expected) in [
        ("", Outcome::Rejected(Reason::UnknownServer), &untouched),
        (r#""unmatched": "reject","#, Outcome::Rejected(Reason::UnknownServer), &untouched),
        (r#""unmatched": "strip","#, Outcome::Stripped, &stripped),
        (r#""unmatched": "pass","#, Outcome::Passed, &untouched),
    ] {
        let filter = filter(&format!(r#"{{{unmatched} "selectBy": "route", "servers": {{"one": {{"host": "h"}}}}}}"#));
        for name in [None, Some(b"two".to_vec()), Some(b"\xff\xfe".to_vec()), Some(Vec::new()), Some(b"one ".to_vec())]
        {
            let mut headers = caller();
            let verdict = decided(filter.on_request(&mut request(&|_| name.clone(), &mut headers))).verdict;
            assert_eq!((verdict.server, verdict.outcome), (None, outcome), "{unmatched} {name:?}");
            assert_eq!(&headers.lines(), expected, "{unmatched} {name:?}");
        }
    }
}

#[test]
fn a_response_keeps_quiet_about_a_key_in_the_query() {
    let query = r#"{"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "v"}}"#;
    let bearer = r#"{"host": "h", "auth": {"type": "BEARER", "token": "v"}}"#;
    for (config, expected, reads) in [(query, "https://h/mcp/?a=1", 3), (bearer, "https://h/mcp/?a=1&k=v", 1)] {
        let filter = filter(config);
        let decided = decided(filter.on_request(&mut request(&no_attribute, &mut caller())));
        let mut response = FakeHeaders::new(&[(":status", "307"), ("location", "https://h/mcp/?a=1&k=v")]);
        filter.on_response(decided, &mut response);
        assert_eq!(response.reads.get(), reads, "{config}");
        assert_eq!(response.get("location").unwrap(), expected.as_bytes(), "{config}");
    }
}

#[test]
fn a_server_that_is_switched_off_refuses() {
    let filter = filter(
        r#"{"servers": {"one": {"host": "h", "enabled": false, "auth": {"type": "BEARER", "token": "${UNSET}"}}}}"#,
    );
    let mut headers = caller();
    let verdict = decided(filter.on_request(&mut request(&|_| Some(b"one".to_vec()), &mut headers))).verdict;
    assert_eq!(verdict.outcome, Outcome::Rejected(Reason::ServerDisabled));
    assert!(verdict.server.is_some());
}

#[test]
fn trailers_lose_the_same_headers() {
    let filter = filter(
        r#"{"servers": {"one": {"host": "h", "auth": {"type": "HEADERS", "headers": {"x-id": "g"}}}}, "unmatched": "pass"}"#,
    );
    let sent = [("Authorization", "theirs"), ("x-id", "theirs"), ("cookie", "theirs"), ("checksum", "1")];
    for (name, expected) in
        [("one", vec!["checksum: 1"]), ("other", FakeHeaders::new(&sent).lines().iter().map(String::as_str).collect())]
    {
        let verdict =
            decided(filter.on_request(&mut request(&|_| Some(name.as_bytes().to_vec()), &mut caller()))).verdict;
        let mut trailers = FakeHeaders::new(&sent);
        filter.on_trailers(verdict, &mut trailers);
        assert_eq!(trailers.lines(), expected, "{name}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let filter = filter(
        r#"{"servers": {
            "a": {"host": "h", "auth": {"type": "BEARER", "token": "s3cr3t"}},
            "b": {"host": "h", "auth": {"type": "BASIC", "username": "u", "password": "s3cr3t"}},
            "c": {"host": "h", "auth": {"type": "API_KEY", "query": "q", "value": "s3cr3t"}},
            "d": {"host": "h", "auth": {"type": "API_KEY", "header": "x-k", "value": "s3cr3t"}},
            "e": {"host": "h", "auth": {"type": "HEADERS", "headers": {"x-k": "s3cr3t"}}},
            "f": {"host": "h", "auth": {"type": "OAUTH2", "tokenUrl": "https://a", "clientId": "u",
                "clientSecret": "s3cr3t", "extraParams": {"password": "s3cr3t"}}},
            "g": {"host": "h", "auth": {"type": "AWS_SIGV4", "region": "r", "service": "s", "accessKeyId": "s3cr3t",
                "secretAccessKey": "s3cr3t", "sessionToken": "s3cr3t"}}
        }}"#,
    );
    let shown = format!("{filter:?}");
    // Credentials do not show at all. Tokens do, by a digest of what is asked for.
    assert_eq!(shown.matches("Token {").count(), 1, "{shown}");
    for secret in ["s3cr3t", "dTpzM2NyM3Q="] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
