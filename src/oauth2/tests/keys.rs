//! Which clients share a token.

use super::{RSA_KEY, client, parameter, secret};
use crate::oauth2::{Assertion, Client, ClientAuth, Parameter, PrivateKey, SigningKey};
use crate::token::Issuer;

const SERVER: [&str; 2] = ["server", "host"];

fn asking_for(parameters: &[(&str, &str)]) -> Client {
    let mut client = client(ClientAuth::Basic(secret("secret")));
    client.parameters = parameters.iter().map(|(name, value)| parameter(name, value)).collect();
    client
}

fn with(change: impl FnOnce(&mut Client)) -> Client {
    let mut client = asking_for(&[("scope", "a")]);
    change(&mut client);
    client
}

fn jwt(key: SigningKey) -> ClientAuth {
    ClientAuth::Assertion(Assertion::new(key, "aud".to_owned()))
}

fn private(kid: Option<&str>) -> SigningKey {
    SigningKey::Private(PrivateKey::parse(RSA_KEY).unwrap(), kid.map(str::to_owned))
}

/// No two of these may share a token.
fn different() -> Vec<(&'static str, Client)> {
    vec![
        ("as it is", with(|_| {})),
        ("cluster", with(|client| client.endpoint.cluster = "b".to_owned())),
        ("authority", with(|client| client.endpoint.authority = "b".to_owned())),
        ("path", with(|client| client.endpoint.path = "/b".to_owned())),
        ("id", with(|client| client.id = "b".to_owned())),
        ("no parameter", asking_for(&[])),
        ("scope", asking_for(&[("scope", "b")])),
        ("longer scope", asking_for(&[("scope", "a b")])),
        ("audience", asking_for(&[("audience", "a")])),
        ("audience as well", asking_for(&[("scope", "a"), ("audience", "a")])),
        ("resource", asking_for(&[("scope", "a"), ("resource", "a")])),
        ("two resources", asking_for(&[("scope", "a"), ("resource", "a"), ("resource", "b")])),
        ("extra", asking_for(&[("scope", "a"), ("tenant", "a")])),
        ("extra's name", asking_for(&[("scope", "a"), ("tenan", "ta")])),
        ("extra's value", asking_for(&[("scope", "a"), ("tenant", "")])),
        ("a name moved into a value", asking_for(&[("scope", "atenanta")])),
        // What stands next to each other, with the border elsewhere.
        (
            "authority and path",
            with(|client| {
                client.endpoint.path = ":8443/oauth/token?tenant=a".to_owned();
                client.endpoint.authority = "auth.example".to_owned();
            }),
        ),
        (
            "cluster and authority",
            with(|client| {
                client.endpoint.cluster.push('a');
                client.endpoint.authority.remove(0);
            }),
        ),
    ]
}

/// These have another key, and are the same client nevertheless.
fn same_but_for_the_secret() -> Vec<(&'static str, Client)> {
    let auths = vec![
        ("another secret", ClientAuth::Basic(secret("secreT"))),
        ("post", ClientAuth::Post(secret("secret"))),
        ("jwt", jwt(SigningKey::Secret(secret("secret")))),
        ("private key", jwt(private(None))),
        ("none", ClientAuth::None),
        ("key id", jwt(private(Some("1")))),
        ("another key id", jwt(private(Some("2")))),
        (
            "audience of the assertion",
            ClientAuth::Assertion(Assertion::new(SigningKey::Secret(secret("secret")), "b".to_owned())),
        ),
    ];
    auths.into_iter().map(|(case, auth)| (case, with(|client| client.auth = auth))).collect()
}

#[test]
fn whatever_changes_the_token_changes_the_key() {
    let all: Vec<_> = different().into_iter().chain(same_but_for_the_secret()).collect();
    for (index, (one, client)) in all.iter().enumerate() {
        for (other, client_too) in &all[index + 1..] {
            assert_ne!(client.key(), client_too.key(), "{one} and {other}");
        }
    }
}

#[test]
fn the_lineage_is_the_same_whatever_the_secret_and_the_method() {
    let base = with(|_| {});
    for (case, client) in same_but_for_the_secret() {
        assert_eq!(client.lineage(SERVER), base.lineage(SERVER), "{case}");
    }
    for other in [["another", "host"], ["server", "another"], ["serverh", "ost"]] {
        assert_ne!(base.lineage(other), base.lineage(SERVER), "{other:?}");
    }
    let all = different();
    for (index, (one, client)) in all.iter().enumerate() {
        for (other, client_too) in &all[index + 1..] {
            assert_ne!(client.lineage(SERVER), client_too.lineage(SERVER), "{one} and {other}");
        }
    }
}

/// As a secret among `extraParams` is.
#[test]
fn a_parameter_that_envoy_watches_changes_the_key_but_not_the_lineage() {
    let watching = |name: &str, state: &str, value: &str| {
        let watched = Some(state.to_owned());
        with(|client| client.parameters.push(Parameter { watched, ..parameter(name, value) }))
    };
    let first = watching("account", "state.a", "first");
    assert_ne!(first.key(), watching("account", "state.a", "second").key());
    assert_eq!(first.lineage(SERVER), watching("account", "state.a", "second").lineage(SERVER));
    // What is somebody else's stays theirs.
    for other in [
        watching("account", "state.b", "first"),
        watching("tenant", "state.a", "first"),
        with(|client| client.parameters.push(parameter("account", "state.a"))),
        with(|_| {}),
    ] {
        assert_ne!(first.lineage(SERVER), other.lineage(SERVER));
    }
}

#[test]
fn what_does_not_change_the_token_is_shared() {
    let base = with(|_| {});
    for (case, client) in [
        ("the same once more", with(|_| {})),
        ("patience", with(|client| client.timeout = std::time::Duration::from_millis(1))),
    ] {
        assert_eq!(client.key(), base.key(), "{case}");
    }
}

#[test]
fn a_key_is_a_digest() {
    for (case, client) in different().into_iter().chain(same_but_for_the_secret()) {
        for key in [client.key(), client.lineage(SERVER)] {
            assert_eq!(key.as_str().len(), 64, "{case}");
            assert!(key.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()), "{case}");
        }
        assert_ne!(client.key(), client.lineage(SERVER), "{case}");
    }
}
