//! Servers whose token is fetched, and what an upstream says against a credential.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::{FakeHeaders, KEPT, caller, decided, filter, no_attribute, request};
use crate::filter::{Challenge, Decided, Decision, Filter, Handling, Outcome};
use crate::http::body::Payload;
use crate::refusal::Reason;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Event, Failure, Host, Refusal, Reply, TokenRequest, Wait, Waiter};

pub const BEARER: &str = r#"{"type": "BEARER", "token": "v""#;
pub const OAUTH2: &str =
    r#"{"type": "OAUTH2", "tokenUrl": "https://auth.example/token", "clientId": "c", "clientSecret": "s""#;

/// An Envoy with one VM, whose token server answers when a test says so.
#[derive(Default)]
struct FakeEnvoy {
    data: RefCell<HashMap<String, Vec<u8>>>,
    settled: RefCell<Vec<Result<(), Refusal>>>,
}

impl Host for FakeEnvoy {
    fn now(&self) -> Time {
        Time::NOON
    }
    fn random(&self) -> u64 {
        4
    }
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        Some((self.data.borrow().get(key)?.clone(), 1))
    }
    fn write(&self, key: &str, value: &[u8], _: Option<u32>) -> bool {
        self.data.borrow_mut().insert(key.to_owned(), value.to_vec());
        true
    }
    fn make_queue(&self) -> Option<u32> {
        Some(1)
    }
    fn tell(&self, _: u32, _: &str) {}
    fn call(&self, _: &TokenRequest<'_>) -> Result<u32, Failure> {
        Ok(1)
    }
    fn sign(&self, _: &Secret, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("nobody signs here".to_owned())
    }
    fn wake_after(&self, _: Option<Duration>) {}
    fn settle(&self, _: &Waiter, outcome: Result<(), Refusal>) {
        self.settled.borrow_mut().push(outcome);
    }
    fn report(&self, _: &str, _: Event) {}
}

fn with_auth(auth: &str, keys: &str) -> Filter {
    filter(&format!(r#"{{"host": "up.example", "auth": {auth}{keys}}}}}"#))
}

/// Lets the token server grant `token`, which a request then carries.
fn grant(filter: &Filter, envoy: &FakeEnvoy, token: &str) {
    let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 60}}"#);
    filter.tokens().run(envoy);
    filter.tokens().answered(
        1,
        Some(Reply { status: 200, retry_after: None, content_encoding: None, body: body.as_bytes() }),
        envoy,
    );
}

/// What the filter decides of a request that has its credential.
pub fn injected(filter: &Filter) -> Decided {
    let envoy = FakeEnvoy::default();
    filter.tokens().load(&envoy).unwrap();
    grant(filter, &envoy, "fetched");
    let decided = decided(filter.on_request(&mut request(&|_| Some(b"s".to_vec()), &mut caller())));
    assert_eq!(decided.verdict.outcome, Outcome::Injected);
    decided
}

fn challenge(filter: &Filter, decided: Decided, response: &[(&str, &str)]) -> Option<Challenge> {
    let mut headers = FakeHeaders::new(response);
    let before = headers.lines();
    let challenge = filter.on_response(decided, &mut headers, &|_| None);
    let (is_ours, is_relayed) = match challenge.map(|challenge| challenge.handling) {
        Some(Handling::Relay | Handling::Refuse(_)) => (true, true),
        Some(Handling::LeaveToRetry(_)) => (true, false),
        None => (decided.verdict.outcome == Outcome::Injected, false),
    };
    // The caller gets a challenge to our credential only with `passChallenge`.
    let is_kept = |line: &String| !is_ours || is_relayed || !line.starts_with("www-authenticate");
    assert_eq!(headers.lines(), before.into_iter().filter(is_kept).collect::<Vec<_>>());
    challenge
}

#[test]
fn a_request_that_waits_has_none_of_the_callers_credentials_left() {
    let filter = with_auth(OAUTH2, "");
    let mut headers = caller();
    let Decision::Wait(server, awaited) = filter.on_request(&mut request(&no_attribute, &mut headers)) else {
        panic!("no wait")
    };
    assert_eq!(headers.lines(), [&KEPT[..], &[":authority: up.example"]].concat());
    assert_eq!(awaited.max_wait, Duration::from_secs(5));
    assert_eq!(headers.reads.get(), 0, "a header read before there is anything to do");

    let envoy = FakeEnvoy::default();
    filter.tokens().load(&envoy).unwrap();
    let (since, deadline) = (Time::NOON, Time::NOON.after(awaited.max_wait));
    let waiter = Waiter { context: 1, payload: Payload::Absent, server, held: Rc::default(), since, deadline };
    assert_eq!(filter.tokens().wait(awaited.id, waiter, &envoy), Wait::Parked);
    grant(&filter, &envoy, "fetched");
    assert_eq!(*envoy.settled.borrow(), [Ok(())]);
    let decided = decided(filter.inject(server, &mut request(&no_attribute, &mut headers)));
    assert!(decided.verdict.outcome == Outcome::Injected && decided.token.is_some());
    assert_eq!(headers.lines(), [&KEPT[..], &[":authority: up.example", "authorization: Bearer fetched"]].concat());
}

#[test]
fn a_token_in_hand_replaces_the_callers_credentials_without_a_read() {
    let filter = with_auth(OAUTH2, "");
    injected(&filter);
    let mut headers = caller();
    let decided = decided(filter.on_request(&mut request(&no_attribute, &mut headers)));
    assert_eq!(decided.token.map(|token| token.generation), Some(1));
    assert_eq!(headers.lines(), [&KEPT[..], &[":authority: up.example", "authorization: Bearer fetched"]].concat());
    assert_eq!(headers.reads.get(), 0);
}

