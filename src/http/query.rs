//! Parameters in the query of a path or URL, as servers read them.

use form_urlencoded::parse;

/// Splits a path or URL into what is before the query, the query, and the fragment with its `#`.
pub fn split(url: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let (url, fragment) = url.split_at(url.iter().position(|byte| *byte == b'#').unwrap_or(url.len()));
    match url.iter().position(|byte| *byte == b'?').and_then(|place| url.split_at_checked(place)) {
        Some((resource, query)) => (resource, query.get(1..), fragment),
        None => (url, None, fragment),
    }
}

/// `query` without the parameters whose decoded names `is_theirs` has, as they are or as some servers read them; the others
/// stay byte for byte. Some servers separate by semicolon as well: without a look at that, a caller could hide a parameter
/// from us and show it to them.
pub fn without(query: &[u8], is_theirs: impl Fn(&str) -> bool) -> Vec<u8> {
    let is_separator = |byte: &u8| matches!(byte, b'&' | b';');
    let mut others = Vec::with_capacity(query.len());
    let (mut separator, mut last, mut has_kept) = (None, None, false);
    for piece in query.split_inclusive(is_separator) {
        let (pair, next) = match piece.split_last() {
            Some((last, pair)) if is_separator(last) => (pair, Some(*last)),
            _ => (piece, None),
        };
        if !parse(pair).next().is_some_and(|(name, _)| is_theirs(&name) || is_theirs(as_some_read(&name))) {
            others.extend(separator.filter(|_| has_kept));
            others.extend_from_slice(pair);
            (last, has_kept) = (next, true);
        } else {
            last = None;
        }
        separator = next;
    }
    others.extend(last);
    others
}

/// What some servers make of the decoded `name` of a parameter: they leave out the space before it, and take it to end at
/// `[`, for a list, or at NUL.
fn as_some_read(name: &str) -> &str {
    name.trim().split(['[', '\0']).next().unwrap_or_default().trim()
}
