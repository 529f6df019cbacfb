//! What a token server's answer means (RFC 6749 §5).

use std::time::Duration;

use crate::http::authorization::is_token;
use crate::json::Json;
use crate::redaction::may_show;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Failure, FailureKind, Grant, LIFETIME_IF_NOT_SAID, Reply};

/// The longest description that is logged, in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// So much of a description is read at the most, in characters.
const LONGEST_READ: usize = 500;

/// The longest error code, in bytes.
const LONGEST_CODE: usize = 64;

/// The longest word of a description that is logged. What is longer may be a part of what was sent.
const LONGEST_WORD: usize = 32;

/// Reads the answer. None of `secrets` will be in a failure's words.
///
/// # Errors
/// If it is no token to be used.
pub fn read(reply: &Reply<'_>, now: Time, secrets: &[Secret]) -> Result<Grant, Failure> {
    reply.check(now)?;
    let fail = |kind, detail: String| Err(reply.failure(kind, detail, now));
    let (status, is_success) = (reply.status, reply.is_success());
    let object = Json::parse_answer(reply.body).ok().filter(|body| matches!(body, Json::Object(_)));
    let body = match object {
        Some(body) => body,
        None if is_success => {
            return fail(FailureKind::Malformed, format!("it answers {status} without a JSON object"));
        }
        None if is_of_oauth(status) => {
            return fail(FailureKind::Refused, format!("it answers {status} without a JSON object"));
        }
        None => return fail(FailureKind::Unavailable, not_of_oauth(status)),
    };
    if !is_success && !is_of_oauth(status) && !has_code(&body) {
        return fail(FailureKind::Unavailable, not_of_oauth(status));
    }
    if !is_success || has_error(&body) {
        let (kind, error) = error(&body, secrets);
        return fail(kind, format!("it answers {status} {error}"));
    }
    grant(&body).or_else(|rule| fail(FailureKind::Malformed, format!("its answer ({status}) {rule}")))
}

/// Whether an OAuth server answers so that denies something (RFC 6749 §5.2), even without the JSON that belongs to it.
/// Other statuses come from ingresses and proxies as well, while a deployment rolls.
fn is_of_oauth(status: u16) -> bool {
    matches!(status, 400 | 401)
}

fn not_of_oauth(status: u16) -> String {
    format!(
        "it answers {status} without an OAuth error, so this may be the answer of a proxy on the way: check the URL and the cluster"
    )
}

/// RFC 6749 §5.1. Parameters that are not known are ignored, a refresh token among them.
fn grant(body: &Json) -> Result<Grant, &'static str> {
    let token = body.text("access_token").ok_or("has no access_token")?;
    if !is_token(token) {
        return Err("has an access_token that is not of visible ASCII characters");
    }
    if !body.get("token_type").is_none_or(is_bearer) {
        return Err("has another token_type than Bearer"); // RFC 6749 §7.1
    }
    Ok(Grant { token: Secret::new(token.to_owned()), lifetime: lifetime(body.get("expires_in")) })
}

/// Whether a `token_type` means Bearer. It is required (RFC 6749 §5.1), but some servers leave it out, and some write another
/// name of the same.
fn is_bearer(kind: &Json) -> bool {
    match kind {
        Json::Null => true,
        Json::String(kind) => ["bearer", "bearertoken"].iter().any(|name| kind.trim().eq_ignore_ascii_case(name)),
        _ => false,
    }
}

/// Whether `body` has an error. Some servers always write the key.
fn has_error(body: &Json) -> bool {
    match body.get("error") {
        None | Some(Json::Null | Json::Bool(false)) => false,
        Some(Json::String(error)) => !error.is_empty(),
        Some(Json::Number(error)) => *error != 0.0,
        Some(Json::Array(error)) => !error.is_empty(),
        Some(Json::Object(error)) => !error.is_empty(),
        Some(Json::Bool(true)) => true,
    }
}

/// Whether `body` has an error code, as OAuth servers write it.
fn has_code(body: &Json) -> bool {
    body.text("error").is_some_and(is_code)
}

/// Whether `code` is made as the codes of RFC 6749 §5.2 are.
fn is_code(code: &str) -> bool {
    (1..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A number of seconds; some servers write it as text. What is negative is over at once.
fn lifetime(expires_in: Option<&Json>) -> Duration {
    let seconds = match expires_in {
        Some(Json::Number(number)) => Some(*number),
        Some(Json::String(text)) => match Json::parse(text.as_bytes()) {
            Ok(Json::Number(number)) => Some(number),
            _ => None,
        },
        _ => None,
    };
    let Some(seconds) = seconds else { return LIFETIME_IF_NOT_SAID };
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// RFC 6749 §5.2, with the further codes of RFC 8707, and those that say that time will help.
fn error(body: &Json, secrets: &[Secret]) -> (FailureKind, String) {
    let code = body.text("error").unwrap_or_default();
    let kind = match code {
        "temporarily_unavailable" | "server_error" | "slow_down" => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    };
    let is_shown = is_code(code) && !may_show(code, secrets);
    let code = if is_shown { printable(code) } else { "an error without a name".to_owned() };
    let description = body.text("error_description").unwrap_or_default();
    let description: String = description.chars().take(LONGEST_READ).collect();
    if description.is_empty() {
        return (kind, code);
    }
    if may_show(&description, secrets) {
        return (kind, format!("{code} (its description is withheld, as it may show a part of a secret)"));
    }
    (kind, format!("{code} ({})", printable(&description)))
}

/// `text` in one line, without long words, and not longer than is useful.
fn printable(text: &str) -> String {
    let words = words(text).map(|word| if word.chars().count() > LONGEST_WORD { "…" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST_DESCRIPTION).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty())
}
