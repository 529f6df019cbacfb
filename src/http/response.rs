//! The head of an upstream's response, read in one go: each look at it costs a call into the host.

/// The parts of a response's head that decide what becomes of it.
#[derive(Debug, Default)]
pub struct ResponseHead {
    status: [u8; 3],
    has_challenge: bool,
    aws_error: Option<Vec<u8>>,
}

/// The headers by which a server asks for a credential (RFC 9110 §11.6.1, §11.7.1).
pub const CHALLENGES: [&str; 2] = ["www-authenticate", "proxy-authenticate"];

impl ResponseHead {
    /// Notes a header, if it matters.
    pub fn see(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b":status" => self.status = value.try_into().unwrap_or_default(),
            b"www-authenticate" => self.has_challenge = true,
            b"x-amzn-errortype" => self.aws_error = Some(value.to_vec()),
            _ => {}
        }
    }

    /// Its status.
    pub fn status(&self) -> &[u8] {
        &self.status
    }

    /// Whether it has a `WWW-Authenticate`.
    pub fn has_challenge(&self) -> bool {
        self.has_challenge
    }

    /// The error that AWS names in a header.
    pub fn aws_error(&self) -> Option<&[u8]> {
        self.aws_error.as_deref()
    }
}
