//! An issuer that wants to be asked several times before it grants a token.

use std::time::Duration;

use crate::oauth2::Client;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Answer, Endpoint, Failure, Issuer, Reply, Sign, TokenKey, TokenRequest};

/// A client's token server, of which only the last of `steps` answers is the token.
pub struct Stepwise {
    pub client: Client,
    pub steps: usize,
}

impl Issuer for Stepwise {
    fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    fn timeout(&self) -> Duration {
        self.client.timeout()
    }

    fn key(&self) -> TokenKey {
        self.client.key()
    }

    fn lineage(&self, server: [&str; 2]) -> TokenKey {
        self.client.lineage(server)
    }

    fn request(
        &self,
        answers: &[Secret],
        now: Time,
        random: [u64; 2],
        sign: Sign<'_>,
    ) -> Result<TokenRequest<'_>, Failure> {
        let timeout = self.timeout() / u32::try_from(self.steps).unwrap();
        Ok(TokenRequest { timeout, ..self.client.request(answers, now, random, sign)? })
    }

    fn read(&self, answers: &[Secret], reply: &Reply<'_>, now: Time) -> Result<Answer, Failure> {
        match self.client.read(answers, reply, now)? {
            Answer::Granted(grant) if answers.len() + 1 < self.steps => Ok(Answer::Interim(grant.token)),
            answer => Ok(answer),
        }
    }

    fn as_sent(&self, token: &str) -> Secret {
        self.client.as_sent(token)
    }
}
