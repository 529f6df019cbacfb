//! The request on the wire, for each way to authenticate.

use std::collections::HashSet;

use super::{client, no_key, parameter, secret};
use crate::oauth2::{Assertion, Client, ClientAuth, SigningKey};
use crate::time::Time;
use crate::token::{Issuer, TokenRequest};

fn request(client: &Client) -> TokenRequest<'_> {
    client.request(&[], Time::NOON, [1, 2], &no_key).unwrap()
}

fn form(request: &TokenRequest<'_>) -> Vec<(String, String)> {
    form_urlencoded::parse(request.body.expose().as_bytes()).into_owned().collect()
}

fn header<'a>(request: &'a TokenRequest<'_>, name: &str) -> Option<&'a str> {
    let mut values = request.headers.iter().filter(|(own, _)| *own == name).map(|(_, value)| value.expose());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} comes twice");
    value
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the id, the secret and the parameters are made of that an encoding could stumble over.
const HARD: &str = "s:e c+r/e%t&=é";

#[test]
fn each_method_puts_its_own_into_one_place() {
    const ID: &str = "id:1 x&client_secret=no";
    for (auth, expected, authorization) in [
        (
            ClientAuth::Basic(secret("s:e c+r/e%t")),
            vec![("grant_type", "client_credentials")],
            // Written by Python's urllib.parse.quote_plus and base64.
            Some("Basic aWQlM0ExK3glMjZjbGllbnRfc2VjcmV0JTNEbm86cyUzQWUrYyUyQnIlMkZlJTI1dA=="),
        ),
        (
            ClientAuth::Post(secret(HARD)),
            vec![("grant_type", "client_credentials"), ("client_secret", HARD), ("client_id", ID)],
            None,
        ),
        (ClientAuth::None, vec![("grant_type", "client_credentials"), ("client_id", ID)], None),
    ] {
        let client = Client { id: ID.to_owned(), ..client(auth) };
        let request = request(&client);
        let name = client.auth.identity()[0];
        assert_eq!(form(&request), pairs(&expected), "{name}");
        assert_eq!(header(&request, "authorization"), authorization, "{name}");
    }
}

/// RFC 6749 §2.3: not more than one method in a request; and §2.3.1: none of it in the URL.
#[test]
fn no_request_has_two_methods() {
    let assertion = Assertion::new(SigningKey::Secret(secret("s3cr3t")), "aud".to_owned());
    for auth in [
        ClientAuth::Basic(secret("s3cr3t")),
        ClientAuth::Post(secret("s3cr3t")),
        ClientAuth::Assertion(assertion),
        ClientAuth::None,
    ] {
        let client = client(auth);
        let request = request(&client);
        let form = form(&request);
        let has = |name: &str| form.iter().any(|(own, _)| own == name);
        let methods = [header(&request, "authorization").is_some(), has("client_secret"), has("client_assertion")];
        let expected = usize::from(client.auth.identity()[0] != "none");
        assert_eq!(methods.iter().filter(|method| **method).count(), expected, "{}", client.auth.identity()[0]);
        assert_eq!(has("client_assertion"), has("client_assertion_type"), "{}", client.auth.identity()[0]);
        // Who does not say it in the header says it in the form.
        assert_eq!(has("client_id"), !methods[0], "{}", client.auth.identity()[0]);
        assert!(!header(&request, ":path").unwrap().contains("s3cr3t"));
    }
}

#[test]
fn the_request_is_a_form_for_the_token_url() {
    for auth in [ClientAuth::Basic(secret("s")), ClientAuth::Post(secret("s")), ClientAuth::None] {
        let client = client(auth);
        let request = request(&client);
        for (name, value) in [
            (":method", "POST"),
            (":authority", "auth.example:8443"),
            (":path", "/oauth/token?tenant=a"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ] {
            assert_eq!(header(&request, name), Some(value), "{name}");
        }
        assert_eq!((request.cluster, request.timeout), ("auth-cluster", client.timeout));
        let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
        let pseudo = names.iter().take_while(|name| name.starts_with(':')).count();
        assert!(names[pseudo..].iter().all(|name| !name.starts_with(':')), "{names:?}");
        assert!(request.headers.iter().all(|(_, value)| value.expose().bytes().all(|byte| (32..127).contains(&byte))));
    }
}

#[test]
fn what_is_asked_for_comes_once_and_as_it_was_given() {
    let mut client = client(ClientAuth::Post(secret("s")));
    client.parameters = vec![
        parameter("scope", "mcp:tools offline"),
        parameter("audience", "https://tools.example.com"),
        parameter("resource", "https://a.example/mcp?x=1&y=2"),
        parameter("resource", "https://b.example/mcp"),
        parameter("tenant é", HARD),
        parameter("empty", ""),
    ];
    let request = request(&client);
    let form = form(&request);
    assert_eq!(
        form,
        pairs(&[
            ("grant_type", "client_credentials"),
            ("client_secret", "s"),
            ("client_id", "client"),
            ("scope", "mcp:tools offline"),
            ("audience", "https://tools.example.com"),
            ("resource", "https://a.example/mcp?x=1&y=2"),
            ("resource", "https://b.example/mcp"),
            ("tenant é", HARD),
            ("empty", ""),
        ])
    );
    // RFC 6749 §3.2, and RFC 8707 §2 for the exception.
    let mut names = HashSet::new();
    assert!(form.iter().all(|(name, _)| name == "resource" || names.insert(name)));
    assert!(request.body.expose().is_ascii());
}

#[test]
fn debug_shows_no_secret() {
    let assertion = Assertion::new(SigningKey::Secret(secret("s3cr3t")), "aud".to_owned());
    for auth in
        [ClientAuth::Basic(secret("s3cr3t")), ClientAuth::Post(secret("s3cr3t")), ClientAuth::Assertion(assertion)]
    {
        let mut client = client(auth);
        client.parameters = vec![parameter("password", "s3cr3t")];
        let shown = format!("{client:?} {:?}", request(&client));
        assert!(!shown.contains("s3cr3t") && !shown.contains("Basic "), "{shown}");
    }
}
