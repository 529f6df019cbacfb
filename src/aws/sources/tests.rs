//! What is asked for temporary keys, and what the answers come to.

use std::time::Duration;

use FailureKind::{Malformed, Refused, Unavailable};

use super::{KeyIssuer, Source};
use crate::aws::keys::Keys;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Answer, Endpoint, Failure, FailureKind, Grant, Issuer, Reply, TokenRequest};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn issuer(source: Source) -> KeyIssuer {
    let endpoint = Endpoint {
        cluster: "keys".to_owned(),
        scheme: "http",
        authority: "169.254.170.2".to_owned(),
        path: "/v2/credentials?id=1".to_owned(),
    };
    KeyIssuer { endpoint, source, timeout: Duration::from_secs(6) }
}

fn web_identity(token: &str) -> KeyIssuer {
    let (role, session_name) = ("arn:aws:iam::123456789012:role/mcp".to_owned(), "gateway".to_owned());
    issuer(Source::WebIdentity { role, session_name, token: secret(token) })
}

fn container() -> KeyIssuer {
    issuer(Source::Container(Some(secret("s3cr3t"))))
}

/// The request after these answers.
fn request<'a>(issuer: &'a KeyIssuer, answers: &[&str]) -> TokenRequest<'a> {
    let answers: Vec<_> = answers.iter().map(|answer| secret(answer)).collect();
    let no_key = |_: &Secret, _: &[u8]| panic!("nothing is to be signed with a private key");
    issuer.request(&answers, Time::NOON, [1, 2], &no_key).unwrap()
}

fn lines(request: &TokenRequest<'_>) -> Vec<String> {
    request.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect()
}

fn read(issuer: &KeyIssuer, answers: &[&str], status: u16, body: &str) -> Result<Answer, Failure> {
    let answers: Vec<_> = answers.iter().map(|answer| secret(answer)).collect();
    issuer.read(
        &answers,
        &Reply { status, retry_after: None, content_encoding: None, body: body.as_bytes() },
        Time::NOON,
    )
}

fn granted(answer: Result<Answer, Failure>) -> (Keys, Duration) {
    let Ok(Answer::Granted(Grant { token, lifetime })) = answer else { panic!("{answer:?}") };
    (Keys::from_text(&token).unwrap(), lifetime)
}

fn interim(answer: Result<Answer, Failure>) -> String {
    let Ok(Answer::Interim(text)) = answer else { panic!("{answer:?}") };
    text.expose().to_owned()
}

fn kind(answer: Result<Answer, Failure>) -> FailureKind {
    answer.map(drop).unwrap_err().kind
}

/// As the documentation of these endpoints shows it; NOON is 2027-01-15T12:00:00Z.
const IN_JSON: &str = r#"{
    "Code": "Success", "LastUpdated": "2027-01-15T11:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIA",
    "SecretAccessKey": "wJalr/+=", "Token": "IQoJ//+==", "Expiration": "2027-01-15T18:00:00Z"
}"#;

const IN_XML: &str = r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>amzn1.account.AF6</SubjectFromWebIdentityToken>
    <Audience>client</Audience>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/mcp/gateway</Arn></AssumedRoleUser>
    <Credentials>
      <SessionToken>AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE</SessionToken>
      <SecretAccessKey>wJalr/+=</SecretAccessKey>
      <Expiration>2027-01-15T13:00:00.500Z</Expiration>
      <AccessKeyId>ASIA</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"#;

#[test]
fn a_container_endpoint_is_asked_once_with_its_authorization() {
    let container = container();
    let request = request(&container, &[]);
    assert_eq!(
        lines(&request),
        [
            ":method: GET",
            ":path: /v2/credentials?id=1",
            ":scheme: http",
            ":authority: 169.254.170.2",
            "user-agent: mcp-upstream-auth",
            "accept-encoding: identity",
            "authorization: s3cr3t",
        ]
    );
    assert_eq!((request.cluster, request.body.expose(), request.timeout), ("keys", "", Duration::from_secs(6)));
    let (keys, lifetime) = granted(read(&container, &[], 200, IN_JSON));
    assert_eq!((keys.access_key_id.expose(), keys.secret_access_key.expose()), ("ASIA", "wJalr/+="));
    assert_eq!(keys.session_token.unwrap().expose(), "IQoJ//+==");
    assert_eq!(lifetime, Duration::from_secs(6 * 3600));
}