#[test]
fn the_trailers_of_a_request_that_waited_have_no_credential_either() {
    let filter = with_auth(OAUTH2, "");
    let decided = injected(&filter);
    let mut trailers = FakeHeaders::new(&[("Authorization", "theirs"), ("cookie", "theirs"), ("checksum", "1")]);
    filter.on_trailers(decided.verdict, &mut trailers);
    assert_eq!(trailers.lines(), ["checksum: 1"]);
}

#[test]
fn a_word_against_our_credential_is_not_for_the_caller() {
    const OURS: (&str, &str) = ("www-authenticate", "Bearer resource_metadata=\"https://up.example/meta\"");
    let unauthorized = Handling::Refuse(Reason::UpstreamUnauthorized);
    let forbidden = Handling::Refuse(Reason::UpstreamForbidden);
    let retried = Handling::LeaveToRetry(Reason::UpstreamUnauthorized);
    let (pass, retry) = (r#", "passChallenge": true"#, r#", "retryOn401": true"#);
    let (no_retry, both) = (r#", "retryOn401": false"#, r#", "retryOn401": true, "passChallenge": true"#);
    let yes = &[OURS][..];
    // The auth and its keys, the answer, and what becomes of it.
    for (auth, keys, status, headers, expected) in [
        (OAUTH2, "", "401", yes, Some(unauthorized)),
        (OAUTH2, "", "401", &[], Some(unauthorized)),
        (OAUTH2, "", "403", yes, Some(forbidden)),
        (OAUTH2, "", "403", &[], None),
        (OAUTH2, pass, "401", yes, Some(Handling::Relay)),
        (OAUTH2, pass, "403", yes, Some(Handling::Relay)),
        (OAUTH2, retry, "401", yes, Some(retried)),
        (OAUTH2, retry, "403", yes, Some(forbidden)),
        (OAUTH2, no_retry, "401", yes, Some(unauthorized)),
        (OAUTH2, both, "401", yes, Some(Handling::Relay)),
        (OAUTH2, "", "407", &[], Some(unauthorized)),
        (BEARER, "", "407", yes, Some(unauthorized)),
        (BEARER, pass, "407", yes, Some(Handling::Relay)),
        (BEARER, "", "401", yes, Some(unauthorized)),
        (BEARER, "", "403", yes, Some(forbidden)),
        (BEARER, "", "403", &[], None),
        (BEARER, pass, "401", yes, Some(Handling::Relay)),
        (BEARER, pass, "403", yes, Some(Handling::Relay)),
    ] {
        let filter = with_auth(auth, keys);
        let decided = injected(&filter);
        let found = challenge(&filter, decided, &[&[(":status", status)], headers].concat());
        let case = format!("{auth}{keys}: {status} {headers:?}");
        assert_eq!(found.map(|challenge| challenge.handling), expected, "{case}");
        // Only 401 and 407 challenge the token, and only a fetched token can be replaced.
        let has_token = found.is_some_and(|challenge| challenge.token.is_some());
        assert_eq!(has_token, auth == OAUTH2 && status != "403", "{case}");
    }
}

/// Clients of MCP act on these.
#[test]
fn every_other_answer_passes_as_it_is() {
    let challenged = [("www-authenticate", "Bearer"), ("mcp-session-id", "1")];
    for status in ["200", "202", "204", "307", "400", "402", "404", "405", "406", "409", "429", "500", "503"] {
        for auth in [OAUTH2, BEARER] {
            for headers in [&challenged[..], &[]] {
                let filter = with_auth(auth, r#", "passChallenge": false"#);
                let decided = injected(&filter);
                let found = challenge(&filter, decided, &[&[(":status", status)], headers].concat());
                assert_eq!(found, None, "{auth}: {status}");
            }
        }
    }
}

#[test]
fn without_a_credential_of_ours_every_word_is_for_the_caller() {
    let response = [(":status", "401"), ("www-authenticate", "Bearer")];
    let filters = [
        filter(r#"{"host": "h"}"#),
        filter(r#"{"host": "h", "auth": {"type": "NONE"}}"#),
        filter(r#"{"servers": {"a": {"host": "h"}}, "unmatched": "pass"}"#),
        filter(r#"{"servers": {"a": {"host": "h"}}, "unmatched": "strip"}"#),
        filter(r#"{"servers": {"a": {"host": "h"}}}"#),
    ];
    for filter in filters {
        let decided = decided(filter.on_request(&mut request(&|_| None, &mut caller())));
        assert_eq!(challenge(&filter, decided, &response), None, "{decided:?}");
    }
}

#[test]
fn what_the_filter_itself_refused_is_nobodys_challenge() {
    let filter = with_auth(BEARER, "");
    let server = injected(&filter).verdict.server;
    for reason in Reason::ALL {
        let decided = Decided::without_token(server, Outcome::Rejected(*reason));
        assert_eq!(challenge(&filter, decided, &[(":status", "401"), ("www-authenticate", "Bearer")]), None);
    }
}

#[test]
fn an_answer_without_a_status_is_left_alone() {
    let filter = with_auth(BEARER, "");
    let decided = injected(&filter);
    assert_eq!(challenge(&filter, decided, &[("www-authenticate", "Bearer")]), None);
}
