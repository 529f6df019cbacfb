//! What a request is signed with.

use crate::secret::Secret;

/// An access key, with the session token that belongs to a temporary one.
#[derive(Debug)]
pub struct Keys {
    /// Its name, which goes on the wire.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
    /// Sent along, if there is one.
    pub session_token: Option<Secret>,
}

/// What separates the parts in [`Keys::to_text`].
const SEPARATOR: char = '\n';

impl Keys {
    /// Puts keys together; an empty session token is none.
    ///
    /// # Errors
    /// If one is empty, or has what no key has: anything but visible ASCII characters.
    pub fn new(id: &str, secret: &str, session_token: Option<&str>) -> Result<Self, &'static str> {
        let part = |text: &str| check(text).map(|()| Secret::new(text.to_owned()));
        let session_token = session_token.filter(|token| !token.is_empty()).map(part).transpose()?;
        Ok(Self { access_key_id: part(id)?, secret_access_key: part(secret)?, session_token })
    }

    /// The keys as one text, to be kept where there is room for one.
    pub fn to_text(&self) -> Secret {
        let session_token = self.session_token.as_ref().map(Secret::expose).unwrap_or_default();
        let parts = [self.access_key_id.expose(), self.secret_access_key.expose(), session_token];
        Secret::new(parts.join(&SEPARATOR.to_string()))
    }

    /// The keys that were put into such a text.
    pub fn from_text(text: &Secret) -> Option<Self> {
        let mut parts = text.expose().split(SEPARATOR);
        Self::new(parts.next()?, parts.next()?, parts.next()).ok()
    }

    /// Whether these sign as the others do.
    pub fn sign_as(&self, other: &Self) -> bool {
        self.access_key_id.expose() == other.access_key_id.expose()
            && self.secret_access_key.expose() == other.secret_access_key.expose()
    }
}

/// Whether `text` can be one of the parts.
///
/// # Errors
/// The rule it breaks.
pub fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err("must be visible ASCII characters") }
}
