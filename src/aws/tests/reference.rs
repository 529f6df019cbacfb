//! The crate that AWS signs its own SDK's requests with, asked for each of its steps.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest, SigningParams,
    SigningSettings, UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use ring::digest::{SHA256, digest};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::Case;
use crate::digest::hex;

/// What the crate makes of a request.
pub struct Signed {
    pub canonical: String,
    pub string_to_sign: String,
    pub signature: String,
    /// The headers that it sets.
    pub headers: Vec<(String, String)>,
}

/// Whether a service takes paths as they are; the crate is told by who calls it.
pub fn takes_paths_as_they_are(service: &str) -> bool {
    ["s3", "s3express", "s3-object-lambda", "s3-outposts"].contains(&service)
}

/// The SHA-256 of `text`, as it is written in signatures.
pub fn sha256(text: &[u8]) -> String {
    hex(digest(&SHA256, text).as_ref())
}

/// The signature of a text with the key of the case and its day.
pub fn signature(case: &Case, string_to_sign: &str) -> String {
    let key = v4::generate_signing_key(&case.secret_access_key, time(case), &case.region, &case.service);
    v4::calculate_signature(key, string_to_sign.as_bytes())
}

pub fn sign(case: &Case) -> Signed {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.session_token_mode = SessionTokenMode::Include;
    // Without this, it leaves out some that it is given, such as User-Agent.
    settings.excluded_headers = None;
    let as_they_are = takes_paths_as_they_are(&case.service);
    (settings.percent_encoding_mode, settings.uri_path_normalization_mode) = if as_they_are {
        (PercentEncodingMode::Single, UriPathNormalizationMode::Disabled)
    } else {
        (PercentEncodingMode::Double, UriPathNormalizationMode::Enabled)
    };
    let identity =
        Credentials::new(&*case.access_key_id, &*case.secret_access_key, case.session_token.clone(), None, "test")
            .into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(&case.region)
        .name(&case.service)
        .time(time(case))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    // It signs each header that it is given.
    let headers = case.headers.iter().filter(|(name, _)| is_signed(case, name));
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str())).chain([("host", case.host.as_str())]);
    let body = case.body.as_deref().map_or(SignableBody::UnsignedPayload, SignableBody::Bytes);
    let uri = format!("https://up.example{}", case.target);
    let request = SignableRequest::new(&case.method, uri, headers, body).unwrap();

    let trace = Arc::new(CanonicalRequests::default());
    let output = tracing::subscriber::with_default(Arc::clone(&trace), || {
        aws_sigv4::http_request::sign(request, &params).unwrap()
    });
    let (instructions, signature) = output.into_parts();
    let headers: Vec<_> = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let canonical = case.shown(trace.0.lock().unwrap().pop().unwrap());
    let string_to_sign = string_to_sign(&headers, &canonical);
    // So the text is the one that was signed, in spite of the detour.
    assert_eq!(self::signature(case, &string_to_sign), signature);
    Signed { canonical, string_to_sign, signature, headers }
}

fn time(case: &Case) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(case.now.as_millis())
}

/// What is promised to be signed of the caller's headers.
fn is_signed(case: &Case, name: &str) -> bool {
    let is_set = ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"].contains(&name);
    !is_set && (name == "content-type" || name.starts_with("x-amz-") || case.also.iter().any(|own| own == name))
}

/// The string to sign, from the headers that the crate sets.
fn string_to_sign(headers: &[(String, String)], canonical: &str) -> String {
    let value = |wanted| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).unwrap();
    let credential = value("authorization").split(&['=', ','][..]).nth(1).unwrap();
    let scope = credential.split_once('/').unwrap().1;
    ["AWS4-HMAC-SHA256", value("x-amz-date"), scope, &sha256(canonical.as_bytes())].join("\n")
}

impl Case {
    /// The crate's trace has no session token in it.
    fn shown(&self, trace: String) -> String {
        let Some(token) = &self.session_token else { return trace };
        let hidden = format!("\nx-amz-security-token:** redacted (length={}) **\n", token.len());
        assert_eq!(trace.matches(&hidden).count(), 1, "{trace}");
        trace.replace(&hidden, &format!("\nx-amz-security-token:{token}\n"))
    }
}

/// Keeps the canonical requests from the crate's trace: there is no other way to them.
#[derive(Default)]
struct CanonicalRequests(Mutex<Vec<String>>);

impl Subscriber for CanonicalRequests {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("aws_sigv4::") && metadata.fields().field("canonical_request").is_some()
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut &*self);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for &CanonicalRequests {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "canonical_request" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}
