//! The canonical request: the form of a request that is signed, in which sender and recipient agree.
//!
//! The rules are those of "Create a signed AWS API request" in the AWS IAM User Guide, step 1.

use std::collections::BinaryHeap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use zeroize::Zeroizing;

/// All but the unreserved characters (RFC 3986 §2.3).
pub const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same, but for what separates the segments of a path.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// A name and a value.
type Pair = (Vec<u8>, Vec<u8>);

/// A request in its canonical form.
pub struct CanonicalRequest {
    /// What is hashed.
    pub text: Zeroizing<Vec<u8>>,
    /// The names of the headers in it, in their order, with semicolons between.
    pub signed_headers: String,
}

/// How a service takes the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// Without dot segments and empty ones, and encoded once more than it is on the wire.
    Normalized,
    /// As it is: the objects of Amazon S3 may have any name.
    AsIs,
}

impl CanonicalRequest {
    /// The canonical form of a request with this `:path`, these headers of which all are signed, their names in lower
    /// case, and this hash of its body.
    pub fn new(method: &[u8], path: &[u8], headers: &[(&str, &[u8])], payload: &str, rule: PathRule) -> Self {
        let (path, query) = split_once(path, b'?');
        let headers = sorted(joined(headers));
        let mut lines = Vec::new();
        for (name, value) in &headers {
            [name.as_slice(), b":", value, b"\n"].iter().for_each(|part| lines.extend_from_slice(part));
        }
        let names: Vec<_> = headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        let signed_headers = names.join(";");
        let (path, query) = (canonical_path(path, rule), canonical_query(query));
        let parts = [method, path.as_bytes(), &query, &lines, signed_headers.as_bytes(), payload.as_bytes()];
        Self { text: Zeroizing::new(parts.join(&b'\n')), signed_headers }
    }
}

fn canonical_path(path: &[u8], rule: PathRule) -> String {
    let path = match rule {
        PathRule::Normalized => normalized(path),
        // What is encoded without need is not, and the other way around.
        PathRule::AsIs => percent_decode(path).collect(),
    };
    percent_encode(&path, ESCAPED_IN_PATH).to_string()
}

/// `path` without empty and dot segments (RFC 3986 §5.2.4); a slash at its end stays.
fn normalized(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let is_folder = [&b"/"[..], b"/.", b"/.."].iter().any(|end| path.ends_with(end));
    let end: &[u8] = if is_folder && !kept.is_empty() { b"/" } else { b"" };
    [b"/", kept.join(&b'/').as_slice(), end].concat()
}

/// One header of each name, its values with commas between in the order in which they are sent.
fn joined(headers: &[(&str, &[u8])]) -> Vec<Pair> {
    let mut joined: Vec<Pair> = Vec::new();
    for (name, value) in headers {
        match joined.iter_mut().find(|(known, _)| known == name.as_bytes()) {
            Some((_, values)) => values.extend([b",", folded(value).as_slice()].concat()),
            None => joined.push((name.as_bytes().to_vec(), folded(value))),
        }
    }
    joined
}

/// The sorting of the standard library is 10 KB of module, its heap is nothing.
fn sorted(pairs: Vec<Pair>) -> Vec<Pair> {
    BinaryHeap::from(pairs).into_sorted_vec()
}

/// The parameters, decoded, encoded anew and sorted by name, those of one name by value.
fn canonical_query(query: &[u8]) -> Vec<u8> {
    let pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = split_once(pair, b'=');
        (encoded_anew(name), encoded_anew(value))
    });
    let pairs = sorted(pairs.collect()).into_iter().map(|(name, value)| [name, value].join(&b'='));
    pairs.collect::<Vec<_>>().join(&b'&')
}

/// In a query, a plus is a space, as in a form.
fn encoded_anew(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_encode(&percent_decode(&text).collect::<Vec<_>>(), ESCAPED).to_string().into_bytes()
}

/// `value` without spaces around it, and with one for several between.
fn folded(value: &[u8]) -> Vec<u8> {
    let mut folded = value.trim_ascii().to_vec();
    folded.dedup_by(|second, first| *second == b' ' && *first == b' ');
    folded
}

/// What is before and behind the first `separator`; all and nothing, if there is none.
fn split_once(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == separator);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
