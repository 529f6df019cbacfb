//! A string, or a list of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::json::error::Checks;

/// What a key holds that may have one value or several.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub enum OneOrMany {
    /// As a string.
    One(String),
    /// As a list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Each value, if all of them, and at least one, keep the rule.
    pub fn each<'a>(
        &'a self,
        mut checks: Checks<'_>,
        rule: impl Fn(&'a str) -> Result<&'a str, &'static str>,
    ) -> Option<Vec<&'a str>> {
        match self {
            Self::One(value) => Some(vec![checks.accept(rule(value))?]),
            Self::Many(values) if values.is_empty() => {
                checks.fail("must not be empty");
                None
            }
            Self::Many(values) => {
                let legal: Vec<_> =
                    values.iter().enumerate().map(|(index, value)| checks.index(index).accept(rule(value))).collect();
                legal.into_iter().collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a list of strings")
    }

    fn visit_str<E>(self, value: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<OneOrMany, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element()? {
            values.push(value);
        }
        Ok(OneOrMany::Many(values))
    }
}
