//! The JSON Schema that is shipped for editors: it comes from the types that read the configuration.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::tests::{accepted, refused};
use super::{ManyServers, OneServer};
use crate::credential::PASS_CHALLENGE;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/plugin-config.schema.json");

fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let one = generator.subschema_for::<OneServer>();
    let many = generator.subschema_for::<ManyServers>();
    let mut definitions = generator.take_definitions(true);
    allow_what_auth_allows(&mut definitions["Auth"]["oneOf"]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plugin configuration of mcp-upstream-auth",
        "anyOf": [many, one],
        "$defs": definitions,
    })
}

/// `type` is read without regard to case, `passChallenge` goes with every credential, and an empty `auth` is none.
fn allow_what_auth_allows(kinds: &mut Value) {
    let any_case = |name: &str| name.chars().map(|c| format!("[{}{}]", c, c.to_ascii_lowercase())).collect::<String>();
    let kinds = kinds.as_array_mut().unwrap();
    for kind in kinds.iter_mut() {
        let written = &mut kind["properties"]["type"];
        let name = written["const"].as_str().unwrap().to_owned();
        *written = json!({"anyOf": [{"const": name}, {"type": "string", "pattern": format!("^{}$", any_case(&name))}]});
        if name != "NONE" {
            kind["properties"][PASS_CHALLENGE] = json!({
                "description": "Whether the caller may see the server's word against the credential.",
                "type": ["boolean", "null"],
                "default": false,
            });
        }
    }
    kinds.push(json!({"description": "No credential.", "type": "object", "maxProperties": 0}));
}

/// `UPDATE_SCHEMA=1 cargo test schema` writes it anew.
#[test]
fn the_shipped_schema_is_the_one_of_the_types() {
    let schema = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(SHIPPED, &schema).unwrap();
    }
    let shipped = std::fs::read_to_string(SHIPPED).unwrap_or_default();
    assert!(shipped == schema, "envoy/plugin-config.schema.json is out of date: run UPDATE_SCHEMA=1 cargo test schema");
}

#[test]
fn schema_and_filter_agree() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for config in accepted() {
        let config: Value = serde_json::from_str(&config).unwrap();
        assert!(validator.is_valid(&config), "the filter takes what the schema does not: {config}");
    }
    for (config, _) in refused() {
        let config: Value = serde_json::from_str(&config).unwrap();
        assert!(!validator.is_valid(&config), "the schema takes what the filter does not: {config}");
    }
}
