//! A private key as a configuration gives it: PEM (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// `1.2.840.113549.1.1.1`, rsaEncryption (RFC 8017 §A.1), in DER.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// `1.2.840.10045.3.1.7`, the curve P-256 (RFC 5480 §2.1.1.1), in DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// In PKCS#8 (RFC 5208 §5), the algorithm comes within so many bytes; behind it is the key.
const PREAMBLE: usize = 40;

/// How the labels of private keys end.
const KEY: &str = "PRIVATE KEY";

/// A private key and what it signs by.
#[derive(Debug)]
pub struct PrivateKey {
    pem: Secret,
    algorithm: Algorithm,
}

/// A signature algorithm (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl PrivateKey {
    /// Reads an RSA or P-256 key in PKCS#8, PKCS#1 or SEC 1. Line breaks may be written as `\n`, as they
    /// are where an environment variable must be one line.
    ///
    /// # Errors
    /// For anything else, and for a key under a passphrase. Whether its numbers make a key is seen when
    /// it signs.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be an RSA or P-256 private key in PEM, without a passphrase";
        let pem = Secret::new(text.replace("\\n", "\n"));
        let mut lines = pem.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        // `openssl ecparam -genkey` writes the curve in a block of its own before the key.
        let label = |line: &'_ str| Some(line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?.to_owned());
        let label = lines.by_ref().filter_map(label).find(|label| label.ends_with(KEY)).ok_or(RULE)?;
        let (mut base64, mut is_complete) = (Secret::new(String::new()), false);
        for line in lines {
            is_complete =
                line.strip_prefix("-----END ").and_then(|end| end.strip_suffix("-----")) == Some(label.as_str());
            if is_complete {
                break;
            }
            base64 = Secret::new(format!("{}{line}", base64.expose()));
        }
        if !is_complete {
            return Err(RULE);
        }
        let der = zeroize::Zeroizing::new(STANDARD.decode(base64.expose()).map_err(|_| RULE)?);
        let preamble = der.get(..PREAMBLE.min(der.len())).unwrap_or_default();
        let algorithm = match label.as_str() {
            "PRIVATE KEY" if contains(preamble, RSA) => Algorithm::Rs256,
            "PRIVATE KEY" if contains(preamble, P256) => Algorithm::Es256,
            "RSA PRIVATE KEY" => Algorithm::Rs256,
            "EC PRIVATE KEY" if contains(&der, P256) => Algorithm::Es256,
            _ => return Err(RULE),
        };
        Ok(Self { pem, algorithm })
    }

    /// The key in PEM.
    pub fn pem(&self) -> &Secret {
        &self.pem
    }

    /// What it signs by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Algorithm {
    /// The name in a JWT's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
