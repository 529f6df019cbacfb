//! Requests whose signatures AWS publishes: its test suite for signers, and examples of its documentation.

use super::Case;
use super::reference::{sha256, signature};
use super::suite::{Published, suite};
use crate::aws::canonical::{CanonicalRequest, PathRule};
use crate::time::Time;

/// The suite's requests have no X-Amz-Content-SHA256, but where it is written. So this is what is below the signer.
#[test]
fn canonical_requests_of_the_suite_lead_to_its_signatures() {
    let suite = suite();
    assert_eq!(suite.len(), 36);
    for Published { name, request, rule, signature: expected } in suite {
        let mut headers = vec![("host", request.host.as_bytes()), ("x-amz-date", b"20150830T123600Z")];
        headers.extend(request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let (method, target) = (request.method.as_bytes(), request.target.as_bytes());
        let payload = sha256(request.body.as_ref().unwrap());
        let canonical = CanonicalRequest::new(method, target, &headers, &payload, rule);
        let scope = "20150830/us-east-1/service/aws4_request";
        let string_to_sign = ["AWS4-HMAC-SHA256", "20150830T123600Z", scope, &sha256(&canonical.text)].join("\n");
        let text = String::from_utf8_lossy(&canonical.text);
        assert_eq!(signature(&request, &string_to_sign), expected, "{name}: {text}");
    }
}

#[test]
fn requests_of_the_suite_are_signed_as_the_crate_of_aws_signs_them() {
    for Published { name, mut request, rule, signature: expected } in suite() {
        // The crate takes no space in a path, and neither does Envoy.
        if name == "get-space-unnormalized" {
            continue;
        }
        if rule == PathRule::AsIs {
            request.service = "s3".to_owned();
        }
        let session_token = request.headers.iter().find(|(name, _)| name == "x-amz-security-token");
        request.session_token = session_token.map(|(_, token)| token.clone());
        request.agrees();
        if request.headers.iter().any(|(name, _)| name == "x-amz-content-sha256") {
            let sent = request.sign().unwrap();
            let authorization = sent.only("authorization").unwrap();
            assert!(authorization.ends_with(&format!(", Signature={expected}")), "{name}: {authorization}");
        }
    }
}

/// As services decode a path before they look at the signature, what is escaped in it is escaped once more.
#[test]
fn an_escaped_path_is_escaped_once_more() {
    let function = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A892717189312%3Afunction%3Amy-rusty-fun";
    for (path, expected) in [
        ("/test/@connections/JBDvjfGEIAMCERw%3D", "/test/%40connections/JBDvjfGEIAMCERw%253D"),
        (function, &function.replace('%', "%25")),
    ] {
        let canonical = CanonicalRequest::new(b"POST", path.as_bytes(), &[], "", PathRule::Normalized);
        assert_eq!(str::from_utf8(&canonical.text).unwrap().lines().nth(1), Some(expected));
        Case::published("POST", path, &[]).agrees();
    }
}

/// "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk" in the API reference
/// of Amazon S3 has these, with all that is sent.
#[test]
fn examples_of_the_documentation_of_s3_come_to_their_signatures() {
    let put = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    for (method, target, headers, body, expected) in [
        (
            "GET",
            "/test.txt",
            &[("range", "bytes=0-9")][..],
            "",
            "host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            &put,
            "Welcome to Amazon S3.",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, \
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            &[],
            "",
            "host;x-amz-content-sha256;x-amz-date, \
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            &[],
            "",
            "host;x-amz-content-sha256;x-amz-date, \
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let sent = Case {
            host: "examplebucket.s3.amazonaws.com".to_owned(),
            body: Some(body.as_bytes().to_vec()),
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            service: "s3".to_owned(),
            // 2013-05-24, 0:00 in UTC.
            now: Time::from_millis(1_369_353_600_000),
            ..Case::published(method, target, headers)
        }
        .sign()
        .unwrap();
        let credential = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        assert_eq!(sent.only("authorization"), Some(&*format!("{credential}, SignedHeaders={expected}")), "{target}");
        assert_eq!(sent.only("x-amz-date"), Some("20130524T000000Z"));
        assert_eq!(sent.only("x-amz-content-sha256"), Some(&*sha256(body.as_bytes())));
    }
}
