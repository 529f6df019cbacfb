//! What a token server's answer means (RFC 6749 §5).

use std::time::Duration;

use crate::config::json::Json;
use crate::credential::bearer::is_token;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Failure, FailureKind, Grant, LIFETIME_IF_NOT_SAID, Reply};

/// The longest description that is logged, in characters.
const LONGEST_DESCRIPTION: usize = 200;

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
    let token = body.text("access_token").ok_or("has no access_token")?;
    if !is_token(token) {
        return Err("has an access_token that is not of visible ASCII characters");
    }
    let kind = body.text("token_type").ok_or("has no token_type")?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err("has another token_type than Bearer"); // RFC 6749 §7.1
    }
    Ok(Grant { token: Secret::new(token.to_owned()), lifetime: lifetime(body.get("expires_in")) })
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
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let code =
        if is_code && !is_secret(code, secrets) { printable(code) } else { "an error without a name".to_owned() };
    let description = body.text("error_description").unwrap_or_default();
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
