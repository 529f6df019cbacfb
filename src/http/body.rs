//! A request's body, for a credential that signs it: hashed as it arrives, up to a limit.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// What is known of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: it has not been read, or not to its end.
    Unread,
    /// There is none.
    Absent,
    /// All that a signature says of it.
    Read {
        /// Its SHA-256.
        sha256: [u8; 32],
        /// Its length in bytes.
        length: u64,
    },
}

/// The limits of a body that Envoy holds until it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// The most bytes that it may have.
    pub bytes: u64,
    /// The time in which it must be complete.
    pub within: Duration,
}

/// A body that is being read.
#[derive(Debug, Clone)]
pub struct PayloadReader {
    digest: Sha256,
    length: u64,
    limit: u64,
}

/// A body is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// The SHA-256 of nothing.
const OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

impl Payload {
    /// Its SHA-256, once it is known.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Unread => None,
            Self::Absent => Some(OF_NOTHING),
            Self::Read { sha256, .. } => Some(*sha256),
        }
    }
}

impl PayloadReader {
    /// For a body of no more than `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { digest: Sha256::new(), length: 0, limit }
    }

    /// How many bytes were read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads the bytes that come next.
    ///
    /// # Errors
    /// If the body is longer than its limit with them.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.limit {
            return Err(TooLong);
        }
        self.digest.update(bytes);
        Ok(())
    }

    /// All of the body has been read.
    pub fn finish(self) -> Payload {
        Payload::Read { sha256: self.digest.finalize().into(), length: self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::{Payload, PayloadReader, TooLong};

    #[test]
    fn no_body_is_hashed_as_an_empty_one() {
        assert_eq!(Payload::Absent.sha256(), PayloadReader::new(0).finish().sha256());
        assert_eq!(Payload::Unread.sha256(), None);
    }

    #[test]
    fn a_body_is_the_same_in_one_piece_and_in_many() {
        let body: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut whole = PayloadReader::new(1000);
        assert_eq!(whole.read(&body), Ok(()));
        for size in [1, 63, 64, 65, 999] {
            let mut pieces = PayloadReader::new(1000);
            body.chunks(size).for_each(|piece| assert_eq!(pieces.read(piece), Ok(())));
            assert_eq!(pieces.length(), 1000);
            assert_eq!(pieces.finish(), whole.clone().finish());
        }
        assert_eq!(whole.read(b"x"), Err(TooLong));
    }
}
