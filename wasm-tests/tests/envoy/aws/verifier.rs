//! What an MCP server behind AWS IAM does with a request: it computes the signature itself, and compares.
//!
//! The crate does it but for three things, in which it is not like AWS: it encodes a path once, as for S3 alone; it
//! sorts a query by whole parameters, so that `a1=` comes before `a=`; and it knows no payload that is not signed.

use std::pin::pin;
use std::str::FromStr;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use chrono::{DateTime, Duration, Utc};
use http_body_util::Empty;
use hyper::Request;
use scratchstack_aws_signature::auth::SigV4AuthenticatorResponse;
use scratchstack_aws_signature::canonical::CanonicalRequest;
use scratchstack_aws_signature::errors::ServiceError;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, SignatureError, SignatureOptions,
    VecSignedHeaderRequirements, service_for_signing_key_fn,
};
use sha2::{Digest, Sha256};
use tower::BoxError;
use wasm_tests::aws_peer::Credentials;
use wasm_tests::upstream::{Denied, Seen};

use super::{REGION, SERVICE};

/// What stands for the hash of a payload that is not signed.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// No clock is wrong here.
const SKEW: Duration = Duration::minutes(1);

/// Finds credentials by their id.
pub type Lookup = dyn Fn(&str) -> Option<Credentials> + Send + Sync;

/// Lets a request in if it is signed, all of it, with credentials that `lookup` finds.
pub fn verify(seen: &Seen, lookup: &Lookup) -> Result<(), Denied> {
    let denied = |error_type: &str, why: String| Denied { error_type: error_type.to_owned(), why };
    let [content_hash] = &seen.head.header("x-amz-content-sha256")[..] else {
        return Err(denied("IncompleteSignatureException", "not one x-amz-content-sha256".to_owned()));
    };
    if content_hash != UNSIGNED && *content_hash != hex(&Sha256::digest(&seen.body)) {
        return Err(denied("InvalidSignatureException", format!("another body than that of {content_hash}")));
    }
    for name in ["authorization", "x-amz-date"] {
        if seen.head.header(name).len() != 1 {
            return Err(denied("IncompleteSignatureException", format!("not one {name}")));
        }
    }
    match ready(check(seen, content_hash, lookup)) {
        Ok(_) => Ok(()),
        Err(SignatureError::SignatureDoesNotMatch(why)) => {
            Err(denied("InvalidSignatureException", why.unwrap_or_default()))
        }
        Err(error) => Err(denied(error.error_code(), error.to_string())),
    }
}

async fn check(seen: &Seen, content_hash: &str, lookup: &Lookup) -> Result<SigV4AuthenticatorResponse, SignatureError> {
    let (path, query) = seen.head.path_and_query.split_once('?').unwrap_or((&seen.head.path_and_query, ""));
    let mut request = Request::builder()
        .method(seen.head.method.clone())
        .uri(format!("{}?{query}", encoded(path)))
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| SignatureError::InvalidURIPath(error.to_string()))?;
    for (name, value) in &seen.head.headers {
        request.headers_mut().append(
            hyper::header::HeaderName::from_str(name).unwrap(),
            hyper::header::HeaderValue::from_bytes(value).unwrap(),
        );
    }
    request.headers_mut().insert("host", seen.head.authority.parse().unwrap());
    let (canonical, ..) =
        CanonicalRequest::from_request_parts(request.into_parts().0, seen.body.clone(), SignatureOptions::default())?;

    let required = VecSignedHeaderRequirements::new::<str, str, str>(
        &["host", "x-amz-date", "x-amz-content-sha256"],
        &["content-type"],
        &["x-amz-"],
    );
    let mut parameters = canonical.get_auth_parameters(&required)?;
    if let Some(absent) = parameters.signed_headers.iter().find(|name| !canonical.headers().contains_key(*name)) {
        return Err(SignatureError::SignatureDoesNotMatch(Some(format!("{absent} is signed, but not there"))));
    }
    let signed = String::from_utf8(canonical.canonical_request(&parameters.signed_headers)).unwrap();
    let lines: Vec<&str> = signed.splitn(4, '\n').collect();
    let (headers, _) = lines[3].rsplit_once('\n').unwrap();
    let signed = [lines[0], lines[1], &sorted_query(&canonical), headers, content_hash].join("\n");
    let [date] = &canonical.headers()["x-amz-date"][..] else { unreachable!("counted before") };
    let date = chrono::NaiveDateTime::parse_from_str(&String::from_utf8_lossy(date), "%Y%m%dT%H%M%SZ")
        .map_err(|error| SignatureError::IncompleteSignature(error.to_string()))?;
    let authenticator = parameters
        .builder
        .canonical_request_sha256(Sha256::digest(signed).into())
        .request_timestamp(date.and_utc())
        .build()
        .unwrap();

    let credentials = authenticator.credential().split('/').next().and_then(lookup);
    let keys = move |request: GetSigningKeyRequest| std::future::ready(signing_key(&request, credentials.as_ref()));
    let now = DateTime::<Utc>::from(SystemTime::now());
    authenticator.validate_signature(REGION, SERVICE, now, SKEW, &mut service_for_signing_key_fn(keys)).await
}

fn signing_key(
    request: &GetSigningKeyRequest,
    credentials: Option<&Credentials>,
) -> Result<GetSigningKeyResponse, BoxError> {
    let unknown = |what: &str| BoxError::from(SignatureError::InvalidClientTokenId(what.to_owned()));
    let credentials = credentials.ok_or_else(|| unknown("no such key"))?;
    if request.session_token() != credentials.session_token.as_deref() {
        return Err(unknown("not the token of this key"));
    }
    let secret = KSecretKey::from_str(&credentials.secret_access_key)?;
    let key = secret.to_ksigning(request.request_date(), request.region(), request.service());
    Ok(GetSigningKeyResponse::builder().signing_key(key).build()?)
}

/// A path that the crate reads as AWS reads `path`.
fn encoded(path: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(escaped).collect()
}

fn sorted_query(canonical: &CanonicalRequest) -> String {
    let parameters = canonical.query_parameters().iter();
    let mut pairs: Vec<_> =
        parameters.flat_map(|(name, values)| values.iter().map(move |value| (name, value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The result of a future that has nothing to wait for.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the verifier waits"),
    }
}
