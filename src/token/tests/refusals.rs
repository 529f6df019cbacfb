//! The upstream refuses tokens.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::process::{LATE, Outcome, Process};
use super::token_server::{Asked, Random, What, grants};
use crate::time::Time;

const VMS: usize = 5;

#[test]
fn a_refused_token_is_dropped_everywhere_and_replaced() {
    for seed in 0..100 {
        let process = Process::new(seed, Box::new(|_, random| What::Token(300.0).after(200 + random.up_to(200))));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        let (refused, generation) = process.held(first, 0).unwrap();
        // Many requests carry it at that moment, and all are refused.
        for vm in first..first + VMS {
            assert!(process.upstream_refuses(vm, 0, generation), "seed {seed}: another one is on its way");
        }
        process.pass(LATE * 3);
        for vm in first..first + VMS {
            assert_eq!(process.held(vm, 0), None, "seed {seed}: it is still sent");
        }
        process.pass(Duration::from_secs(1));
        for vm in first..first + VMS {
            let (token, number) = process.held(vm, 0).unwrap();
            assert!(token != refused && number == generation + 1, "seed {seed}");
        }
        assert_eq!((process.state.borrow().asked.len(), process.state.borrow().dropped), (2, 1), "seed {seed}");
    }
}

#[test]
fn whoever_hears_of_a_refusal_sends_that_token_no_more() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(|_, _| What::Token(300.0).after(500)));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        let (_, generation) = process.held(first, 0).unwrap();
        process.upstream_refuses(first, 0, generation);
        process.pass(LATE * 2);
        assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_none()), "seed {seed}");
    }
}

#[test]
fn the_refusal_of_a_former_token_drops_nothing() {
    for seed in 0..50 {
        let process = Process::new(seed, grants(300.0));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        let (_, former) = process.held(first, 0).unwrap();
        process.upstream_refuses(first, 0, former);
        process.pass(Duration::from_secs(1));
        let second = process.held(first, 0);
        for late in 0..100 {
            assert!(process.upstream_refuses(first + late % VMS, 0, former));
            process.pass(Duration::from_millis(500));
        }
        assert!((first..first + VMS).all(|vm| process.held(vm, 0) == second), "seed {seed}");
        assert_eq!((process.state.borrow().asked.len(), process.state.borrow().dropped), (2, 1), "seed {seed}");
    }
}

#[test]
fn an_upstream_that_refuses_every_token_costs_a_handful_of_fetches_a_minute() {
    for seed in 0..30 {
        let process = Process::new(seed, grants(3600.0));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_millis(100));
        let mut without_another = 0;
        for request in 0..6000 {
            let vm = first + request % VMS;
            if let Some((_, generation)) = process.held(vm, 0) {
                without_another += usize::from(!process.upstream_refuses(vm, 0, generation));
            }
            process.pass(Duration::from_millis(10));
        }
        let fetches = process.state.borrow().asked.len();
        assert!((3..=7).contains(&fetches), "seed {seed}: {fetches}");
        // Its callers must hear that there is no other token to try.
        assert!(without_another > 5000, "seed {seed}: {without_another}");
    }
}

#[test]
fn a_refusal_now_and_then_is_followed_by_a_fetch_each_time() {
    let process = Process::new(1, grants(86_400.0));
    let first = process.load(VMS, 1, "secret");
    process.pass(Duration::from_secs(1));
    for time in 1..20 {
        let (_, generation) = process.held(first, 0).unwrap();
        process.upstream_refuses(first, 0, generation);
        process.pass(Duration::from_secs(600));
        assert_eq!(process.state.borrow().dropped, time);
    }
}

#[test]
fn a_challenge_while_the_token_server_is_down_costs_no_request() {
    for seed in 0..50 {
        let is_down = Rc::new(Cell::new(false));
        let down = Rc::clone(&is_down);
        let script = move |_: &Asked, random: &mut Random| {
            let what = if down.get() { What::Status(503, None) } else { What::Token(3600.0) };
            what.after(random.up_to(300))
        };
        let process = Process::new(seed, Box::new(script));
        let first = process.load(VMS, 1, "secret");
        process.pass(Duration::from_secs(1));
        is_down.set(true);
        let (challenged, generation) = process.held(first, 0).unwrap();
        process.upstream_refuses(first, 0, generation);
        for request in 0..2000 {
            process.request_in(request * 300, first + request as usize % VMS, 0);
        }
        process.pass(Duration::from_secs(600));
        let fetches = process.state.borrow().asked.len();
        assert!(fetches <= 50, "seed {seed}: {fetches} token requests in ten minutes");
        {
            let state = process.state.borrow();
            let rejected = state.outcomes.iter().filter(|(.., outcome)| matches!(outcome, Outcome::Refused(_)));
            assert_eq!(rejected.count(), 0, "seed {seed}");
        }
        assert_eq!(process.held(first, 0), Some((challenged, generation)), "seed {seed}");
        is_down.set(false);
        process.pass(Duration::from_secs(60));
        let (_, number) = process.held(first, 0).unwrap();
        assert_eq!(number, generation + 1, "seed {seed}: the token server is well again");
    }
}

