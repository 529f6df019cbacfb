//! How a client proves to a token server which client it is: one method per request (RFC 6749 §2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};

use super::Assertion;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::Sign;

/// What `client_assertion` is (RFC 7523 §2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client authentication method, named as in the registry of RFC 7591 §2.
#[derive(Debug)]
pub enum ClientAuth {
    /// `client_secret_basic`: id and secret in `Authorization`.
    Basic(Secret),
    /// `client_secret_post`: id and secret in the form.
    Post(Secret),
    /// `client_secret_jwt` or `private_key_jwt`: a signed assertion in the form.
    Assertion(Assertion),
    /// `none`: the id alone; the connection may prove the rest (RFC 8705 §2).
    None,
}

impl ClientAuth {
    /// Puts into `form` what of it goes there.
    ///
    /// # Errors
    /// If a private key cannot sign.
    pub fn add_to(
        &self,
        form: &mut Serializer<'_, String>,
        id: &str,
        now: Time,
        random: [u64; 2],
        sign: Sign<'_>,
    ) -> Result<(), String> {
        match self {
            // The id goes into one place only: some servers take a second one for a second method.
            Self::Basic(_) => return Ok(()),
            Self::Post(secret) => form.append_pair("client_secret", secret.expose()),
            Self::Assertion(assertion) => {
                let assertion = assertion.send(id, now, random, sign)?;
                form.append_pair("client_assertion_type", JWT_BEARER)
                    .append_pair("client_assertion", assertion.expose())
            }
            Self::None => form,
        }
        .append_pair("client_id", id);
        Ok(())
    }

    /// The value of `Authorization`, if the method has one.
    pub fn authorization(&self, id: &str) -> Option<Secret> {
        match self {
            Self::Basic(secret) => Some(basic(id, secret)),
            Self::Post(_) | Self::Assertion(_) | Self::None => None,
        }
    }

    /// What of it makes another request, beside the secrets: the method's name, and the names of an
    /// assertion's key and audience.
    pub fn identity(&self) -> [&str; 3] {
        match self {
            Self::Basic(_) => ["client_secret_basic", "", ""],
            Self::Post(_) => ["client_secret_post", "", ""],
            Self::Assertion(assertion) => assertion.identity(),
            Self::None => ["none", "", ""],
        }
    }

    /// All that no log may show, in the forms in which it is sent.
    pub fn hidden(&self, id: &str) -> Vec<Secret> {
        match self {
            Self::Assertion(assertion) => assertion.hidden(),
            Self::Basic(_) | Self::Post(_) | Self::None => self.secrets(id),
        }
    }

    /// What makes another token, in the forms in which it is sent.
    pub fn secrets(&self, id: &str) -> Vec<Secret> {
        match self {
            Self::Basic(secret) => {
                let plain = Secret::new(STANDARD.encode(format!("{id}:{}", secret.expose())));
                vec![secret.copy(), encode(secret.expose()), credentials(id, secret), plain]
            }
            Self::Post(secret) => vec![secret.copy(), encode(secret.expose())],
            Self::Assertion(assertion) => vec![assertion.secret().copy()],
            Self::None => Vec::new(),
        }
    }

    /// Whether the private key, if there is one, can sign.
    ///
    /// # Errors
    /// What stands against it.
    pub fn check_key(&self, sign: Sign<'_>) -> Result<(), String> {
        match self {
            Self::Assertion(assertion) => assertion.sign("", Time::default(), [0, 0], sign).map(drop),
            Self::Basic(_) | Self::Post(_) | Self::None => Ok(()),
        }
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they are put together for Basic, so that a
/// colon in the id does no harm.
fn basic(id: &str, secret: &Secret) -> Secret {
    Secret::new(format!("Basic {}", credentials(id, secret).expose()))
}

fn credentials(id: &str, secret: &Secret) -> Secret {
    let pair = Secret::new(format!("{}:{}", encode(id).expose(), encode(secret.expose()).expose()));
    Secret::new(STANDARD.encode(pair.expose()))
}

fn encode(text: &str) -> Secret {
    Secret::new(byte_serialize(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::basic;
    use crate::secret::Secret;

    /// The vector that clients of this grant are checked by: both parts need the encoding.
    #[test]
    fn id_and_secret_are_form_encoded_before_basic() {
        let secret = Secret::new("s:e c+r/e%t".to_owned());
        assert_eq!(basic("id:1 x", &secret).expose(), "Basic aWQlM0ExK3g6cyUzQWUrYyUyQnIlMkZlJTI1dA==");
    }
}
