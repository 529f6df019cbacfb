//! A clock that somebody sets.

use std::time::Duration;

use super::process::{Outcome, PATIENCE, Process};
use super::token_server::{What, grants};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_clock_that_is_set_back_lets_nobody_wait_for_it() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(|_, _| What::Silence.after(0)));
        let first = process.load(3, 1, "secret");
        for vm in first..first + 3 {
            process.request_in(100, vm, 0);
        }
        process.pass(Duration::from_millis(200));
        process.state.borrow_mut().set_back = HOUR;
        process.pass(PATIENCE + Duration::from_secs(30));
    }
}

#[test]
fn a_clock_that_is_set_back_in_a_backoff_or_a_fetch_does_not_stop_fetching() {
    for seed in 0..50 {
        for what in [|| What::Status(503, None), || What::Silence, || What::Error("invalid_client")] {
            let process = Process::new(seed, Box::new(move |_, _| what().after(10)));
            let first = process.load(3, 1, "secret");
            process.pass(Duration::from_secs(3));
            process.state.borrow_mut().set_back = HOUR;
            drop(process.script.replace(grants(7200.0)));
            process.request_in(500, first, 0);
            process.pass(Duration::from_secs(60) + PATIENCE);
            assert!((first..first + 3).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
        }
    }
}

/// Its tokens are then taken for expired, though they are not, and fetched again.
#[test]
fn a_clock_that_is_set_forward_costs_a_fetch() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(3600.0));
        process.state.borrow_mut().set_back = HOUR * 2;
        let first = process.load(3, 1, "secret");
        process.pass(Duration::from_secs(1));
        process.state.borrow_mut().set_back = Duration::ZERO;
        process.pass(HOUR);
        assert!((first..first + 3).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
        for vm in first..first + 3 {
            process.request_in(0, vm, 0);
        }
        process.pass(Duration::from_secs(1));
        assert!(process.state.borrow().outcomes.iter().all(|(.., outcome)| *outcome == Outcome::AtOnce));
        assert!(process.state.borrow().asked.len() <= 4, "seed {seed}");
    }
}

/// A request began to wait an hour from now; it gets the second best at once.
#[test]
fn a_clock_that_is_set_back_keeps_no_second_best_from_those_who_wait() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(36_000.0));
        let first = process.load(3, 1, "secret");
        process.pass(Duration::from_secs(2));
        drop(process.script.replace(Box::new(|_, _| What::Silence.after(0))));
        let (_, generation) = process.held(first, 0).unwrap();
        process.upstream_refuses(first, 0, generation);
        process.request_in(10, first, 0);
        process.pass(Duration::from_millis(100));
        process.state.borrow_mut().set_back = HOUR;
        process.pass(PATIENCE);
        let outcomes: Vec<_> = process.state.borrow().outcomes.iter().map(|(.., outcome)| *outcome).collect();
        assert_eq!(outcomes, [Outcome::AfterWaiting], "seed {seed}");
    }
}

/// After a suspend the clock has gone on, and Envoy's timers have not.
#[test]
fn a_token_that_expires_as_the_clock_jumps_is_soon_gone() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(3600.0));
        process.state.borrow_mut().set_back = HOUR * 2;
        let first = process.load(3, 1, "secret");
        process.pass(Duration::from_secs(100));
        drop(process.script.replace(Box::new(|_, _| What::Status(503, None).after(10))));
        process.state.borrow_mut().set_back = Duration::ZERO;
        process.pass(Duration::from_secs(60));
        assert!((first..first + 3).all(|vm| process.held(vm, 0).is_none()), "seed {seed}: it is sent still");
    }
}

#[test]
fn without_fetched_credentials_there_is_no_tick() {
    let process = Process::new(0, grants(3600.0));
    let first = process.load(1, 0, "secret");
    assert_eq!(process.next_tick(first), None);
    let first = process.load(1, 1, "secret");
    process.pass(Duration::from_secs(1));
    assert!(process.next_tick(first).is_some_and(|tick| tick.since(process.now()) <= Duration::from_secs(30)));
}
