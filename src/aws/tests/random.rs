//! Requests that nobody thought of.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::TestRunner;

use super::Case;
use super::reference::takes_paths_as_they_are;
use crate::time::Time;

/// The first millisecond of the year 10000, which a timestamp has no room for.
const YEAR_10000: u64 = 253_402_300_800_000;

/// Those that are signed, those that are replaced, and others.
const HEADERS: [&str; 14] = [
    "content-type",
    "x-amz-target",
    "x-amz-meta-a",
    "x-amz-",
    "x-amz-user-agent",
    "x-amzn-trace-id",
    "x-am",
    "user-agent",
    "accept",
    "mcp-session-id",
    "authorization",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
];

#[test]
fn random_requests_are_signed_as_the_crate_of_aws_signs_them() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
    TestRunner::new(config)
        .run(&cases(), |case| {
            case.agrees();
            Ok(())
        })
        .unwrap();
}

fn cases() -> impl Strategy<Value = Case> {
    let request = (methods(), (paths(segment()), paths(encoded_segment())), option::of(queries()), hosts());
    let headers = (vec((select(&HEADERS[..]), header_values()), 0..8), subsequence(&HEADERS[..], 0..4));
    let body = option::of(vec(any::<u8>(), 0..100));
    let keys = ("[A-Z0-9]{1,20}", "[!-~]{1,80}", option::of("[!-~]{1,80}"));
    let usage = ("[a-z0-9-]{1,12}", services(), 0..YEAR_10000);
    (request, headers, body, keys, usage).prop_map(|(request, (headers, also), body, keys, usage)| {
        let (method, (path, encoded_path), query, host) = request;
        let (region, service, now) = usage;
        let path = if takes_paths_as_they_are(&service) { encoded_path } else { path };
        Case {
            method,
            target: query.into_iter().fold(path, |path, query| format!("{path}?{query}")),
            host,
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            also: also.into_iter().map(str::to_owned).collect(),
            body,
            access_key_id: keys.0,
            secret_access_key: keys.1,
            session_token: keys.2,
            region,
            service,
            now: Time::from_millis(now),
        }
    })
}

fn methods() -> impl Strategy<Value = String> {
    prop_oneof!["GET|POST|PUT|DELETE", "[A-Z]{1,8}"]
}

fn hosts() -> impl Strategy<Value = String> {
    r"[a-z0-9-]{1,10}(\.[a-z0-9]{1,5}){0,2}(:[0-9]{1,5})?"
}

fn services() -> impl Strategy<Value = String> {
    prop_oneof!["s3|s3express|s3-object-lambda|s3-outposts", "execute-api|lambda", "[a-z0-9-]{1,12}"]
}

fn paths(segment: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    vec(segment, 1..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn segment() -> BoxedStrategy<String> {
    let raw = r#"[a-z0-9._~!$&'()*+,;=:@%"\[\]\\^|{}é€-]{1,6}"#;
    prop_oneof![dots(), "[a-zA-Z0-9._~-]{1,8}", raw, vec(any::<u8>(), 1..4).prop_map(escape_all), "(%[0-9a-f]{2}){1,3}"]
        .boxed()
}

/// Objects of S3 may be asked for in more than one spelling. They are decoded and encoded anew here, while the crate
/// leaves that to its caller. So these are spelled in the one way in which nothing is left to do.
fn encoded_segment() -> BoxedStrategy<String> {
    let is_escaped = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-._~/".contains(byte);
    let escaped = vec(any::<u8>().prop_filter("neither unreserved nor a slash", is_escaped), 1..4).prop_map(escape_all);
    prop_oneof![dots(), "[a-zA-Z0-9._~-]{1,8}", escaped].boxed()
}

fn dots() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("."), Just(".."), Just("...")].prop_map(str::to_owned)
}

fn queries() -> impl Strategy<Value = String> {
    let raw = r"[a-b0-9A-F_~!$'()*+,;:@/?%\[\]\\^|{}é-]{0,4}";
    let escaped = any::<String>().prop_map(|text| escape_all(text.chars().take(3).collect::<String>().into_bytes()));
    let text = || prop_oneof![Just(String::new()), "[a-b]", "[a-zA-Z0-9._~-]{1,8}", raw, escaped.clone()];
    let pair = prop_oneof![
        text(),
        (text(), text()).prop_map(|(name, value)| format!("{name}={value}")),
        (text(), text()).prop_map(|(name, value)| format!("{name}={value}=={name}")),
    ];
    // What is not UTF-8 is signed as it is here; the crate puts U+FFFD in its place, which is another request.
    vec(pair, 0..6)
        .prop_map(|pairs| pairs.join("&"))
        .prop_filter("UTF-8", |query| percent_encoding::percent_decode_str(query).decode_utf8().is_ok())
}

/// With spaces around, but without tabs there, which the crate takes for a part of the value.
fn header_values() -> impl Strategy<Value = String> {
    let words = vec("[!-~é€]{1,6}", 0..4);
    (words, "[ ]{1,3}|\t| \t ", "[ ]{0,2}", "[ ]{0,2}")
        .prop_map(|(words, between, before, behind)| format!("{before}{}{behind}", words.join(&between)))
}

fn escape_all(bytes: Vec<u8>) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}
