//! Points in time, as the core is given them.

use std::time::Duration;

/// Milliseconds since 1970 by the host's clock. Sums stop at the ends of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(u64);

impl Time {
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// Some time, for tests.
    #[cfg(test)]
    pub const NOON: Self = Self(1_800_014_400_000);

    /// The time this long after 1970.
    pub fn since_epoch(duration: Duration) -> Self {
        Self(millis(duration))
    }

    /// The time so many milliseconds after 1970.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This long after.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This long before.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long it is from `earlier` to this; nothing if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whether this is still to come, and within `most`. What was to come within that and is farther
    /// away now was noted before the clock was set back; to wait for it could take for ever.
    pub fn is_pending(self, now: Self, most: Duration) -> bool {
        self > now && self <= now.after(most)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
