//! An issuer of temporary AWS keys whose secrets may be in the filter state of requests.

use std::time::Duration;

use super::fetched_token::IssuerTemplate;
use super::secret_source::{FilterState, SecretSource};
use crate::aws::keys;
use crate::aws::sources::{KeyIssuer, Source};
use crate::http::request::Attributes;
use crate::http::validation::header_value;
use crate::json::error::Rule;
use crate::refusal::Reason;
use crate::token::{Endpoint, Issuer};

/// A [`KeyIssuer`] but for its secrets.
pub struct KeyIssuerTemplate {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What it is.
    pub source: SourceTemplate,
    /// How long a fetch may take.
    pub timeout: Duration,
}

/// A [`Source`] but for its secret.
pub enum SourceTemplate {
    /// With the value of `Authorization`, if it wants one.
    Container(Option<SecretSource>),
    /// With the role, if it is not to be asked for.
    InstanceMetadata(Option<String>),
    /// With all that the request has.
    WebIdentity {
        /// The ARN of the role.
        role: String,
        /// What the session is called.
        session_name: String,
        /// The token of an identity provider.
        token: SecretSource,
    },
}

impl IssuerTemplate for KeyIssuerTemplate {
    fn filter_states(&self) -> Vec<FilterState> {
        let secret = match &self.source {
            SourceTemplate::Container(token) => token.as_ref(),
            SourceTemplate::InstanceMetadata(_) => None,
            SourceTemplate::WebIdentity { token, .. } => Some(token),
        };
        secret.and_then(SecretSource::filter_state).cloned().into_iter().collect()
    }

    fn issuer(&self, attributes: Attributes<'_>) -> Result<Box<dyn Issuer>, Reason> {
        let source = match &self.source {
            SourceTemplate::Container(token) => {
                let rule = |text: &str| header_value(text).map_err(Rule::from);
                let token = token.as_ref().map(|token| token.secret(attributes, &rule)).transpose()?;
                Source::Container(token)
            }
            SourceTemplate::InstanceMetadata(role) => Source::InstanceMetadata(role.clone()),
            SourceTemplate::WebIdentity { role, session_name, token } => {
                let rule = |text: &str| keys::check(text).map_err(Rule::from);
                let (role, session_name) = (role.clone(), session_name.clone());
                Source::WebIdentity { role, session_name, token: token.secret(attributes, &rule)? }
            }
        };
        Ok(Box::new(KeyIssuer { endpoint: self.endpoint.clone(), source, timeout: self.timeout }))
    }
}
