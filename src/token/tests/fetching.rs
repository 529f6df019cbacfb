//! Fetching, waiting, and refreshing while all goes well or one thing does not.

use std::time::Duration;

use super::process::{LATE, Outcome, PATIENCE, Process};
use super::token_server::{What, grants};
use crate::refusal::Reason;
use crate::token::FailureKind;
use crate::token::gate::WIDTH;

const VMS: usize = 5;

fn outcomes(process: &Process, wanted: Outcome) -> usize {
    process.state.borrow().outcomes.iter().filter(|(.., outcome)| *outcome == wanted).count()
}

fn asked(process: &Process) -> usize {
    process.state.borrow().asked.len()
}

#[test]
fn however_many_wait_at_the_start_there_is_one_fetch() {
    for seed in 0..200 {
        let process = Process::new(seed, Box::new(|_, random| What::Token(300.0).after(random.up_to(2000))));
        let first = process.load(VMS, 1, "secret");
        for request in 0..100 {
            process.request_in(request % 20, first + request as usize % VMS, 0);
        }
        process.pass(PATIENCE);
        assert_eq!(asked(&process), 1, "seed {seed}");
        assert!(process.living().into_iter().all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
        let refused =
            process.state.borrow().outcomes.iter().any(|(.., outcome)| matches!(outcome, Outcome::Refused(_)));
        assert!(!refused, "seed {seed}");
    }
}

/// Whoever waits elsewhere goes on as soon as the token is there, and not when the claim runs out.
#[test]
fn all_hear_of_a_token_at_once() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(|_, _| What::Token(300.0).after(1000)));
        let first = process.load(VMS, 1, "secret");
        for vm in first..first + VMS {
            process.request_in(100, vm, 0);
        }
        process.pass(Duration::from_millis(1000) + LATE * 5);
        assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
    }
}

#[test]
fn without_requests_the_token_is_there_as_well() {
    let process = Process::new(1, grants(300.0));
    let first = process.load(VMS, 1, "secret");
    process.pass(Duration::from_millis(100));
    for vm in first..first + VMS {
        process.request_in(0, vm, 0);
    }
    process.pass(Duration::from_millis(1));
    assert_eq!((asked(&process), outcomes(&process, Outcome::AtOnce)), (1, VMS));
}

#[test]
fn a_configuration_that_is_only_tried_fetches_nothing() {
    let process = Process::new(1, grants(300.0));
    process.load(0, 3, "secret");
    process.pass(PATIENCE);
    assert_eq!(asked(&process), 0);
}

#[test]
fn one_fetch_a_lifetime_keeps_all_requests_from_waiting() {
    const LIFETIMES: usize = 10;
    for seed in 0..60 {
        for lifetime in [10_u32, 60, 3600] {
            let process = Process::new(seed, grants(f64::from(lifetime)));
            let first = process.load(VMS, 1, "secret");
            process.pass(Duration::from_millis(100));
            let lifetime = Duration::from_secs(lifetime.into());
            for moment in 0..LIFETIMES as u64 * 20 {
                let millis = u64::try_from(lifetime.as_millis()).unwrap() * moment / 20;
                process.request_in(millis, first + moment as usize % VMS, 0);
            }
            process.pass(lifetime * u32::try_from(LIFETIMES).unwrap());
            assert_eq!(outcomes(&process, Outcome::AtOnce), LIFETIMES * 20, "seed {seed}, {lifetime:?}");
            // A refresh comes at seven tenths of the lifetime at the earliest.
            let fetches = asked(&process);
            assert!((LIFETIMES..=LIFETIMES * 10 / 7 + 1).contains(&fetches), "seed {seed}, {lifetime:?}: {fetches}");
        }
    }
}

#[test]
fn while_a_refresh_fails_the_old_token_serves_until_it_expires() {
    for seed in 0..60 {
        let mut number = 0;
        let process = Process::new(
            seed,
            Box::new(move |_, random| {
                number += 1;
                let what = if number == 1 { What::Token(60.0) } else { What::Status(503, None) };
                what.after(random.up_to(100))
            }),
        );
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_millis(200));
        let held = process.held(first, 0);
        assert!(held.is_some());
        process.pass(Duration::from_secs(59));
        assert!(asked(&process) > 2, "seed {seed}: no attempt to refresh");
        assert!((first..first + VMS).all(|vm| process.held(vm, 0) == held), "seed {seed}");
        process.pass(Duration::from_secs(1));
        assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_none()), "seed {seed}");
        process.request_in(0, first, 0);
        process.pass(PATIENCE + LATE * 2);
        let reason = process.state.borrow().outcomes.iter().find_map(|(.., outcome)| outcome.reason());
        assert!(matches!(reason, None | Some(Reason::TokenUnavailable | Reason::TokenTimeout)), "{reason:?}");
    }
}

