//! The client proves who it is by the certificate of its connection (RFC 8705).

use std::net::SocketAddr;

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::{Gateway, LISTENER, cluster};
use wasm_tests::oidc_provider::{MTLS, MTLS_HEADER, MTLS_NAME, OidcProvider};

use super::real_server::{PLACES, RESOURCE, assert_issued, auth, refused, start, token};
use super::{Place, TOKENS};
use crate::fixture::{run, running};
use crate::tls::{Authority, Identity, behind_tls, tls};

/// The authorization server's name behind TLS. That it calls itself otherwise is no concern of a client
/// without an assertion.
const ISSUER_NAME: &str = "auth.example";

/// An Envoy in front of the authorization server: it demands a certificate of `authority` and passes it on.
async fn tls_in_front(issuer: &OidcProvider, authority: &Authority) -> Envoy {
    let to_issuer = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "issuer"},
        "request_headers_to_add": [{
            "header": {"key": MTLS_HEADER, "value": "%DOWNSTREAM_PEER_CERT%"},
            // What comes in by this name is not from the handshake.
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }],
    });
    let gateway = Gateway::default().route(to_issuer).cluster(cluster("issuer", issuer.address(), Protocol::Http1));
    let context = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificates": [authority.certify(&[ISSUER_NAME])],
            "validation_context": authority.trusted(),
        },
    });
    running(&behind_tls(gateway, context), &Options::default()).await
}

/// The token cluster: TLS to `address`, with these certificates.
fn tls_cluster(address: SocketAddr, authority: &Authority, identities: &[Identity]) -> Value {
    let mut validation = authority.trusted();
    validation["match_typed_subject_alt_names"] = json!([{"san_type": "DNS", "matcher": {"exact": ISSUER_NAME}}]);
    let mut cluster = cluster(TOKENS, address, Protocol::Http1);
    cluster["transport_socket"] = tls(
        "UpstreamTlsContext",
        json!({
            "sni": ISSUER_NAME,
            "common_tls_context": {"tls_certificates": identities, "validation_context": validation},
        }),
    );
    cluster
}

#[test]
fn without_a_secret_the_certificate_of_the_token_cluster_says_which_client_it_is() {
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let authority = Authority::new();
        let front = tls_in_front(&issuer, &authority).await;
        let address = front.listener(LISTENER).await.unwrap();
        let auths = vec![("mtls", auth(&format!("https://{ISSUER_NAME}/token"), MTLS, json!({"clientAuth": "none"})))];
        let start = |place, identities: &[Identity]| {
            let tokens = tls_cluster(address, &authority, identities);
            let auths = &auths;
            async move { start(place, auths, tokens).await }
        };

        let own = authority.certify(&[MTLS_NAME]);
        for place in PLACES {
            let fixture = start(place, std::slice::from_ref(&own)).await;
            let token = token(&fixture, "mtls").await;
            let expected = json!({
                "active": true,
                "client_id": MTLS,
                "auth_method": "tls_client_auth",
                "scope": "mcp:tools",
                "aud": RESOURCE,
            });
            assert_issued(&issuer, &token, expected, &format!("{place:?}")).await;
        }

        // The certificate it was that counted.
        let somebody_elses = authority.certify(&["somebody-else.example"]);
        let strangers = Authority::new().certify(&[MTLS_NAME]);
        for (identities, reason) in [
            (&[somebody_elses][..], "token_refused"),
            (&[strangers][..], "token_unavailable"),
            (&[][..], "token_unavailable"),
        ] {
            let fixture = start(Place::Listener, identities).await;
            refused(&fixture, "mtls", reason).await;
        }
    });
}