#[test]
fn a_hanging_token_server_lets_requests_wait_for_a_second_and_no_longer() {
    let process = Process::new(
        1,
        Box::new(|asked, _| match asked.at {
            at if at < Time::NOON.after(Duration::from_secs(1)) => What::Token(3600.0).after(10),
            _ => What::Silence.after(0),
        }),
    );
    let first = process.load(VMS, 1, "secret");
    process.pass(Duration::from_secs(2));
    let (_, generation) = process.held(first, 0).unwrap();
    process.upstream_refuses(first, 0, generation);
    process.request_in(10, first, 0);
    process.pass(Duration::from_millis(900));
    assert!(process.state.borrow().outcomes.is_empty(), "it does not wait");
    process.pass(Duration::from_millis(200));
    assert!(matches!(process.state.borrow().outcomes[..], [(.., Outcome::AfterWaiting)]));
    for request in 0..100 {
        process.request_in(request * 100, first + request as usize % VMS, 0);
    }
    process.pass(Duration::from_secs(11));
    let state = process.state.borrow();
    assert!(state.outcomes[1..].iter().all(|(.., outcome)| *outcome == Outcome::AtOnce));
}

/// Each token is challenged until its upstream's clock has come to the time at which it was issued.
#[test]
fn a_clock_behind_by_half_a_minute_costs_few_requests_a_refresh() {
    const BEHIND: Duration = Duration::from_secs(30);
    for seed in 0..20 {
        let process = Process::new(seed, grants(3600.0));
        let first = process.load(VMS, 1, "secret");
        // The upstream takes the first token by then, and no refresh is due.
        process.pass(Duration::from_secs(3000));
        let (mut served, mut challenged) = (0, 0);
        for request in 0..12_000 {
            let vm = first + request % VMS;
            let (token, generation) = process.held(vm, 0).expect("a token is there all the time");
            if process.age(&token) < BEHIND {
                challenged += 1;
                process.upstream_refuses(vm, 0, generation);
            } else {
                served += 1;
            }
            process.pass(Duration::from_millis(50));
        }
        assert_eq!(process.state.borrow().asked.len(), 2, "seed {seed}: one refresh, and no fetch beside it");
        // One each ten seconds, and one more if two requests are under way with the token.
        assert!((1..=6).contains(&challenged), "seed {seed}: {challenged} of {}", served + challenged);
    }
}

#[test]
fn all_vms_set_a_token_aside_and_take_it_back_together() {
    for seed in 0..50 {
        let process = Process::new(seed, grants(60.0));
        let first = process.load(VMS, 1, "secret");
        while process.state.borrow().asked.len() < 2 {
            process.pass(Duration::from_millis(100));
        }
        process.pass(Duration::from_millis(100));
        let holds = |generation| (first..first + VMS).all(|vm| process.held(vm, 0).unwrap().1 == generation);
        assert!(holds(2), "seed {seed}");
        process.upstream_refuses(first, 0, 2);
        process.pass(LATE * 3);
        assert!(holds(1), "seed {seed}");
        process.pass(Duration::from_secs(10) - LATE * 4);
        assert!(holds(1), "seed {seed}");
        process.pass(LATE * 3);
        assert!(holds(2), "seed {seed}");
        assert_eq!((process.state.borrow().asked.len(), process.state.borrow().dropped), (2, 1), "seed {seed}");
    }
}

/// An attempt of Envoy's with the same token would bring the caller the bare 401.
#[test]
fn a_retry_is_worth_it_only_if_it_gets_another_token() {
    let is_down = Rc::new(Cell::new(false));
    let down = Rc::clone(&is_down);
    let script = move |_: &Asked, _: &mut Random| {
        let what = if down.get() { What::Status(503, None) } else { What::Token(3600.0) };
        what.after(10)
    };
    let process = Process::new(0, Box::new(script));
    let first = process.load(VMS, 1, "secret");
    process.pass(Duration::from_secs(1));
    is_down.set(true);
    let (_, generation) = process.held(first, 0).unwrap();
    assert!(process.upstream_refuses(first, 0, generation), "another one may come");
    process.pass(Duration::from_secs(2));
    for vm in first..first + VMS {
        assert_eq!(process.held(vm, 0).unwrap().1, generation);
        assert!(!process.upstream_refuses(vm, 0, generation), "the same one serves");
    }
    is_down.set(false);
    process.pass(Duration::from_secs(30));
    assert_eq!(process.held(first, 0).unwrap().1, generation + 1);
    assert!(process.upstream_refuses(first, 0, generation), "there is another one");
}
