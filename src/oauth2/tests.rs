//! What goes to a token server, and what its answers come to.

mod assertions;
mod keys;
mod private_keys;
mod requests;
mod responses;
mod secrecy;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Client, ClientAuth, Endpoint, Parameter};
use crate::secret::Secret;

/// An RSA key that was made for these tests, and nothing else was ever signed with.
const RSA_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCzZ/IGIQotyVM1
WZbm03dpLLhcn3eVvTxhCevBxzteByZVXqtIRzDdE9G50WhsmxtZlmOlDjmGuKpS
Z+TPd5/kJoIoiJMFxn//FyBlII8rU3qhhaMvKAhk+BiUudL6wcAiXH5DxpM0USxM
k3SyNfiPze88GAzXuBiRkQ/cdACDYPh7EHIfd2LHGnhCBE2GcP85jeRz5kIlz59t
AR7+AAxEsvLM+7ePxxiY+aVAdUjpgBe6kH1hTjc+duvmfE2GaRlD6vXYrLGXLd9U
hik2FJYGekaz+qRJhiWvh1y2McIj7vOrTuETStCgcul/5eKfb/mILsVurJe/+0IU
Or9qXzoJAgMBAAECggEAHWSpBnq19uJxO4sTaiYN/lv7/fuH1YSiNn6FncNNOrk5
J+t8FzodYLCKlUMgigqvjxyl9A5B5oytexWCgMCR9bNJcpKjDo3YaAFwpqDlqVeN
U+wChwtWtL7hEsePMCjmQxBHBPECf858z4mpKOQmy94VlWbrU7yEafULquFmjso2
/x0N/g9fvPpTfcWUaWI6q0fu7cnlBnBqsrWNFox116xTE5DqXL8zoR2aj1I9ZBMl
QVgL7QLAm5N5XEoKpb/sXUAvRLDDbhcaqMX7IpcRQw5iH8IMrB8pXcDvJlC1fCgd
Bz9CXlxH96BKHh5Tu657cEV2vz6TFNLYkRUSbZgUMQKBgQDyaOgeBeHQEaF+xxjE
GwKAsv0k4cWLtOAJhMUbPrQEOelbT90vm93bxIaQ0gfehquwwF0It7yP4VjdbtYm
KkhM19BHhsWNRFik4f6JRqUO1LfaL8p242XdRtnlnh35Yr6YNfYleAccW8hbBPmH
Hy/8v7lH+0Cm/C+R35CUVV+CNwKBgQC9ds0xmQb0a8yRx+NxKELgwCtZ3gVvEOXE
b5Z11kaN53MXQMBbUAgAMy8vdkrHqh7aZJnRr0pwUASqjxeSZlW1kcsZhlKml5CT
vyij5TXlv71HFLr9ykxnIJ6pXviTxdsJvjubZaLboC6JTf6HUowtAWduRTtf2fBO
7o/TmP4FvwKBgCQzTG6nXDiRWXewTd+DVRVZJXqriK+7XDWvsSvHamSzLUkonRRu
B2y5ZYsdAnXV0K/9miciITOvaHDxC2P5roBjPkRgOQJGsaI16aggd6fGVopr1qV4
gg7QdNvYiAtlFqdub4ra6NzwS/RjwsvN+YGaNBYuzFHjmUsEgvfT5AZzAoGAYobC
ZHWA4WChzHnXdEQMq1Yj9SL5Tm3KHuIsq3DX1fmzpzb8EUBIONplQlhQwQ5d5xKD
z0BKBKgIFS4+gtqG3dpIdSieGJYfEEZLexe6dJTGeI12RH6MRuD2wXtq52Xv51wv
ITu0emQNb0fJAlRSIyFkyTpliw4J4vI6hz47c38CgYB/9PDgqtuOWdBkP6GAH5Me
8xtmt3mkJuyKemEX+Vv3NTD4ok+zognxd3/b1pxc73hb13k9xCukZoZxBRCpt/y+
CrWEzVCm+ZxodU/0fZyIzWj137bAJwVPeODqT3wb56iSO+LNBD0amNaa5sjvN5t+
NtA8TWGWei7GXJU3q9sqRA==
-----END PRIVATE KEY-----
";

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A client that asks for a token without scope, audience or resource.
fn client(auth: ClientAuth) -> Client {
    let endpoint = Endpoint {
        cluster: "auth-cluster".to_owned(),
        scheme: "https",
        authority: "auth.example:8443".to_owned(),
        path: "/oauth/token?tenant=a".to_owned(),
    };
    Client { endpoint, id: "client".to_owned(), auth, parameters: Vec::new(), timeout: Duration::from_secs(5) }
}

fn parameter(name: &str, value: &str) -> Parameter {
    Parameter { name: name.to_owned(), value: secret(value), watched: None }
}

/// Nothing here is to be signed.
fn no_key(_: &Secret, _: &[u8]) -> Result<Vec<u8>, String> {
    panic!("nothing is to be signed with a private key")
}

/// `der` in PEM, as other programs write it.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// What is between the first and the last line of a PEM text.
fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64).unwrap()
}
