//! Secrets in the filter state of requests.

use super::{caller, decided, filter, request};
use crate::filter::{Decision, Outcome};
use crate::refusal::Reason;

/// The filter state of a request whose objects `a` and `b` are these.
fn state(a: Option<&'static [u8]>, b: Option<&'static [u8]>) -> impl Fn(&[&str]) -> Option<Vec<u8>> {
    move |path: &[&str]| match path {
        ["filter_state", "a"] => a.map(<[u8]>::to_vec),
        ["filter_state", "b"] => b.map(<[u8]>::to_vec),
        _ => panic!("{path:?}"),
    }
}

const A: &str = r#"{"fromFilterState": "a"}"#;
const B: &str = r#"{"fromFilterState": "b"}"#;

#[test]
fn a_secret_of_the_filter_state_goes_where_a_written_one_would() {
    for (auth, expected) in [
        (format!(r#"{{"type": "BEARER", "token": {A}}}"#), vec!["authorization: Bearer s1"]),
        (format!(r#"{{"type": "BASIC", "username": "u", "password": {A}}}"#), vec!["authorization: Basic dTpzMQ=="]),
        (format!(r#"{{"type": "API_KEY", "header": "x-k", "value": {A}}}"#), vec!["x-k: s1"]),
        (format!(r#"{{"type": "API_KEY", "query": "k", "value": {A}}}"#), vec![":path: /mcp?a=1&k=s1"]),
        (
            format!(r#"{{"type": "HEADERS", "headers": {{"x-a": {A}, "x-b": {B}, "x-c": "c"}}}}"#),
            vec!["x-a: s1", "x-b: s2", "x-c: c"],
        ),
    ] {
        let filter = filter(&format!(r#"{{"host": "h", "auth": {auth}}}"#));
        for end in [&b"s1"[..], b"s1\n", b"s1\r\n\n"] {
            let end: &'static [u8] = end;
            let mut headers = caller();
            let verdict =
                decided(filter.on_request(&mut request(&state(Some(end), Some(b"s2\n")), &mut headers))).verdict;
            assert_eq!(verdict.outcome, Outcome::Injected, "{auth}");
            let lines = headers.lines();
            for line in &expected {
                assert!(lines.iter().any(|own| own == line), "{auth}: {line} is not in {lines:?}");
            }
            assert!(!lines.iter().any(|line| line.contains("theirs")), "{auth}: {lines:?}");
        }
    }
}

#[test]
fn a_secret_that_is_missing_or_cannot_be_one_refuses_the_request() {
    let headers = format!(r#"{{"type": "HEADERS", "headers": {{"x-a": {A}, "x-b": {B}}}}}"#);
    let bearer = format!(r#"{{"type": "BEARER", "token": {A}}}"#);
    let query = format!(r#"{{"type": "API_KEY", "query": "k", "value": {A}}}"#);
    let oauth2 = format!(r#"{{"type": "OAUTH2", "tokenUrl": "https://a", "clientId": "c", "clientSecret": {A}}}"#);
    let key = format!(
        r#"{{"type": "OAUTH2", "tokenUrl": "https://a", "clientId": "c", "clientAuth": "private_key_jwt", "privateKey": {A}}}"#
    );
    for (auth, a, b, reason) in [
        (&bearer, None, None, Reason::SecretMissing),
        (&bearer, Some(&b""[..]), None, Reason::SecretMissing),
        (&bearer, Some(b"\n"), None, Reason::SecretMissing),
        (&bearer, Some(b"-"), None, Reason::SecretMissing),
        (&oauth2, Some(b"-"), None, Reason::SecretMissing),
        (&bearer, Some(b"a b"), None, Reason::SecretInvalid),
        (&bearer, Some(b"a\r\nx: y"), None, Reason::SecretInvalid),
        (&bearer, Some(b"\xff"), None, Reason::SecretInvalid),
        (&headers, Some(b"a"), None, Reason::SecretMissing),
        (&headers, Some(b"a"), Some(&b" b"[..]), Reason::SecretInvalid),
        (&query, None, None, Reason::SecretMissing),
        (&oauth2, None, None, Reason::SecretMissing),
        (&key, Some(b"no key"), None, Reason::SecretInvalid),
    ] {
        let filter = filter(&format!(r#"{{"host": "h", "auth": {auth}}}"#));
        let verdict = decided(filter.on_request(&mut request(&state(a, b), &mut caller()))).verdict;
        assert_eq!(verdict.outcome, Outcome::Rejected(reason), "{auth} {a:?} {b:?}");
    }
}

#[test]
fn another_client_secret_is_another_token_and_the_same_one_is_not() {
    let filter = filter(&format!(
        r#"{{"servers": {{"s": {{"host": "h", "auth": {{"type": "OAUTH2", "tokenUrl": "https://a", "clientId": "c",
            "clientSecret": {A}}}}}}}, "selectBy": "route"}}"#
    ));
    let token_for = |secret: &'static [u8]| {
        let attributes = move |path: &[&str]| match path {
            ["xds", "route_name"] => Some(b"s".to_vec()),
            _ => state(Some(secret), None)(path),
        };
        match filter.on_request(&mut request(&attributes, &mut caller())) {
            Decision::Wait(_, awaited) => awaited.id,
            other => panic!("{other:?}"),
        }
    };
    let first = token_for(b"one\n");
    assert_eq!(token_for(b"one"), first);
    let second = token_for(b"two");
    assert_ne!(second, first);
    assert_eq!(token_for(b"one"), first);
}
