//! What each answer of a token server comes to (RFC 6749 §5).

use std::time::Duration;

use super::{client, secret};
use crate::oauth2::ClientAuth;
use crate::time::Time;
use crate::token::{Answer, Failure, FailureKind, Grant, Issuer, LARGEST_BODY, Reply};

use FailureKind::{Malformed, Refused, Unavailable};

fn read(status: u16, retry_after: Option<&[u8]>, body: &[u8]) -> Result<Grant, Failure> {
    let client = client(ClientAuth::Basic(secret("s3cr3t")));
    match client.read(&[], &Reply { status, retry_after, content_encoding: None, body }, Time::NOON)? {
        Answer::Granted(grant) => Ok(grant),
        Answer::Interim(_) => panic!("one request is enough"),
    }
}

/// A good answer with this in place of its `expires_in`.
fn lifetime(expires_in: &str) -> Duration {
    let body = format!(r#"{{"access_token": "t", "token_type": "Bearer"{expires_in}}}"#);
    let grant = read(200, None, body.as_bytes()).unwrap_or_else(|failure| panic!("{expires_in}: {failure:?}"));
    assert_eq!(grant.token.expose(), "t");
    grant.lifetime
}

#[test]
fn the_example_of_rfc_6749_is_a_grant() {
    let body = br#"{
        "access_token":"2YotnFZFEjr1zCsicMWpAA",
        "token_type":"example",
        "expires_in":3600,
        "example_parameter":"example_value"
    }"#;
    let failure = read(200, None, body).unwrap_err();
    assert_eq!(failure.kind, Malformed, "its token_type is one that nobody knows");
    let body = String::from_utf8(body.to_vec()).unwrap().replace("\"example\"", "\"Bearer\"");
    let grant = read(200, None, body.as_bytes()).unwrap();
    assert_eq!((grant.token.expose(), grant.lifetime), ("2YotnFZFEjr1zCsicMWpAA", Duration::from_secs(3600)));
}

