//! What a host, a header's name and a header's value may be.
//!
//! Everything that goes on the wire from a configuration passes one of these when it loads, so that
//! no request can be split or smuggled by it.

use std::net::{IpAddr, Ipv6Addr};

use crate::http::header_name::HeaderName;

/// Headers that frame or route the message. The proxy owns them; none can be a credential.
pub const OWNED_BY_THE_PROXY: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads `text` as the `host[:port]` that an upstream is called by (RFC 9110 §7.2).
///
/// # Errors
/// For user information, a path, a scheme, or a name outside letters, digits, `.`, `-` and `_`.
pub fn host(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "must be a host name or address with an optional port, such as api.example.com or [::1]:8080";
    let (name, port) = host_and_port(text);
    let is_legal = (is_name(name) || is_bracketed_ipv6(name)) && (port.is_empty() || is_port(port));
    if is_legal { Ok(text.to_owned()) } else { Err(RULE) }
}

/// An `http` or `https` URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    /// `https` or `http`.
    pub scheme: &'static str,
    /// `host[:port]`, as it is written.
    pub authority: String,
    /// The host without its port.
    pub host: String,
    /// Path and query; at least `/`.
    pub path: String,
}

/// Reads `text` as the URL of an endpoint.
///
/// # Errors
/// For another scheme, user information, a fragment, and everything that is no URL.
pub fn url(text: &str) -> Result<Url, &'static str> {
    const RULE: &str = "must be an https URL, such as https://auth.example.com/oauth/token, without user or fragment";
    // A scheme is read without regard to case (RFC 3986 §3.1).
    let (scheme, rest) = match text.split_once("://").ok_or(RULE)? {
        (scheme, rest) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        (scheme, rest) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        _ => return Err(RULE),
    };
    let (authority, path) = split_at(rest, rest.find(['/', '?']));
    let authority = host(authority).map_err(|_| RULE)?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(RULE);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let (host, _) = host_and_port(&authority);
    Ok(Url { scheme, host: host.to_owned(), path: format!("{slash}{path}"), authority })
}

/// Whether `host` is this machine: `localhost` or a loopback address (RFC 8252 §7.3).
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// Whether `host` is on this link: where clouds have what is for the machines in them alone (RFC 3927), and where AWS
/// has it for IPv6.
pub fn is_on_link(host: &str) -> bool {
    match address(host) {
        Some(IpAddr::V4(address)) => address.is_link_local(),
        Some(IpAddr::V6(address)) => matches!(address.segments(), [0xfd00, 0x0ec2, ..]),
        None => false,
    }
}

/// The address that `host` is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Checks that `text` is an absolute URI without a fragment (RFC 8707 §2).
///
/// # Errors
/// If it is none.
pub fn absolute_uri(text: &str) -> Result<&str, &'static str> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    };
    let is_uri = text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty());
    if is_uri && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Ok(text)
    } else {
        Err("must be an absolute URI without a fragment")
    }
}

/// Checks that `text` is a scope, or several with one space between (RFC 6749 §3.3).
///
/// # Errors
/// If one is empty, or has a quote, a backslash, or anything outside visible ASCII.
pub fn scope_list(text: &str) -> Result<&str, &'static str> {
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if text.split(' ').all(|scope| !scope.is_empty() && scope.bytes().all(is_legal)) {
        Ok(text)
    } else {
        Err("must be scopes of visible ASCII characters without quotes and backslashes, with one space between")
    }
}

/// Checks that `text` says something.
///
/// # Errors
/// If it is empty, or has a control character.
pub fn text(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.chars().any(char::is_control) { Err("must not contain a control character") } else { Ok(text) }
}

/// Splits `host[:port]` before the colon of the port; one in brackets belongs to an address.
fn host_and_port(text: &str) -> (&str, &str) {
    let behind_address = text.find(']').unwrap_or_default();
    let colon = text.rfind(':').filter(|colon| *colon >= behind_address);
    split_at(text, colon)
}

/// What is before `place` and from there on; all and nothing, if there is no such place.
fn split_at(text: &str, place: Option<usize>) -> (&str, &str) {
    place.and_then(|place| text.split_at_checked(place)).unwrap_or((text, ""))
}

/// Whether `text` is a colon and a port that one can connect to.
fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

