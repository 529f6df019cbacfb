//! Where AWS gives temporary credentials to what runs on it: the metadata service of an EC2 instance, the endpoint of a
//! container, and STS. It demands all that these demand, misbehaves on request, and writes down what it is asked.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::arrival::{Arrival, read_body};
use crate::aws_peer::Credentials;
use crate::client::PATIENCE;
use crate::serve::{Answer, Listening, Service, serve};

/// Where the metadata service gives the session tokens without which it gives nothing else.
pub const SESSIONS: &str = "/latest/api/token";

/// Below this, the metadata service names the role of its instance, and has the role's credentials.
pub const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The role of the instance.
pub const ROLE: &str = "mcp-gateway";

/// Where a container finds its credentials.
pub const CONTAINER: &str = "/v2/credentials/0f2c?a=1";

/// The `Authorization` that the container must have.
pub const CONTAINER_TOKEN: &str = "c0nt41ner-t0ken";

/// The token of the web identity that may assume roles.
pub const WEB_IDENTITY: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtY3AifQ.+/=";

/// The role that it may assume.
pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/mcp+gateway";

const SESSION: &str = "x-aws-ec2-metadata-token";

/// How many credentials were granted by all servers, so that no two of these have the same.
static GRANTED: AtomicUsize = AtomicUsize::new(1);

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct CredentialsServer {
    listening: Listening,
    desk: Arc<Desk>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it arrived.
    pub at: Instant,
    /// Its head.
    pub head: Arrival,
    /// Its form, if it has one.
    pub form: Vec<(String, String)>,
    /// The status of the answer, once there is one.
    pub status: Option<StatusCode>,
}

/// What whoever asks rightly for credentials gets.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// New ones that live for so long.
    Grants(Duration),
    /// These bytes.
    Says(StatusCode, String),
}

impl CredentialsServer {
    /// Listens on `address` and grants credentials for an hour.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let listening = serve(address, Arc::clone(&desk)).await?;
        Ok(Self { listening, desk })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// From now on, answers like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.desk.state().behaviour = behaviour;
    }

    /// From now on, no session token of before is good any longer, as when an instance is moved.
    pub fn forget_sessions(&self) {
        self.desk.state().sessions.clear();
    }

    /// Keeps all who ask waiting until [`CredentialsServer::release`].
    pub fn hold(&self) {
        self.desk.is_held.send_replace(true);
    }

    /// Answers all who wait, and whoever comes.
    pub fn release(&self) {
        self.desk.is_held.send_replace(false);
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.desk.state().asked.clone()
    }

    /// All requests, as soon as there are `count`.
    ///
    /// # Errors
    /// If they do not come for long.
    pub async fn wait_for(&self, count: usize) -> io::Result<Vec<Asked>> {
        let mut arrivals = self.desk.arrivals.subscribe();
        let enough = arrivals.wait_for(|arrived| *arrived >= count);
        timeout(PATIENCE, enough).await?.map_err(io::Error::other)?;
        Ok(self.asked())
    }

    /// The credentials it grants.
    pub fn granted(&self) -> Granted {
        Granted(Arc::clone(&self.desk))
    }
}

/// The credentials that a server has granted.
#[derive(Clone, Debug)]
pub struct Granted(Arc<Desk>);

impl Granted {
    /// All of them.
    pub fn all(&self) -> Vec<Credentials> {
        self.0.state().granted.clone()
    }

    /// Those with this id.
    pub fn by_id(&self, access_key_id: &str) -> Option<Credentials> {
        self.all().into_iter().find(|credentials| credentials.access_key_id == access_key_id)
    }
}

/// What the server remembers.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    is_held: watch::Sender<bool>,
    arrivals: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    asked: Vec<Asked>,
    sessions: Vec<String>,
    granted: Vec<Credentials>,
}

