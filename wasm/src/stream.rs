//! One request: Envoy's callbacks on its way.

use std::rc::Rc;

use mcp_upstream_auth::filter::{Decided, Decision, Outcome, Verdict};
use mcp_upstream_auth::held_request::HeldRequest;
use mcp_upstream_auth::http::body::{Payload, PayloadReader};
use mcp_upstream_auth::refusal::Reason;
use mcp_upstream_auth::selection::ServerId;
use mcp_upstream_auth::token::{Refusal, TokenId, Wait};

use crate::abi::{self, Action, BufferType, MapType};
use crate::headers::HeaderMap;
use crate::plugin::{Plugin, read_attribute, refuse, request};

/// One request. It keeps the configuration that it began with.
pub struct Stream {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    progress: Progress,
}

/// How far a request has come.
enum Progress {
    /// Its head has not been seen.
    New,
    /// Its body is read, if it was not refused meanwhile.
    Reading(ServerId, PayloadReader, Rc<HeldRequest>),
    /// It waits for this token of this server, or has.
    Waiting(ServerId, TokenId, Rc<HeldRequest>),
    /// It is decided.
    Decided(Decided),
    /// It is a callout of this filter that came back to it.
    OfCallout,
}

impl Stream {
    /// The request that Envoy calls `id`.
    pub fn new(id: u32, plugin: Option<Rc<Plugin>>) -> Self {
        Self { id, plugin, progress: Progress::New }
    }

    /// A callout of this filter that came back as the request that Envoy calls `id`. It goes no further: its credential
    /// could take another callout, which would come back as well.
    pub fn of_callout(id: u32) -> Self {
        Self { id, plugin: None, progress: Progress::OfCallout }
    }
}

/// Envoy is done with it.
impl Drop for Stream {
    fn drop(&mut self) {
        let Some(plugin) = &self.plugin else { return };
        match &self.progress {
            Progress::Waiting(_, token, _) if self.is_held() => {
                plugin.filter.tokens().forget(*token, self.id, &plugin.envoy());
            }
            // One that has its token may still wait for the next part of its body.
            Progress::Reading(..) | Progress::Waiting(..) => plugin.forget_body(self.id),
            Progress::New | Progress::Decided(_) | Progress::OfCallout => {}
        }
    }
}

impl Stream {
    /// Its head is there.
    pub fn on_request_headers(&mut self, end_of_stream: bool) -> Action {
        if matches!(self.progress, Progress::OfCallout) {
            return Action::Pause;
        }
        let Some(plugin) = self.plugin.clone() else { return refuse(Reason::Internal.into()) };
        let payload = if end_of_stream { Payload::Absent } else { Payload::Unread };
        let mut headers = HeaderMap::new(MapType::RequestHeaders);
        let decision = plugin.filter.on_request(&mut request(&mut headers, payload));
        self.go_on(&plugin, decision, payload, headers)
    }

    /// Envoy hands over all that it holds back so far, the new part last. Held back is what is decided later: else it
    /// would leave before its headers are right.
    pub fn on_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let is_held = self.is_held();
        self.body_goes_on(!end_of_stream);
        let (Some(plugin), Progress::Reading(server, reader, _)) = (self.plugin.clone(), &mut self.progress) else {
            let is_stopped = is_held || self.is_refused() || matches!(self.progress, Progress::OfCallout);
            return if is_stopped { Action::Pause } else { Action::Continue };
        };
        let server = *server;
        if !is_held {
            return Action::Pause;
        }
        if reader.length() == 0 {
            plugin.body_began(self.id);
        }
        let read = usize::try_from(reader.length()).unwrap_or(usize::MAX);
        let rest = size.saturating_sub(read);
        let bytes = if rest == 0 { Ok(Vec::new()) } else { abi::buffer(BufferType::RequestBody, read, rest) };
        let bytes = bytes.ok().filter(|bytes| bytes.len() == rest);
        match bytes.map(|bytes| reader.read(&bytes)) {
            Some(Ok(())) if end_of_stream => self.body_is_read(),
            Some(Ok(())) => Action::Pause,
            Some(Err(_)) => self.refuse_body(server, Reason::BodyTooLarge),
            None => self.refuse_body(server, Reason::Internal),
        }
    }

    /// Its trailers are there.
    pub fn on_request_trailers(&mut self) -> Action {
        let verdict = match &self.progress {
            // Whatever becomes of it, these go no further.
            Progress::Reading(server, ..) | Progress::Waiting(server, ..) => {
                Some(Verdict { server: Some(*server), outcome: Outcome::Injected })
            }
            Progress::Decided(decided) => Some(decided.verdict),
            Progress::New | Progress::OfCallout => None,
        };
        if let (Some(plugin), Some(verdict)) = (&self.plugin, verdict) {
            let mut trailers = HeaderMap::new(MapType::RequestTrailers);
            plugin.filter.on_trailers(verdict, &mut trailers);
            trailers.report_failure();
        }
        self.body_goes_on(false);
        if self.is_held() && matches!(self.progress, Progress::Reading(..)) {
            return self.body_is_read();
        }
        if self.is_held() || self.is_refused() { Action::Pause } else { Action::Continue }
    }

    /// The head of its response is there.
    pub fn on_response_headers(&mut self) -> Action {
        let (Some(plugin), Some(decided)) = (&self.plugin, self.decided()) else { return Action::Continue };
        let mut headers = HeaderMap::new(MapType::ResponseHeaders);
        let challenge = plugin.filter.on_response(decided, &mut headers, &read_attribute);
        let action = challenge.map(|challenge| plugin.answer(challenge, decided));
        headers.report_failure();
        action.unwrap_or(Action::Continue)
    }
}

