//! An Envoy process without Envoy: VMs that share data, a clock, and token servers.
//!
//! What happens in it is chosen by a seed. Shared data, queues and ticks are as Envoy's: a version is only
//! compared where something is, a message comes a little later, and a tick takes the place of the one
//! before. While a VM is at work others may get in before each of its host calls.

mod host;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use prost::Message;

use self::host::{FakeHost, client, only_server};
use super::stepwise::Stepwise;
use super::token_server::{Asked, Random, Script, What};
use crate::http::body::Payload;
use crate::refusal::Reason;
use crate::time::Time;
use crate::token::record::Record;
use crate::token::{
    FailureKind, Host, Issuer, LARGEST_BODY, Lease, Refusal, Reply, Token, TokenId, Tokens, Wait, Waiter,
};

/// Ticks and messages come so much later at the most; whatever must be over by a time may take as long.
pub const LATE: Duration = Duration::from_millis(3);

/// `requestTimeoutMs` and `maxWaitMs` here.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub struct Process {
    pub state: RefCell<State>,
    pub vms: RefCell<Vec<Rc<Vm>>>,
    pub script: RefCell<Script>,
    /// How many requests a fetch takes.
    pub steps: Cell<usize>,
}

/// One configuration in one VM.
pub struct Vm {
    tokens: Tokens,
    pub list: RefCell<Vec<Lease>>,
    is_at_work: Cell<bool>,
    pub is_gone: Cell<bool>,
    /// It hears of nothing that others do.
    pub is_deaf: Cell<bool>,
}

pub struct State {
    pub now: Time,
    /// How far the clock that VMs see was set back.
    pub set_back: Duration,
    pub random: Random,
    /// Of a hundred writes so many find that somebody else wrote meanwhile.
    pub conflicts: u64,
    /// Before so many of a hundred host calls another VM gets in.
    pub preemptions: u64,
    data: HashMap<String, (Vec<u8>, u32)>,
    version: u32,
    queues: Vec<usize>,
    ticks: Vec<Option<Time>>,
    events: BTreeMap<(Time, u64), (usize, Happening)>,
    in_flight: BTreeMap<u32, Asked>,
    /// All requests that were sent.
    pub asked: Vec<Asked>,
    /// The tokens issued, and from when until when they are good as their requester must see it.
    issued: HashMap<String, (Time, Time)>,
    waiting: BTreeMap<u32, Waiting>,
    contexts: u32,
    /// What became of each request for a token.
    pub outcomes: Vec<(Time, usize, Outcome)>,
    pub dropped: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    AtOnce,
    AfterWaiting,
    Refused(Refusal),
}

impl Outcome {
    /// Why a request was refused, if it was.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            Self::AtOnce | Self::AfterWaiting => None,
        }
    }
}

struct Waiting {
    vm: usize,
    /// What it waits for.
    token: Rc<Token>,
    deadline: Time,
}

enum Happening {
    Message(Vec<u8>),
    Answer(u32, What),
    Request(usize),
    Secret(usize, &'static str),
    GoesAway(TokenId, u32),
}

impl Process {
    pub fn new(seed: u64, script: Script) -> Self {
        let state = State {
            now: Time::NOON,
            set_back: Duration::ZERO,
            random: Random(seed),
            conflicts: seed % 30,
            preemptions: seed % 20,
            data: HashMap::new(),
            version: 0,
            queues: Vec::new(),
            ticks: Vec::new(),
            events: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            asked: Vec::new(),
            issued: HashMap::new(),
            waiting: BTreeMap::new(),
            contexts: 0,
            outcomes: Vec::new(),
            dropped: 0,
        };
        Self { state: RefCell::new(state), vms: RefCell::default(), script: RefCell::new(script), steps: Cell::new(1) }
    }

    /// The issuer of the configuration's token of this number.
    fn issuer(&self, token: usize, secret: &str) -> Box<dyn Issuer> {
        Box::new(Stepwise { client: client(token, secret), steps: self.steps.get() })
    }

