//! `BASIC`: user name and password (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::secret_headers::{Form, SecretHeader, credential};
use super::secret_source::SecretSource;
use super::{Credential, Kind, ServerTokens};
use crate::http::header_name::AUTHORIZATION;
use crate::json::error::{Checks, Rule};
use crate::secret::Secret;

/// The keys of `BASIC`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Basic {
    /// The user name, without a colon. It may be empty, as some services with a token for a password want it.
    username: String,
    /// The password.
    password: SecretSource,
}

impl Kind for Basic {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let username = checks.at("username").accept(check_username(&self.username));
        let form = UserPass { username: self.username };
        let header = SecretHeader::checked(AUTHORIZATION, form, self.password, &mut checks.at("password"));
        username.and(header).map(|header| credential(vec![header]))
    }
}

/// The value of `Authorization` for this user.
struct UserPass {
    username: String,
}

impl Form for UserPass {
    fn check(&self, password: &str) -> Result<(), Rule> {
        check_password(password).map_err(Rule::from)
    }

    fn value(&self, password: &Secret) -> Secret {
        basic(&self.username, password)
    }
}

/// The value of `Authorization`: base64 of `username:password` in UTF-8 (RFC 7617 §2.1).
fn basic(username: &str, password: &Secret) -> Secret {
    let user_pass = Secret::new(format!("{username}:{}", password.expose()));
    Secret::new(format!("Basic {}", STANDARD.encode(user_pass.expose())))
}

fn check_username(username: &str) -> Result<(), &'static str> {
    if username.contains(':') {
        return Err("must not contain a colon");
    }
    check_no_control_characters(username)
}

fn check_password(password: &str) -> Result<(), &'static str> {
    if password.is_empty() {
        return Err("must not be empty");
    }
    check_no_control_characters(password)
}

/// RFC 7617 §2: neither part may contain control characters.
fn check_no_control_characters(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) { Err("must not contain a control character") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::basic;
    use crate::secret::Secret;

    #[test]
    fn the_examples_of_rfc_7617() {
        for (username, password, expected) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123\u{a3}", "Basic dGVzdDoxMjPCow=="),
        ] {
            assert_eq!(basic(username, &Secret::new(password.to_owned())).expose(), expected);
        }
    }
}
