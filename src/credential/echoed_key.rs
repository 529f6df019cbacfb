//! Takes the key of the query out of a response: a server that redirects `/mcp?api_key=KEY` to `/mcp/?api_key=KEY` would
//! else tell it to the caller.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::http::request::Headers;
use crate::secret::Secret;

/// The headers of a response that carry URLs.
const WITH_URLS: [&[u8]; 4] = [b"location", b"content-location", b"link", b"refresh"];

/// A shorter key may be a part of anything. It counts only in a header with URLs, and where it stands alone.
const SHORT: usize = 8;

/// A header with more keys in it is emptied: the time to take them out grows with the square of their number.
const MOST_KEYS: usize = 16;

/// How many rounds of removal a header gets.
const MOST_ROUNDS: usize = 4;

/// How many layers of percent-encoding are taken off one by one. Behind them, all that is left comes off at once.
const MOST_LAYERS: usize = 3;

/// A key that a request carried, and the parameter that it was in.
#[derive(Clone)]
pub struct EchoedKey {
    name: String,
    /// The key as it is.
    raw: Zeroizing<Vec<u8>>,
    /// The key, decoded as a URL is.
    decoded: Zeroizing<Vec<u8>>,
}

/// A byte that a text means, and where it stands.
#[derive(Clone, Copy)]
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
    /// How often it is percent-encoded.
    layers: usize,
}

impl EchoedKey {
    /// The key in the parameter `name`.
    pub fn new(name: &str, key: &Secret) -> Self {
        let raw = key.expose().as_bytes();
        let decoded = decoded(raw, usize::MAX).into_iter().map(|unit| unit.byte).collect();
        Self { name: name.to_owned(), raw: Zeroizing::new(raw.to_vec()), decoded: Zeroizing::new(decoded) }
    }

    /// Whether the header `name` of a response has the key in `value`.
    pub fn is_in(&self, name: &[u8], value: &[u8]) -> bool {
        self.may_be_in(name)
            && self.readings(is_encoded(value)).any(|(layers, key)| !found_in(&decoded(value, layers), key).is_empty())
    }

    /// Takes the key out of all headers of `response`.
    pub fn remove_from(&self, response: &mut dyn Headers) {
        let all = response.all();
        let has_key: Vec<&str> = all
            .iter()
            .filter(|(name, value)| self.is_in(name.as_bytes(), value))
            .map(|(name, _)| name.as_str())
            .collect();
        has_key.iter().for_each(|name| response.remove(name));
        for (name, value) in all.iter().filter(|(name, _)| has_key.contains(&name.as_str())) {
            response.add(name, &self.without(value));
        }
    }

    /// `value` without the key, percent-encoded or not. The parameter that carries it goes with it; all else stays byte for byte.
    fn without(&self, value: &[u8]) -> Vec<u8> {
        let mut rest = value.to_vec();
        // Two halves of a key may meet where another one was between them.
        for _ in 0..MOST_ROUNDS {
            let before = rest.len();
            for (layers, key) in self.readings(is_encoded(value)) {
                rest = self.without_once(&rest, layers, key);
            }
            if rest.len() == before {
                return rest;
            }
        }
        // Nobody but an attacker nests them deeper, and to go on would take long.
        Vec::new()
    }

    /// The ways to read a text: how many layers of percent-encoding come off, and the key as it is then.
    ///
    /// To take off all of them finds a key whose parts are encoded differently, but joins a `%` at one of its ends with
    /// digits around it: `%2541` may be a key's last `%` before `41`.
    fn readings(&self, is_encoded: bool) -> impl Iterator<Item = (usize, &[u8])> {
        // Without a percent sign, all readings are the same.
        let layers = if is_encoded { MOST_LAYERS } else { 0 };
        let one_by_one = (0..=layers).map(|layers| (layers, self.raw.as_slice()));
        std::iter::once((usize::MAX, self.decoded.as_slice())).chain(one_by_one)
    }

