//! A string that must not be seen: not in a log, not in Debug output.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Secret text, or a header value or query parameter made from one.
///
/// It has no `Display`, its `Debug` prints `<redacted>`, and these bytes of it are zeroed when it is dropped.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(inline, with = "String", description = "Text with `${NAME}` for a variable of the VM."))]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` over as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The same secret once more; not `Clone`, so that none is copied without being seen to be.
    pub fn copy(&self) -> Self {
        Self::new(self.expose().to_owned())
    }

    /// The secret itself: for putting it on the wire or checking it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_does_not_show_it() {
        let secret = Secret::new("s3cr3t".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "<redacted> Some(<redacted>)");
    }
}
