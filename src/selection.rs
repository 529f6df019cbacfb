//! Which server a request is for.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use serde::Deserialize;

use crate::credential::Credential;

/// An MCP server behind the filter.
#[derive(Debug)]
pub struct Server {
    /// Its key in `servers`, or its host where it is the only one: its name in metrics.
    pub name: Rc<str>,
    /// How to reach it; `None` while it is switched off.
    pub upstream: Option<Upstream>,
}

/// What a request to a server needs.
pub struct Upstream {
    /// The name the server is called by: `host[:port]`.
    pub host: String,
    /// What it demands.
    pub credential: Box<dyn Credential>,
    /// Whether the caller may see the server's word against it.
    pub passes_challenge: bool,
}

/// A server's place in [`Servers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(usize);

/// The routing fact that names the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum SelectBy {
    /// The Envoy cluster that the route chose.
    #[default]
    Cluster,
    /// The name of the route.
    Route,
    /// The string `server` under `mcp_upstream_auth` in the route's metadata.
    Metadata,
}

/// What becomes of a request whose server is not configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Unmatched {
    /// It is refused.
    #[default]
    Reject,
    /// The caller's credentials are removed, and it is forwarded without any.
    Strip,
    /// It is left alone.
    Pass,
}

/// The servers, and how a request's is found.
#[derive(Debug)]
pub struct Servers {
    list: Vec<Server>,
    selection: Selection,
}

#[derive(Debug)]
enum Selection {
    /// Every request is for the one server.
    Only,
    /// A routing fact is the server's name.
    Named { by: SelectBy, ids: HashMap<Rc<str>, ServerId>, unmatched: Unmatched },
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("host", &self.host).finish_non_exhaustive()
    }
}

impl SelectBy {
    /// The path of the Envoy attribute that holds the fact.
    pub fn property(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["xds", "cluster_name"],
            Self::Route => &["xds", "route_name"],
            Self::Metadata => &["xds", "route_metadata", "filter_metadata", "mcp_upstream_auth", "server"],
        }
    }
}

impl Servers {
    /// One server for every request.
    pub fn only(server: Server) -> Self {
        Self { list: vec![server], selection: Selection::Only }
    }

    /// Several servers, found by name.
    pub fn named(by: SelectBy, list: Vec<Server>, unmatched: Unmatched) -> Self {
        let ids = list.iter().enumerate().map(|(index, server)| (Rc::clone(&server.name), ServerId(index))).collect();
        Self { list, selection: Selection::Named { by, ids, unmatched } }
    }

    /// All servers.
    pub fn list(&self) -> &[Server] {
        &self.list
    }

    /// The server that `id` was given for.
    pub fn get(&self, id: ServerId) -> Option<&Server> {
        self.list.get(id.0)
    }

    /// Finds a request's server. `read` reads an Envoy attribute by its path; it is called once, or
    /// not at all where there is no choice.
    ///
    /// # Errors
    /// What is to become of the request if its server is not configured. That is also so where Envoy
    /// knows no cluster: it may be about to answer by itself, or a later filter may yet choose one.
    pub fn select(&self, read: impl FnOnce(&[&str]) -> Option<Vec<u8>>) -> Result<ServerId, Unmatched> {
        match &self.selection {
            Selection::Only => Ok(ServerId(0)),
            Selection::Named { by, ids, unmatched } => {
                let name = read(by.property());
                let id = name.and_then(|name| ids.get(std::str::from_utf8(&name).ok()?).copied());
                id.ok_or(*unmatched)
            }
        }
    }
}
