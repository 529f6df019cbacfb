//! What a VM sees of the process: Envoy's calls, with Envoy's habits.

use std::time::Duration;

use super::super::token_server::{Answer, Asked, What};
use super::{Happening, Outcome, PATIENCE, Process};
use crate::oauth2::{Client, ClientAuth};
use crate::secret::Secret;
use crate::selection::{SelectBy, Server, ServerId, Servers, Unmatched};
use crate::time::Time;
use crate::token::gate::WIDTH;
use crate::token::{Endpoint, Event, Failure, Host, Refusal, TokenRequest, Waiter};

/// Envoy, for one VM.
pub struct FakeHost<'a> {
    pub process: &'a Process,
    pub vm: usize,
}

impl Host for FakeHost<'_> {
    fn now(&self) -> Time {
        let state = self.process.state.borrow();
        state.now.before(state.set_back)
    }

    fn random(&self) -> u64 {
        self.process.preempt();
        self.process.state.borrow_mut().random.next()
    }

    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.process.preempt();
        self.process.state.borrow().data.get(key).cloned()
    }

    fn write(&self, key: &str, value: &[u8], version: Option<u32>) -> bool {
        self.process.preempt();
        let mut state = self.process.state.borrow_mut();
        let percent = state.conflicts;
        let has_conflict = version.is_some() && state.random.percent(percent);
        state.version += 1;
        let next = state.version;
        match state.data.get_mut(key) {
            Some((_, own)) if has_conflict => *own = next,
            Some((_, own)) if version.is_some_and(|version| version != *own) => {}
            _ => {
                state.data.insert(key.to_owned(), (value.to_vec(), next));
                return true;
            }
        }
        false
    }

    fn make_queue(&self) -> Option<u32> {
        let mut state = self.process.state.borrow_mut();
        state.queues.push(self.vm);
        u32::try_from(state.queues.len()).ok()
    }

    fn tell(&self, queue: u32, message: &str) {
        let mut state = self.process.state.borrow_mut();
        let vm = state.queues[queue as usize - 1];
        if !self.process.vm(vm).is_deaf.get() {
            let soon = state.soon();
            state.schedule(soon, vm, Happening::Message(message.as_bytes().to_vec()));
        }
    }

    fn call(&self, request: &TokenRequest<'_>) -> Result<u32, Failure> {
        let asked = asked(request, self.vm, self.process.now());
        let mut state = self.process.state.borrow_mut();
        let Answer { after, what } = (self.process.script.borrow_mut())(&asked, &mut state.random);
        state.asked.push(asked.clone());
        if let What::NotSent(kind) = what {
            return Err(Failure::new(kind, "it is not sent"));
        }
        let same = |other: &&Asked| (other.token, &other.secret) == (asked.token, &asked.secret);
        // Whose clock is set back takes what was noted before for somebody's who is dead.
        let is_alone = state.in_flight.values().filter(same).count() == 0 || state.set_back > Duration::ZERO;
        assert!(is_alone, "two fetches of one token at once");
        assert!(state.in_flight.len() < WIDTH, "more at once than one token server is to see");
        let call = u32::try_from(state.asked.len()).unwrap();
        state.in_flight.insert(call, asked);
        let (after, what) = match what {
            What::Silence => (request.timeout, What::Silence),
            _ if after >= request.timeout => (request.timeout, What::Silence),
            what => (after, what),
        };
        state.schedule(after, self.vm, Happening::Answer(call, what));
        Ok(call)
    }

    fn sign(&self, _: &Secret, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("nobody signs here".to_owned())
    }

    fn wake_after(&self, delay: Option<Duration>) {
        let mut state = self.process.state.borrow_mut();
        let late = state.soon();
        let tick = delay.map(|delay| state.now.after(delay).after(late));
        state.ticks[self.vm] = tick;
    }

    fn settle(&self, waiter: &Waiter, outcome: Result<(), Refusal>) {
        let mut state = self.process.state.borrow_mut();
        let token = &state.waiting[&waiter.context].token;
        match outcome {
            Ok(()) => assert!(token.held().is_some(), "a request goes on without a token"),
            Err(_) => state.assert_nothing_serves(token),
        }
        state.end(waiter.context, outcome.map_or_else(Outcome::Refused, |()| Outcome::AfterWaiting));
    }

    fn report(&self, _: &str, event: Event) {
        self.process.state.borrow_mut().dropped += usize::from(event == Event::Challenged);
    }
}

/// Each token is told from the others by its path, and the client by its secret in plain sight.
pub fn client(token: usize, secret: &str) -> Client {
    Client {
        endpoint: Endpoint {
            cluster: "auth.example".to_owned(),
            scheme: "https",
            authority: "auth.example".to_owned(),
            path: format!("/{token}"),
        },
        id: "client".to_owned(),
        auth: ClientAuth::Post(Secret::new(secret.to_owned())),
        parameters: Vec::new(),
        timeout: PATIENCE,
    }
}

fn asked(request: &TokenRequest<'_>, vm: usize, at: Time) -> Asked {
    let path = request.headers.iter().find(|(name, _)| *name == ":path").unwrap().1.expose();
    let mut form = form_urlencoded::parse(request.body.expose().as_bytes());
    let secret = form.find(|(name, _)| name == "client_secret").unwrap().1.into_owned();
    Asked { token: path.strip_prefix('/').unwrap().parse().unwrap(), secret, vm, at }
}

/// Servers are of no interest here, but each waiting request has one.
pub fn only_server() -> ServerId {
    let server = Server { name: "s".into(), upstream: None };
    let servers = Servers::named(SelectBy::Cluster, vec![server], Unmatched::Reject);
    servers.select(|_| Some(b"s".to_vec())).unwrap()
}
