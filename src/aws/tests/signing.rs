//! What is sent of a request that is signed.

use std::cell::Cell;

use super::{Case, FakeHeaders};
use crate::aws::signer::Signer;
use crate::http::body::Payload;
use crate::http::request::{Headers, Request};
use crate::refusal::Reason;
use crate::time::Time;

/// What a caller may have signed itself.
const THEIRS: [(&str, &str); 5] = [
    ("authorization", "AWS4-HMAC-SHA256 Credential=theirs"),
    ("authorization", "Bearer theirs"),
    ("x-amz-date", "theirs"),
    ("x-amz-content-sha256", "theirs"),
    ("x-amz-security-token", "theirs"),
];

fn call() -> Case {
    let headers = [("content-type", "application/json"), ("mcp-session-id", "1"), ("x-amz-target", "a")];
    let also = vec!["mcp-session-id".to_owned()];
    Case { also, body: Some(b"{}".to_vec()), ..Case::published("POST", "/mcp?a=1", &headers) }
}

/// The names of the signed headers in what is sent.
fn signed_headers(sent: &FakeHeaders) -> String {
    let authorization = sent.only("authorization").unwrap();
    let (_, rest) = authorization.split_once("SignedHeaders=").unwrap();
    rest.split_once(',').unwrap().0.to_owned()
}

#[test]
fn the_callers_signature_is_replaced_and_does_not_go_into_ours() {
    for session_token in [None, Some("ours".to_owned())] {
        let plain = Case { session_token, ..call() };
        let mut theirs = plain.clone();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        theirs.headers.extend(THEIRS.map(owned));
        // To ask for them makes no difference.
        theirs.also.extend(THEIRS.map(|(name, _)| name.to_owned()));
        let sent = theirs.sign().unwrap();
        assert_eq!(sent.lines(), plain.sign().unwrap().lines());
        assert_eq!(sent.only("x-amz-security-token"), theirs.session_token.as_deref());
        assert!(sent.lines().iter().all(|line| !line.contains("theirs")), "{sent:?}");
    }
}

#[test]
fn all_other_headers_are_sent_as_they_came() {
    let mut call = call();
    let headers =
        [("Accept", "a"), ("accept", " b  c "), ("x-amz-meta", " d  e "), ("cookie", ""), ("x-amz-meta", "f")];
    call.headers.extend(headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())));
    let kept = call.fake_headers().0;
    let sent = call.sign().unwrap().0;
    assert_eq!(sent[..kept.len()], kept);
    let added: Vec<_> = sent[kept.len()..].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(added, ["x-amz-date", "x-amz-content-sha256", "content-length", "authorization"]);
}

#[test]
fn host_content_type_what_amz_owns_and_what_is_asked_for_is_signed() {
    let mut call = call();
    call.headers.extend(["accept", "x-amzn-trace-id", "x-amz-"].map(|name| (name.to_owned(), "1".to_owned())));
    let expected = "content-type;host;mcp-session-id;x-amz-;x-amz-content-sha256;x-amz-date;x-amz-target";
    assert_eq!(signed_headers(&call.sign().unwrap()), expected);
    call.session_token = Some("t".to_owned());
    let expected =
        "content-type;host;mcp-session-id;x-amz-;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target";
    assert_eq!(signed_headers(&call.sign().unwrap()), expected);
}

#[test]
fn what_is_asked_for_and_absent_is_not_signed() {
    let mut call = Case { also: vec!["mcp-session-id".to_owned(), "accept".to_owned()], ..call() };
    call.headers.clear();
    assert_eq!(signed_headers(&call.sign().unwrap()), "host;x-amz-content-sha256;x-amz-date");
    // An empty one is there.
    call.headers.push(("accept".to_owned(), String::new()));
    assert_eq!(signed_headers(&call.sign().unwrap()), "accept;host;x-amz-content-sha256;x-amz-date");
    call.agrees();
}