    /// Loads a configuration of so many tokens in so many VMs, after one that only tries it. Gives the
    /// first VM's number.
    pub fn load(&self, vms: usize, tokens: usize, secret: &str) -> usize {
        let first = self.vms.borrow().len();
        for index in 0..=vms {
            let vm = self.vms.borrow().len();
            let loaded = Tokens::default();
            let list = (0..tokens)
                .map(|token| loaded.share(Token::new(self.issuer(token, secret), "s".into(), "h", "auth")))
                .collect::<Vec<_>>();
            let list = RefCell::new(list);
            self.state.borrow_mut().ticks.push(None);
            let is_only_to_try = index == 0;
            let (is_at_work, is_gone, is_deaf) = (Cell::new(true), Cell::new(is_only_to_try), Cell::new(false));
            self.vms.borrow_mut().push(Rc::new(Vm { tokens: loaded, list, is_at_work, is_gone, is_deaf }));
            self.vm(vm).tokens.load(&FakeHost { process: self, vm }).unwrap();
            self.vm(vm).is_at_work.set(false);
        }
        first + 1
    }

    pub fn vm(&self, vm: usize) -> Rc<Vm> {
        Rc::clone(&self.vms.borrow()[vm])
    }

    pub fn now(&self) -> Time {
        self.state.borrow().now
    }

    /// The token in hand, and its number.
    pub fn held(&self, vm: usize, token: usize) -> Option<(String, u64)> {
        let vm = self.vm(vm);
        let list = vm.list.borrow();
        let held = list[token].token.held();
        held.map(|held| (held.as_sent.expose().strip_prefix("Bearer ").unwrap().to_owned(), held.generation))
    }

    /// When a VM looks at its tokens next.
    pub fn next_tick(&self, vm: usize) -> Option<Time> {
        self.state.borrow().ticks[vm]
    }

    /// How long ago a token was asked for.
    pub fn age(&self, token: &str) -> Duration {
        let state = self.state.borrow();
        state.now.since(state.issued[token].0)
    }

    /// The VMs that are at work, by their numbers.
    pub fn living(&self) -> Vec<usize> {
        let vms = self.vms.borrow();
        (0..vms.len()).filter(|vm| !vms[*vm].is_gone.get()).collect()
    }

    /// Lets a request for a token arrive so many milliseconds from now.
    pub fn request_in(&self, millis: u64, vm: usize, token: usize) {
        self.state.borrow_mut().schedule(Duration::from_millis(millis), vm, Happening::Request(token));
    }

    /// Lets the first request with another secret in its filter state arrive so many milliseconds from now.
    pub fn secret_in(&self, millis: u64, vm: usize, token: usize, secret: &'static str) {
        self.state.borrow_mut().schedule(Duration::from_millis(millis), vm, Happening::Secret(token, secret));
    }

    /// How many tokens a VM has.
    pub fn tokens(&self, vm: usize) -> usize {
        self.vm(vm).tokens.len()
    }

    /// Lets time pass.
    pub fn pass(&self, duration: Duration) {
        let until = self.now().after(duration);
        while self.step(until) {}
        self.state.borrow_mut().now = until;
        self.check();
    }

    /// The upstream refuses a token.
    pub fn upstream_refuses(&self, vm: usize, token: usize, generation: u64) -> bool {
        let mut is_another_there = false;
        self.at_work(vm, |vm, host| {
            is_another_there = vm.tokens.challenged(vm.list.borrow()[token].id, generation, host)
        });
        is_another_there
    }

    /// A configuration is done with, in good order.
    pub fn stop(&self, vm: usize) {
        self.at_work(vm, |vm, host| vm.tokens.stop(host));
        self.vanish(vm);
    }

    /// A VM is gone without a word.
    pub fn vanish(&self, vm: usize) {
        self.vm(vm).is_gone.set(true);
        let mut state = self.state.borrow_mut();
        state.ticks[vm] = None;
        state.in_flight.retain(|_, asked| asked.vm != vm);
        state.waiting.retain(|_, waiting| waiting.vm != vm);
    }