impl Default for State {
    fn default() -> Self {
        let behaviour = Behaviour::Grants(Duration::from_secs(3600));
        Self { behaviour, asked: Vec::new(), sessions: Vec::new(), granted: Vec::new() }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> (StatusCode, String) {
        let head = &asked.head;
        let (method, path) = (head.method.as_str(), head.path_and_query.as_str());
        if let ("GET", Some(role)) = (method, path.strip_prefix(ROLES)) {
            return self.instance(head, role);
        }
        match (method, path) {
            ("PUT", SESSIONS) => self.session(head),
            ("GET", CONTAINER) if head.header("authorization") != [CONTAINER_TOKEN] => refuse(StatusCode::UNAUTHORIZED),
            ("GET", CONTAINER) => self.grant(container),
            ("POST", "/") => self.assume(asked),
            _ => refuse(StatusCode::NOT_FOUND),
        }
    }

    /// The real one does not serve who comes through a proxy, either, as that might be anybody's.
    fn session(&mut self, head: &Arrival) -> (StatusCode, String) {
        let lifetime = head.header("x-aws-ec2-metadata-token-ttl-seconds");
        if !head.header("x-forwarded-for").is_empty() {
            return refuse(StatusCode::FORBIDDEN);
        }
        if !lifetime.concat().parse().is_ok_and(|seconds: u32| (1..=21600).contains(&seconds)) {
            return refuse(StatusCode::BAD_REQUEST);
        }
        let session = format!("AQAEA-s3ss10n-{}==", self.asked.len());
        self.sessions.push(session.clone());
        (StatusCode::OK, session)
    }

    fn instance(&mut self, head: &Arrival, role: &str) -> (StatusCode, String) {
        if !head.header(SESSION).first().is_some_and(|session| self.sessions.contains(session)) {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        match role {
            "" => (StatusCode::OK, ROLE.to_owned()),
            ROLE => self.grant(instance),
            _ => refuse(StatusCode::NOT_FOUND),
        }
    }

    /// Nobody signs this: whoever asks has nothing yet to sign with.
    fn assume(&mut self, asked: &Asked) -> (StatusCode, String) {
        let parameter = |name: &str| {
            let mut values = asked.form.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
            values.next().filter(|_| values.next().is_none()).unwrap_or_default()
        };
        let expected = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", ROLE_ARN),
            ("WebIdentityToken", WEB_IDENTITY),
        ];
        let is_form = asked.head.header("content-type").concat().starts_with("application/x-www-form-urlencoded");
        let is_right = expected.iter().all(|(name, value)| parameter(name) == *value);
        if !is_form
            || !is_right
            || parameter("RoleSessionName").is_empty()
            || !asked.head.header("authorization").is_empty()
        {
            let code = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code></Error></ErrorResponse>";
            return (StatusCode::FORBIDDEN, code.to_owned());
        }
        self.grant(role)
    }

    fn grant(&mut self, form: fn(&Credentials, String) -> String) -> (StatusCode, String) {
        let lifetime = match &self.behaviour {
            Behaviour::Grants(lifetime) => *lifetime,
            Behaviour::Says(status, text) => return (*status, text.clone()),
        };
        let number = GRANTED.fetch_add(1, Ordering::Relaxed);
        let credentials = Credentials {
            access_key_id: format!("ASIAEXAMPLE{number:05}"),
            // As long as those of AWS, and with what they may have in them.
            secret_access_key: format!("s3cr3t/+{number:032}"),
            session_token: Some(format!("s3ss10nT0ken/+{number:05}==")),
        };
        let expiration = DateTime::<Utc>::from(SystemTime::now() + lifetime).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let text = form(&credentials, expiration);
        self.granted.push(credentials);
        (StatusCode::OK, text)
    }
}

fn refuse(status: StatusCode) -> (StatusCode, String) {
    (status, format!("<no>{}</no>", status.as_u16()))
}

fn container(credentials: &Credentials, expiration: String) -> String {
    json!({
        "RoleArn": ROLE_ARN,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": expiration,
    })
    .to_string()
}

fn instance(credentials: &Credentials, expiration: String) -> String {
    json!({
        "Code": "Success",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": expiration,
    })
    .to_string()
}

fn role(credentials: &Credentials, expiration: String) -> String {
    let Credentials { access_key_id, secret_access_key, session_token } = credentials;
    let session_token = session_token.as_deref().unwrap_or_default();
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <AssumeRoleWithWebIdentityResult>\n    <Audience>mcp</Audience>\n    <Credentials>\n      \
         <SessionToken>{session_token}</SessionToken>\n      <SecretAccessKey>{secret_access_key}</SecretAccessKey>\n      \
         <Expiration>{expiration}</Expiration>\n      <AccessKeyId>{access_key_id}</AccessKeyId>\n    </Credentials>\n  \
         </AssumeRoleWithWebIdentityResult>\n</AssumeRoleWithWebIdentityResponse>\n"
    )
}

impl Service for Desk {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let head = Arrival::of(&request);
        let body = read_body(request.into_body()).await.map(|(body, _)| body).unwrap_or_default();
        let form = form_urlencoded::parse(&body).into_owned().collect();
        let asked = Asked { at: Instant::now(), head, form, status: None };
        let index = {
            let mut state = self.state();
            state.asked.push(asked.clone());
            self.arrivals.send_replace(state.asked.len());
            state.asked.len() - 1
        };
        let _ = self.is_held.subscribe().wait_for(|is_held| !is_held).await;
        let mut state = self.state();
        let (status, text) = state.answer(&asked);
        if let Some(asked) = state.asked.get_mut(index) {
            asked.status = Some(status);
        }
        let content_type = if text.starts_with('<') { "text/xml" } else { "text/plain" };
        let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer
    }
}
