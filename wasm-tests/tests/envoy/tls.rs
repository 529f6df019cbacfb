//! Certificates made for one test, and Envoy's TLS with them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use wasm_tests::gateway::{Gateway, any};

/// A certificate authority made for one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as Envoy's `TlsCertificate`.
pub type Identity = Value;

impl Authority {
    /// A new one, which nobody else knows.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Not the name that rcgen gives everybody: a certificate from its namesake would seem self-signed.
        params.distinguished_name.push(DnType::CommonName, "an authority of this test");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for these names.
    pub fn certify(&self, dns_names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = dns_names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let inline = |pem: String| json!({"inline_string": pem});
        json!({"certificate_chain": inline(certificate.pem()), "private_key": inline(key.serialize_pem())})
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The `validation_context` of those who trust it.
    pub fn trusted(&self) -> Value {
        json!({"trusted_ca": {"inline_string": self.pem()}})
    }
}

/// The configuration of `gateway` with TLS at its listener.
pub fn behind_tls(gateway: Gateway, context: Value) -> String {
    let mut config: Value = serde_json::from_str(&gateway.config()).unwrap();
    config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] =
        tls("DownstreamTlsContext", context);
    config.to_string()
}

/// A transport socket with TLS.
pub fn tls(context: &str, config: Value) -> Value {
    let message = format!("envoy.extensions.transport_sockets.tls.v3.{context}");
    json!({"name": "envoy.transport_sockets.tls", "typed_config": any(&message, config)})
}
