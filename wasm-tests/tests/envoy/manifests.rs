//! Kubernetes manifests as they are shipped, read strictly.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasm_tests::repository;

/// The documents of one file.
pub struct Manifests(Vec<Value>);

impl Manifests {
    /// Reads the file at `path` in the repository.
    pub fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
            // By way of YAML's own value, which refuses a key that is there twice.
            let document: serde_yaml::Value = serde::Deserialize::deserialize(document).unwrap();
            serde_json::to_value(document).unwrap()
        });
        Self(documents.collect())
    }

    /// All of them.
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Those of this kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |document| document["kind"] == kind)
    }

    /// The one of this kind and name.
    pub fn named<'a>(&'a self, kind: &'a str, name: &str) -> &'a Value {
        let mut named = self.of_kind(kind).filter(|document| document["metadata"]["name"] == name);
        named.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// The environment of a proxy that gets each of `env`, as a container has it, from the Secret.
    pub fn environment(&self, env: &Value) -> Vec<(&str, &str)> {
        let variable = |variable: &'_ Value| {
            let source = &variable["valueFrom"]["secretKeyRef"];
            let secret = self.named("Secret", source["name"].as_str().unwrap());
            let (key, value) =
                secret["stringData"].as_object().unwrap().get_key_value(source["key"].as_str().unwrap()).unwrap();
            assert_eq!(variable["name"], *key, "named as in the Secret, or the examples get hard to read");
            (key.as_str(), value.as_str().unwrap())
        };
        env.as_array().unwrap().iter().map(variable).collect()
    }
}

/// Reads `document` as a `T` that knows all of it: what a type does not know is lost on the way through it.
pub fn assert_is<T: Serialize + DeserializeOwned>(document: &Value) {
    let name = std::any::type_name::<T>();
    let typed: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {document}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *document, "{name}");
}
