//! The name of a header. `http` has such a type as well, at 14 KB of module for its table of known names.

use std::borrow::Cow;
use std::fmt;

/// The name of a header, in lower case; never a pseudo-header.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderName(Cow<'static, str>);

/// `Authorization` (RFC 9110 §11.6.2).
pub const AUTHORIZATION: HeaderName = HeaderName::known("authorization");

impl HeaderName {
    /// A name known to be one, written in lower case.
    pub const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Reads `text` as the name of a header.
    ///
    /// # Errors
    /// For a pseudo-header (`:path`), and for anything that is not a token (RFC 9110 §5.1).
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with(':') {
            return Err("must not be a pseudo-header");
        }
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err("must be a legal HTTP header name");
        }
        Ok(Self(Cow::Owned(text.to_ascii_lowercase())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
