//! JSON as a tree that serde reads its types from, with three things that serde_json leaves out:
//! a name given twice is noticed, an error has the path it happened at, and no error has a value.

pub mod error;
mod lenient;
pub mod whole;

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use self::error::{Checks, ConfigError, index_segment, segment};
use self::lenient::lenient;
use crate::secret::Secret;

/// Up to here, 2^53, every whole number is exact as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A JSON value. An object keeps its entries in their order, and all of them.
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; none is exact beyond 2^53, as in the Struct messages that Envoy turns into JSON.
    Number(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Where the text stops being JSON, as line and column.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice(text).map_err(|error| {
            ConfigError::here(format!("is not valid JSON at line {}, column {}", error.line(), error.column()))
        })
    }

    /// Reads JSON text of another server, also with a byte order mark, bytes that are not UTF-8, or half a surrogate pair
    /// (RFC 8259 §8): a member that nobody reads must not spoil the others. A string with such a fault has U+FFFD in it.
    ///
    /// # Errors
    /// Where the text stops being JSON, as line and column.
    pub fn parse_answer(text: &[u8]) -> Result<Self, ConfigError> {
        Self::parse(Secret::new(lenient(text)).expose().as_bytes())
    }

    /// The value under `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text under `key`, if this is an object that has it.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes the value under `key` out of this object.
    pub fn take(&mut self, key: &str) -> Option<Json> {
        let Self::Object(entries) = self else { return None };
        let position = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.remove(position).1)
    }

    /// Notes every name that is given twice in one object, at any depth, and keeps the first.
    pub fn drop_repeated_names(&mut self, mut checks: Checks<'_>) {
        match self {
            Self::Object(entries) => {
                let mut names = HashSet::new();
                entries.retain(|(name, _)| {
                    let is_new = names.insert(name.clone());
                    if !is_new {
                        checks.at(name).fail("is given twice");
                    }
                    is_new
                });
                for (name, value) in entries {
                    value.drop_repeated_names(checks.at(name));
                }
            }
            Self::Array(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    element.drop_repeated_names(checks.index(index));
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {}
        }
    }
}

/// Reading JSON text into the tree.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}

/// Reading typed values out of the tree. What asks for a map or a list is not offered the rest, as the code for
/// each offer is in the module.
impl<'de> Deserializer<'de> for Json {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(value) if value.fract() == 0.0 && value.abs() <= EXACT => visitor.visit_i64(value as i64),
            Self::Number(value) => visitor.visit_f64(value),
            Self::String(value) => visitor.visit_string(value),
            Self::Array(elements) => visitor.visit_seq(Elements(elements.into_iter().enumerate())),
            Self::Object(entries) => visitor.visit_map(Entries { rest: entries.into_iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Object(entries) => visitor.visit_map(Entries { rest: entries.into_iter(), current: None }),
            _ => Err(ConfigError::here("must be an object")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Array(elements) => visitor.visit_seq(Elements(elements.into_iter().enumerate())),
            _ => Err(ConfigError::here("must be a list")),
        }
    }

    /// A choice among names; an object is never one, see [`crate::credential::Auth::read`].
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Self::String(name) => visitor.visit_enum(name.into_deserializer()),
            _ => Err(ConfigError::here("must be a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct tuple tuple_struct identifier ignored_any
    }
}

struct Elements(std::iter::Enumerate<std::vec::IntoIter<Json>>);

impl<'de> SeqAccess<'de> for Elements {
    type Error = ConfigError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ConfigError> {
        let Some((index, element)) = self.0.next() else { return Ok(None) };
        seed.deserialize(element).map(Some).map_err(|error| error.within(&index_segment(index)))
    }
}

struct Entries {
    rest: std::vec::IntoIter<(String, Json)>,
    current: Option<(String, Json)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ConfigError> {
        self.current = self.rest.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        let key: StrDeserializer<'_, ConfigError> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.within(&segment(name)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ConfigError> {
        let Some((name, value)) = self.current.take() else {
            return Err(de::Error::custom("has a value without a key"));
        };
        seed.deserialize(value).map_err(|error| error.within(&segment(&name)))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::Json;

    #[test]
    fn numbers_are_read_as_what_is_asked_for() {
        fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
            T::deserialize(Json::parse(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
        }
        assert_eq!(read::<u32>("5000"), Ok(5000));
        assert_eq!(read::<u32>("5000.0"), Ok(5000), "as a Struct has it");
        assert_eq!(read::<f64>("5000"), Ok(5000.0));
        assert_eq!(read::<f64>("0.5"), Ok(0.5));
        assert_eq!(read::<f64>("1e300"), Ok(1e300));
        assert_eq!(read::<i64>("-1"), Ok(-1));
        for wrong in ["-1", "0.5", "1e300", "\"1\""] {
            assert_eq!(read::<u32>(wrong), Err("configuration: must be u32".to_owned()), "{wrong}");
        }
    }
}
