//! Kubernetes manifests as they are shipped, read strictly.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasm_tests::repository;

/// What the Secret of the manifests has, in these tests.
const SECRETS: [(&str, &str); 2] = [("GITHUB_TOKEN", "test-token"), ("CLIENT_SECRET", "test-secret")];

/// One file.
pub struct Manifests {
    text: String,
    documents: Vec<Value>,
}

impl Manifests {
    /// Reads the file at `path` in the repository.
    pub fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
            // By way of YAML's own value, which refuses a key that is there twice.
            let document: serde_yaml::Value = serde::Deserialize::deserialize(document).unwrap();
            serde_json::to_value(document).unwrap()
        });
        let documents = documents.collect();
        Self { text, documents }
    }

    /// All documents.
    pub fn all(&self) -> &[Value] {
        &self.documents
    }

    /// Those of this kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.documents.iter().filter(move |document| document["kind"] == kind)
    }

    /// The one of this kind and name.
    pub fn named<'a>(&'a self, kind: &'a str, name: &str) -> &'a Value {
        let mut named = self.of_kind(kind).filter(|document| document["metadata"]["name"] == name);
        named.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// The commands that the file says to run, each in one line.
    pub fn commands(&self) -> Vec<String> {
        let comments = self.text.lines().filter_map(|line| line.strip_prefix('#')).collect::<Vec<_>>().join("\n");
        let joined = comments.replace("\\\n", "");
        let commands = joined.lines().filter_map(|line| line.strip_prefix("   "));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        commands.filter(|line| line.starts_with("kubectl ")).map(words).collect()
    }

    /// The environment of a proxy whose container has this `env`, all of it from the Secret that the commands create.
    pub fn environment(&self, env: &Value) -> Vec<(&'static str, &'static str)> {
        let variable = |variable: &Value| {
            let source = &variable["valueFrom"]["secretKeyRef"];
            let (name, key) = (source["name"].as_str().unwrap(), source["key"].as_str().unwrap());
            assert_eq!(variable["name"], key, "named as in the Secret, or the examples get hard to read");
            let created = |command: &String| {
                command.contains(&format!(" create secret generic {name} "))
                    && command.contains(&format!(" --from-file={key}="))
            };
            assert!(self.commands().iter().any(created), "no command creates {name} with {key}");
            SECRETS.into_iter().find(|(own, _)| *own == key).unwrap()
        };
        env.as_array().unwrap().iter().map(variable).collect()
    }

    /// Asserts that no document of the kinds `before` stands behind one of the kinds `after`: they are applied in this
    /// order.
    pub fn assert_order(&self, before: &[&str], after: &[&str]) {
        let places = |kinds: &[&str]| -> Vec<usize> {
            let of_kind = |document: &Value| kinds.iter().any(|kind| document["kind"] == *kind);
            self.documents
                .iter()
                .enumerate()
                .filter(|(_, document)| of_kind(document))
                .map(|(place, _)| place)
                .collect()
        };
        assert!(places(before).last() < places(after).first(), "{before:?} before {after:?}");
    }
}

/// Reads `document` as a `T` that knows all of it: what a type does not know is lost on the way through it.
pub fn assert_is<T: Serialize + DeserializeOwned>(document: &Value) {
    let name = std::any::type_name::<T>();
    let typed: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {document}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *document, "{name}");
}

/// Whether this is a SHA-256 sum as the manifests have to have it. A placeholder is one, too, that no module has.
pub fn is_sha256(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|sum| sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[test]
fn the_commands_of_a_manifest_run_at_the_root_of_the_repository() {
    for (path, namespaced) in [
        ("envoy/istio/gateway.yaml", true),
        ("envoy/istio/sidecar.yaml", true),
        // In the namespace of the first.
        ("envoy/istio/upstream-filter.yaml", false),
        ("envoy/envoy-gateway/gateway.yaml", true),
    ] {
        let manifests = Manifests::read(path);
        let commands = manifests.commands();
        assert!(commands.contains(&format!("kubectl apply -f {path}")), "{commands:?}");
        for document in manifests.all() {
            let namespace = document["metadata"]["namespace"].as_str().unwrap();
            assert_eq!(commands.contains(&format!("kubectl create namespace {namespace}")), namespaced, "{path}");
        }
        assert!(manifests.of_kind("Secret").next().is_none(), "{path}: a secret in a file gets into a repository");
    }
}
