//! What leaves the filter, for every kind of credential and every way of choosing a server.

mod allocations;
mod aws;
mod filter_state;
mod refused_credentials;

use std::cell::Cell;

use super::{Decided, Decision, Filter, Outcome};
use crate::http::body::Payload;
use crate::http::request::{Attributes, Headers, Request};
use crate::refusal::Reason;
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

    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        self.reads.set(self.reads.get() + 1);
        self.entries.iter().for_each(|(name, value)| see(name.as_bytes(), value));
    }

    fn remove(&mut self, name: &str) {
        self.entries.retain(|(own, _)| own != name);
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    fn add(&mut self, name: &str, value: &[u8]) {
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
    let query = r#"{"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "a-key"}}"#;
    let bearer = r#"{"host": "h", "auth": {"type": "BEARER", "token": "a-key"}}"#;
    for (config, expected, reads) in [(query, "https://h/mcp/?a=1", 2), (bearer, "https://h/mcp/?a=1&k=a-key", 1)] {
        let filter = filter(config);
        let decided = decided(filter.on_request(&mut request(&no_attribute, &mut caller())));
        let location = ("location", "https://h/mcp/?a=1&k=a-key");
        let mut response = FakeHeaders::new(&[(":status", "307"), location]);
        filter.on_response(decided, &mut response, &|_| None);
        // One look at all headers, and another one where the key is there.
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

/// The head of a request after a filter with these keys and no credential.
fn stripped(keys: &str, path: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let filter = filter(&format!(r#"{{"host": "h", {keys}}}"#));
    let mut headers = FakeHeaders::new(&[&[(":path", path)], headers].concat());
    let verdict = decided(filter.on_request(&mut request(&no_attribute, &mut headers))).verdict;
    assert_eq!(verdict.outcome, Outcome::Stripped);
    let lines = headers.lines().into_iter().filter(|line| line != ":authority: h" && line != ":path: /");
    lines.collect()
}

#[test]
fn a_prefix_and_a_preset_remove_the_headers_that_are_there() {
    let sent = [
        ("X-Auth-Token", "theirs"),
        ("x-auth-request-user", "theirs"),
        ("x-forwarded-host", "gateway.example"),
        ("x-original-url", "/other"),
        ("x-mine-1", "theirs"),
        ("x-mine-1", "theirs"),
        ("X-Mine", "kept"),
        ("te", "trailers"),
        ("x-forwarded-proto", "https"),
        ("cookie", "theirs"),
        ("accept", "kept"),
    ];
    let kept = |names: &[&str]| {
        let is_kept = |(name, _): &&(&str, &str)| names.contains(name);
        sent.iter().filter(is_kept).map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect::<Vec<_>>()
    };
    for (keys, expected) in [
        (
            r#""stripPresets": ["credentials"]"#,
            kept(&["x-forwarded-host", "x-original-url", "x-mine-1", "X-Mine", "te", "x-forwarded-proto", "accept"]),
        ),
        (
            r#""stripPresets": ["forwarded"]"#,
            kept(&["X-Auth-Token", "x-auth-request-user", "x-mine-1", "X-Mine", "te", "x-forwarded-proto", "accept"]),
        ),
        (
            r#""stripPresets": ["forwarded", "credentials"], "stripHeaders": ["X-Mine-*"]"#,
            kept(&["X-Mine", "te", "x-forwarded-proto", "cookie", "accept"]),
        ),
        // The proxy needs these two, however short a prefix is.
        (r#""stripHeaders": ["x*", "t*", "c*"]"#, kept(&["te", "x-forwarded-proto", "accept"])),
    ] {
        assert_eq!(stripped(keys, "/", &sent), expected, "{keys}");
    }
}

#[test]
fn a_header_of_the_credential_arrives_though_a_list_has_it() {
    let filter = filter(
        r#"{"host": "h", "stripPresets": ["credentials"], "stripHeaders": ["x-t*"],
            "auth": {"type": "HEADERS", "headers": {"X-Auth-Token": "ours", "x-token": "ours"}}}"#,
    );
    let theirs = [("x-auth-token", "theirs"), ("x-token", "theirs"), ("x-two", "theirs"), ("api-key", "theirs")];
    let mut headers = FakeHeaders::new(&theirs);
    filter.on_request(&mut request(&no_attribute, &mut headers));
    assert_eq!(headers.lines(), [":authority: h", "x-auth-token: ours", "x-token: ours"]);
}

#[test]
fn parameters_are_removed_from_the_query_and_the_rest_stays() {
    let keys = r#""stripQuery": ["access_token", "api key"]"#;
    for (path, expected) in [
        ("/mcp?access_token=theirs", "/mcp"),
        ("/mcp?a=1&access_token=theirs&b=%2f", "/mcp?a=1&b=%2f"),
        ("/mcp?Access%5FToken=theirs;b", "/mcp?b"),
        ("/mcp?api+key=theirs&api%20key&c", "/mcp?c"),
        ("/mcp?my_access_token=1&access_tokens", "/mcp?my_access_token=1&access_tokens"),
        ("/mcp?", "/mcp?"),
        ("/mcp", "/mcp"),
        ("/access_token=1?x", "/access_token=1?x"),
    ] {
        let headers = [("x-envoy-original-path", "/theirs")];
        assert_eq!(stripped(keys, path, &headers), [format!(":path: {expected}")], "{path}");
    }
}

#[test]
fn an_upgrade_keeps_of_connection_what_it_needs() {
    let filter = filter(r#"{"host": "h"}"#);
    for (sent, expected) in [
        ("Upgrade, Authorization", "upgrade"),
        ("authorization,x-api-key,upgrade", "upgrade"),
        ("keep-alive, Upgrade", "upgrade"),
        ("Upgrade", "Upgrade"),
    ] {
        let mut headers = FakeHeaders::new(&[("connection", sent), ("upgrade", "websocket")]);
        let payload = Payload::Unread;
        filter.on_request(&mut Request { payload, ..request(&no_attribute, &mut headers) });
        assert_eq!(headers.get("connection").unwrap(), expected.as_bytes(), "{sent}");
    }
    // A request without a body is no upgrade. Envoy removes the header from it.
    let mut headers = FakeHeaders::new(&[]);
    filter.on_request(&mut request(&no_attribute, &mut headers));
    assert_eq!(headers.reads.get(), 0);
}

#[test]
fn a_response_brings_no_session_of_the_gateways_account() {
    const BEARER: &str = r#""auth": {"type": "BEARER", "token": "t"}"#;
    const COOKIE: &str = r#""auth": {"type": "HEADERS", "headers": {"Cookie": "ours=1"}}"#;
    const CHALLENGES: [&str; 2] = ["www-authenticate: Bearer", "proxy-authenticate: Basic"];
    let sent = [
        (":status", "200"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("www-authenticate", "Bearer"),
        ("proxy-authenticate", "Basic"),
        ("x-session", "1"),
    ];
    let (cookies, session) = (["set-cookie: a=1", "set-cookie: b=2"], ["x-session: 1"]);
    for (keys, expected) in [
        (BEARER.to_owned(), session.to_vec()),
        (format!(r#"{BEARER}, "stripHeaders": []"#), [&cookies[..], &session].concat()),
        (format!(r#"{COOKIE}, "stripHeaders": []"#), session.to_vec()),
        (format!(r#"{BEARER}, "stripResponseHeaders": []"#), [&cookies[..], &session].concat()),
        (format!(r#"{BEARER}, "stripResponseHeaders": ["X-Session"]"#), cookies.to_vec()),
        (BEARER.replace("\"t\"", "\"t\", \"passChallenge\": true"), [&CHALLENGES[..], &session].concat()),
        ("\"enabled\": true".to_owned(), FakeHeaders::new(&sent).lines()[1..].iter().map(String::as_str).collect()),
    ] {
        let filter = filter(&format!(r#"{{"host": "h", {keys}}}"#));
        let decided = decided(filter.on_request(&mut request(&no_attribute, &mut caller())));
        let mut response = FakeHeaders::new(&sent);
        assert_eq!(filter.on_response(decided, &mut response, &|_| None), None, "{keys}");
        assert_eq!(response.lines()[1..], expected, "{keys}");
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