#[test]
fn the_metadata_service_is_asked_for_a_session_a_role_and_its_keys() {
    let machine = issuer(Source::InstanceMetadata(None));
    let first = request(&machine, &[]);
    assert_eq!(lines(&first)[..2], [":method: PUT", ":path: /latest/api/token"]);
    assert_eq!(lines(&first).last().unwrap(), "x-aws-ec2-metadata-token-ttl-seconds: 60");
    assert_eq!(first.timeout, Duration::from_secs(2), "a third of what the fetch may take");
    assert_eq!(interim(read(&machine, &[], 200, "AQAE==")), "AQAE==");
    let second = request(&machine, &["AQAE=="]);
    assert_eq!(lines(&second)[..2], [":method: GET", ":path: /latest/meta-data/iam/security-credentials/"]);
    assert_eq!(lines(&second).last().unwrap(), "x-aws-ec2-metadata-token: AQAE==");
    assert_eq!(interim(read(&machine, &["AQAE=="], 200, "mcp-role\nother\n")), "mcp-role");
    let third = request(&machine, &["AQAE==", "mcp-role"]);
    assert_eq!(lines(&third)[..2], [":method: GET", ":path: /latest/meta-data/iam/security-credentials/mcp-role"]);
    assert_eq!(lines(&third).last().unwrap(), "x-aws-ec2-metadata-token: AQAE==");
    assert_eq!(granted(read(&machine, &["AQAE==", "mcp-role"], 200, IN_JSON)).0.access_key_id.expose(), "ASIA");
}

#[test]
fn a_role_that_is_known_is_not_asked_for() {
    let machine = issuer(Source::InstanceMetadata(Some("known".to_owned())));
    assert_eq!(interim(read(&machine, &[], 200, "AQAE==\n")), "AQAE==");
    let second = request(&machine, &["AQAE=="]);
    assert_eq!(lines(&second)[1], ":path: /latest/meta-data/iam/security-credentials/known");
    assert_eq!(second.timeout, Duration::from_secs(3));
    assert_eq!(granted(read(&machine, &["AQAE=="], 200, IN_JSON)).1, Duration::from_secs(6 * 3600));
}

