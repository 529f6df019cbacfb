//! The plugin configuration: JSON text in, a [`Filter`] or all of its mistakes out.

mod environment;

mod protobuf;

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::rc::Rc;

use serde::Deserialize;

use self::environment::expand;
use crate::credential::{Auth, ReadAuth, ServerTokens};
use crate::filter::Filter;
use crate::http::header_name::HeaderName;
use crate::http::request::ORIGINAL_HOST;
use crate::http::validation;
use crate::json::Json;
use crate::json::error::{Checks, ConfigErrors};
use crate::selection::{SelectBy, Server, Servers, Unmatched, Upstream};
use crate::stripping::{Pattern, Preset, StripConfig, Stripping};
use crate::token::Tokens;

pub use self::environment::Environment;

/// Several servers, one of them chosen for each request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ManyServers {
    /// The routing fact that is the key in `servers`: the cluster that the route chose (the default),
    /// the route's name, or the string `server` under `mcp_upstream_auth` in the route's metadata.
    select_by: Option<SelectBy>,
    /// The MCP servers by name.
    #[cfg_attr(test, schemars(required, with = "std::collections::BTreeMap<String, ServerKeys>", extend("minProperties" = 1)))]
    #[expect(dead_code, reason = "read apart from the rest; here it makes the key known")]
    servers: Option<PhantomData<ServerKeys>>,
    /// What becomes of a request whose server is not in `servers`; `reject` is the default.
    unmatched: Option<Unmatched>,
    /// Headers to remove from requests in addition to Authorization, X-Api-Key, Host and Content-Length; Cookie and
    /// Proxy-Authorization if not given. With a `*` at its end, all names that begin so.
    strip_headers: Option<Vec<String>>,
    /// Lists of headers to remove from requests, if they are there.
    strip_presets: Option<Vec<Preset>>,
    /// Parameters to remove from the query of requests, in any encoding and letter case.
    strip_query: Option<Vec<String>>,
    /// Headers to remove from responses to a credential; Set-Cookie if not given, where Cookie is removed from requests.
    strip_response_headers: Option<Vec<String>>,
}

/// One server for every request that the filter sees.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OneServer {
    /// The name the server is called by, `host[:port]`, in place of the caller's Host.
    host: String,
    /// How the filter authenticates to the server; not at all if not given.
    #[cfg_attr(test, schemars(with = "Option<Auth>"))]
    auth: Option<PhantomData<Auth>>,
    /// `false` refuses every request to the server, and its secrets are not looked up.
    #[cfg_attr(test, schemars(extend("default" = true)))]
    enabled: Option<bool>,
    /// Headers to remove from requests in addition to Authorization, X-Api-Key, Host and Content-Length; Cookie and
    /// Proxy-Authorization if not given. With a `*` at its end, all names that begin so.
    strip_headers: Option<Vec<String>>,
    /// Lists of headers to remove from requests, if they are there.
    strip_presets: Option<Vec<Preset>>,
    /// Parameters to remove from the query of requests, in any encoding and letter case.
    strip_query: Option<Vec<String>>,
    /// Headers to remove from responses to a credential; Set-Cookie if not given, where Cookie is removed from requests.
    strip_response_headers: Option<Vec<String>>,
}

/// One of several servers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ServerKeys {
    /// The name the server is called by, `host[:port]`, in place of the caller's Host.
    host: String,
    /// How the filter authenticates to the server; not at all if not given.
    #[cfg_attr(test, schemars(with = "Option<Auth>"))]
    #[expect(dead_code, reason = "read apart from the rest; here it makes the key known")]
    auth: Option<PhantomData<Auth>>,
    /// `false` refuses every request to the server, and its secrets are not looked up.
    #[cfg_attr(test, schemars(extend("default" = true)))]
    enabled: Option<bool>,
}

/// The keys about what is removed, which are the same for one server and for several.
struct StripKeys {
    headers: Option<Vec<String>>,
    presets: Option<Vec<Preset>>,
    query: Option<Vec<String>>,
    response_headers: Option<Vec<String>>,
}

impl OneServer {
    fn split(self) -> (ServerKeys, StripKeys) {
        let strip = StripKeys {
            headers: self.strip_headers,
            presets: self.strip_presets,
            query: self.strip_query,
            response_headers: self.strip_response_headers,
        };
        (ServerKeys { host: self.host, auth: self.auth, enabled: self.enabled }, strip)
    }
}

impl Filter {
    /// Reads a plugin configuration: JSON, or the bytes of a `google.protobuf.Struct`. `environment`
    /// resolves `${NAME}` in the strings of `auth`.
    ///
    /// `servers` and `auth` are taken out of the tree and read on their own, so that one mistake does
    /// not hide those beside it. That is why their fields above hold nothing.
    ///
    /// # Errors
    /// All mistakes found; none of them shows a value.
    pub fn from_config(text: &[u8], environment: Environment<'_>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let filter = read(text, environment, errors.checks());
        filter.filter(|_| errors.is_empty()).ok_or(errors)
    }
}

fn read(text: &[u8], environment: Environment<'_>, mut checks: Checks<'_>) -> Option<Filter> {
    if text.trim_ascii().is_empty() {
        checks.fail("must not be empty");
        return None;
    }
    // As text, the bytes of a Struct begin with a line break and are never valid JSON after it.
    let json = Json::parse(text).or_else(|error| protobuf::parse_struct(text).ok_or(error));
    let mut json = checks.accept_at(json)?;
    json.drop_repeated_names(checks.here());
    let is_single =
        json.get("servers").is_none() && ["host", "auth", "enabled"].iter().any(|key| json.get(key).is_some());
    if is_single { one_server(json, environment, checks) } else { many_servers(json, environment, checks) }
}

