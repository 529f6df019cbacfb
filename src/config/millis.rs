//! A duration as a configuration writes it.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The longest that a configuration may ask for.
const MOST: u16 = 60_000;

/// Whole milliseconds, from 1 to 60000.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(inline, extend("minimum" = 1, "maximum" = MOST)))]
pub struct Millis(u16);

impl Millis {
    /// As a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MillisVisitor)
    }
}

struct MillisVisitor;

impl Visitor<'_> for MillisVisitor {
    type Value = Millis;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from 1 to {MOST}")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Millis, E> {
        let millis = u16::try_from(value).ok().filter(|millis| (1..=MOST).contains(millis));
        millis.map(Millis).ok_or_else(|| E::custom(format!("must be a whole number from 1 to {MOST}")))
    }
}