fn is_name(name: &str) -> bool {
    // The limits are those of the DNS (RFC 1035 §2.3.4).
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_bracketed_ipv6(name: &str) -> bool {
    name.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Reads `text` as the name of a header that can carry a credential.
///
/// # Errors
/// As [`HeaderName::parse`], and for headers that frame or route the message.
pub fn credential_header_name(text: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::parse(text)?;
    if OWNED_BY_THE_PROXY.contains(&name.as_str()) {
        return Err("must not be a header that frames or routes the message");
    }
    Ok(name)
}

/// Reads `text` as the name of a header to remove.
///
/// # Errors
/// As [`HeaderName::parse`], and for Host, which is replaced and must not be missing.
pub fn stripped_header_name(text: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::parse(text)?;
    if name.as_str() == "host" { Err("must not be host: it is always replaced") } else { Ok(name) }
}

/// Reads `text` as the name of a header to remove from responses.
///
/// # Errors
/// As [`HeaderName::parse`], and for headers that frame the message.
pub fn stripped_response_header_name(text: &str) -> Result<HeaderName, &'static str> {
    credential_header_name(text)
}

/// Reads `text` as the name of a parameter in a query.
///
/// # Errors
/// For an empty name, and for one with a control character.
pub fn parameter_name(text: &str) -> Result<String, &'static str> {
    self::text(text).map(str::to_owned)
}

/// Checks that `text` can be the value of a header (RFC 9110 §5.5).
///
/// # Errors
/// For an empty value, one with a control character, or one with white space around it, which
/// recipients would drop.
pub fn header_value(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("must be a legal HTTP header value, without CR, LF, NUL or another control character");
    }
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return Err("must not begin or end with white space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Url, credential_header_name, header_value, host, url};
    use crate::http::header_name::HeaderName;

    #[test]
    fn hosts() {
        for legal in ["a", "api.example.com", "API.example.com:8443", "a_b.c-d.", "10.0.0.1:80", "[::1]", "[fe80::1]:1"]
        {
            assert_eq!(host(legal).as_deref(), Ok(legal));
        }
        for illegal in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:99999",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "https://a",
            "u@a",
            "u:p@a",
            "a,b",
            "a..b",
            ".a",
            "*.a",
            "é.example",
            "a%20b",
            "[::1",
            "[::g]",
            "::1",
            "a\r\nb",
            "a\0",
        ] {
            assert!(host(illegal).is_err(), "{illegal:?}");
        }
        assert!(host(&"a".repeat(63)).is_ok() && host(&"a".repeat(64)).is_err());
        assert!(host(&"a.".repeat(127)).is_ok() && host(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn urls() {
        for (legal, scheme, authority, own_host, path) in [
            ("https://a", "https", "a", "a", "/"),
            ("HTTPS://a.b:8443", "https", "a.b:8443", "a.b", "/"),
            ("http://a/b/c?d=e/f?g", "http", "a", "a", "/b/c?d=e/f?g"),
            ("https://a?b", "https", "a", "a", "/?b"),
            ("https://[::1]/", "https", "[::1]", "[::1]", "/"),
            ("https://[::1]:80/b:c", "https", "[::1]:80", "[::1]", "/b:c"),
        ] {
            let (authority, host, path) = (authority.to_owned(), own_host.to_owned(), path.to_owned());
            assert_eq!(url(legal), Ok(Url { scheme, authority, host, path }), "{legal}");
        }
        for illegal in [
            "",
            "a",
            "//a",
            "://a",
            "ftp://a",
            "https:a",
            "https://",
            "https:///b",
            "https://u@a",
            "https://a/#b",
            "https://a#b",
            "https://a/b c",
            "https://a/é",
            "https://a/\r\nb",
            "https://a:b/",
            "https://[::1/",
            "https://[::1]x/",
            "https://a\\b",
            " https://a",
        ] {
            assert!(url(illegal).is_err(), "{illegal:?}");
        }
    }

    #[test]
    fn header_names_are_lower_cased_tokens() {
        assert_eq!(HeaderName::parse("X-API-Key").unwrap().as_str(), "x-api-key");
        for illegal in ["", ":path", "a b", "a:", "a\r\n", "é", "a\0"] {
            assert!(HeaderName::parse(illegal).is_err(), "{illegal:?}");
        }
        for owned in ["Host", "content-length", "Transfer-Encoding", "TE"] {
            assert!(credential_header_name(owned).is_err(), "{owned}");
        }
    }

    #[test]
    fn header_values_cannot_split_a_message() {
        for legal in ["a", "a b\tc", "grüße", "!\"#$%"] {
            assert_eq!(header_value(legal), Ok(()), "{legal:?}");
        }
        for illegal in ["", " a", "a ", "a\n", "a\r\nb: c", "a\0b", "\u{7f}", "\u{1}"] {
            assert!(header_value(illegal).is_err(), "{illegal:?}");
        }
    }
}
