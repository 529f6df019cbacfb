//! How many fetches one token server sees at once from all VMs of an Envoy process.
//!
//! The gate lies in shared data, one for each cluster that token servers are reached by, so that a slow
//! server holds up no other.

use std::time::Duration;

use prost::Message;

use crate::time::Time;

/// How many may fetch at once for no request in particular.
pub const WIDTH: usize = 8;

/// How many may fetch at once in all: a token that a request waits for comes before those that may be
/// wanted some day.
pub const WIDTH_IF_WANTED: usize = 16;

/// A fetch that takes longer hangs: those that requests wait for do not queue behind it. They are few nevertheless, as each
/// token has one fetch at a time.
const HANGS: Duration = Duration::from_millis(500);

/// Nobody stays inside for longer.
const LONGEST_STAY: Duration = Duration::from_secs(120);

/// Who is fetching.
#[derive(Clone, PartialEq, Message)]
pub struct Gate {
    #[prost(message, repeated, tag = "1")]
    inside: Vec<Inside>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Inside {
    #[prost(fixed64, tag = "1")]
    who: u64,
    /// Whoever it is, is taken for dead after this; milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    until: u64,
    /// When it entered; milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    since: u64,
}

impl Gate {
    /// Lets `who` in for at most `timeout`, if there is room. `is_wanted`: whether a request waits.
    pub fn enter(&mut self, who: u64, is_wanted: bool, now: Time, timeout: Duration) -> bool {
        self.inside.retain(|inside| Time::from_millis(inside.until).is_pending(now, LONGEST_STAY));
        let hangs = |inside: &Inside| now.since(Time::from_millis(inside.since)) >= HANGS;
        let has_room = if is_wanted {
            self.inside.iter().filter(|inside| !hangs(inside)).count() < WIDTH_IF_WANTED
        } else {
            self.inside.len() < WIDTH
        };
        if has_room {
            let until = now.after(timeout.min(LONGEST_STAY)).as_millis();
            self.inside.push(Inside { who, until, since: now.as_millis() });
        }
        has_room
    }

    /// `who` is done. Says whether it was inside.
    pub fn leave(&mut self, who: u64) -> bool {
        let before = self.inside.len();
        self.inside.retain(|inside| inside.who != who);
        self.inside.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message;

    use super::{Gate, WIDTH, WIDTH_IF_WANTED};
    use crate::time::Time;

    const NOW: Time = Time::NOON;
    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn no_more_than_its_width_are_inside_and_the_dead_do_not_count() {
        let mut gate = Gate::default();
        for who in 0..WIDTH as u64 {
            assert!(gate.enter(who, false, NOW, TIMEOUT));
        }
        assert!(!gate.enter(100, false, NOW, TIMEOUT));
        assert!(gate.leave(3) && !gate.leave(3));
        let mut gate = Gate::decode(gate.encode_to_vec().as_slice()).unwrap();
        assert!(gate.enter(100, false, NOW, TIMEOUT) && !gate.enter(101, false, NOW, TIMEOUT));
        assert!(gate.enter(101, false, NOW.after(TIMEOUT), TIMEOUT));
    }

    #[test]
    fn what_a_request_waits_for_gets_in_before_the_rest() {
        let mut gate = Gate::default();
        let entered = (0..100).filter(|who| gate.enter(*who, false, NOW, TIMEOUT)).count();
        let wanted = (100..200).filter(|who| gate.enter(*who, true, NOW, TIMEOUT)).count();
        assert_eq!((entered, entered + wanted), (WIDTH, WIDTH_IF_WANTED));
    }

    #[test]
    fn wanted_fetches_do_not_queue_behind_those_that_hang() {
        let mut gate = Gate::default();
        assert_eq!((0..100).filter(|who| gate.enter(*who, true, NOW, TIMEOUT)).count(), WIDTH_IF_WANTED);
        let now = NOW.after(super::HANGS);
        assert!(!gate.enter(100, true, now.before(Duration::from_millis(1)), TIMEOUT));
        assert_eq!((100..200).filter(|who| gate.enter(*who, true, now, TIMEOUT)).count(), WIDTH_IF_WANTED);
        assert!(!gate.enter(200, false, now, TIMEOUT));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_close_it() {
        let mut gate = Gate::default();
        for who in 0..WIDTH as u64 {
            gate.enter(who, false, NOW, TIMEOUT);
        }
        assert!(gate.enter(100, false, NOW.before(Duration::from_secs(600)), TIMEOUT));
    }
}
