//! The kinds of credential, one file each, and how one is put into a request.
//!
//! A kind is a struct of the keys that its `auth` object has, and a [`Kind::compile`] that checks them
//! and makes the [`Credential`]. To add one, write its file and name it in `kinds!`.

mod api_key;
mod basic;
mod bearer;
mod fixed_headers;
mod headers;
mod none;
mod query;

use std::fmt::Debug;

use http::HeaderName;
use serde::Deserialize;

use crate::config::error::{Checks, ConfigError};
use crate::config::json::Json;
use crate::refusal::Reason;
use crate::request::Headers;

/// The key of an `auth` object that names its kind.
const TYPE: &str = "type";

/// A credential, ready to be put into requests: whatever can be computed once has been.
pub trait Credential: Debug {
    /// Puts the credential into `request`, in place of whatever the caller sent where it goes.
    ///
    /// # Errors
    /// The reason to refuse the request, which is then unchanged.
    fn apply(&self, request: &mut dyn Headers) -> Result<Applied, Reason>;

    /// The headers that applying it sets, which then need not be removed first.
    fn header_names(&self) -> &[HeaderName] {
        &[]
    }

    /// Takes out of a response what would tell the caller this credential.
    fn on_response(&self, _response: &mut dyn Headers) {}
}

/// Whether a request was given a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It carries one now.
    Injected,
    /// Its server wants none.
    NotWanted,
}

/// A kind of credential as a configuration writes it.
trait Kind {
    /// Checks the keys and makes the credential; `None` if a check failed.
    fn compile(self, checks: &mut Checks<'_>) -> Option<Box<dyn Credential>>;
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
            pub fn compile(self, checks: &mut Checks<'_>) -> Option<Box<dyn Credential>> {
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