    /// Does what is next, if that is not after `until`.
    fn step(&self, until: Time) -> bool {
        let (time, vm, happening) = {
            let mut state = self.state.borrow_mut();
            let tick = state.ticks.iter().enumerate().filter_map(|(vm, tick)| Some(((*tick)?, vm))).min();
            let event = state.events.first_key_value().map(|(key, _)| *key);
            match (tick, event) {
                (Some((tick, vm)), event) if tick <= until && event.is_none_or(|(event, _)| tick < event) => {
                    state.ticks[vm] = None;
                    (tick, vm, None)
                }
                (_, Some(event)) if event.0 <= until => {
                    let (vm, happening) = state.events.remove(&event).unwrap();
                    (event.0, vm, Some(happening))
                }
                _ => return false,
            }
        };
        self.state.borrow_mut().now = time;
        self.happen(vm, happening);
        self.check();
        true
    }

    /// Before a host call of one VM, another may get in.
    fn preempt(&self) {
        let (vm, happening) = {
            let mut state = self.state.borrow_mut();
            let percent = state.preemptions;
            if !state.random.percent(percent) {
                return;
            }
            let now = state.now;
            let is_free = |vm: usize| !self.vm(vm).is_at_work.get();
            let event = state.events.range(..=(now, u64::MAX)).find(|(_, (vm, _))| is_free(*vm)).map(|(key, _)| *key);
            let tick = state.ticks.iter().position(|tick| tick.is_some_and(|tick| tick <= now));
            match (event, tick) {
                (Some(event), _) => {
                    let (vm, happening) = state.events.remove(&event).unwrap();
                    (vm, Some(happening))
                }
                (None, Some(vm)) if is_free(vm) => {
                    state.ticks[vm] = None;
                    (vm, None)
                }
                _ => return,
            }
        };
        self.happen(vm, happening);
    }

    fn happen(&self, vm: usize, happening: Option<Happening>) {
        self.at_work(vm, |at, host| match happening {
            None => at.tokens.run(host),
            Some(Happening::Message(message)) => {
                at.tokens.hear(&message);
                at.tokens.run(host);
            }
            Some(Happening::Answer(call, what)) => self.answer(at, call, &what, host),
            Some(Happening::Request(token)) => self.request(at, vm, token, host),
            Some(Happening::Secret(token, secret)) => {
                let lease = at.tokens.share(Token::new(self.issuer(token, secret), "s".into(), "h", "auth"));
                at.list.borrow_mut()[token] = lease;
            }
            Some(Happening::GoesAway(token, context)) => {
                if self.state.borrow_mut().waiting.remove(&context).is_some() {
                    at.tokens.forget(token, context, host);
                }
            }
        });
    }

