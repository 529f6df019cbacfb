//! Text of other programs that is nearly JSON.

use self::Surrogate::{High, Low};

/// Decodes `bytes` as UTF-8. Removes a byte order mark, and replaces invalid bytes and lone surrogates with U+FFFD.
pub fn lenient(bytes: &[u8]) -> String {
    const BYTE_ORDER_MARK: &str = "\u{feff}";
    let text = String::from_utf8_lossy(bytes);
    without_lone_surrogates(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text))
}

/// `json` with `\\ufffd` for each escape of a surrogate without the other half of its pair (RFC 8259 §8.2).
fn without_lone_surrogates(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, behind)) = rest.split_once('\\') {
        result.push_str(before);
        let (escape, behind) = match (surrogate(behind), behind.get(5..).and_then(|next| next.strip_prefix('\\'))) {
            (Some(High), Some(next)) if surrogate(next) == Some(Low) => {
                behind.split_at_checked(11).unwrap_or((behind, ""))
            }
            (Some(_), _) => ("ufffd", behind.get(5..).unwrap_or_default()),
            (None, _) => {
                let length = behind.chars().next().map_or(0, char::len_utf8);
                behind.split_at_checked(length).unwrap_or((behind, ""))
            }
        };
        result.push('\\');
        result.push_str(escape);
        rest = behind;
    }
    result.push_str(rest);
    result
}

/// The halves of a surrogate pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surrogate {
    High,
    Low,
}

/// The surrogate that `uXXXX` at the beginning of `escape` is.
fn surrogate(escape: &str) -> Option<Surrogate> {
    let digits = escape.strip_prefix('u')?.get(..4)?;
    match u32::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(High),
        0xdc00..=0xdfff => Some(Low),
        _ => None,
    }
}