#[test]
fn a_lifetime_is_read_in_all_the_ways_it_is_written() {
    let seconds = Duration::from_secs;
    for (expires_in, expected) in [
        ("", seconds(300)),
        (r#", "expires_in": null"#, seconds(300)),
        (r#", "expires_in": "soon""#, seconds(300)),
        (r#", "expires_in": """#, seconds(300)),
        (r#", "expires_in": true"#, seconds(300)),
        (r#", "expires_in": [60]"#, seconds(300)),
        (r#", "expires_in": "NaN""#, seconds(300)),
        (r#", "expires_in": 60"#, seconds(60)),
        (r#", "expires_in": 60.0"#, seconds(60)),
        (r#", "expires_in": 6e1"#, seconds(60)),
        (r#", "expires_in": 59.5"#, Duration::from_millis(59_500)),
        (r#", "expires_in": "60""#, seconds(60)),
        (r#", "expires_in": " 60 ""#, seconds(60)),
        (r#", "expires_in": 0"#, seconds(0)),
        (r#", "expires_in": "0""#, seconds(0)),
        (r#", "expires_in": -0.0"#, seconds(0)),
        (r#", "expires_in": -1"#, seconds(0)),
        (r#", "expires_in": "-3600""#, seconds(0)),
        (r#", "expires_in": -1e300"#, seconds(0)),
        (r#", "expires_in": 1000000000000"#, seconds(1_000_000_000_000)),
        // The record puts a limit to it.
        (r#", "expires_in": 1e300"#, Duration::MAX),
        (r#", "expires_in": "1e300""#, Duration::MAX),
        // These are no numbers in JSON.
        (r#", "expires_in": "inf""#, seconds(300)),
        (r#", "expires_in": "03600""#, seconds(300)),
    ] {
        assert_eq!(lifetime(expires_in), expected, "{expires_in}");
    }
}

#[test]
fn only_a_bearer_token_is_a_token() {
    for (body, word) in [
        (r#"{"access_token": "t", "token_type": 1}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": "mac"}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": "DPoP"}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": "N_A"}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": ""}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": "Bearers"}"#, "another token_type"),
        (r#"{"access_token": "t", "token_type": ["Bearer"]}"#, "another token_type"),
        (r#"{"token_type": "Bearer"}"#, "has no access_token"),
        (r#"{"access_token": null, "token_type": "Bearer"}"#, "has no access_token"),
        (r#"{"access_token": 1, "token_type": "Bearer"}"#, "has no access_token"),
        (r#"{"access_token": ["t"], "token_type": "Bearer"}"#, "has no access_token"),
        (r#"{"id_token": "t", "token_type": "Bearer"}"#, "has no access_token"),
        (r#"{}"#, "has no access_token"),
    ] {
        let failure = read(200, None, body.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, Malformed, "{body}");
        assert!(failure.detail.contains(word), "{body}: {}", failure.detail);
    }
    for body in [r#"{"access_token": "t"}"#, r#"{"access_token": "t", "token_type": null}"#] {
        assert!(read(200, None, body.as_bytes()).is_ok(), "{body}");
    }
    for kind in ["Bearer", "bearer", "BEARER", "BearerToken", "bearertoken", "Bearer ", " \\tBearer\\r\\n"] {
        let body = format!(r#"{{"access_token": "t", "token_type": "{kind}", "refresh_token": "r", "scope": "less"}}"#);
        assert!(read(200, None, body.as_bytes()).is_ok(), "{kind}");
    }
}

/// A line break in it would begin another header.
#[test]
fn a_token_that_does_not_fit_into_a_header_is_none() {
    for token in [
        "",
        " ",
        "a b",
        " a",
        "a ",
        "a\\r\\nx-injected: 1",
        "a\\n",
        "a\\r",
        "a\\u0000",
        "a\\t",
        "\\u007f",
        "é",
        "\\u2028",
    ] {
        let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 60}}"#);
        let failure = read(200, None, body.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, Malformed, "{token:?}");
        assert!(!failure.detail.contains("injected"), "{}", failure.detail);
    }
    for token in ["a", "eyJ.a-b_c~d+e/f==", "1|x", "!\\\"#$%&'()*,:;<>?@[]^`{}"] {
        let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer"}}"#);
        assert_eq!(read(200, None, body.as_bytes()).unwrap().token.expose(), token.replace('\\', ""));
    }
}

#[test]
fn what_is_no_answer_of_a_token_server_is_no_token() {
    let html = b"<html><body>Sign in</body></html>";
    let good = br#"{"access_token": "t", "token_type": "Bearer"}"#;
    let long = [&good[..good.len() - 1], br#", "x": ""#, &vec![b'x'; LARGEST_BODY], b"\"}"].concat();
    let deep = [vec![b'['; 60_000], good.to_vec()].concat();
    let huge = vec![b' '; 10_000_000];
    for (case, status, body, kind) in [
        ("an empty body", 200, &b""[..], Malformed),
        ("no content", 204, b"", Malformed),
        ("HTML", 200, html, Malformed),
        ("half of it", 200, &good[..good.len() / 2], Malformed),
        ("something behind it", 200, b"{\"access_token\": \"t\", \"token_type\": \"Bearer\"} x", Malformed),
        ("a list", 200, b"[]", Malformed),
        ("null", 200, b"null", Malformed),
        ("a string", 200, br#""t""#, Malformed),
        ("a form", 200, b"access_token=t&token_type=bearer", Malformed),
        ("no UTF-8", 200, b"{\"access_token\": \"\xff\", \"token_type\": \"Bearer\"}", Malformed),
        ("more than is read", 200, &long, Malformed),
        ("ten megabytes", 200, &huge, Malformed),
        ("deep nesting", 200, &deep, Malformed),
        (
            "a number beyond all",
            200,
            br#"{"access_token": "t", "token_type": "Bearer", "expires_in": 1e999}"#,
            Malformed,
        ),
        // A redirect is not followed: the secret would go there.
        ("moved", 301, good, Unavailable),
        ("found", 302, good, Unavailable),
        ("redirected with its method", 307, good, Unavailable),
        ("redirected for good", 308, b"", Unavailable),
        ("not modified", 304, b"", Unavailable),
        // So answer ingresses while a deployment rolls.
        ("another path", 404, html, Unavailable),
        ("another path, in JSON", 404, br#"{"message": "no Route matched"}"#, Unavailable),
        ("another path, in words", 404, br#"{"error": "not found"}"#, Unavailable),
        ("a method that is none", 405, b"", Unavailable),
        ("a firewall", 403, html, Unavailable),
        ("another host", 421, b"", Unavailable),
        ("a denial without JSON", 400, html, Refused),
        ("a client without JSON", 401, b"", Refused),
        ("an error with a token in it", 400, good, Refused),
        ("overload", 429, good, Unavailable),
        ("a timeout", 408, b"", Unavailable),
        ("an error of the server", 500, good, Unavailable),
        ("Envoy finds nobody there", 503, b"upstream connect error", Unavailable),
        ("Envoy waits in vain", 504, b"upstream request timeout", Unavailable),
        ("a status of its own", 599, b"", Unavailable),
    ] {
        let failure = read(status, None, body).map(drop).expect_err(case);
        assert_eq!(failure.kind, kind, "{case}: {}", failure.detail);
        assert_eq!(failure.retry_after, None, "{case}");
        assert!(failure.detail.contains(&status.to_string()), "{case}: {}", failure.detail);
    }
}

#[test]
fn each_error_is_of_one_class_whatever_its_status() {
    for (error, kind) in [
        ("invalid_client", Refused),
        ("unauthorized_client", Refused),
        ("unsupported_grant_type", Refused),
        ("invalid_scope", Refused),
        ("invalid_target", Refused),
        ("invalid_request", Refused),
        ("invalid_grant", Refused),
        ("access_denied", Refused),
        ("of_its_own", Refused),
        ("temporarily_unavailable", Unavailable),
        ("server_error", Unavailable),
        ("slow_down", Unavailable),
    ] {
        for status in [200, 400, 401, 403] {
            let token = r#""access_token": "t", "token_type": "Bearer", "#;
            for token in ["", token] {
                let body = format!(r#"{{{token}"error": "{error}", "error_description": "It cannot be."}}"#);
                let failure = read(status, None, body.as_bytes()).map(drop).expect_err(error);
                assert_eq!(failure.kind, kind, "{status} {error}");
                assert_eq!(failure.detail, format!("it answers {status} {error} (It cannot be.)"));
            }
            // A server's error is one of its moment, whatever it says.
            let body = format!(r#"{{"error": "{error}"}}"#);
            for status in [429, 500, 503] {
                assert_eq!(read(status, None, body.as_bytes()).map(drop).expect_err(error).kind, Unavailable);
            }
        }
    }
    for odd in ["1", "true", "[0]", "{\"code\": \"x\"}", "\"a b\"", "\"a\\r\\nb\"", "\"é\""] {
        let body = format!(r#"{{"access_token": "t", "token_type": "Bearer", "error": {odd}}}"#);
        let failure = read(200, None, body.as_bytes()).unwrap_err();
        assert_eq!(
            (failure.kind, failure.detail.as_str()),
            (Refused, "it answers 200 an error without a name"),
            "{odd}"
        );
    }
    for empty in ["null", "\"\"", "false", "0", "0.0", "{}", "[]"] {
        let good = format!(r#"{{"access_token": "t", "token_type": "Bearer", "error": {empty}}}"#);
        assert!(read(200, None, good.as_bytes()).is_ok(), "some servers always write the key: {empty}");
        let bad = format!(r#"{{"error": {empty}}}"#);
        assert_eq!(read(200, None, bad.as_bytes()).unwrap_err().kind, Malformed, "{empty}");
        assert_eq!(read(400, None, bad.as_bytes()).unwrap_err().kind, Refused, "{empty}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    // NOON is 2027-01-15T12:00:00Z.
    for (value, expected) in [
        (&b"0"[..], seconds(0)),
        (b"7", seconds(7)),
        (b" 120 ", seconds(120)),
        (b"99999999999999999999999", seconds(u64::MAX)),
        (b"Fri, 15 Jan 2027 12:00:30 GMT", seconds(30)),
        (b"Thu, 14 Jan 2027 12:00:30 GMT", seconds(0)),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1, 2", None),
        (b"soon", None),
        (b"2027-01-15T12:00:30Z", None),
        // The obsolete forms of a date count as no wish.
        (b"Friday, 15-Jan-27 12:00:30 GMT", None),
        (b"Fri Jan 15 12:00:30 2027", None),
        (b"Fri, 15 anF 2027 12:00:30 GMT", None),
        (b"Fri, 15 Jan 2027", None),
        (b"Fri, 15 Jan 10000 12:00:30 GMT", None),
        (b"\xff\xfe", None),
        ("１２".as_bytes(), None),
    ] {
        for status in [429, 503, 400, 302, 200] {
            let failure = read(status, Some(value), b"x").unwrap_err();
            assert_eq!(failure.retry_after, expected, "{status} {}", String::from_utf8_lossy(value));
        }
    }
}

#[test]
fn text_that_nobody_reads_does_not_spoil_the_token() {
    let good =
        |member: &[u8]| [br#"{"access_token": "t\u0041", "x": ""#, member, br#"", "token_type": "Bearer"}"#].concat();
    for member in [
        &b"\xff\xfe"[..],
        b"M\xfcller",
        br"\ud800",
        br"\uDC00",
        br"\ud800\ud800\udc00",
        br"\\\ud83d",
        br"\ud83d\ude00",
        br"\ud83dx",
        br"\ud83d\n",
        br"\\ud800",
    ] {
        let grant = read(200, None, &good(member)).unwrap_or_else(|failure| panic!("{member:?}: {failure:?}"));
        assert_eq!(grant.token.expose(), "tA", "{member:?}");
    }
    let with_mark = [b"\xef\xbb\xbf", &good(b"x")[..]].concat();
    assert!(read(200, None, &with_mark).is_ok());
    for token in [&b"t\xff"[..], br"t\ud800", br"t\udfff\ud800"] {
        let body = [br#"{"token_type": "Bearer", "access_token": ""#, token, br#""}"#].concat();
        assert_eq!(read(200, None, &body).unwrap_err().kind, Malformed, "{token:?}");
    }
    for broken in
        [&br#"{"access_token": "t\"#[..], br#"{"access_token": "t\u"#, br#"{"access_token": "t", "x": "\ud8"}"#]
    {
        assert_eq!(read(200, None, broken).unwrap_err().kind, Malformed, "{broken:?}");
    }
}

#[test]
fn an_encoded_answer_is_named_in_the_log() {
    let client = client(ClientAuth::Basic(secret("s3cr3t")));
    let body = br#"{"access_token": "t", "token_type": "Bearer"}"#;
    for (coding, expected) in [
        (&b"gzip"[..], Some("encoded as gzip")),
        (b" GZIP ", Some("encoded as gzip")),
        (b"br", Some("encoded as br")),
        (b"s3cr3t", Some("encoded as something unknown")),
        (b"\xff", Some("encoded as something unknown")),
        (b"", None),
        (b"identity", None),
        (b"Identity ", None),
    ] {
        let reply = Reply { status: 200, retry_after: None, content_encoding: Some(coding), body };
        let failure = client.read(&[], &reply, Time::NOON).map(drop);
        match expected {
            Some(word) => assert!(failure.unwrap_err().detail.contains(word), "{coding:?}"),
            None => assert!(failure.is_ok(), "{coding:?}"),
        }
    }
}
