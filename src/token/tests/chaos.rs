//! Everything goes wrong at random; what must hold then is checked at each step of the process.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::process::{FAILURES, Outcome, PATIENCE, Process};
use super::token_server::{Answer, Random, What, grants};

const VMS: usize = 5;

fn mishap(random: &mut Random) -> Answer {
    let after = random.up_to(3000);
    let lifetime = random.up_to(20) as f64;
    let what = match random.up_to(15) {
        0 => What::Status(503, None),
        1 => What::Status(429, Some("3")),
        2 => What::Status(503, Some("rubbish")),
        3 => What::Status(302, None),
        4 => What::Error("invalid_client"),
        5 => What::Error("temporarily_unavailable"),
        6 => What::Rubbish,
        7 => What::BreaksOff,
        8 => What::Silence,
        9 => What::NotSent(FAILURES[random.up_to(1) as usize]),
        10 => What::Token(0.0),
        _ => What::Token(lifetime),
    };
    what.after(after)
}

#[test]
fn whatever_goes_wrong_each_request_is_settled_and_a_token_comes_once_the_server_is_well() {
    for seed in 0..250 {
        let process = Process::new(seed, Box::new(|_, random| mishap(random)));
        process.steps.set(1 + seed as usize % 3);
        let first = process.load(VMS, 2, "secret");
        for _ in 0..60 {
            let (pause, what, vm, token) = {
                let random = &mut process.state.borrow_mut().random;
                let vm = first + random.up_to(VMS as u64 - 1) as usize;
                (random.up_to(2000), random.up_to(30), vm, random.up_to(1) as usize)
            };
            process.pass(Duration::from_millis(pause));
            match what {
                0 if process.living().len() > 2 => process.vanish(vm),
                1 if process.living().len() > 2 => process.stop(vm),
                2..=6 => {
                    if let Some((_, generation)) = process.held(vm, token) {
                        process.upstream_refuses(vm, token, generation);
                    }
                }
                _ => (0..5).for_each(|request| process.request_in(request * 7, vm, token)),
            }
        }
        // The longest backoff of all, a fetch that is under way, and one whose VM is gone.
        drop(process.script.replace(grants(3600.0)));
        process.pass(Duration::from_secs(60) + PATIENCE * 2);
        // After a token for once, the next one comes when it is wanted.
        for vm in process.living() {
            (0..2).for_each(|token| process.request_in(0, vm, token));
        }
        process.pass(PATIENCE);
        for vm in process.living() {
            for token in 0..2 {
                assert!(process.held(vm, token).is_some(), "seed {seed}: no token after the server is well");
            }
        }
        assert!(!process.state.borrow().outcomes.is_empty());
    }
}

#[test]
fn whoever_vanishes_in_mid_fetch_is_replaced_when_the_claim_runs_out() {
    for seed in 0..100 {
        let process = Process::new(seed, Box::new(|_, _| What::Token(60.0).after(2000)));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        let [asked] = &process.state.borrow().asked.clone()[..] else { panic!("seed {seed}") };
        process.vanish(asked.vm);
        // The claim is as long as a fetch may take, and the grace of two seconds.
        process.pass(PATIENCE + Duration::from_secs(2));
        let again = process.state.borrow().asked.clone();
        assert_eq!(again.len(), 2, "seed {seed}");
        assert_ne!(again[1].vm, asked.vm);
        process.pass(Duration::from_secs(3));
        assert!((first..first + VMS).filter(|vm| *vm != asked.vm).all(|vm| process.held(vm, 0).is_some()));
    }
}

#[test]
fn whoever_stops_in_mid_fetch_hands_over_at_once() {
    for seed in 0..100 {
        let process = Process::new(seed, Box::new(|_, _| What::Token(60.0).after(2000)));
        process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        let [asked] = &process.state.borrow().asked.clone()[..] else { panic!("seed {seed}") };
        process.stop(asked.vm);
        process.pass(Duration::from_millis(20));
        assert_eq!(process.state.borrow().asked.len(), 2, "seed {seed}");
    }
}

