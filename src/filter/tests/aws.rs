//! Requests that are signed for AWS, on their way through the filter.

use super::{FakeHeaders, caller, decided, filter, no_attribute, request};
use crate::filter::{Challenge, Decision, Filter, Handling, Outcome};
use crate::http::body::{BodyLimits, Payload, PayloadReader};
use crate::http::request::{Headers, Request};
use crate::refusal::Reason;
use crate::time::Time;

const KEYS: &str = r#""accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "s3cr3t""#;

fn signing(keys: &str) -> Filter {
    let auth = format!(r#"{{"type": "AWS_SIGV4", "region": "us-east-1", "service": "execute-api", {keys}}}"#);
    filter(&format!(r#"{{"host": "up.example", "auth": {auth}}}"#))
}

/// The caller's request, with a signature of their own.
fn signed_by_the_caller(length: &str) -> FakeHeaders {
    let mut headers = caller();
    for (name, value) in [
        ("content-length", length),
        ("x-amz-date", "theirs"),
        ("x-amz-content-sha256", "theirs"),
        ("x-amz-security-token", "theirs"),
    ] {
        headers.set(name, value.as_bytes());
    }
    headers
}

fn read(body: &[u8]) -> Payload {
    let mut reader = PayloadReader::new(1024);
    reader.read(body).unwrap();
    reader.finish()
}

fn with_payload(headers: &mut FakeHeaders, payload: Payload) -> Request<'_> {
    Request { headers, attributes: &no_attribute, payload, now: &|| Time::NOON }
}

fn has_nothing_of_the_callers(headers: &FakeHeaders) {
    assert!(!headers.lines().iter().any(|line| line.contains("theirs")), "{:?}", headers.lines());
}

#[test]
fn a_body_is_read_before_its_request_is_signed() {
    let filter = signing(&format!(r#"{KEYS}, "maxBodyBytes": 1024"#));
    let mut headers = signed_by_the_caller("2");
    let decision = filter.on_request(&mut with_payload(&mut headers, Payload::Unread));
    let Decision::Read(server, BodyLimits { bytes: 1024, .. }) = decision else { panic!("{decision:?}") };
    has_nothing_of_the_callers(&headers);
    assert_eq!(headers.get("authorization"), None);
    let decision = filter.inject(server, &mut with_payload(&mut headers, read(b"{}")));
    assert_eq!(decided(decision).verdict.outcome, Outcome::Injected);
    let authorization = String::from_utf8(headers.get("authorization").unwrap()).unwrap();
    let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/us-east-1/execute-api/aws4_request, \
                    SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=";
    assert!(authorization.starts_with(expected), "{authorization}");
    assert_eq!(headers.get("content-length").unwrap(), b"2");
    assert_eq!(headers.get("x-amz-date").unwrap(), b"20270115T120000Z");
    // Written by sha256sum.
    let sha256 = b"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(headers.get("x-amz-content-sha256").unwrap(), sha256);
    has_nothing_of_the_callers(&headers);
}

/// A filter in a cluster sees a request that Envoy repeats as it left the first time.
#[test]
fn a_request_that_was_signed_before_is_signed_alike() {
    let filter = signing(KEYS);
    let mut headers = signed_by_the_caller("2");
    let mut sign = || {
        let Decision::Read(server, _) = filter.on_request(&mut with_payload(&mut headers, Payload::Unread)) else {
            panic!("it is not read")
        };
        filter.inject(server, &mut with_payload(&mut headers, read(b"{}")));
        let mut lines = headers.lines();
        lines.sort();
        lines
    };
    assert_eq!(sign(), sign());
}

#[test]
fn a_body_that_says_that_it_is_too_long_is_not_even_read() {
    let filter = signing(&format!(r#"{KEYS}, "maxBodyBytes": 1024"#));
    for (length, is_too_long) in [("1024", false), ("1025", true), ("99999999999", true), ("x", false), ("", false)] {
        let mut headers = signed_by_the_caller(length);
        let decision = filter.on_request(&mut with_payload(&mut headers, Payload::Unread));
        match (decision, is_too_long) {
            (Decision::Read(..), false) => {}
            (Decision::Final(decided), true) => {
                assert_eq!(decided.verdict.outcome, Outcome::Rejected(Reason::BodyTooLarge));
            }
            (decision, _) => panic!("{length}: {decision:?}"),
        }
    }
}

#[test]
fn what_has_no_body_or_is_not_to_be_signed_is_not_waited_for() {
    let mut upgrade = caller();
    upgrade.set("upgrade", b"websocket");
    let unsigned = format!(r#"{KEYS}, "payload": "unsigned""#);
    for (keys, mut headers, payload, hash) in [
        (KEYS, caller(), Payload::Absent, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (KEYS, upgrade, Payload::Unread, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (&unsigned, caller(), Payload::Unread, "UNSIGNED-PAYLOAD"),
    ] {
        let decision = signing(keys).on_request(&mut with_payload(&mut headers, payload));
        assert_eq!(decided(decision).verdict.outcome, Outcome::Injected);
        assert_eq!(headers.get("x-amz-content-sha256").unwrap(), hash.as_bytes());
        assert_eq!(headers.get("content-length"), None);
    }
}

#[test]
fn keys_of_the_filter_state_are_those_of_the_request() {
    let keys = |name: &str| format!(r#"{{"fromFilterState": "{name}"}}"#);
    let filter = signing(&format!(
        r#""accessKeyId": {}, "secretAccessKey": {}, "sessionToken": {}"#,
        keys("id"),
        keys("secret"),
        keys("token")
    ));
    let signed = |id: &'static [u8], token: Option<&'static [u8]>| {
        let attributes = move |path: &[&str]| match path {
            ["filter_state", "id"] => Some(id.to_vec()),
            ["filter_state", "secret"] => Some(b"s3cr3t\n".to_vec()),
            ["filter_state", "token"] => token.map(<[u8]>::to_vec),
            _ => panic!("{path:?}"),
        };
        let mut headers = caller();
        let outcome = decided(filter.on_request(&mut request(&attributes, &mut headers))).verdict.outcome;
        (outcome, headers)
    };
    for (id, token) in [(b"AKID1", b"one"), (b"AKID2", b"two"), (b"AKID1", b"one")] {
        let (outcome, headers) = signed(id, Some(token));
        assert_eq!(outcome, Outcome::Injected);
        let authorization = String::from_utf8(headers.get("authorization").unwrap()).unwrap();
        assert!(authorization.contains(std::str::from_utf8(id).unwrap()), "{authorization}");
        assert_eq!(headers.get("x-amz-security-token").unwrap(), token);
    }
    assert_eq!(signed(b"AKID", None).0, Outcome::Rejected(Reason::SecretMissing));
    assert_eq!(signed(b"A KID", Some(b"t")).0, Outcome::Rejected(Reason::SecretInvalid));
}

#[test]
fn the_word_of_aws_is_in_a_header() {
    let passes = signing(&format!(r#"{KEYS}, "passChallenge": true"#));
    let filter = signing(KEYS);
    let word = |filter: &Filter, status: &str, error: &str| {
        let decided = decided(filter.on_request(&mut request(&no_attribute, &mut caller())));
        let mut response = FakeHeaders::new(&[(":status", status), ("x-amzn-errortype", error)]);
        response.entries.retain(|(_, value)| !value.is_empty());
        filter.on_response(decided, &mut response, &|_| None).map(|Challenge { handling, .. }| handling)
    };
    let unauthorized = Some(Handling::Refuse(Reason::UpstreamUnauthorized));
    let forbidden = Some(Handling::Refuse(Reason::UpstreamForbidden));
    for (status, error, expected) in [
        ("403", "ExpiredTokenException", unauthorized),
        ("403", "ExpiredTokenException:http://internal.example/", unauthorized),
        ("403", "com.amazon.coral.service#ExpiredTokenException", unauthorized),
        ("403", "aws.auth#ExpiredTokenException:http://internal.example/#x", unauthorized),
        ("403", "aws.auth#AccessDeniedException", forbidden),
        ("403", "InvalidSignatureException", unauthorized),
        ("403", "AccessDeniedException", forbidden),
        ("403", "Expired", forbidden),
        // There is no such path or method.
        ("403", "MissingAuthenticationTokenException", None),
        ("403", "", None),
        ("401", "", unauthorized),
        ("400", "ValidationException", None),
        ("200", "ExpiredTokenException", None),
    ] {
        assert_eq!(word(&filter, status, error), expected, "{status} {error}");
        assert_eq!(word(&passes, status, error), expected.map(|_| Handling::Relay), "{status} {error}");
    }
}
