//! What the answers of those who issue temporary keys mean.

use std::time::UNIX_EPOCH;

use humantime::parse_rfc3339;

use super::keys::Keys;
use crate::json::Json;
use crate::redaction::may_show;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Answer, Failure, FailureKind, Grant, LIFETIME_IF_NOT_SAID, Reply};

/// Keys with the names that all issuers use.
struct Found<'a> {
    id: Option<&'a str>,
    secret: Option<&'a str>,
    session_token: Option<&'a str>,
    expiration: Option<&'a str>,
}

/// Reads the answer of a container credentials endpoint or of the instance metadata service. None of `hidden` will be in a
/// failure's words.
///
/// # Errors
/// If there are no keys in it.
pub fn keys_in_json(reply: &Reply<'_>, now: Time, hidden: &[Secret]) -> Result<Answer, Failure> {
    let body = Json::parse_answer(reply.body).unwrap_or(Json::Null);
    // The instance metadata service answers 200 also where it has none.
    if let Some(code) = body.text("Code").filter(|code| *code != "Success") {
        let detail = format!("it answers {}", printable(code, hidden));
        return Err(reply.failure(FailureKind::Unavailable, detail, now));
    }
    let found = Found {
        id: body.text("AccessKeyId"),
        secret: body.text("SecretAccessKey"),
        session_token: body.text("Token"),
        expiration: body.text("Expiration"),
    };
    grant(&found, reply, now)
}

/// Reads the answer of AWS STS. None of `hidden` will be in a failure's words.
///
/// # Errors
/// If there are no keys in it.
pub fn answer_of_sts(reply: &Reply<'_>, now: Time, hidden: &[Secret]) -> Result<Answer, Failure> {
    let body = Secret::new(String::from_utf8_lossy(reply.body).into_owned());
    let body = body.expose();
    if !reply.is_success() {
        let code = element(body, "Code");
        // Without a code, this may be the answer of a proxy on the way.
        let is_denial = code.is_some() || matches!(reply.status, 400 | 401);
        let code = code.unwrap_or_default();
        let kind = match code {
            _ if !is_denial => FailureKind::Unavailable,
            // The identity provider did not answer AWS, or AWS is asked too often.
            "IDPCommunicationError" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
                FailureKind::Unavailable
            }
            _ => FailureKind::Refused,
        };
        return Err(reply.failure(kind, format!("it answers {} {}", reply.status, printable(code, hidden)), now));
    }
    let found = Found {
        id: element(body, "AccessKeyId"),
        secret: element(body, "SecretAccessKey"),
        session_token: element(body, "SessionToken"),
        expiration: element(body, "Expiration"),
    };
    // Keys of a role are none without it.
    if found.session_token.is_none() {
        return malformed(reply, "has no SessionToken", now);
    }
    grant(&found, reply, now)
}

fn grant(found: &Found<'_>, reply: &Reply<'_>, now: Time) -> Result<Answer, Failure> {
    let Some((id, secret)) = found.id.zip(found.secret) else {
        return malformed(reply, "has no AccessKeyId or no SecretAccessKey", now);
    };
    let Ok(keys) = Keys::new(id, secret, found.session_token) else {
        return malformed(reply, "has keys that are not of visible ASCII characters", now);
    };
    let lifetime = match found.expiration.map(parse_rfc3339) {
        Some(Ok(expires)) => Time::since_epoch(expires.duration_since(UNIX_EPOCH).unwrap_or_default()).since(now),
        Some(Err(_)) => return malformed(reply, "has an Expiration that is no date", now),
        None => LIFETIME_IF_NOT_SAID,
    };
    // The metadata service hands out keys that are over while it cannot renew them.
    if lifetime.is_zero() {
        let detail = "it answers with keys that have expired".to_owned();
        return Err(reply.failure(FailureKind::Unavailable, detail, now));
    }
    Ok(Answer::Granted(Grant { token: keys.to_text(), lifetime }))
}

fn malformed(reply: &Reply<'_>, rule: &str, now: Time) -> Result<Answer, Failure> {
    Err(reply.failure(FailureKind::Malformed, format!("its answer ({}) {rule}", reply.status), now))
}

/// The text of the first XML element of this name. Those that are read here have no attributes and, as keys, dates and
/// codes, nothing that would need to be escaped: whatever has is none of them.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, rest) = rest.split_once('<')?;
    let is_closed =
        rest.strip_prefix('/').and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('>'));
    (is_closed && !text.contains('&')).then(|| text.trim())
}

/// `code` if it is a name, as those of errors are, and shows none of `hidden`.
fn printable(code: &str, hidden: &[Secret]) -> String {
    let is_name = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name && !may_show(code, hidden) { code.to_owned() } else { "an error without a name".to_owned() }
}