    fn without_once(&self, value: &[u8], layers: usize, key: &[u8]) -> Vec<u8> {
        let units = decoded(value, layers);
        let keys = found_in(&units, key);
        if keys.len() > MOST_KEYS {
            return Vec::new();
        }
        let mut rest = Vec::with_capacity(value.len());
        let mut next = 0;
        for found in keys {
            let parameter = self.with_parameter(&units, found);
            let bytes = bytes_of(&units, parameter);
            rest.extend_from_slice(value.get(next..bytes.start).unwrap_or_default());
            next = next.max(bytes.end);
        }
        rest.extend_from_slice(value.get(next..).unwrap_or_default());
        rest
    }

    fn may_be_in(&self, header: &[u8]) -> bool {
        match header {
            // A number that is equal to the key is the length all the same.
            b"content-length" => false,
            _ if self.raw.len() < SHORT => WITH_URLS.contains(&header),
            _ => !header.starts_with(b":"),
        }
    }

    /// The key at `found` with `name=` before it, if that is there, and with one of the separators around it.
    fn with_parameter(&self, units: &[Unit], found: Range<usize>) -> Range<usize> {
        let Some(start) = self.start_of_parameter(units, found.start) else { return found };
        if units.get(found.end).is_some_and(|unit| is_unreserved(unit.byte)) {
            // The parameter has more than the key. Without its name, the rest would be a part of something else.
            return found;
        }
        let before = start.checked_sub(1).and_then(|place| Some((place, units.get(place)?)));
        let behind = units.get(found.end).filter(|unit| is_separator(unit.byte));
        match before {
            Some((place, unit)) if is_separator(unit.byte) => place..found.end,
            // `?api_key=KEY&a=1` becomes `?a=1`. In `?next=/mcp?api_key=KEY&a=1`, the second `?` begins no query, and
            // in `?next=%3Fapi_key%3DKEY&a=1`, what follows is of another one.
            Some((place, unit)) if begins_list(unit.byte) => match behind {
                Some(behind) if behind.layers == unit.layers && is_first_in_url(units, place) => start..found.end + 1,
                _ => place..found.end,
            },
            _ => start..found.end,
        }
    }

    /// Where `name=` begins, if that is before `place`.
    fn start_of_parameter(&self, units: &[Unit], place: usize) -> Option<usize> {
        let start = place.checked_sub(self.name.len() + 1)?;
        let (name, sign) = units.get(start..place)?.split_at_checked(self.name.len())?;
        let is_name = name
            .iter()
            .map(|unit| without_plus(unit.byte).to_ascii_lowercase())
            .eq(self.name.bytes().map(|byte| without_plus(byte).to_ascii_lowercase()));
        let is_whole =
            start.checked_sub(1).and_then(|before| units.get(before)).is_none_or(|unit| !is_unreserved(unit.byte));
        (is_name && is_whole && sign.first().is_some_and(|unit| unit.byte == b'=')).then_some(start)
    }
}

/// Whether `text` may have percent-encoded bytes.
fn is_encoded(text: &[u8]) -> bool {
    text.contains(&b'%')
}

/// Where `key` is.
fn found_in(units: &[Unit], key: &[u8]) -> Vec<Range<usize>> {
    let length = key.len();
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(window) = units.get(start..start + length).filter(|_| length > 0) {
        let is_key = window.iter().map(|unit| without_plus(unit.byte)).eq(key.iter().map(|byte| without_plus(*byte)));
        if is_key && (length >= SHORT || stands_alone(units, start, start + length)) {
            found.push(start..start + length);
            start += length;
        } else {
            start += 1;
        }
    }
    found
}

/// What `text` means, byte by byte, when so many layers of percent-encoding come off, or as many as there are.
fn decoded(text: &[u8], layers: usize) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    let mut start = 0;
    while let Some(&byte) = text.get(start) {
        let unit = match byte {
            b'%' => percent_encoded(text, start, layers),
            byte => Unit { byte, start, end: start + 1, layers: 0 },
        };
        start = unit.end;
        units.push(unit);
    }
    units
}

