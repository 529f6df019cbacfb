//! Where a secret of the configuration comes from: the configuration itself, or what a filter before this
//! one put into the request's filter state, such as a secret that Envoy watches.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::http::request::Attributes;
use crate::json::error::{Checks, Rule};
use crate::refusal::Reason;
use crate::secret::Secret;

/// Says which rule a secret breaks, if it breaks one.
pub type Check<'a> = &'a dyn Fn(&str) -> Result<(), Rule>;

/// A secret, or where a request has it.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub enum SecretSource {
    /// Written in the configuration, or in the environment.
    Written(Secret),
    /// In the request's filter state.
    FilterState(FilterState),
}

/// A string in the filter state of a request.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FilterState {
    /// The object's key, as `set_filter_state` has it in `object_key`.
    from_filter_state: String,
}

/// The secret that must be given at `checks`, and keep `rule` if it is written.
pub fn required(source: Option<SecretSource>, mut checks: Checks<'_>, rule: Check<'_>) -> Option<SecretSource> {
    let source = checks.accept(source.ok_or("is required"))?;
    source.check(&mut checks, rule)?;
    Some(source)
}

impl SecretSource {
    /// The secret, wherever it is.
    ///
    /// # Errors
    /// If the filter state has none, or one that breaks `rule`.
    pub fn secret(&self, attributes: Attributes<'_>, rule: Check<'_>) -> Result<Secret, Reason> {
        match self {
            Self::Written(secret) => Ok(secret.copy()),
            Self::FilterState(state) => state.read(attributes, rule),
        }
    }

    /// Where requests have it, if it is not written.
    pub fn filter_state(&self) -> Option<&FilterState> {
        match self {
            Self::Written(_) => None,
            Self::FilterState(state) => Some(state),
        }
    }

    /// Notes whether a written secret breaks `rule`; one in the filter state is seen with each request.
    pub fn check(&self, checks: &mut Checks<'_>, rule: Check<'_>) -> Option<()> {
        match self {
            Self::Written(secret) => checks.accept(rule(secret.expose())),
            Self::FilterState(state) if state.from_filter_state.is_empty() => {
                checks.at("fromFilterState").fail("must not be empty");
                None
            }
            Self::FilterState(_) => Some(()),
        }
    }
}

impl FilterState {
    /// What it is called there.
    pub fn key(&self) -> &str {
        &self.from_filter_state
    }

    /// The secret, without the line breaks that end a file.
    ///
    /// # Errors
    /// If there is none, or it breaks `rule`.
    pub fn read(&self, attributes: Attributes<'_>, rule: Check<'_>) -> Result<Secret, Reason> {
        let value = attributes(&["filter_state", &self.from_filter_state]).ok_or(Reason::SecretMissing)?;
        let secret = String::from_utf8(value).map(Secret::new).map_err(|_| Reason::SecretInvalid)?;
        let secret = Secret::new(secret.expose().trim_end_matches(['\r', '\n']).to_owned());
        // Where Envoy's formatter finds nothing it writes `-`, unless `omit_empty_values` is set.
        if matches!(secret.expose(), "" | "-") {
            return Err(Reason::SecretMissing);
        }
        rule(secret.expose()).map_err(|_| Reason::SecretInvalid)?;
        Ok(secret)
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(r#"a string or {"fromFilterState": "<key>"}"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretSource, E> {
        Ok(SecretSource::Written(Secret::new(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretSource, A::Error> {
        Deserialize::deserialize(MapAccessDeserializer::new(map)).map(SecretSource::FilterState)
    }
}
