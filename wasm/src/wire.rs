//! How proxy-wasm writes lists of headers and paths of properties.

/// Headers as a host call takes them: their number, the two lengths of each, then each name and value with a zero
/// byte behind it. Numbers are 32 bits, little endian.
pub fn encode_headers(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = |number: usize| bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    number(headers.len());
    for (name, value) in headers {
        number(name.len());
        number(value.len());
    }
    for (name, value) in headers {
        for part in [name.as_bytes(), value] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}

/// Reads what [`encode_headers`] writes, and hands each header to `visit`. It stops where the bytes make no sense.
pub fn decode_headers<'a>(bytes: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let Some((count, rest)) = split_number(bytes) else { return };
    let Some((mut lengths, mut texts)) = count.checked_mul(8).and_then(|size| rest.split_at_checked(size)) else {
        return;
    };
    let mut part = |length: usize| {
        let (part, rest) = texts.split_at_checked(length)?;
        texts = rest.get(1..)?;
        Some(part)
    };
    while let Some((name, rest)) = split_number(lengths) {
        let Some((value, rest)) = split_number(rest) else { return };
        lengths = rest;
        let (Some(name), Some(value)) = (part(name), part(value)) else { return };
        visit(name, value);
    }
}

/// The path of a property: its parts with a zero byte between them.
pub fn encode_path(path: &[&str]) -> String {
    path.join("\0")
}

fn split_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::{decode_headers, encode_headers, encode_path};

    fn decoded(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut headers = Vec::new();
        decode_headers(bytes, |name, value| headers.push((name.to_vec(), value.to_vec())));
        headers
    }

    /// The layout that the specification of proxy-wasm 0.2.1 has for a map.
    #[test]
    fn headers_are_laid_out_as_specified() {
        let bytes = encode_headers(&[("a", b"bc"), ("de", b"")]);
        let expected = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0a\0bc\0de\0\0";
        assert_eq!(bytes, expected);
        assert_eq!(encode_headers(&[]), [0; 4]);
    }

    #[test]
    fn headers_survive_any_byte() {
        let headers: [(&str, &[u8]); 3] = [(":path", b"/\xff\0"), ("x-empty", b""), ("x-twice", b"\r\n")];
        let expected: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        assert_eq!(decoded(&encode_headers(&headers)), expected);
    }

    #[test]
    fn bytes_that_end_early_give_the_headers_before_the_end() {
        let bytes = encode_headers(&[("a", b"bc"), ("de", b"f")]);
        for length in 0..bytes.len() {
            assert!(decoded(&bytes[..length]).len() < 2, "{length}");
        }
        assert!(decoded(&[0xff; 64]).is_empty());
    }

    #[test]
    fn a_path_has_zero_bytes_between_its_parts() {
        assert_eq!(encode_path(&["xds", "cluster_name"]), "xds\0cluster_name");
        assert_eq!(encode_path(&[]), "");
    }
}
