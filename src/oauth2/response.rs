//! What a token server's answer means (RFC 6749 §5).

use std::time::{Duration, SystemTime};

use crate::config::json::Json;
use crate::credential::bearer::is_token;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Failure, FailureKind, Grant, LARGEST_BODY, Reply};

/// What a token is good for whose server does not say (RFC 6749 §5.1 leaves it open).
const LIFETIME_IF_NOT_SAID: Duration = Duration::from_secs(300);

/// The longest description that is logged, in characters.
const LONGEST_DESCRIPTION: usize = 200;

/// The longest word of a description that is logged. What is longer may be a part of what was sent.
const LONGEST_WORD: usize = 32;

/// Reads the answer. None of `secrets` will be in a failure's words.
///
/// # Errors
/// If it is no token to be used.
pub fn read(reply: &Reply<'_>, now: Time, secrets: &[Secret]) -> Result<Grant, Failure> {
    let retry_after = reply.retry_after.and_then(|value| retry_after(value, now));
    let fail = |kind, detail: String| Err(Failure { kind, retry_after, detail });
    let status = reply.status;
    if matches!(status, 408 | 429 | 500..=599) {
        // Envoy answers so itself if nobody else does.
        let by_envoy = match status {
            503 => " (or Envoy does: no connection)",
            504 => " (or Envoy does: no answer in time)",
            _ => "",
        };
        return fail(FailureKind::Unavailable, format!("it answers {status}{by_envoy}"));
    }
    if matches!(status, 300..=399) {
        return fail(FailureKind::Refused, format!("it redirects ({status}); to follow would repeat the secret"));
    }
    let is_success = matches!(status, 200..=299);
    if reply.body.len() > LARGEST_BODY {
        return fail(FailureKind::Malformed, format!("its answer ({status}) is larger than {LARGEST_BODY} bytes"));
    }
    let Some(body) = Json::parse(reply.body).ok().filter(|body| matches!(body, Json::Object(_))) else {
        let kind = if is_success { FailureKind::Malformed } else { FailureKind::Refused };
        return fail(kind, format!("it answers {status} and no JSON object"));
    };
    if !is_success || body.get("error").is_some_and(|error| !matches!(error, Json::Null)) {
        let (kind, error) = error(&body, secrets);
        return fail(kind, format!("it answers {status} {error}"));
    }
    grant(&body).or_else(|rule| fail(FailureKind::Malformed, format!("its answer ({status}) {rule}")))
}

/// RFC 6749 §5.1. Parameters that are not known are ignored, a refresh token among them.
fn grant(body: &Json) -> Result<Grant, &'static str> {
    let token = text(body, "access_token").ok_or("has no access_token")?;
    if !is_token(token) {
        return Err("has an access_token that is not of visible ASCII characters");
    }
    let kind = text(body, "token_type").ok_or("has no token_type")?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err("has another token_type than Bearer"); // RFC 6749 §7.1
    }
    Ok(Grant { token: Secret::new(token.to_owned()), lifetime: lifetime(body.get("expires_in")) })
}

fn text<'a>(body: &'a Json, name: &str) -> Option<&'a str> {
    match body.get(name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
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
    let code = text(body, "error").unwrap_or_default();
    let kind = match code {
        "temporarily_unavailable" | "server_error" | "slow_down" => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    };
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let code =
        if is_code && !is_secret(code, secrets) { printable(code) } else { "an error without a name".to_owned() };
    let description = text(body, "error_description").unwrap_or_default();
    if description.is_empty() || is_secret(description, secrets) {
        return (kind, code);
    }
    (kind, format!("{code} ({})", printable(description)))
}

/// Servers are known to repeat what they were sent.
fn is_secret(text: &str, secrets: &[Secret]) -> bool {
    let text = one_line(text);
    secrets.iter().map(|secret| one_line(secret.expose())).any(|secret| !secret.is_empty() && text.contains(&secret))
}

/// `text` with one space for what is white or a control character.
fn one_line(text: &str) -> String {
    words(text).collect::<Vec<_>>().join(" ")
}

/// `text` in one line, without long words, and not longer than is useful.
fn printable(text: &str) -> String {
    let words = words(text).map(|word| if word.chars().count() > LONGEST_WORD { "…" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST_DESCRIPTION).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty())
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(value: &[u8], now: Time) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = Time::since_epoch(date.duration_since(SystemTime::UNIX_EPOCH).ok()?);
    Some(date.since(now))
}
