//! A client of a token server whose secrets may be in the filter state of requests.

use std::time::Duration;

use super::fetched_token::IssuerTemplate;
use super::secret_source::{FilterState, SecretSource};
use crate::http::request::Attributes;
use crate::http::validation::text;
use crate::json::error::Rule;
use crate::oauth2::{Assertion, Client, ClientAuth, Parameter, PrivateKey, SigningKey};
use crate::refusal::Reason;
use crate::token::{Endpoint, Issuer};

/// A [`Client`] but for its secrets.
pub struct ClientTemplate {
    /// Where it asks.
    pub endpoint: Endpoint,
    /// Its name there.
    pub id: String,
    /// How it proves that it is that client.
    pub auth: AuthTemplate,
    /// What it asks for.
    pub parameters: Vec<(String, SecretSource)>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A [`ClientAuth`] but for its secret.
pub enum AuthTemplate {
    /// `client_secret_basic`
    Basic(SecretSource),
    /// `client_secret_post`
    Post(SecretSource),
    /// `client_secret_jwt`, with the audience of assertions.
    SecretJwt(SecretSource, String),
    /// `private_key_jwt`, with the key's id and the audience of assertions.
    PrivateKeyJwt(SecretSource, Option<String>, String),
    /// `none`
    None,
}

impl IssuerTemplate for ClientTemplate {
    fn filter_states(&self) -> Vec<FilterState> {
        let of_auth = match &self.auth {
            AuthTemplate::Basic(source) | AuthTemplate::Post(source) => Some(source),
            AuthTemplate::SecretJwt(source, _) | AuthTemplate::PrivateKeyJwt(source, ..) => Some(source),
            AuthTemplate::None => None,
        };
        let sources = of_auth.into_iter().chain(self.parameters.iter().map(|(_, source)| source));
        sources.filter_map(SecretSource::filter_state).cloned().collect()
    }

    fn issuer(&self, attributes: Attributes<'_>) -> Result<Box<dyn Issuer>, Reason> {
        let key = |source: &SecretSource| {
            let pem = source.secret(attributes, &|_| Ok(()))?;
            PrivateKey::parse(pem.expose()).map_err(|_| Reason::SecretInvalid)
        };
        let secret =
            |source: &SecretSource| source.secret(attributes, &|secret| text(secret).map(drop).map_err(Rule::from));
        let auth = match &self.auth {
            AuthTemplate::Basic(source) => ClientAuth::Basic(secret(source)?),
            AuthTemplate::Post(source) => ClientAuth::Post(secret(source)?),
            AuthTemplate::SecretJwt(source, audience) => {
                ClientAuth::Assertion(Assertion::new(SigningKey::Secret(secret(source)?), audience.clone()))
            }
            AuthTemplate::PrivateKeyJwt(source, id, audience) => {
                let key = SigningKey::Private(key(source)?, id.clone());
                ClientAuth::Assertion(Assertion::new(key, audience.clone()))
            }
            AuthTemplate::None => ClientAuth::None,
        };
        let parameter = |(name, source): &(String, SecretSource)| {
            let value = source.secret(attributes, &|_| Ok(()))?;
            Ok(Parameter {
                name: name.clone(),
                value,
                watched: source.filter_state().map(|state| state.key().to_owned()),
            })
        };
        let parameters = self.parameters.iter().map(parameter).collect::<Result<_, _>>()?;
        let (endpoint, id) = (self.endpoint.clone(), self.id.clone());
        Ok(Box::new(Client { endpoint, id, auth, parameters, timeout: self.timeout }))
    }
}