impl Stream {
    /// Does what is decided.
    fn go_on(&mut self, plugin: &Plugin, decision: Decision, payload: Payload, mut headers: HeaderMap) -> Action {
        let mut decision = decision;
        match decision {
            Decision::Read(server, limits) if !headers.has_failed => {
                let held = plugin.wait_for_body(self.id, server, limits.within);
                self.progress = Progress::Reading(server, PayloadReader::new(limits.bytes), held);
                return Action::Pause;
            }
            Decision::Wait(server, awaited) if !headers.has_failed => {
                match plugin.wait(self.id, server, awaited, payload) {
                    (Wait::Ready, _) => {
                        decision = plugin.filter.inject(server, &mut request(&mut headers, payload));
                    }
                    (Wait::Refused(refusal), _) => return self.refuse(server, refusal),
                    (Wait::Parked, held) => {
                        self.progress = Progress::Waiting(server, awaited.id, held);
                        return Action::Pause;
                    }
                }
            }
            Decision::Read(..) | Decision::Wait(..) | Decision::Final(_) => {}
        }
        let decided = plugin.decided(decision, &headers);
        self.progress = Progress::Decided(decided);
        match decided.verdict.outcome {
            Outcome::Injected | Outcome::Stripped | Outcome::Passed => Action::Continue,
            Outcome::Rejected(reason) => refuse(reason.into()),
        }
    }

    /// A part of the body of a request that waits for its token is there.
    fn body_goes_on(&self, has_more: bool) {
        if let (Progress::Waiting(.., held), Some(plugin)) = (&self.progress, &self.plugin) {
            held.is_in_mid_body.set(has_more);
            plugin.forget_body(self.id);
        }
    }

    /// The whole body is there.
    fn body_is_read(&mut self) -> Action {
        let Some(plugin) = self.plugin.clone() else { return refuse(Reason::Internal.into()) };
        let progress = std::mem::replace(&mut self.progress, Progress::New);
        let Progress::Reading(server, reader, _) = progress else { return refuse(Reason::Internal.into()) };
        plugin.forget_body(self.id);
        let payload = reader.finish();
        let mut headers = HeaderMap::new(MapType::RequestHeaders);
        let decision = plugin.filter.inject(server, &mut request(&mut headers, payload));
        self.go_on(&plugin, decision, payload, headers)
    }

    fn decided(&self) -> Option<Decided> {
        match &self.progress {
            Progress::New | Progress::OfCallout => None,
            Progress::Reading(.., held) | Progress::Waiting(.., held) => held.decided.get(),
            Progress::Decided(decided) => Some(*decided),
        }
    }

    /// Whether it is yet to be decided and must go no further.
    fn is_held(&self) -> bool {
        matches!(self.progress, Progress::Reading(..) | Progress::Waiting(..)) && self.decided().is_none()
    }

    fn is_refused(&self) -> bool {
        self.decided().is_some_and(|decided| matches!(decided.verdict.outcome, Outcome::Rejected(_)))
    }

    fn refuse_body(&mut self, server: ServerId, reason: Reason) -> Action {
        if let Some(plugin) = &self.plugin {
            plugin.forget_body(self.id);
        }
        self.refuse(server, reason.into())
    }

    fn refuse(&mut self, server: ServerId, refusal: Refusal) -> Action {
        if let Some(plugin) = &self.plugin {
            self.progress = Progress::Decided(plugin.refused(server, refusal));
        }
        refuse(refusal)
    }
}
