//! A configuration that was written as YAML in Envoy's own configuration: Envoy hands over its
//! `google.protobuf.Struct` as the bytes of that message, and not as JSON.

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::json::Json;

/// Reads the bytes of a `google.protobuf.Struct`; `None` if they are none.
pub fn parse_struct(bytes: &[u8]) -> Option<Json> {
    Struct::decode(bytes).ok().map(object)
}

fn object(message: Struct) -> Json {
    Json::Object(message.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
}

fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::NumberValue(value)) => Json::Number(value),
        Some(Kind::StringValue(value)) => Json::String(value),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(value)) => object(value),
    }
}
