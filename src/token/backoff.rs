//! How long to wait before the next attempt.

use std::time::Duration;

/// Delays that double with each attempt, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first delay.
    pub first: Duration,
    /// The longest delay of all.
    pub most: Duration,
}

impl Backoff {
    /// The delay after `attempts` in a row have failed: `min(most, first · 2^(attempts - 1))`, of which
    /// the second half is left to `random`, so that many proxies do not come back at once.
    pub fn delay(self, attempts: u32, random: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        let longest = self.first.saturating_mul(1 << doublings).min(self.most);
        longest / 2 + part_of(longest / 2, random)
    }
}

/// A part of `whole`, from nothing to all of it, as `random` falls.
pub fn part_of(whole: Duration, random: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, part_of};

    #[test]
    fn delays_double_up_to_the_limit_and_half_of_each_is_random() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
        for (attempts, longest) in [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (7, 30), (u32::MAX, 30)] {
            let longest = Duration::from_secs(longest);
            for random in [0, 1, 499, 500, 12_345, u64::MAX] {
                let delay = backoff.delay(attempts, random);
                assert!(delay >= longest / 2 && delay <= longest, "{attempts} {random}: {delay:?}");
            }
            assert_eq!(backoff.delay(attempts, 0), longest / 2);
        }
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let whole = Duration::from_millis(10);
        assert_eq!(part_of(whole, 10), whole);
        assert_eq!(part_of(whole, 11), Duration::ZERO);
        assert_eq!(part_of(Duration::ZERO, 7), Duration::ZERO);
        assert!(part_of(Duration::MAX, u64::MAX) <= Duration::MAX);
    }
}
