//! Where temporary keys come from: what is asked there, in one request or in several.

use std::time::Duration;

use form_urlencoded::Serializer;

use super::answers::{answer_of_sts, keys_in_json};
use crate::http::validation::text;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Answer, Endpoint, Failure, FailureKind, Issuer, Reply, Sign, TokenKey, TokenRequest};

/// How long a session with the instance metadata service may last, in seconds: it is for one fetch.
const SESSION: &str = "60";

/// Where the instance metadata service has roles and their keys.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Who issues temporary keys to this client.
pub struct KeyIssuer {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What it is.
    pub source: Source,
    /// How long a fetch may take.
    pub timeout: Duration,
}

/// The kinds of issuers.
pub enum Source {
    /// The credentials endpoint of Amazon ECS and of EKS Pod Identity, and the value of `Authorization` that it wants.
    Container(Option<Secret>),
    /// Version 2 of the instance metadata service (IMDSv2) of Amazon EC2, and the role, if it is not to be asked for.
    InstanceMetadata(Option<String>),
    /// `AssumeRoleWithWebIdentity` of AWS STS.
    WebIdentity {
        /// The ARN of the role.
        role: String,
        /// What the session is called in AWS' logs.
        session_name: String,
        /// The token of an identity provider that the role trusts.
        token: Secret,
    },
}

impl KeyIssuer {
    /// How long each request of a fetch may take; to Envoy, less than a millisecond would be for ever.
    fn timeout_of_each(&self) -> Duration {
        (self.timeout / self.requests()).max(Duration::from_millis(1))
    }

    /// How many requests a fetch takes.
    fn requests(&self) -> u32 {
        match &self.source {
            Source::Container(_) | Source::WebIdentity { .. } => 1,
            Source::InstanceMetadata(Some(_)) => 2,
            Source::InstanceMetadata(None) => 3,
        }
    }

    fn get(&self, path: &str) -> TokenRequest<'_> {
        self.endpoint.request("GET", path, Secret::new(String::new()), self.timeout_of_each())
    }

    fn instance_metadata(&self, role: Option<&str>, answers: &[Secret]) -> TokenRequest<'_> {
        let [session, answers @ ..] = answers else {
            let body = Secret::new(String::new());
            let request = self.endpoint.request("PUT", "/latest/api/token", body, self.timeout_of_each());
            return request.with("x-aws-ec2-metadata-token-ttl-seconds", Secret::new(SESSION.to_owned()));
        };
        let role = role.or(answers.first().map(Secret::expose)).unwrap_or_default();
        self.get(&format!("{ROLES}{role}")).with("x-aws-ec2-metadata-token", session.copy())
    }

    fn assume_role(&self, role: &str, session_name: &str, token: &Secret) -> TokenRequest<'_> {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", role)
            .append_pair("RoleSessionName", session_name)
            .append_pair("WebIdentityToken", token.expose());
        self.endpoint.form(form.finish(), self.timeout)
    }

    /// All that no log may show: what was sent, and the session that the metadata service gave.
    fn hidden(&self, answers: &[Secret]) -> Vec<Secret> {
        let sent = match &self.source {
            Source::Container(authorization) => authorization.as_ref(),
            Source::InstanceMetadata(_) => answers.first(),
            Source::WebIdentity { token, .. } => Some(token),
        };
        sent.into_iter().map(Secret::copy).collect()
    }

    /// What tells the keys from others, with the secret or without.
    fn fields(&self, with_secret: bool) -> Vec<&str> {
        let mut fields = [&["aws"], &self.endpoint.identity()[..]].concat();
        match &self.source {
            Source::Container(authorization) => {
                fields.push("container");
                fields.extend(authorization.as_ref().filter(|_| with_secret).map(Secret::expose));
            }
            Source::InstanceMetadata(role) => fields.extend(["imds", role.as_deref().unwrap_or_default()]),
            Source::WebIdentity { role, session_name, token } => {
                fields.extend(["webIdentity", role, session_name]);
                fields.extend(with_secret.then(|| token.expose()));
            }
        }
        fields
    }
}

impl Issuer for KeyIssuer {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn key(&self) -> TokenKey {
        TokenKey::of(&self.fields(true))
    }

    fn lineage(&self, server: [&str; 2]) -> TokenKey {
        TokenKey::of(&[&server[..], &self.fields(false)].concat())
    }

    fn request(&self, answers: &[Secret], _: Time, _: [u64; 2], _: Sign<'_>) -> Result<TokenRequest<'_>, Failure> {
        Ok(match &self.source {
            Source::Container(None) => self.get(&self.endpoint.path),
            Source::Container(Some(value)) => self.get(&self.endpoint.path).with("authorization", value.copy()),
            Source::InstanceMetadata(role) => self.instance_metadata(role.as_deref(), answers),
            Source::WebIdentity { role, session_name, token } => self.assume_role(role, session_name, token),
        })
    }

    fn read(&self, answers: &[Secret], reply: &Reply<'_>, now: Time) -> Result<Answer, Failure> {
        reply.check(now)?;
        match &self.source {
            Source::WebIdentity { .. } => answer_of_sts(reply, now, &self.hidden(answers)),
            _ if !reply.is_success() => {
                Err(reply.failure(FailureKind::Refused, format!("it answers {}", reply.status), now))
            }
            Source::InstanceMetadata(_) if answers.len() + 1 < self.requests() as usize => {
                let line = String::from_utf8_lossy(reply.body);
                let line = line.lines().next().unwrap_or_default().trim();
                let is_legal = text(line).is_ok() && line.bytes().all(|byte| byte.is_ascii_graphic());
                match is_legal {
                    true => Ok(Answer::Interim(Secret::new(line.to_owned()))),
                    false => Err(reply.failure(FailureKind::Malformed, "its answer has no line".to_owned(), now)),
                }
            }
            Source::Container(_) | Source::InstanceMetadata(_) => keys_in_json(reply, now, &self.hidden(answers)),
        }
    }

    /// They are put into requests in another form each time.
    fn as_sent(&self, token: &str) -> Secret {
        Secret::new(token.to_owned())
    }
}

#[cfg(test)]
mod tests;
