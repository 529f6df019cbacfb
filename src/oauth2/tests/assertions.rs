//! Assertions, checked by a library that other programs check them with.

use std::collections::HashSet;

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::Value;

use super::{RSA_KEY, client, der, no_key, pem, secret};
use crate::oauth2::{Assertion, Client, ClientAuth, PrivateKey, SigningKey};
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{FailureKind, Issuer, Sign};

const AUDIENCE: &str = "https://auth.example/oauth/token";

fn signed_with(key: SigningKey) -> Client {
    client(ClientAuth::Assertion(Assertion::new(key, AUDIENCE.to_owned())))
}

/// The assertion in a request, from what the form says it is.
fn assertion(client: &Client, random: [u64; 2], sign: Sign<'_>) -> String {
    let request = client.request(&[], Time::NOON, random, sign).unwrap();
    let form: Vec<(String, String)> = form_urlencoded::parse(request.body.expose().as_bytes()).into_owned().collect();
    let value = |name: &str| form.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    assert_eq!(
        value("client_assertion_type").as_deref(),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    assert_eq!(value("client_secret"), None);
    value("client_assertion").unwrap()
}

/// The claims of an assertion that is as RFC 7523 §3 wants it and signed with `key`.
fn verified(assertion: &str, key: &DecodingKey, kid: Option<&str>) -> Value {
    let header = decode_header(assertion).unwrap();
    assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some("JWT"), kid));
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&["client"]);
    validation.sub = Some("client".to_owned());
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    // The assertion is of the time of these tests, which is checked below.
    validation.validate_exp = false;
    let claims = decode::<Value>(assertion, key, &validation).unwrap().claims;
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert_eq!(issued, Time::NOON.as_secs());
    assert!(expires > issued && expires <= issued + 300, "RFC 7523 §3: a short while");
    assert!(!claims["jti"].as_str().unwrap().is_empty());
    claims
}

#[test]
fn hs256_is_verified_by_the_secret() {
    for text in ["s", "a secret that is longer than a block of the digest, which is sixty-four bytes", "é:+ %"] {
        let client = signed_with(SigningKey::Secret(secret(text)));
        let jwt = assertion(&client, [1, 2], &no_key);
        assert_eq!(decode_header(&jwt).unwrap().alg, jsonwebtoken::Algorithm::HS256);
        verified(&jwt, &DecodingKey::from_secret(text.as_bytes()), None);
        let other = DecodingKey::from_secret(b"another");
        assert!(decode::<Value>(&jwt, &other, &Validation::default()).is_err());
    }
}

#[test]
fn rs256_is_verified_by_the_public_key() {
    let pair = RsaKeyPair::from_pkcs8(&der(RSA_KEY)).unwrap();
    let sign = |pem: &Secret, text: &[u8]| {
        assert_eq!(der(pem.expose()), der(RSA_KEY));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
        Ok(signature)
    };
    for kid in [None, Some("key 1 \"é\"")] {
        let key = PrivateKey::parse(RSA_KEY).unwrap();
        let client = signed_with(SigningKey::Private(key, kid.map(str::to_owned)));
        let jwt = assertion(&client, [1, 2], &sign);
        assert_eq!(decode_header(&jwt).unwrap().alg, jsonwebtoken::Algorithm::RS256);
        verified(&jwt, &DecodingKey::from_rsa_der(pair.public().as_ref()), kid);
    }
}

/// Signatures differ in length: a number with leading zeros is shorter in DER.
#[test]
fn es256_is_verified_by_the_public_key_however_long_its_numbers_are() {
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.as_ref(), &random).unwrap();
    let sign = |_: &Secret, text: &[u8]| Ok(pair.sign(&random, text).unwrap().as_ref().to_vec());
    let key = PrivateKey::parse(&pem("PRIVATE KEY", der.as_ref())).unwrap();
    let client = signed_with(SigningKey::Private(key, Some("1".to_owned())));
    for number in 0..300 {
        let jwt = assertion(&client, [0, number], &sign);
        assert_eq!(decode_header(&jwt).unwrap().alg, jsonwebtoken::Algorithm::ES256);
        verified(&jwt, &DecodingKey::from_ec_der(pair.public_key().as_ref()), Some("1"));
    }
}

#[test]
fn each_assertion_has_a_name_of_its_own() {
    let client = signed_with(SigningKey::Secret(secret("s")));
    let key = DecodingKey::from_secret(b"s");
    let numbers = [[0, 0], [0, 1], [1, 0], [0x10, 0], [1, 0x10], [0, 0x10], [u64::MAX, 0], [u64::MAX, u64::MAX]];
    let names = numbers.map(|random| verified(&assertion(&client, random, &no_key), &key, None)["jti"].to_string());
    assert_eq!(HashSet::from(names).len(), numbers.len());
}

#[test]
fn a_key_that_cannot_sign_is_noticed_before_there_is_a_request() {
    let key = || PrivateKey::parse(RSA_KEY).unwrap();
    let client = signed_with(SigningKey::Private(key(), None));
    let refuse = |_: &Secret, _: &[u8]| Err("no key".to_owned());
    assert_eq!(client.check_key(&refuse), Err("no key".to_owned()));
    let failure = client.request(&[], Time::NOON, [1, 2], &refuse).map(drop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.detail.contains("no key"), "{}", failure.detail);
    let signs = |_: &Secret, _: &[u8]| Ok(vec![1; 256]);
    assert!(client.check_key(&signs).is_ok());
    assert!(super::client(ClientAuth::Basic(secret("s"))).check_key(&no_key).is_ok());
    // A signature in another form than the host's is no signature.
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = PrivateKey::parse(&pem("PRIVATE KEY", der.as_ref())).unwrap();
    let client = signed_with(SigningKey::Private(key, None));
    for signature in [vec![], vec![1; 64], vec![0x30, 0x44]] {
        assert!(client.check_key(&|_, _| Ok(signature.clone())).is_err(), "{signature:?}");
    }
}
