//! The kinds of credential, one file each, and how one is put into a request.
//!
//! A kind is a struct of the keys that its `auth` object has, and a [`Kind::compile`] that checks them
//! and makes the [`Credential`]. One that sends headers or a query parameter is its file and a line in
//! `kinds!`; one that does something new to a request is a variant of [`Credential`] as well.

mod api_key;
mod basic;
mod bearer;
mod headers;
mod none;
mod query;

use http::HeaderName;
use serde::Deserialize;

use crate::config::error::{Checks, ConfigError};
use crate::config::json::Json;
use crate::refusal::Reason;
use crate::request::Headers;
use crate::secret::Secret;
use query::QueryParameter;

/// The key of an `auth` object that names its kind.
const TYPE: &str = "type";

/// A credential, ready to be put into requests: whatever can be computed once has been.
#[derive(Debug)]
pub enum Credential {
    /// The server wants none.
    None,
    /// These headers.
    Headers(Vec<(HeaderName, Secret)>),
    /// This parameter of the query.
    Query(QueryParameter),
}

/// Whether a request was given a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It carries one now.
    Injected,
    /// Its server wants none.
    NotWanted,
}

impl Credential {
    /// Puts the credential into `request`, in place of whatever the caller sent where it goes.
    ///
    /// # Errors
    /// The reason to refuse the request, which is then unchanged.
    pub fn apply(&self, request: &mut impl Headers) -> Result<Applied, Reason> {
        match self {
            Self::None => return Ok(Applied::NotWanted),
            Self::Headers(headers) => {
                for (name, value) in headers {
                    request.set(name.as_str(), value.expose().as_bytes());
                }
            }
            Self::Query(parameter) => parameter.apply(request)?,
        }
        Ok(Applied::Injected)
    }

    /// Takes out of a response what would tell the caller this credential.
    pub fn on_response(&self, response: &mut impl Headers) {
        match self {
            Self::None | Self::Headers(_) => {}
            Self::Query(parameter) => parameter.on_response(response),
        }
    }

    /// Whether applying it replaces the header `name`, which then need not be removed first.
    pub fn replaces(&self, name: &HeaderName) -> bool {
        self.header_names().any(|own| own == name)
    }

    /// The headers that applying it sets.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        let headers = match self {
            Self::Headers(headers) => headers.as_slice(),
            Self::None | Self::Query(_) => &[],
        };
        headers.iter().map(|(name, _)| name)
    }
}

/// A kind of credential as a configuration writes it.
trait Kind {
    /// Checks the keys and makes the credential; `None` if a check failed.
    fn compile(self, checks: &mut Checks<'_>) -> Option<Credential>;
}

/// Makes [`Auth`] from lines of `type => the struct of its keys`.
macro_rules! kinds {
    ($($(#[$docs:meta])* $name:ident => $keys:ty,)*) => {
        /// How the filter authenticates to a server.
        #[allow(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "a variant is called as its `type` is written"
        )]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(tag = "type"))]
        pub enum Auth {
            $($(#[$docs])* $name($keys),)*
        }

        impl Auth {
            const TYPES: &[&str] = &[$(stringify!($name)),*];

            fn of_type(name: &str, keys: Json) -> Option<Result<Self, ConfigError>> {
                $(if name.eq_ignore_ascii_case(stringify!($name)) {
                    return Some(Deserialize::deserialize(keys).map(Self::$name));
                })*
                None
            }

            /// Checks the keys of this kind and makes the credential; `None` if a check failed.
            pub fn compile(self, checks: &mut Checks<'_>) -> Option<Credential> {
                match self {
                    $(Self::$name(keys) => keys.compile(checks),)*
                }
            }
        }
    };
}

kinds! {
    /// No credential.
    NONE => none::NoCredential,
    /// `Authorization: Bearer <token>`
    BEARER => bearer::Bearer,
    /// `Authorization: Basic …`
    BASIC => basic::Basic,
    /// One key, in a header or in the query.
    API_KEY => api_key::ApiKey,
    /// Any headers.
    HEADERS => headers::CustomHeaders,
}

impl Auth {
    /// Reads an `auth` object. Its `type` names the kind, without regard to case. Without anything in it,
    /// or if it is null, as an empty key in YAML is, it is [`Auth::NONE`].
    ///
    /// # Errors
    /// For an unknown type, and for keys that are missing, unknown or of a wrong type.
    pub fn read(mut auth: Json) -> Result<Self, ConfigError> {
        match &auth {
            Json::Null => return Ok(Self::NONE(none::NoCredential {})),
            Json::Object(keys) if keys.is_empty() => return Ok(Self::NONE(none::NoCredential {})),
            Json::Object(_) => {}
            _ => return Err(ConfigError::here("must be an object")),
        }
        let name = match auth.take(TYPE) {
            Some(Json::String(name)) => name,
            Some(_) => return Err(ConfigError::here("must be a string").within(TYPE)),
            None => return Err(ConfigError::here("is required").within(TYPE)),
        };
        let unknown = || ConfigError::here(format!("must be one of {}", Self::TYPES.join(", "))).within(TYPE);
        Self::of_type(&name, auth).unwrap_or_else(|| Err(unknown()))
    }
}