#[test]
fn the_length_of_a_signed_body_is_sent() {
    for (body, hash, length) in [
        (Some("{}"), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", Some("2")),
        (Some(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Some("0")),
        (None, "UNSIGNED-PAYLOAD", None),
    ] {
        let mut call = Case { body: body.map(|body| body.as_bytes().to_vec()), ..call() };
        let sent = call.sign().unwrap();
        assert_eq!((sent.only("x-amz-content-sha256"), sent.only("content-length")), (Some(hash), length));
        // A wrong one is replaced, if there is anything to replace it by.
        call.headers.push(("content-length".to_owned(), "7".to_owned()));
        assert_eq!(call.sign().unwrap().only("content-length"), Some(length.unwrap_or("7")));
    }
}

#[test]
fn a_body_that_is_not_signed_need_not_be_read_and_does_not_matter_if_it_is() {
    let unsigned = Case { body: None, ..call() };
    let mut headers = unsigned.fake_headers();
    let payload = call().payload();
    let now = || unsigned.now;
    let mut request = Request { headers: &mut headers, attributes: &|_| None, payload, now: &now };
    unsigned.signer().sign(&unsigned.keys(), &mut request).unwrap();
    assert_eq!(headers.lines(), unsigned.sign().unwrap().lines());
}

#[test]
fn a_refused_request_is_left_alone() {
    let unread = Signer { signs_payload: true, ..Case { body: None, ..call() }.signer() };
    for (target, headers, signer, expected) in [
        ("/mcp", vec![], unread, Reason::Internal),
        ("*", vec![], call().signer(), Reason::NoPath),
        ("", vec![], call().signer(), Reason::NoPath),
        ("mcp", vec![], call().signer(), Reason::NoPath),
        ("https://up.example/mcp", vec![], call().signer(), Reason::NoPath),
        ("/mcp", vec![":path"], call().signer(), Reason::NoPath),
        ("/mcp", vec![":method"], call().signer(), Reason::NoPath),
    ] {
        let mut sent = Case { target: target.to_owned(), ..call() }.fake_headers();
        THEIRS.iter().for_each(|(name, value)| sent.set(name, value.as_bytes()));
        headers.iter().for_each(|name| sent.remove(name));
        let before = sent.clone();
        let payload = if expected == Reason::Internal { Payload::Unread } else { call().payload() };
        let mut request = Request { headers: &mut sent, attributes: &|_| None, payload, now: &|| Time::NOON };
        assert_eq!(signer.sign(&call().keys(), &mut request), Err(expected), "{target} {headers:?}");
        assert_eq!(sent, before);
    }
}

#[test]
fn the_clock_is_read_once() {
    let reads = Cell::new(0);
    let now = || {
        reads.set(reads.get() + 1);
        // Each time another day.
        Time::from_millis(reads.get() * 86_400_000)
    };
    let mut headers = call().fake_headers();
    let mut request = Request { headers: &mut headers, attributes: &|_| None, payload: call().payload(), now: &now };
    call().signer().sign(&call().keys(), &mut request).unwrap();
    assert_eq!(reads.get(), 1);
    assert_eq!(headers.lines(), Case { now: Time::from_millis(86_400_000), ..call() }.sign().unwrap().lines());
}

#[test]
fn the_secret_key_is_in_nothing_that_is_sent() {
    let session_token = Some("t0k3n".to_owned());
    let call = Case { secret_access_key: "q+Tzg/HJkXWvuYUop=".to_owned(), session_token, ..call() };
    let sent = call.sign().unwrap();
    let lines = sent.lines().concat();
    assert!(!lines.contains(&call.secret_access_key), "{lines}");
    // No part of it either, that is longer than chance.
    for part in call.secret_access_key.as_bytes().windows(5) {
        assert!(!lines.contains(str::from_utf8(part).unwrap()), "{lines}");
    }
    assert_eq!(lines.matches("t0k3n").count(), 1);
}
