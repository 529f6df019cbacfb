//! Private keys in all the forms in which programs write them.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};

use super::{RSA_KEY, der, pem};
use crate::oauth2::PrivateKey;

/// `1.2.840.10045.3.1.7` and `1.3.132.0.34` in DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// A new P-256 key in PKCS#8.
fn p256() -> Vec<u8> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap().as_ref().to_vec()
}

/// A key in the form of SEC 1, with its curve. Its numbers are of no interest.
fn sec1(curve: &[u8], size: u8) -> Vec<u8> {
    let number = usize::from(size);
    let private = [&[0x02, 1, 1, 0x04, size][..], &vec![7; number]].concat();
    let curve = [&[0xa0, u8::try_from(curve.len()).unwrap()], curve].concat();
    let bits = [&[0x03, size * 2 + 2, 0, 4][..], &vec![9; number * 2]].concat();
    let public = [&[0xa1, u8::try_from(bits.len()).unwrap()][..], &bits].concat();
    let all = [private, curve, public].concat();
    let length = u8::try_from(all.len()).unwrap();
    if length < 128 { [&[0x30, length][..], &all].concat() } else { [&[0x30, 0x81, length][..], &all].concat() }
}

/// What PKCS#8 holds for RSA is PKCS#1: the octet string behind version and algorithm.
fn pkcs1() -> Vec<u8> {
    der(RSA_KEY)[26..].to_vec()
}

#[test]
fn keys_are_known_in_each_of_their_forms() {
    let p256 = p256();
    for (form, text, algorithm) in [
        ("RSA in PKCS#8", RSA_KEY.to_owned(), "RS256"),
        ("RSA in PKCS#1", pem("RSA PRIVATE KEY", &pkcs1()), "RS256"),
        ("P-256 in PKCS#8", pem("PRIVATE KEY", &p256), "ES256"),
        ("P-256 in SEC 1", pem("EC PRIVATE KEY", &sec1(P256, 32)), "ES256"),
    ] {
        let lines = text.lines().collect::<Vec<_>>();
        for (breaks, text) in [
            ("as they are", text.clone()),
            ("none at the end", text.trim_end().to_owned()),
            ("of Windows", lines.join("\r\n")),
            ("written out", lines.join("\\n")),
            ("written out, one at the end", format!("{}\\n", lines.join("\\n"))),
            ("and indents", format!("\n  {}\n", lines.join("\n  "))),
        ] {
            let key = PrivateKey::parse(&text).unwrap_or_else(|rule| panic!("{form}, line breaks {breaks}: {rule}"));
            assert_eq!(key.algorithm().name(), algorithm, "{form}, line breaks {breaks}");
            // Envoy must be able to read it, and has no notion of a backslash.
            assert!(!key.pem().expose().contains('\\'), "{form}, line breaks {breaks}");
            assert_eq!(der(&key.pem().expose().replace("  ", "")), der(&lines.join("\n")), "{form}, {breaks}");
        }
    }
}

#[test]
fn what_is_no_such_key_is_refused() {
    let p256 = p256();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n";
    // The algorithm id-Ed25519, RFC 8410 §10.3.
    let ed25519 = [&[0x30, 0x2e, 0x02, 1, 0, 0x30, 5, 0x06, 3, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20][..], &[7; 32]];
    let whole = pem("PRIVATE KEY", &p256);
    for (case, text) in [
        ("nothing", String::new()),
        ("words", "s3cr3t".to_owned()),
        ("a path", "/etc/keys/client.pem".to_owned()),
        ("DER without PEM", whole.lines().nth(1).unwrap().to_owned()),
        ("P-384 in PKCS#8", pem("PRIVATE KEY", p384.as_ref())),
        ("P-384 in SEC 1", pem("EC PRIVATE KEY", &sec1(P384, 48))),
        ("Ed25519", pem("PRIVATE KEY", &ed25519.concat())),
        ("garbage in PKCS#8", pem("PRIVATE KEY", &[7; 200])),
        ("nothing in PKCS#8", pem("PRIVATE KEY", &[])),
        ("a passphrase, PKCS#8", pem("ENCRYPTED PRIVATE KEY", &p256)),
        ("a passphrase, PKCS#1", pem("RSA PRIVATE KEY", &pkcs1()).replacen("-----\n", &format!("-----\n{headers}"), 1)),
        ("a public key", pem("PUBLIC KEY", &p256)),
        ("a certificate", pem("CERTIFICATE", &p256)),
        ("OpenSSH", pem("OPENSSH PRIVATE KEY", &p256)),
        ("another label at the end", whole.replace("-----END PRIVATE KEY", "-----END RSA PRIVATE KEY")),
        ("no end", whole.replace("-----END PRIVATE KEY-----", "")),
        ("half of it", whole[..whole.len() / 2].to_owned()),
        ("no dashes at the end", whole.trim_end().trim_end_matches('-').to_owned()),
        ("what is no base64", whole.replacen("MI", "M!", 1)),
        ("a first line in lower case", whole.replace("BEGIN PRIVATE KEY", "begin private key")),
        ("spaces for line breaks", whole.replace('\n', " ")),
    ] {
        let refused = PrivateKey::parse(&text).map(drop);
        assert_eq!(refused, Err("must be an RSA or P-256 private key in PEM, without a passphrase"), "{case}");
    }
}