fn one_server(mut json: Json, environment: Environment<'_>, mut checks: Checks<'_>) -> Option<Filter> {
    for key in ["selectBy", "unmatched"] {
        if json.take(key).is_some() {
            checks.at(key).fail("has no meaning without servers");
        }
    }
    let auth = json.take("auth");
    let keys: Option<OneServer> = checks.accept_at(Deserialize::deserialize(json));
    let (keys, strip) = keys.map(OneServer::split).unzip();
    let strip = strip.map(|strip| strip.checked(&mut checks));
    let tokens = Rc::<Tokens>::default();
    let server = server(None, keys, auth, environment, &tokens, checks)?;
    // In a cluster the filter comes after a host rewrite of the route, which leaves the caller's host here.
    let stripping = Stripping::new(strip??).and(HeaderName::known(ORIGINAL_HOST));
    Some(Filter::new(Servers::only(server), tokens, stripping))
}

fn many_servers(mut json: Json, environment: Environment<'_>, mut checks: Checks<'_>) -> Option<Filter> {
    let servers = json.take("servers");
    for key in ["host", "auth", "enabled"] {
        if json.take(key).is_some() {
            checks.at(key).fail("must not stand beside servers, but in one of them");
        }
    }
    let keys: Option<ManyServers> = checks.accept_at(Deserialize::deserialize(json));
    let tokens = Rc::<Tokens>::default();
    let list = server_list(servers, environment, &tokens, checks.at("servers"));
    let keys = keys?;
    let strip = StripKeys {
        headers: keys.strip_headers,
        presets: keys.strip_presets,
        query: keys.strip_query,
        response_headers: keys.strip_response_headers,
    };
    let strip = strip.checked(&mut checks);
    let servers = Servers::named(keys.select_by.unwrap_or_default(), list?, keys.unmatched.unwrap_or_default());
    Some(Filter::new(servers, tokens, Stripping::new(strip?)))
}

fn server_list(
    servers: Option<Json>,
    environment: Environment<'_>,
    tokens: &Rc<Tokens>,
    mut checks: Checks<'_>,
) -> Option<Vec<Server>> {
    let entries = checks.accept(match servers {
        Some(Json::Object(entries)) if !entries.is_empty() => Ok(entries),
        Some(Json::Object(_)) => Err("must not be empty"),
        Some(_) => Err("must be an object"),
        None => Err("is required, or else host for a single server"),
    })?;
    let mut list = Vec::with_capacity(entries.len());
    for (name, mut json) in entries {
        let mut checks = checks.at(&name);
        if name.is_empty() || name.chars().any(char::is_control) {
            checks.fail("must have a name, without control characters");
        }
        let auth = json.take("auth");
        let keys = checks.accept_at(Deserialize::deserialize(json));
        list.push(server(Some(&name), keys, auth, environment, tokens, checks));
    }
    list.into_iter().collect()
}

/// Makes a server of what its entry says. A server that is switched off keeps none of it: its secrets
/// are not looked up, but a key that is wrong is still a mistake.
fn server(
    name: Option<&str>,
    keys: Option<ServerKeys>,
    auth: Option<Json>,
    environment: Environment<'_>,
    tokens: &Rc<Tokens>,
    mut checks: Checks<'_>,
) -> Option<Server> {
    let enabled = keys.as_ref().and_then(|keys| keys.enabled).unwrap_or(true);
    let host = keys.and_then(|keys| checks.at("host").accept(validation::host(&keys.host)));
    let is_only = name.is_none();
    let name: Rc<str> = name.or(host.as_deref()).unwrap_or_default().into();
    let mut auth = auth.unwrap_or(Json::Null);
    let mut checks = checks.at("auth");
    if enabled {
        expand(&mut auth, environment, checks.here());
    }
    let ReadAuth { auth, passes_challenge } = checks.accept_at(Auth::read(auth))?;
    let upstream = if enabled {
        let credential = auth.compile(
            &mut checks,
            ServerTokens { tokens, server: &name, host: host.as_deref().unwrap_or_default(), is_only },
        )?;
        Some(Upstream { host: host?, credential, passes_challenge })
    } else {
        host?;
        None
    };
    Some(Server { name, upstream })
}

impl StripKeys {
    fn checked(self, checks: &mut Checks<'_>) -> Option<StripConfig> {
        let headers = each(self.headers, checks.at("stripHeaders"), Pattern::parse);
        let query = each(self.query, checks.at("stripQuery"), validation::parameter_name);
        let response_headers =
            each(self.response_headers, checks.at("stripResponseHeaders"), validation::stripped_response_header_name);
        Some(StripConfig {
            headers: headers?,
            presets: self.presets.unwrap_or_default(),
            query: query?.unwrap_or_default(),
            response_headers: response_headers?,
        })
    }
}

/// Each of `texts`, read by `parse`; nothing if one of them cannot be read.
fn each<T>(
    texts: Option<Vec<String>>,
    mut checks: Checks<'_>,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Option<Option<Vec<T>>> {
    let Some(texts) = texts else { return Some(None) };
    // All of them are read, so that all mistakes are found.
    let read: Vec<_> = texts.iter().enumerate().map(|(index, text)| checks.index(index).accept(parse(text))).collect();
    read.into_iter().collect::<Option<_>>().map(Some)
}
