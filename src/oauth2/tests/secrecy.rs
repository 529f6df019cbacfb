//! Servers repeat what they were sent; no log may have it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{RSA_KEY, client, no_key, parameter, secret};
use crate::oauth2::{Assertion, Client, ClientAuth, PrivateKey, SigningKey};
use crate::time::Time;
use crate::token::{Issuer, Reply};

const SECRETS: [&str; 4] = ["s3cr3t", "s:e c+r/e%t", "pässwörd&1", "with  two   spaces"];

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Every text in which a server that was sent this secret may find it.
fn forms(id: &str, text: &str) -> Vec<String> {
    let basic = STANDARD.encode(format!("{}:{}", encoded(id), encoded(text)));
    vec![text.to_owned(), encoded(text), format!("Basic {basic}"), basic]
}

fn detail(client: &Client, status: u16, error: &str, description: &str) -> String {
    let body = serde_json::json!({"error": error, "error_description": description}).to_string();
    let reply = Reply { status, retry_after: None, content_encoding: None, body: body.as_bytes() };
    client.read(&[], &reply, Time::NOON).map(drop).unwrap_err().detail
}

#[test]
fn no_failure_repeats_a_secret_that_was_sent() {
    for text in SECRETS {
        for auth in [ClientAuth::Basic(secret(text)), ClientAuth::Post(secret(text))] {
            let client = client(auth);
            // Only one method has the credentials of Basic.
            let sent = if client.auth.identity()[0] == "client_secret_basic" { 4 } else { 2 };
            for form in forms(&client.id, text).into_iter().take(sent) {
                for echo in [
                    form.clone(),
                    format!("client {} sent {form}, which is wrong", client.id),
                    format!("\"{form}\""),
                    format!("client_secret={form}&scope=a"),
                ] {
                    for (status, error, description) in
                        [(400, "invalid_client", echo.as_str()), (200, echo.as_str(), "no"), (401, &echo, &echo)]
                    {
                        let detail = detail(&client, status, error, description);
                        assert!(!detail.contains(&form), "{}: {echo:?} becomes {detail:?}", client.auth.identity()[0]);
                    }
                }
            }
        }
    }
}

/// Long words are left out whatever they are; a short id and secret make a short word.
#[test]
fn the_credentials_of_basic_are_not_repeated_without_the_word_before_them() {
    let mut client = client(ClientAuth::Basic(secret("pw")));
    client.id = "me".to_owned();
    let credentials = STANDARD.encode("me:pw");
    let detail = detail(&client, 401, "invalid_client", &format!("bad credentials {credentials}"));
    assert!(!detail.contains(&credentials), "{detail}");
}

/// To put white space in order must not put a secret together again.
#[test]
fn a_secret_with_other_white_space_in_it_is_not_made_one_again() {
    let client = client(ClientAuth::Post(secret("open sesame")));
    for echo in ["open\tsesame", "open  sesame", "open\nsesame", "open\u{a0}sesame", "open\u{0}sesame"] {
        let detail = detail(&client, 400, "invalid_client", &format!("wrong: {echo}"));
        assert!(!detail.contains("open sesame"), "{echo:?} becomes {detail:?}");
    }
}

#[test]
fn an_assertion_is_not_repeated() {
    let assertion = Assertion::new(SigningKey::Secret(secret("s3cr3t")), "https://auth.example".to_owned());
    let client = client(ClientAuth::Assertion(assertion));
    let request = client.request(&[], Time::NOON, [1, 2], &no_key).unwrap();
    let (_, sent) =
        form_urlencoded::parse(request.body.expose().as_bytes()).find(|(name, _)| name == "client_assertion").unwrap();
    for echo in [sent.to_string(), format!("bad assertion {sent} of s3cr3t")] {
        let detail = detail(&client, 400, "invalid_client", &echo);
        assert!(sent.split('.').all(|part| !detail.contains(part)) && !detail.contains("s3cr3t"), "{detail}");
    }
    // The length of what fits into a logged word, and the least that is a part.
    for length in [32, 6] {
        for piece in sent.as_bytes().chunks_exact(length) {
            let piece = std::str::from_utf8(piece).unwrap();
            let detail = detail(&client, 400, "invalid_client", &format!("bad assertion {piece}..."));
            assert!(!detail.contains(piece), "{detail}");
        }
    }
}