/// The byte that the percent sign at `start` begins: `%2541` is `%41`, and that is `A`.
fn percent_encoded(text: &[u8], start: usize, layers: usize) -> Unit {
    let mut unit = Unit { byte: b'%', start, end: start + 1, layers: 0 };
    while let Some(byte) = (unit.byte == b'%' && unit.layers < layers).then(|| hex_digits(text, unit.end)).flatten() {
        unit = Unit { byte, start, end: unit.end + 2, layers: unit.layers + 1 };
    }
    unit
}

/// Whether a plus sign is a space depends on who reads it, so both count as the same.
fn without_plus(byte: u8) -> u8 {
    if byte == b'+' { b' ' } else { byte }
}

fn hex_digits(text: &[u8], start: usize) -> Option<u8> {
    let digits = text.get(start..start + 2)?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (digit(digits.first()?)?, digit(digits.last()?)?);
    u8::try_from(high * 16 + low).ok()
}

fn bytes_of(units: &[Unit], range: Range<usize>) -> Range<usize> {
    let (first, last) = (units.get(range.start), range.end.checked_sub(1).and_then(|last| units.get(last)));
    match (first, last) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    }
}

fn stands_alone(units: &[Unit], start: usize, end: usize) -> bool {
    let is_part = |unit: Option<&Unit>| unit.is_some_and(|unit| is_unreserved(unit.byte));
    !is_part(start.checked_sub(1).and_then(|before| units.get(before))) && !is_part(units.get(end))
}

/// RFC 3986 §2.3
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

fn begins_list(byte: u8) -> bool {
    matches!(byte, b'?' | b'#')
}

/// Whether the unit at `place` is the first of its kind in its URL, encoded as often. `Link` is a list of URLs, Envoy
/// joins several headers of one name by commas, and a fragment may have a query of its own.
fn is_first_in_url(units: &[Unit], place: usize) -> bool {
    let Some(unit) = units.get(place) else { return false };
    let before = units.get(..place).unwrap_or_default().iter().enumerate().rev();
    let own_url = before.take_while(|(index, other)| !is_before_url(units, *index, other, unit));
    !own_url.into_iter().any(|(_, other)| other.byte == unit.byte && other.layers == unit.layers)
}

/// Whether the URL that `unit` is in begins behind `other`, which is at `place`.
fn is_before_url(units: &[Unit], place: usize, other: &Unit, unit: &Unit) -> bool {
    match other.byte {
        b'#' => unit.byte == b'?' && other.layers == unit.layers,
        // No URL has one of these as it is (RFC 3986 §2).
        b'<' | b'>' | b'"' | b' ' | b'\t' => other.layers == 0,
        b',' => other.layers == 0 && begins_url(units.get(place + 1..).unwrap_or_default()),
        _ => false,
    }
}

