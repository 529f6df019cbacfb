//! Whole numbers as a configuration writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number from 1 to `MOST`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(inline, extend("minimum" = 1, "maximum" = MOST)))]
pub struct Whole<const MOST: u32>(u32);

/// Milliseconds, up to a minute.
pub type Millis = Whole<60_000>;

/// Bytes of a request, up to what is reasonable to hold back.
pub type Bytes = Whole<{ 64 * 1024 * 1024 }>;

impl Millis {
    /// As a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl Bytes {
    /// So many bytes.
    pub fn count(&self) -> u64 {
        self.0.into()
    }
}

impl<'de, const MOST: u32> Deserialize<'de> for Whole<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor { most: MOST }).map(Self)
    }
}

struct WholeVisitor {
    most: u32,
}

impl Visitor<'_> for WholeVisitor {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from 1 to {}", self.most)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u32, E> {
        let number = u32::try_from(value).ok().filter(|number| (1..=self.most).contains(number));
        number.ok_or_else(|| E::custom(format!("must be a whole number from 1 to {}", self.most)))
    }
}
