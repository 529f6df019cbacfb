//! The names of the metrics: `mcp_upstream_auth.<what>[.outcome.<outcome>][.server.<server>]`.
//!
//! The parts come before their values so that a `stats_tags` expression can cut both out and make
//! labels of them.

use crate::filter::Outcome;
use crate::refusal::Reason;
use crate::token::Event;

/// What happens to a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A counter goes up by one.
    Count,
    /// A gauge changes by this.
    Add(i64),
    /// A gauge becomes this.
    Set(u64),
    /// A histogram gets another value.
    Sample(u64),
}

/// The name of the counter for requests to `server` with `outcome`.
pub fn requests(outcome: Outcome, server: Option<&str>) -> String {
    match outcome {
        Outcome::Injected => name("requests", Some("injected"), server),
        Outcome::Stripped => name("requests", Some("stripped"), server),
        Outcome::Passed => name("requests", Some("passed"), server),
        Outcome::Rejected(reason) => name("requests", Some(&format!("rejected_{}", reason.name())), server),
    }
}

/// An answer of `server` that the caller does not get, for this reason.
pub fn refused_reply(reason: Reason, server: &str) -> (String, Kind) {
    (name("refused_replies", Some(reason.name()), Some(server)), Kind::Count)
}

/// What becomes of the tokens of `server`.
pub fn token(event: Event, server: &str) -> Vec<(String, Kind)> {
    let name = |what, outcome| name(what, outcome, Some(server));
    match event {
        Event::Fetched(outcome, took) => {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            vec![
                (name("token_fetches", Some(outcome)), Kind::Count),
                (name("token_fetch_ms", None), Kind::Sample(millis)),
            ]
        }
        Event::Expires(at) => vec![(name("token_expires_at_seconds", None), Kind::Set(at.as_secs()))],
        Event::Waits(change) => vec![(name("waiting_requests", None), Kind::Add(change))],
        Event::Challenged => vec![(name("dropped_tokens", None), Kind::Count)],
    }
}

fn name(what: &str, outcome: Option<&str>, server: Option<&str>) -> String {
    let mut name = format!("mcp_upstream_auth.{what}");
    for (part, value) in [("outcome", outcome), ("server", server)] {
        if let Some(value) = value {
            name.push_str(&format!(".{part}.{value}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kind, refused_reply, requests, token};
    use crate::filter::Outcome;
    use crate::refusal::Reason;
    use crate::token::Event;

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
        let (name, kind) = refused_reply(Reason::UpstreamForbidden, "a");
        assert_eq!(name, "mcp_upstream_auth.refused_replies.outcome.upstream_forbidden.server.a");
        assert_eq!(kind, Kind::Count);
    }

    #[test]
    fn a_fetch_is_counted_and_its_time_taken() {
        let expected = [
            ("mcp_upstream_auth.token_fetches.outcome.granted.server.a".to_owned(), Kind::Count),
            ("mcp_upstream_auth.token_fetch_ms.server.a".to_owned(), Kind::Sample(1500)),
        ];
        assert_eq!(token(Event::Fetched("granted", Duration::from_millis(1500)), "a"), expected);
    }
}
