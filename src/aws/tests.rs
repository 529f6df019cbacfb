//! Signatures beside those that AWS publishes and those that its own crate makes.

mod differences;
mod key_of_the_day;
mod keys;
mod published;
mod random;
mod reference;
mod signing;
mod suite;

use std::cell::RefCell;

use super::keys::Keys;
use super::signer::{HEADERS, Signer};
use crate::http::body::{Payload, PayloadReader};
use crate::http::header_name::HeaderName;
use crate::http::request::{Headers, Request};
use crate::refusal::Reason;
use crate::time::Time;

/// The time of the published requests, in milliseconds: 2015-08-30, 12:36 in UTC.
const PUBLISHED: u64 = 1_440_938_160_000;

/// A header map like Envoy's: duplicates are kept until replaced.
#[derive(Clone, Debug, PartialEq)]
struct FakeHeaders(Vec<(String, Vec<u8>)>);

impl FakeHeaders {
    fn new(entries: &[(&str, &str)]) -> Self {
        Self(entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect())
    }

    /// A line of text for each header, sorted.
    fn lines(&self) -> Vec<String> {
        let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", str::from_utf8(value).unwrap());
        let mut lines: Vec<_> = self.0.iter().map(line).collect();
        lines.sort();
        lines
    }

    /// The value of the only header called `name`.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| str::from_utf8(value).unwrap());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        first
    }
}

impl Headers for FakeHeaders {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        panic!("{name} is read alone, beside all")
    }

    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| see(name.as_bytes(), value));
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| own != name);
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_owned(), value.to_vec()));
    }
}

/// A request, and all that its signature depends on.
#[derive(Clone, Debug)]
struct Case {
    method: String,
    /// Its path with the query.
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    /// Headers that are signed beside those that always are.
    also: Vec<String>,
    /// None, if it is not signed.
    body: Option<Vec<u8>>,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    region: String,
    service: String,
    now: Time,
}

impl Case {
    /// A request at the time of the published ones, and with their keys.
    fn published(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "example.amazonaws.com".to_owned(),
            headers: headers.iter().map(owned).collect(),
            also: headers.iter().map(|(name, _)| (*name).to_owned()).collect(),
            body: Some(Vec::new()),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
            now: Time::from_millis(PUBLISHED),
        }
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.access_key_id, &self.secret_access_key, self.session_token.as_deref()).unwrap()
    }

    fn signer(&self) -> Signer {
        Signer {
            region: self.region.clone(),
            service: self.service.clone(),
            signs_payload: self.body.is_some(),
            also: self.also.iter().map(|name| HeaderName::parse(name).unwrap()).collect(),
            of_the_day: RefCell::default(),
        }
    }

    /// As a host hands it over.
    fn fake_headers(&self) -> FakeHeaders {
        let pseudo = [(":method", &self.method), (":path", &self.target), (":authority", &self.host)];
        let rest = self.headers.iter().map(|(name, value)| (name.as_str(), value));
        FakeHeaders::new(
            &pseudo.into_iter().chain(rest).map(|(name, value)| (name, value.as_str())).collect::<Vec<_>>(),
        )
    }

    fn payload(&self) -> Payload {
        let Some(body) = &self.body else { return Payload::Unread };
        let mut reader = PayloadReader::new(u64::MAX);
        reader.read(body).unwrap();
        reader.finish()
    }

    /// What is sent.
    fn sign(&self) -> Result<FakeHeaders, Reason> {
        self.sign_with(&self.signer())
    }

    /// What is sent when this one signs it.
    fn sign_with(&self, signer: &Signer) -> Result<FakeHeaders, Reason> {
        let mut headers = self.fake_headers();
        let now = || self.now;
        let no_attribute = |_: &[&str]| panic!("a signature needs no attribute");
        let mut request =
            Request { headers: &mut headers, attributes: &no_attribute, payload: self.payload(), now: &now };
        signer.sign(&self.keys(), &mut request)?;
        Ok(headers)
    }

    /// Compares each step, and what is sent, with what the crate of AWS makes of it.
    fn agrees(&self) {
        let expected = reference::sign(self);
        let hash = self.body.as_ref().map_or("UNSIGNED-PAYLOAD".to_owned(), |body| reference::sha256(body));
        let ours = self.signer().signature(&self.keys(), &self.fake_headers().0, &hash, self.now).unwrap();
        assert_eq!(str::from_utf8(&ours.canonical.text).unwrap(), expected.canonical);
        assert_eq!(ours.string_to_sign, expected.string_to_sign);
        assert!(ours.authorization.expose().ends_with(&format!("Signature={}", expected.signature)));

        let mut sent = self.fake_headers();
        HEADERS.iter().for_each(|name| sent.remove(name.as_str()));
        expected.headers.iter().for_each(|(name, value)| sent.set(name, value.as_bytes()));
        if let Some(body) = &self.body {
            sent.set("content-length", body.len().to_string().as_bytes());
        }
        assert_eq!(self.sign().unwrap().lines(), sent.lines());
    }
}
