//! An issuer's answer, as far as it does not matter who issues what.

use std::time::{Duration, SystemTime};

use humantime::parse_rfc3339;

use super::outcome::{Failure, FailureKind};
use crate::time::Time;

/// Of an answer, no more than this and one byte is read: no token is that large.
pub const LARGEST_BODY: usize = 64 * 1024;

/// An answer as Envoy hands it over.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Its status.
    pub status: u16,
    /// The value of `Retry-After`, if any.
    pub retry_after: Option<&'a [u8]>,
    /// The value of `Content-Encoding`, if any.
    pub content_encoding: Option<&'a [u8]>,
    /// Its body, or a part that is longer than [`LARGEST_BODY`].
    pub body: &'a [u8],
}

impl Reply<'_> {
    /// Whether it says that it brings what was asked for.
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether its body is worth reading.
    ///
    /// # Errors
    /// Fails if the server is unavailable, redirects, encodes its answer or sends more than [`LARGEST_BODY`].
    pub fn check(&self, now: Time) -> Result<(), Failure> {
        let status = self.status;
        let (kind, detail) = match status {
            502..=504 => (FailureKind::Unavailable, format!("it answers {status}, {}", or_envoy(status))),
            408 | 429 | 500..=599 => (FailureKind::Unavailable, format!("it answers {status}")),
            300..=399 => (
                FailureKind::Unavailable,
                format!(
                    "it redirects ({status}), and the filter does not follow, as the secret would go there: check the URL"
                ),
            ),
            // RFC 6749 §5.2: a denial has one of these statuses, and who denies is asked rarely.
            400 | 401 if self.is_encoded() => (FailureKind::Refused, self.encoded()),
            _ if self.is_encoded() => (FailureKind::Malformed, self.encoded()),
            _ if self.body.len() > LARGEST_BODY => {
                (FailureKind::Malformed, format!("its answer ({status}) is larger than {LARGEST_BODY} bytes"))
            }
            _ => return Ok(()),
        };
        Err(self.failure(kind, detail, now))
    }

    /// Whether the body is not as it was asked for, which is `identity`.
    fn is_encoded(&self) -> bool {
        self.content_encoding
            .is_some_and(|coding| !matches!(coding.trim_ascii().to_ascii_lowercase().as_slice(), b"" | b"identity"))
    }

    fn encoded(&self) -> String {
        let coding = self.content_encoding.unwrap_or_default().trim_ascii();
        // What is not registered (RFC 9110 §16.6.1) may be anything, a secret too.
        let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"];
        let coding = known.into_iter().find(|known| coding.eq_ignore_ascii_case(known.as_bytes()));
        let (status, coding) = (self.status, coding.unwrap_or("something unknown"));
        format!(
            "its answer ({status}) is encoded as {coding}, although the filter asks for identity: disable that there"
        )
    }

    /// A failure that this answer means.
    pub fn failure(&self, kind: FailureKind, detail: String, now: Time) -> Failure {
        Failure { kind, retry_after: self.retry_after.and_then(|value| retry_after(value, now)), detail }
    }
}

/// What else a status may mean: Envoy itself answers so, and so does a proxy on the way.
fn or_envoy(status: u16) -> &'static str {
    match status {
        502 => {
            "or Envoy cannot read its answer: it has more than 100 headers, is not valid HTTP, or not in the HTTP version \
             that the cluster is set to"
        }
        503 => {
            "or Envoy cannot connect to it, or lost the connection: check that it runs, and the address and the TLS \
             settings of the cluster"
        }
        _ => "or it does not answer Envoy within requestTimeoutMs",
    }
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(value: &[u8], now: Time) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    Some(http_date(text)?.since(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7): read as the date that it is in RFC 3339. The obsolete forms, in
/// which no server of this century writes, count as no wish.
fn http_date(text: &str) -> Option<Time> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.find(month).filter(|place| place % 3 == 0 && month.len() == 3)? / 3 + 1;
    let date = parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(Time::since_epoch(date.duration_since(SystemTime::UNIX_EPOCH).ok()?))
}