/// The words around a key in PEM are those that help.
#[test]
fn of_a_private_key_only_the_words_around_it_are_said() {
    let key = SigningKey::Private(PrivateKey::parse(RSA_KEY).unwrap(), None);
    let client = client(ClientAuth::Assertion(Assertion::new(key, "https://auth.example".to_owned())));
    let expired = "the private key is unknown, or its certificate expired";
    assert!(detail(&client, 401, "invalid_client", expired).contains(expired));
    for line in RSA_KEY.lines().filter(|line| !line.starts_with('-')) {
        let piece = &line[line.len() - 6..];
        let detail = detail(&client, 401, "invalid_client", &format!("is it {piece}?"));
        assert!(!detail.contains(piece), "{detail}");
    }
}

/// `extraParams` are read like secrets, and may be some: a password, or a key of the tenant's.
#[test]
fn a_further_parameter_is_not_repeated_either() {
    let mut client = client(ClientAuth::Basic(secret("s3cr3t")));
    client.parameters = vec![parameter("scope", "mcp:tools"), parameter("api_key", "hunter2 hunter2")];
    for echo in ["hunter2 hunter2", "api_key=hunter2+hunter2"] {
        let detail = detail(&client, 400, "invalid_request", &format!("wrong parameter {echo}"));
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    let detail = detail(&client, 400, "invalid_scope", "unknown scope mcp:tools");
    assert!(detail.contains("unknown scope mcp:tools"), "what helps is still said: {detail}");
}

#[test]
fn what_a_server_says_is_one_short_line() {
    let client = client(ClientAuth::Basic(secret("s3cr3t")));
    for description in [
        "a\r\nb".to_owned(),
        "\u{1b}[31mred".to_owned(),
        "a\0b\u{7f}\u{85}\u{9b}c".to_owned(),
        "word ".repeat(10_000),
        "w".repeat(60_000),
        "é ".repeat(1000),
        "a\u{2028}b".to_owned(),
    ] {
        for (error, description) in [("invalid_client", description.as_str()), (&description, "no")] {
            let detail = detail(&client, 400, error, description);
            assert!(!detail.chars().any(char::is_control), "{detail:?}");
            assert!(detail.chars().count() < 300, "{detail:?}");
        }
    }
    let code = "x".repeat(50_000);
    assert!(detail(&client, 400, &code, &code).chars().count() < 300);
}

#[test]
fn the_body_of_what_is_no_answer_is_not_repeated() {
    let client = client(ClientAuth::Post(secret("s3cr3t")));
    for (status, body) in [
        (200, "s3cr3t"),
        (200, "[\"s3cr3t\"]"),
        (200, "{\"access_token\": \"s3cr3t \", \"token_type\": \"Bearer\"}"),
        (200, "{\"access_token\": \"t\", \"token_type\": \"s3cr3t\"}"),
        (400, "client_secret=s3cr3t"),
        (404, "{\"message\": \"s3cr3t\"}"),
        (302, "s3cr3t"),
        (500, "{\"error\": \"s3cr3t\"}"),
    ] {
        let reply =
            Reply { status, retry_after: Some(b"s3cr3t"), content_encoding: Some(b"s3cr3t"), body: body.as_bytes() };
        let failure = client.read(&[], &reply, Time::NOON).map(drop).unwrap_err();
        assert!(!format!("{failure:?}").contains("s3cr3t"), "{status} {body}: {failure:?}");
    }
}