#[test]
fn as_many_vanish_as_fetch_at_once_and_the_gate_opens_again() {
    let process = Process::new(3, Box::new(|_, _| What::Token(600.0).after(2000)));
    let first = process.load(VMS, 40, "secret");
    process.pass(Duration::from_secs(1));
    let vm = process.state.borrow().asked[0].vm;
    process.vanish(vm);
    process.pass(Duration::from_secs(40));
    for vm in (first..first + VMS).filter(|other| *other != vm) {
        assert!((0..40).all(|token| process.held(vm, token).is_some()));
    }
}

/// Messages are only to be quick: without any, ticks bring the same.
#[test]
fn whoever_hears_of_nothing_serves_its_requests_nevertheless_and_nothing_that_expired() {
    for seed in 0..100 {
        let is_down = Rc::new(Cell::new(false));
        let down = Rc::clone(&is_down);
        let process = Process::new(
            seed,
            Box::new(move |_, random| {
                let what = if down.get() { What::Status(503, None) } else { What::Token(4.0) };
                what.after(random.up_to(300))
            }),
        );
        let first = process.load(VMS, 1, "secret");
        process.vm(first).is_deaf.set(true);
        process.pass(Duration::from_secs(1));
        for request in 0..200 {
            process.request_in(request * 150, first, 0);
        }
        process.pass(Duration::from_secs(30));
        let (at_once, all) = {
            let state = process.state.borrow();
            let at_once = state.outcomes.iter().filter(|(.., outcome)| *outcome == Outcome::AtOnce).count();
            let refused = state.outcomes.iter().any(|(.., outcome)| matches!(outcome, Outcome::Refused(_)));
            assert!(!refused, "seed {seed}");
            (at_once, state.outcomes.len())
        };
        assert!(at_once * 10 > all * 9, "seed {seed}: {at_once} of {all}");
        // All others know that it has expired by then.
        is_down.set(true);
        process.pass(Duration::from_secs(5));
        assert_eq!(process.held(first, 0), None, "seed {seed}");
    }
}

/// The upstream challenges tokens at random, also such as serve no more, and the token server is down half of the time.
#[test]
fn challenges_cost_no_request_and_few_token_requests() {
    const MINUTES: u64 = 30;
    for seed in 0..40 {
        let mut number = 0;
        let process = Process::new(
            seed,
            Box::new(move |_, random| {
                number += 1;
                let is_down = number > 1 && random.percent(50);
                let what = if is_down { What::Status(503, None) } else { What::Token(600.0) };
                what.after(random.up_to(3000))
            }),
        );
        let first = process.load(VMS, 1, "secret");
        process.pass(PATIENCE);
        let until = process.now().after(Duration::from_secs(MINUTES * 60));
        while process.now() < until {
            let (pause, vm, back) = {
                let random = &mut process.state.borrow_mut().random;
                (random.up_to(3000), first + random.up_to(VMS as u64 - 1) as usize, random.up_to(1))
            };
            process.request_in(pause / 2, vm, 0);
            process.pass(Duration::from_millis(pause));
            if let Some((_, generation)) = process.held(vm, 0) {
                process.upstream_refuses(vm, 0, generation - back);
            }
        }
        let state = process.state.borrow();
        let rejected = state.outcomes.iter().filter(|(.., outcome)| matches!(outcome, Outcome::Refused(_)));
        assert_eq!(rejected.count(), 0, "seed {seed}");
        // A few in the first minute, and then two a minute; half of the attempts are in vain.
        let granted = process.held(first, 0).map_or(0, |(_, generation)| generation);
        assert!((MINUTES / 2..=MINUTES * 2 + 6).contains(&granted), "seed {seed}: {granted} tokens");
        let asked = state.asked.len() as u64;
        assert!(asked <= granted * 3, "seed {seed}: {asked} token requests for {granted} tokens");
    }
}