fn begins_url(units: &[Unit]) -> bool {
    let begins_with = |text: &[u8]| units.iter().map(|unit| unit.byte).take(text.len()).eq(text.iter().copied());
    begins_with(b"/") || begins_with(b"http:") || begins_with(b"https:")
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::EchoedKey;
    use crate::secret::Secret;

    const KEY: &str = "k&y=1 ü/long";

    fn echoed(key: &str) -> EchoedKey {
        EchoedKey::new("api_key", &Secret::new(key.to_owned()))
    }

    fn without(key: &str, value: &str) -> String {
        String::from_utf8(echoed(key).without(value.as_bytes())).unwrap()
    }

    fn encoded(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn the_parameter_goes_and_the_rest_stays() {
        for (value, expected) in [
            ("/mcp?api_key=K", "/mcp"),
            ("/mcp/?api_key=K#f", "/mcp/#f"),
            ("https://h.example/mcp?a=1&api_key=K&b#f", "https://h.example/mcp?a=1&b#f"),
            ("/mcp?api_key=K&b=1", "/mcp?b=1"),
            ("/mcp?a=%2f+%20&&api_key=K", "/mcp?a=%2f+%20&"),
            ("/mcp?API_KEY=K;b", "/mcp?b"),
            ("/mcp?api%5Fkey=K&b", "/mcp?b"),
            ("/mcp#x/?api_key=K", "/mcp#x/"),
            ("/mcp?x?api_key=K", "/mcp?x"),
            ("/x;api_key=K", "/x"),
            ("/x#api_key=K&b", "/x#b"),
            ("/x#K", "/x#"),
            ("/login?next=/mcp?api_key=K", "/login?next=/mcp"),
            ("/login?next=/mcp?api_key=K&lang=en", "/login?next=/mcp&lang=en"),
            ("/login?next=%2Fmcp%3Fapi_key%3DK&lang=en", "/login?next=%2Fmcp&lang=en"),
            ("/login?next=%2Fmcp%3Fa%3D1%26api_key%3DK%26b", "/login?next=%2Fmcp%3Fa%3D1%26b"),
            ("/login?next=%2Fmcp%3Fapi_key%3DK%26b", "/login?next=%2Fmcp%3Fb"),
            ("/login?next=%252Fmcp%253Fapi_key%253DK", "/login?next=%252Fmcp"),
            ("</mcp?api_key=K>; rel=\"canonical\"", "</mcp>; rel=\"canonical\""),
            ("0; url=/mcp?api_key=K", "0; url=/mcp"),
            ("/a?api_key=K, /b?api_key=K", "/a, /b"),
            ("/a?api_key=K&a=1,/b?api_key=K&b=2", "/a?a=1,/b?b=2"),
            ("/a?api_key=K&a=1, b?api_key=K&b=2", "/a?a=1, b?b=2"),
            ("</a?api_key=K&a=1>; rel=prev, </b?api_key=K&b=2>", "</a?a=1>; rel=prev, </b?b=2>"),
            ("/a?x=1#/b?api_key=K&y=2", "/a?x=1#/b?y=2"),
            ("/login?next=a+b,c/mcp?api_key=K&lang=en", "/login?next=a+b,c/mcp&lang=en"),
            ("/mcp?token=K", "/mcp?token="),
            ("/mcp/K/x", "/mcp//x"),
            ("/mcp?my_api_key=K", "/mcp?my_api_key="),
        ] {
            for key in [KEY, "s3cr3t-key", "short"] {
                for layers in [encoded(key), encoded(key).to_lowercase(), encoded(&encoded(key))] {
                    let (value, expected) = (value.replace('K', &layers), expected.replace('K', &layers));
                    // `API_KEY` has the letter as well.
                    let (value, expected) = (value.replace(&format!("API_{layers}EY"), "API_KEY"), expected);
                    assert_eq!(without(key, &value), expected, "{key}: {value}");
                }
            }
        }
    }

    #[test]
    fn the_key_is_found_in_any_spelling() {
        for (key, spelling) in [
            (KEY, "k%26y%3D1%20%C3%BC%2Flong"),
            (KEY, "k%26y%3d1+%c3%bc/long"),
            (KEY, "k&y=1 ü/long"),
            (KEY, "k%2526y%253d1%2520%25c3%25BC%252flong"),
            (KEY, "%6b%26%79%3d%31%2b%c3%bc%2f%6c%6f%6e%67"),
            ("a+b 100% %41 key", "a%2Bb+100%25+%2541+key"),
            ("a+b 100% %41 key", "a+b%20100%%20%41%20key"),
        ] {
            // An encoded plus sign is a space to who decodes twice.
            assert_eq!(without(key, &format!("/mcp?api_key={spelling}&b")), "/mcp?b", "{key}: {spelling}");
        }
    }

    #[test]
    fn another_parameter_stays_byte_for_byte() {
        for key in [KEY, "report"] {
            for value in [
                "https://files.example/d?api_key=report.pdf&sig=1",
                "/mcp?a=%2f",
                "/mcp?api_key=other",
                "/mcp?api_key=",
                "/mcp?api_key",
                "/reports?x=myreport",
                "%",
                "/%zz?%",
                "",
            ] {
                assert_eq!(without(key, value), value, "{key}");
            }
        }
    }

    #[test]
    fn a_key_is_found_behind_half_an_escape() {
        assert_eq!(without("41-a-long-key", "/x?a=%41-a-long-key"), "/x?a=%");
        assert_eq!(without("41-a&long-key", "/x?a=100%2541-a%26long-key"), "/x?a=100%25");
        assert_eq!(without("a&long-key%", "/x?a=a%26long-key%2541"), "/x?a=41");
        assert_eq!(without("a&long-key%", "/x?a=a%2526long-key%252541"), "/x?a=41");
        assert_eq!(without("s3cr3t-key", "/s3cs3cr3t-keyr3t-key"), "/");
        assert_eq!(without("s3cr3t-key", &format!("/{}{}", "s3c".repeat(99), "r3t-key".repeat(99))), "");
    }

    #[test]
    fn a_header_with_many_keys_is_emptied() {
        let many = |count| "/?api_key=s3cr3t-key".repeat(count);
        assert_eq!(without("s3cr3t-key", &many(16)), "/".repeat(16));
        assert_eq!(without("s3cr3t-key", &many(17)), "");
    }

    #[test]
    fn a_parameter_with_more_than_the_key_stays() {
        assert_eq!(without("s3cr3t-key", "/mcp?api_key=s3cr3t-keymore&b=1"), "/mcp?api_key=more&b=1");
        assert_eq!(without("short", "/mcp?api_key=shortmore&b=1"), "/mcp?api_key=shortmore&b=1");
    }

    #[test]
    fn a_short_key_counts_in_headers_with_urls_alone() {
        assert!(echoed("1").is_in(b"location", b"/mcp?api_key=1"));
        assert!(!echoed("1").is_in(b"content-length", b"1") && !echoed("1").is_in(b"location", b"/v1?a=10"));
        assert!(echoed("12345678").is_in(b"x-request-url", b"/mcp?api_key=12345678"));
        assert!(!echoed("12345678").is_in(b":status", b"12345678"));
        assert!(!echoed("12345678").is_in(b"content-length", b"12345678"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn no_key_is_left(
            key in "[ -~é]{8,20}", before in "[ -~]{0,12}", behind in "[ -~]{0,12}", layers in 0_usize..3,
        ) {
            let spelling = (0..layers).fold(key.clone(), |text, _| encoded(&text));
            let value = format!("{before}{spelling}{behind}");
            let rest = echoed(&key).without(value.as_bytes());
            let decoded = (0..3).fold(rest.clone(), |text, _| percent_decode(&text).collect());
            let plain = |text: &[u8]| String::from_utf8_lossy(text).replace('+', " ");
            prop_assert!(!echoed(&key).is_in(b"location", &rest), "{}", value);
            prop_assert!(!String::from_utf8_lossy(&rest).contains(&key), "{}", value);
            prop_assert!(!plain(&decoded).contains(&plain(key.as_bytes())), "{}", value);
        }

        /// Digits and percent signs around a key, and in it, are easily taken for escapes.
        #[test]
        fn no_key_is_left_between_what_looks_like_escapes(
            key in "[%0-9a-f&+ -]{8,12}", before in "[%0-9a-f=?]{0,8}", behind in "[%0-9a-f&#]{0,8}", layers in 0_usize..4,
        ) {
            let encode = |text: &str| (0..layers).fold(text.to_owned(), |text, _| encoded(&text));
            let value = format!("{}{}{}", encode(&before), encode(&key), encode(&behind));
            let mut rest = echoed(&key).without(value.as_bytes());
            let plain = |text: &[u8]| String::from_utf8_lossy(text).replace('+', " ");
            for _ in 0..=layers {
                prop_assert!(!plain(&rest).contains(&plain(key.as_bytes())), "{}", value);
                rest = percent_decode(&rest).collect();
            }
        }

        #[test]
        fn without_the_key_nothing_changes(value in "[ -~]{0,60}") {
            prop_assert_eq!(echoed("a-key-that-is-not-there-ü").without(value.as_bytes()), value.as_bytes());
        }
    }
}