    fn at_work(&self, number: usize, work: impl FnOnce(&Vm, &FakeHost<'_>)) {
        let vm = self.vm(number);
        if !vm.is_gone.get() {
            assert!(!vm.is_at_work.replace(true), "a VM has one thread");
            work(&vm, &FakeHost { process: self, vm: number });
            vm.is_at_work.set(false);
        }
    }

    fn answer(&self, vm: &Vm, call: u32, what: &What, host: &FakeHost<'_>) {
        let Some(asked) = self.state.borrow_mut().in_flight.remove(&call) else { return };
        let (status, retry_after, body) = match what {
            What::Token(seconds) => {
                let mut state = self.state.borrow_mut();
                let token = format!("t{}", state.issued.len() + 1);
                let lifetime = Duration::from_secs_f64(*seconds);
                state.issued.insert(token.clone(), (asked.at, asked.at.after(lifetime)));
                let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": {seconds}}}"#);
                (200, None, body)
            }
            What::Status(status, retry_after) => (*status, retry_after.as_ref(), String::new()),
            What::Error(error) => (400, None, format!(r#"{{"error": "{error}"}}"#)),
            What::Rubbish => (200, None, "x".repeat(LARGEST_BODY + 1)),
            // As Envoy puts it.
            What::Silence => (504, None, "upstream request timeout".to_owned()),
            What::BreaksOff | What::NotSent(_) => return vm.tokens.answered(call, None, host),
        };
        let retry_after = retry_after.map(|value| value.as_bytes());
        vm.tokens.answered(
            call,
            Some(Reply { status, retry_after, content_encoding: None, body: body.as_bytes() }),
            host,
        );
    }

    fn request(&self, at: &Vm, vm: usize, token: usize, host: &FakeHost<'_>) {
        let (id, here) = {
            let list = at.list.borrow();
            (list[token].id, Rc::clone(&list[token].token))
        };
        if here.held().is_some() {
            return self.state.borrow_mut().note(vm, Outcome::AtOnce);
        }
        let since = host.now();
        let context = {
            let mut state = self.state.borrow_mut();
            state.contexts += 1;
            let waiting = Waiting { vm, token: Rc::clone(&here), deadline: state.now.after(PATIENCE) };
            let context = state.contexts;
            state.waiting.insert(context, waiting);
            context
        };
        let deadline = since.after(PATIENCE);
        let waiter =
            Waiter { context, payload: Payload::Absent, server: only_server(), held: Rc::default(), since, deadline };
        match at.tokens.wait(id, waiter, host) {
            Wait::Parked => {
                // Some clients do not wait for the answer.
                let mut state = self.state.borrow_mut();
                if state.random.percent(5) {
                    let after = Duration::from_millis(state.random.up_to(1000));
                    state.schedule(after, vm, Happening::GoesAway(id, context));
                }
            }
            Wait::Ready => {
                assert!(here.held().is_some(), "ready, and has no token");
                self.state.borrow_mut().end(context, Outcome::AtOnce);
            }
            Wait::Refused(refusal) => {
                let mut state = self.state.borrow_mut();
                state.assert_nothing_serves(&here);
                state.end(context, Outcome::Refused(refusal));
            }
        }
    }

    /// What must be so at any moment.
    fn check(&self) {
        let state = self.state.borrow();
        for waiting in state.waiting.values() {
            assert!(state.now <= waiting.deadline.after(LATE * 2), "a request waits beyond its deadline");
        }
        if state.set_back > Duration::ZERO {
            return;
        }
        for vm in self.living() {
            let vm = self.vm(vm);
            // With many tokens this would be most of the work; a few are enough then.
            for lease in vm.list.borrow().iter().take(8) {
                let Some(held) = lease.token.held() else { continue };
                let token = held.as_sent.expose().strip_prefix("Bearer ").unwrap();
                let (_, expires) = state.issued[token];
                assert!(state.now <= expires.after(LATE * 2), "a token is in hand after it expired");
            }
        }
    }
}

impl State {
    fn schedule(&mut self, after: Duration, vm: usize, happening: Happening) {
        let key = (self.now.after(after), self.random.next());
        self.events.insert(key, (vm, happening));
    }

    /// No request is rejected while the process has a token that is good.
    fn assert_nothing_serves(&self, token: &Token) {
        let record = self.data.get(&token.record()).map(|(bytes, _)| Record::decode(bytes.as_slice()).unwrap());
        let is_good = token.has_any() || record.is_some_and(|record| record.best(self.now).is_some());
        assert!(!is_good || self.set_back > Duration::ZERO, "a request is rejected in spite of a token");
    }

    fn note(&mut self, vm: usize, outcome: Outcome) {
        self.outcomes.push((self.now, vm, outcome));
    }

    fn end(&mut self, context: u32, outcome: Outcome) {
        let waiting = self.waiting.remove(&context).expect("a request is settled that does not wait");
        self.note(waiting.vm, outcome);
    }

    fn soon(&mut self) -> Duration {
        Duration::from_millis(self.random.up_to(2) + 1).min(LATE)
    }
}

/// The kinds of failure that a fetch can end with.
pub const FAILURES: [FailureKind; 2] = [FailureKind::ClusterUnknown, FailureKind::Unavailable];
