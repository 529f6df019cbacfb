//! What the crate of AWS takes otherwise or not at all, so that [`super::random`] leaves it out.

use crate::aws::canonical::{CanonicalRequest, PathRule};

/// A line of the canonical request for this, counted from nothing.
fn line(index: usize, target: &[u8], headers: &[(&str, &[u8])], rule: PathRule) -> Vec<u8> {
    let canonical = CanonicalRequest::new(b"GET", target, headers, "hash", rule);
    canonical.text.split(|byte| *byte == b'\n').nth(index).unwrap().to_vec()
}

/// The crate is handed URLs that its own SDK has encoded. A caller's may be spelled in any way, and Amazon S3 looks at
/// the name of the object that it comes to.
#[test]
fn the_spellings_of_an_object_of_s3_have_one_canonical_form() {
    for target in ["/a$b/c d%C3%A9", "/a%24b/c%20d%c3%a9", "/%61%24b%2Fc%20dé", "/%61$b%2fc d%c3%A9?"] {
        assert_eq!(line(1, target.as_bytes(), &[], PathRule::AsIs), b"/a%24b/c%20d%C3%A9", "{target}");
    }
    // What is escaped twice has another name, and a plus is no space in a path.
    assert_eq!(line(1, b"/a%2524b+c", &[], PathRule::AsIs), b"/a%2524b%2Bc");
    assert_eq!(line(1, b"//a/../b/./", &[], PathRule::AsIs), b"//a/../b/./");
}

/// The crate signs U+FFFD for each, so as if they were all the same.
#[test]
fn a_query_that_is_not_utf8_is_signed_byte_for_byte() {
    assert_eq!(line(2, b"/?b=%ff&a=%c3%28&%fe", &[], PathRule::Normalized), b"%FE=&a=%C3%28&b=%FF");
    assert_eq!(line(2, b"/?a=\xff", &[], PathRule::Normalized), b"a=%FF");
}

/// The crate takes text alone.
#[test]
fn a_header_that_is_not_utf8_is_signed_byte_for_byte() {
    let headers: &[(&str, &[u8])] = &[("x-amz-a", b" \xff  \xfe "), ("x-amz-a", b"\x80")];
    assert_eq!(line(3, b"/", headers, PathRule::Normalized), b"x-amz-a:\xff \xfe,\x80");
}

/// The crate removes spaces alone.
#[test]
fn tabs_around_a_value_are_not_part_of_it() {
    assert_eq!(line(3, b"/", &[("x-amz-a", b"\t a\tb \t")], PathRule::Normalized), b"x-amz-a:a\tb");
}
