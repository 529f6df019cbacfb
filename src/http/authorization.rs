//! Values of `Authorization`.

use crate::secret::Secret;

/// The value of `Authorization` that carries `token` (RFC 6750 §2.1).
pub fn authorization(token: &str) -> Secret {
    Secret::new(format!("Bearer {token}"))
}

/// RFC 6750 §2.1 allows b64token only. Tokens with `|` or `:` are in use, so any visible ASCII passes. A line
/// break would be another header.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