#[test]
fn sts_gets_a_form_and_answers_in_xml() {
    let sts = web_identity("a.b.c");
    let request = request(&sts, &[]);
    assert_eq!(lines(&request)[..2], [":method: POST", ":path: /v2/credentials?id=1"]);
    assert_eq!(lines(&request).last().unwrap(), "content-type: application/x-www-form-urlencoded");
    let form: Vec<_> = form_urlencoded::parse(request.body.expose().as_bytes()).into_owned().collect();
    let expected = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::123456789012:role/mcp"),
        ("RoleSessionName", "gateway"),
        ("WebIdentityToken", "a.b.c"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (keys, lifetime) = granted(read(&sts, &[], 200, IN_XML));
    assert_eq!((keys.access_key_id.expose(), keys.secret_access_key.expose()), ("ASIA", "wJalr/+="));
    assert_eq!(keys.session_token.unwrap().expose(), "AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE");
    assert_eq!(lifetime, Duration::from_millis(3_600_500));
}

#[test]
fn an_answer_without_keys_says_what_may_help() {
    let without = |name: &str| IN_JSON.replace(name, "Other");
    let container = container();
    for (status, body, expected) in [
        (200, "", Malformed),
        (200, "[]", Malformed),
        (200, "ASIA", Malformed),
        (200, &without("AccessKeyId"), Malformed),
        (200, &without("SecretAccessKey"), Malformed),
        (200, &IN_JSON.replace("wJalr/+=", "a b"), Malformed),
        (200, &IN_JSON.replace("2027-01-15T18:00:00Z", "soon"), Malformed),
        (200, &IN_JSON.replace("Success", "Failed"), Unavailable),
        (200, &" ".repeat(65 * 1024), Malformed),
        (302, IN_JSON, Unavailable),
        (400, "", Refused),
        (401, "", Refused),
        (403, "", Refused),
        (404, "", Refused),
        (429, "", Unavailable),
        (500, "", Unavailable),
        (503, "", Unavailable),
    ] {
        assert_eq!(kind(read(&container, &[], status, body)), expected, "{status} {body}");
    }
    let sts = web_identity("t");
    let error = |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
    for (status, body, expected) in [
        (200, "", Malformed),
        (200, IN_JSON, Malformed),
        (200, &IN_XML.replace("<AccessKeyId>ASIA", "<AccessKeyId>AS&amp;IA"), Malformed),
        (200, &IN_XML.replace("</SecretAccessKey>", ""), Malformed),
        (400, &error("ExpiredTokenException"), Refused),
        (400, &error("IDPCommunicationError"), Unavailable),
        (400, &error("Throttling"), Unavailable),
        (200, &IN_XML.replace("<SessionToken>", "<Other>"), Malformed),
        (200, &IN_XML.replace("yp+IEX", "yp&amp;IEX"), Malformed),
        (400, "", Refused),
        (403, &error("AccessDenied"), Refused),
        (403, "", Unavailable),
        (404, "<html>", Unavailable),
        (500, "", Unavailable),
    ] {
        assert_eq!(kind(read(&sts, &[], status, body)), expected, "{status} {body}");
    }
    let machine = issuer(Source::InstanceMetadata(None));
    for body in ["", "\n", "a b", "a\u{7f}"] {
        assert_eq!(kind(read(&machine, &[], 200, body)), Malformed, "{body:?}");
    }
}

#[test]
fn no_failure_repeats_what_was_sent() {
    let detail = |answer: Result<Answer, Failure>| answer.map(drop).unwrap_err().detail;
    let in_json = |code: &str| IN_JSON.replace("Success", code);
    let in_xml = |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
    let (container, machine) = (container(), issuer(Source::InstanceMetadata(Some("known".to_owned()))));
    assert!(!detail(read(&container, &[], 200, &in_json("xS3CR3Tx"))).contains("S3CR3T"));
    assert!(!detail(read(&machine, &["AQAEs3ss10n"], 200, &in_json("AQAEs3"))).contains("AQAE"));
    assert!(!detail(read(&web_identity("eyJhbGciOi.x.y"), &[], 400, &in_xml("eyJhbG"))).contains("eyJhbG"));
    assert!(detail(read(&web_identity("eyJhbGciOi.x.y"), &[], 400, &in_xml("ExpiredToken"))).contains("ExpiredToken"));
    // A code decides, also one that is not shown.
    assert_eq!(kind(read(&web_identity("t"), &[], 400, &in_xml("Throttling"))), Unavailable);
}

#[test]
fn a_fault_in_another_member_does_not_spoil_the_keys() {
    for member in [r"\ud800", "M\u{fffd}ller"] {
        let body = IN_JSON.replace("AWS-HMAC", member);
        assert_eq!(granted(read(&container(), &[], 200, &format!("\u{feff}{body}"))).0.access_key_id.expose(), "ASIA");
    }
}

#[test]
fn keys_that_are_over_are_none_and_those_that_do_not_say_so_are_soon() {
    let container = container();
    for time in ["11:00:00", "12:00:00"] {
        let over = IN_JSON.replace("18:00:00", time);
        assert_eq!(kind(read(&container, &[], 200, &over)), Unavailable, "{time}");
    }
    let silent = r#"{"AccessKeyId": "AKIA", "SecretAccessKey": "s"}"#;
    let (keys, lifetime) = granted(read(&container, &[], 200, silent));
    assert_eq!((keys.session_token.is_none(), lifetime), (true, Duration::from_secs(300)));
}

#[test]
fn no_failure_has_a_word_of_the_answer_that_is_no_name() {
    let sts = web_identity("s3cr3t-token");
    for body in [
        "<Code>s3cr3t-token</Code>",
        "<Code>s3cr3t token</Code>",
        "<Message>s3cr3t-token is expired</Message>",
        &IN_XML.replace("wJalr", "s3cr3t&"),
    ] {
        for status in [200, 400] {
            let failure = read(&sts, &[], status, body).map(drop).unwrap_err();
            assert!(!format!("{failure:?}").contains("s3cr3t"), "{failure:?}");
        }
    }
}

/// To Envoy, nothing is for ever.
#[test]
fn the_shortest_timeout_is_one() {
    let machine = KeyIssuer { timeout: Duration::from_millis(1), ..issuer(Source::InstanceMetadata(None)) };
    for answers in [&[][..], &["session"], &["session", "role"]] {
        assert_eq!(request(&machine, answers).timeout, Duration::from_millis(1));
    }
}

/// Whoever has the same keys shares them, and nobody else.
#[test]
fn each_difference_makes_other_keys_and_only_the_secret_leaves_the_lineage() {
    const SERVER: [&str; 2] = ["s", "h"];
    let all = [
        issuer(Source::Container(None)),
        issuer(Source::Container(Some(secret("a")))),
        issuer(Source::InstanceMetadata(None)),
        issuer(Source::InstanceMetadata(Some("a".to_owned()))),
        web_identity("a"),
        KeyIssuer {
            endpoint: Endpoint { path: "/other".to_owned(), ..web_identity("a").endpoint },
            ..web_identity("a")
        },
    ];
    for (place, one) in all.iter().enumerate() {
        for other in all.iter().skip(place + 1) {
            assert_ne!(one.key(), other.key());
        }
    }
    assert_ne!(web_identity("a").key(), web_identity("b").key());
    assert_eq!(web_identity("a").lineage(SERVER), web_identity("b").lineage(SERVER));
    assert_ne!(web_identity("a").lineage(SERVER), web_identity("a").lineage(["s", "other"]));
}
