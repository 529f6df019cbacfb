//! Token servers that answer by a script.

use std::time::Duration;

use crate::time::Time;
use crate::token::FailureKind;

/// Decides what becomes of a request.
pub type Script = Box<dyn FnMut(&Asked, &mut Random) -> Answer>;

/// A request that a token server was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// For which of the configured tokens.
    pub token: usize,
    /// The client's secret that it carried.
    pub secret: String,
    /// By which VM.
    pub vm: usize,
    /// When, by a clock that nobody sets.
    pub at: Time,
}

/// What becomes of it, and after how long.
pub struct Answer {
    pub after: Duration,
    pub what: What,
}

/// What becomes of a request.
pub enum What {
    /// A token that is good for so many seconds, as far as the server says.
    Token(f64),
    /// A status without a token, and perhaps `Retry-After`.
    Status(u16, Option<&'static str>),
    /// A refusal as of RFC 6749 §5.2.
    Error(&'static str),
    /// A 200 that means nothing.
    Rubbish,
    /// Half an answer.
    BreaksOff,
    /// No answer.
    Silence,
    /// Envoy does not even send it.
    NotSent(FailureKind),
}

impl What {
    /// The same, after so many milliseconds.
    pub fn after(self, millis: u64) -> Answer {
        Answer { after: Duration::from_millis(millis), what: self }
    }
}

/// A token server that always grants at once.
pub fn grants(seconds: f64) -> Script {
    Box::new(move |_, random| What::Token(seconds).after(random.up_to(30)))
}

/// Numbers that are as good as random, and the same again for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    /// True in so many cases of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.up_to(99) < percent
    }
}