#[test]
fn a_token_server_that_is_silent_keeps_nobody_beyond_the_deadline() {
    for seed in 0..60 {
        let process = Process::new(seed, Box::new(|_, _| What::Silence.after(0)));
        let first = process.load(VMS, 1, "secret");
        for request in 0..50 {
            process.request_in(request * 100, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_secs(60));
        let state = process.state.borrow();
        // Some clients went away; the deadline itself is checked at each step.
        assert!(state.outcomes.len() > 30, "seed {seed}");
        for (_, _, outcome) in &state.outcomes {
            let Outcome::Refused(refusal) = outcome else { panic!("seed {seed}: {outcome:?}") };
            assert!(matches!(refusal.reason, Reason::TokenTimeout | Reason::TokenUnavailable), "{refusal:?}");
            assert!(refusal.retry_after.is_some(), "{refusal:?}");
        }
    }
}

/// What is known to fail is not waited for, and says when it is worth another attempt.
#[test]
fn a_client_that_is_refused_asks_a_few_times_in_half_a_minute_and_its_requests_do_not_wait() {
    for seed in 0..60 {
        let process = Process::new(seed, Box::new(|_, random| What::Error("invalid_client").after(random.up_to(50))));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_millis(100));
        for request in 0..600 {
            process.request_in(request * 50, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_secs(40));
        assert!(asked(&process) <= 5, "seed {seed}: {}", asked(&process));
        let state = process.state.borrow();
        for (.., outcome) in &state.outcomes {
            let Outcome::Refused(refusal) = outcome else { panic!("seed {seed}: {outcome:?}") };
            assert!(matches!(refusal.reason, Reason::TokenRefused | Reason::TokenTimeout), "seed {seed}: {refusal:?}");
            assert!(refusal.retry_after.is_some_and(|delay| delay <= Duration::from_secs(60)), "{refusal:?}");
        }
        let told = state.outcomes.iter().filter(|outcome| outcome.2.reason() == Some(Reason::TokenRefused)).count();
        assert!(told > 400, "seed {seed}: {told}");
    }
}

#[test]
fn a_cluster_that_envoy_does_not_know_is_named_and_found_once_it_is_there() {
    for seed in 0..60 {
        let process = Process::new(seed, Box::new(|_, _| What::NotSent(FailureKind::ClusterUnknown).after(0)));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(60));
        for request in 0..50 {
            process.request_in(request * 40, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_secs(2) + PATIENCE);
        let reasons: Vec<_> = process.state.borrow().outcomes.iter().filter_map(|outcome| outcome.2.reason()).collect();
        let named = reasons.iter().filter(|reason| **reason == Reason::TokenClusterUnknown).count();
        // An attempt may be under way just when a request's time is over.
        assert!(named > 40 && reasons.len() - named <= 3, "seed {seed}: {reasons:?}");
        drop(process.script.replace(grants(60.0)));
        process.pass(Duration::from_secs(5) + Duration::from_millis(100));
        assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
    }
}

/// The width itself is checked at each call.
#[test]
fn five_hundred_tokens_come_in_one_fetch_each_and_not_all_at_once() {
    for seed in 0..2 {
        let process = Process::new(seed, Box::new(|_, random| What::Token(3600.0).after(20 + random.up_to(60))));
        let first = process.load(3, 500, "secret");
        // At full width this takes 500 / 8 times at most 80 ms, and the VMs hear of it a little later.
        let rounds = u32::try_from(500_usize.div_ceil(WIDTH)).unwrap();
        process.pass(Duration::from_millis(80 + 100) * rounds);
        assert_eq!(asked(&process), 500, "seed {seed}");
        for vm in first..first + 3 {
            assert!((0..500).all(|token| process.held(vm, token).is_some()), "seed {seed}");
        }
    }
}

/// The server says that a token is good for nobody but those who wait.
#[test]
fn a_token_for_once_serves_those_who_wait_by_one_fetch_and_is_not_kept() {
    for seed in 0..100 {
        let process = Process::new(seed, Box::new(|_, random| What::Token(0.0).after(50 + random.up_to(50))));
        let first = process.load(VMS, 1, "secret");
        // The fetch of the start, which nobody waits for.
        process.pass(Duration::from_secs(10));
        assert_eq!(asked(&process), 1, "seed {seed}: fetches that nobody wants");
        for request in 0..20 {
            process.request_in(request % 5, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_secs(10));
        assert!(process.state.borrow().outcomes.iter().all(|(.., outcome)| *outcome == Outcome::AfterWaiting));
        assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_none()), "seed {seed}");
        assert_eq!(asked(&process), 2, "seed {seed}: all waited for the same fetch");
    }
}

/// Such a lifetime is a server's mistake; its own load must not come of it.
#[test]
fn a_lifetime_of_milliseconds_is_no_reason_to_fetch_for_nobody_all_the_time() {
    for lifetime in [0.001, 0.01, 0.1, 0.5] {
        let process = Process::new(1, Box::new(move |_, _| What::Token(lifetime).after(0)));
        process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(20));
        assert!(asked(&process) <= 20 + 1, "{lifetime} s: {} fetches in 20 s", asked(&process));
    }
}
