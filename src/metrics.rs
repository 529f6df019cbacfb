//! The names of the counters: `mcp_upstream_auth.requests.outcome.<outcome>[.server.<server>]`.
//!
//! The parts come before their values so that a `stats_tags` expression can cut both out and make
//! labels of them.

use crate::filter::Outcome;

/// The name of the counter for requests to `server` with `outcome`.
pub fn requests(outcome: Outcome, server: Option<&str>) -> String {
    let mut name = String::from("mcp_upstream_auth.requests.outcome.");
    match outcome {
        Outcome::Injected => name.push_str("injected"),
        Outcome::Stripped => name.push_str("stripped"),
        Outcome::Passed => name.push_str("passed"),
        Outcome::Rejected(reason) => {
            name.push_str("rejected_");
            name.push_str(reason.name());
        }
    }
    if let Some(server) = server {
        name.push_str(".server.");
        name.push_str(server);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::requests;
    use crate::filter::Outcome;
    use crate::refusal::Reason;

    #[test]
    fn counters_are_named_by_outcome_and_server() {
        for (outcome, server, expected) in [
            (Outcome::Injected, Some("github-mcp"), "mcp_upstream_auth.requests.outcome.injected.server.github-mcp"),
            (Outcome::Stripped, Some("a.b"), "mcp_upstream_auth.requests.outcome.stripped.server.a.b"),
            (Outcome::Passed, None, "mcp_upstream_auth.requests.outcome.passed"),
            (
                Outcome::Rejected(Reason::UnknownServer),
                None,
                "mcp_upstream_auth.requests.outcome.rejected_unknown_server",
            ),
        ] {
            assert_eq!(requests(outcome, server), expected);
        }
    }
}
