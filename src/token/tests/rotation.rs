//! A secret in the filter state is replaced: each VM sees that with a request of its own, and goes on.

use std::time::Duration;

use super::process::{LATE, Outcome, PATIENCE, Process};
use super::token_server::{Answer, Asked, Random, What, grants};

const VMS: usize = 3;

/// The VMs do not see it at the same moment.
fn rotate(process: &Process, first: usize, secret: &'static str) {
    for vm in first..first + VMS {
        process.secret_in(10 * (vm - first) as u64, vm, 0, secret);
    }
}

fn slowly(_: &Asked, random: &mut Random) -> Answer {
    What::Token(600.0).after(1000 + random.up_to(500))
}

/// That they are settled by their deadlines is checked at every step.
#[test]
fn requests_that_wait_for_the_token_of_a_replaced_secret_get_it() {
    for seed in 0..100 {
        let process = Process::new(seed, Box::new(slowly));
        let first = process.load(VMS, 1, "first");
        for request in 0..30 {
            process.request_in(10 + request, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_millis(200));
        rotate(&process, first, "second");
        for request in 0..30 {
            process.request_in(50 + request, first + request as usize % VMS, 0);
        }
        process.pass(PATIENCE * 2);
        let state = process.state.borrow();
        let refused = state.outcomes.iter().any(|(.., outcome)| matches!(outcome, Outcome::Refused(_)));
        assert!(!refused, "seed {seed}: {:?}", state.outcomes);
        assert!(state.outcomes.iter().any(|(.., outcome)| *outcome == Outcome::AfterWaiting), "seed {seed}");
    }
}

/// Until it expires, its upstream may refuse it.
#[test]
fn what_nobody_wants_any_more_is_given_up_when_it_expires_and_not_fetched_again() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(60.0));
        let first = process.load(VMS, 1, "first");
        for secret in ["second", "third", "fourth", "fifth"] {
            process.pass(Duration::from_secs(2));
            rotate(&process, first, secret);
            for vm in first..first + VMS {
                process.request_in(30, vm, 0);
            }
        }
        process.pass(Duration::from_secs(2));
        assert!((first..first + VMS).all(|vm| process.tokens(vm) == 5), "seed {seed}");
        process.pass(Duration::from_secs(200));
        assert!((first..first + VMS).all(|vm| process.tokens(vm) == 1), "seed {seed}");
        let state = process.state.borrow();
        let late = state.asked.iter().filter(|asked| asked.at > state.now.before(Duration::from_secs(190)));
        assert!(late.clone().count() > 0 && late.clone().all(|asked| asked.secret == "fifth"), "seed {seed}");
    }
}

/// Somebody takes the change back when the first token has long expired.
#[test]
fn a_secret_that_comes_back_brings_no_expired_token() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(60.0));
        let first = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        rotate(&process, first, "second");
        (first..first + VMS).for_each(|vm| process.request_in(30, vm, 0));
        process.pass(Duration::from_secs(100));
        rotate(&process, first, "first");
        // No more than one of each VM waits for its token; the check of every step sees what they hold.
        (first..first + VMS).for_each(|vm| process.request_in(30, vm, 0));
        process.pass(Duration::from_secs(2));
        for vm in first..first + VMS {
            let (token, _) = process.held(vm, 0).unwrap();
            assert!(token != "t1", "seed {seed}");
        }
    }
}

/// Envoy's shared data has no way to create what is not there: who does it later takes the word of whoever did.
#[test]
fn vms_that_see_a_new_secret_at_the_same_moment_all_hear_of_its_token() {
    for seed in 0..400 {
        let process = Process::new(seed, Box::new(|_, _| What::Token(600.0).after(1000)));
        let first = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        for vm in first..first + VMS {
            process.secret_in(10, vm, 0, "second");
            process.request_in(11, vm, 0);
        }
        process.pass(Duration::from_millis(1011) + LATE * 5);
        assert!(
            (first..first + VMS).all(|vm| process.held(vm, 0).is_some_and(|(_, number)| number == 1)),
            "seed {seed}"
        );
    }
}
