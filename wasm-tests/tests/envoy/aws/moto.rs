//! moto as the metadata service and as STS.

use serde_json::{Value, json};
use wasm_tests::aws_peer::Credentials;
use wasm_tests::client::Protocol;
use wasm_tests::gateway::cluster;

use super::fetched;
use super::verifier::verify;
use super::{OPTIONS, REGION, SERVICE, gateway, key_id, peer, seeing_bodies};
use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::Place;

/// The cluster that leads to moto.
const ENDPOINT: &str = "moto";

async fn behind_moto(place: Place, auth: Value) -> Fixture {
    let moto = peer().await.moto();
    Fixture::start_with(&OPTIONS, |upstream| {
        gateway(place, auth, upstream, seeing_bodies).cluster(cluster(ENDPOINT, moto, Protocol::Http1))
    })
    .await
}

#[test]
fn the_credentials_of_an_instance_sign() {
    run(async {
        let fixture = behind_moto(Place::Cluster, fetched::auth("imds", peer().await.moto(), ENDPOINT)).await;
        let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp?b&a", ..TestRequest::default() }).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        // It has one pair for everybody.
        let instance = Credentials {
            access_key_id: "test-key".to_owned(),
            secret_access_key: "test-secret-key".to_owned(),
            session_token: Some("test-session-token".to_owned()),
        };
        assert_eq!(seen[0].head.header("x-amz-security-token"), ["test-session-token"]);
        let expected = peer().await.sign(&seen[0].head, SERVICE, REGION, &instance).await.unwrap();
        assert_eq!(seen[0].head.header("authorization"), [expected]);
    });
}

#[test]
fn the_credentials_of_an_assumed_role_sign() {
    run(async {
        let name = "session-of-mcp";
        let mut auth = fetched::auth("webIdentity", peer().await.moto(), ENDPOINT);
        auth["roleSessionName"] = json!(name);
        let fixture = behind_moto(Place::Listener, auth).await;
        let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp?b&a", ..TestRequest::default() }).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let roles = peer().await.assumed_roles().await.unwrap();
        let roles: Vec<_> = roles.iter().filter(|role| role["session_name"] == name).collect();
        let [role] = roles[..] else { panic!("assumed not once: {roles:?}") };
        assert_eq!(role["role_arn"], wasm_tests::credentials_server::ROLE_ARN);
        let text = |key: &str| role[key].as_str().unwrap().to_owned();
        let assumed = Credentials {
            access_key_id: text("access_key_id"),
            secret_access_key: text("secret_access_key"),
            session_token: Some(text("session_token")),
        };
        assert_eq!(key_id(&seen[0]), assumed.access_key_id);
        let lookup = move |_: &str| Some(assumed.clone());
        assert_eq!(verify(&seen[0], &lookup), Ok(()));
    });
}
