//! The client credentials grant (RFC 6749 §4.4): what is asked of a token server, and what its answer
//! means. When to ask, and who does, is for [`crate::token`].

mod assertion;
mod client_auth;
mod private_key;
mod response;

use std::time::Duration;

use form_urlencoded::Serializer;

pub use self::assertion::{Assertion, SigningKey};
pub use self::client_auth::ClientAuth;
pub use self::private_key::PrivateKey;

use crate::http::authorization::authorization;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Answer, Endpoint, Failure, FailureKind, Issuer, Reply, Sign, TokenKey, TokenRequest};

/// A further parameter may be a secret if it has so many bytes.
const SHORTEST_HIDDEN: usize = 8;

/// A client of a token server, and the token that it wants.
#[derive(Debug)]
pub struct Client {
    /// Where it asks.
    pub endpoint: Endpoint,
    /// Its name there.
    pub id: String,
    /// How it proves that it is that client.
    pub auth: ClientAuth,
    /// What it asks for, beside the grant: scope, audience, resource, and whatever the server wants.
    pub parameters: Vec<Parameter>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A parameter of the token request.
#[derive(Debug)]
pub struct Parameter {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub value: Secret,
    /// The key in the filter state that it comes from, if it is not written in the configuration and may change while that
    /// stays.
    pub watched: Option<String>,
}

impl Issuer for Client {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn key(&self) -> TokenKey {
        let secrets = self.auth.secrets(&self.id);
        let mut fields = self.auth.identity().to_vec();
        fields.extend(secrets.iter().map(Secret::expose));
        fields.extend(self.fields(|parameter| parameter.value.expose()));
        TokenKey::of(&fields)
    }

    fn lineage(&self, server: [&str; 2]) -> TokenKey {
        let mut fields = server.to_vec();
        fields.extend(self.fields(|parameter| parameter.watched.as_deref().unwrap_or(parameter.value.expose())));
        TokenKey::of(&fields)
    }

    fn check_key(&self, sign: Sign<'_>) -> Result<(), String> {
        self.auth.check_key(sign)
    }

    /// The only request; `random` makes its assertion, if it has one, unlike all others.
    fn request(&self, _: &[Secret], now: Time, random: [u64; 2], sign: Sign<'_>) -> Result<TokenRequest<'_>, Failure> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        // A private key that does not sign: only a new configuration helps.
        let cannot_sign = |why| Failure::new(FailureKind::Refused, format!("the private key cannot sign: {why}"));
        self.auth.add_to(&mut form, &self.id, now, random, sign).map_err(cannot_sign)?;
        for Parameter { name, value, .. } in &self.parameters {
            form.append_pair(name, value.expose());
        }
        let request = self.endpoint.form(form.finish(), self.timeout);
        let request = request.with("accept", Secret::new("application/json".to_owned()));
        Ok(match self.auth.authorization(&self.id) {
            Some(value) => request.with("authorization", value),
            None => request,
        })
    }

    fn read(&self, _: &[Secret], reply: &Reply<'_>, now: Time) -> Result<Answer, Failure> {
        response::read(reply, now, &self.hidden()).map(Answer::Granted)
    }

    fn as_sent(&self, token: &str) -> Secret {
        authorization(token)
    }
}

impl Client {
    /// All that no log may show. The rest of the form is the names and values that descriptions are about.
    fn hidden(&self) -> Vec<Secret> {
        let mut hidden = self.auth.hidden(&self.id);
        for Parameter { name, value, .. } in &self.parameters {
            let is_known = ["scope", "audience", "resource"].contains(&name.as_str());
            if !is_known && value.expose().len() >= SHORTEST_HIDDEN {
                hidden.push(value.copy());
                hidden.push(Secret::new(form_urlencoded::byte_serialize(value.expose().as_bytes()).collect()));
            }
        }
        hidden
    }

    /// What tells the token from others, with `value` for what a parameter is.
    fn fields<'a>(&'a self, value: impl Fn(&'a Parameter) -> &'a str) -> Vec<&'a str> {
        let mut fields = self.endpoint.identity().to_vec();
        fields.push(&self.id);
        let kind = |parameter: &Parameter| if parameter.watched.is_some() { "watched" } else { "written" };
        fields
            .extend(self.parameters.iter().flat_map(|parameter| [&parameter.name, kind(parameter), value(parameter)]));
        fields
    }
}

#[cfg(test)]
mod tests;
