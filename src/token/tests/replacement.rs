//! A configuration is replaced by one with another secret.

use std::time::Duration;

use super::process::{Outcome, Process};
use super::token_server::{Asked, Random, What, grants};
use crate::token::FailureKind;

const VMS: usize = 3;

/// Both run side by side for a while, as Envoy drains the former.
fn replace(process: &Process, former: usize, secret: &str) -> usize {
    let first = process.load(VMS, 1, secret);
    process.pass(Duration::from_millis(300));
    (former..former + VMS).for_each(|vm| process.stop(vm));
    first
}

fn slowly(_: &Asked, random: &mut Random) -> super::token_server::Answer {
    What::Token(600.0).after(1000 + random.up_to(500))
}

#[test]
fn the_former_token_serves_until_the_new_secret_has_one() {
    for seed in 0..60 {
        let process = Process::new(seed, Box::new(slowly));
        let former = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        let (old, _) = process.held(former, 0).unwrap();
        let new = replace(&process, former, "second");
        for request in 0..300 {
            process.request_in(request * 10, new + request as usize % VMS, 0);
        }
        for vm in new..new + VMS {
            assert_eq!(process.held(vm, 0), Some((old.clone(), 0)), "seed {seed}");
        }
        process.pass(Duration::from_secs(4));
        for vm in new..new + VMS {
            let (token, generation) = process.held(vm, 0).unwrap();
            assert!(token != old && generation == 1, "seed {seed}");
        }
        let state = process.state.borrow();
        assert!(state.outcomes.iter().all(|(.., outcome)| *outcome == Outcome::AtOnce), "seed {seed}");
        let secrets: Vec<_> = state.asked.iter().map(|asked| asked.secret.as_str()).collect();
        assert_eq!(secrets, ["first", "second"], "seed {seed}");
    }
}

/// Nobody knows in advance that a secret is a wrong one.
#[test]
fn the_former_token_serves_while_the_new_secret_is_refused_but_not_beyond_its_expiry() {
    let process = Process::new(1, grants(60.0));
    let former = process.load(VMS, 1, "first");
    process.pass(Duration::from_secs(2));
    drop(process.script.replace(Box::new(|_, _| What::Error("invalid_client").after(5))));
    let new = replace(&process, former, "second");
    for second in 0..57 {
        process.request_in(second * 1000, new + second as usize % VMS, 0);
    }
    process.pass(Duration::from_secs(57));
    assert!(process.state.borrow().outcomes.iter().all(|(.., outcome)| *outcome == Outcome::AtOnce));
    process.pass(Duration::from_secs(3));
    assert!((new..new + VMS).all(|vm| process.held(vm, 0).is_none()));
}

#[test]
fn the_former_token_is_sent_no_more_where_its_upstream_refuses_it() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(slowly));
        let former = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        let new = replace(&process, former, "second");
        for vm in new..new + VMS {
            let (_, generation) = process.held(vm, 0).unwrap();
            process.upstream_refuses(vm, 0, generation);
            assert_eq!(process.held(vm, 0), None, "seed {seed}");
        }
        process.pass(Duration::from_secs(2));
        assert!((new..new + VMS).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
        assert_eq!(process.state.borrow().asked.len(), 2, "seed {seed}");
    }
}

/// Somebody takes a change back: the first secret's record is there still, with a token that expired.
#[test]
fn the_former_token_serves_as_well_where_a_secret_comes_back() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(slowly));
        let first = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        let second = replace(&process, first, "second");
        process.pass(Duration::from_secs(700));
        let (token, _) = process.held(second, 0).unwrap();
        let third = replace(&process, second, "first");
        for vm in third..third + VMS {
            assert_eq!(process.held(vm, 0), Some((token.clone(), 0)), "seed {seed}");
        }
    }
}

#[test]
fn the_same_secret_again_finds_its_token() {
    let process = Process::new(1, grants(600.0));
    let former = process.load(VMS, 1, "first");
    process.pass(Duration::from_secs(2));
    let held = process.held(former, 0);
    let new = replace(&process, former, "first");
    assert!((new..new + VMS).all(|vm| process.held(vm, 0) == held));
    assert_eq!(process.state.borrow().asked.len(), 1);
}

/// A worker of the old configuration may stop with a fetch under way that the new one waits for.
#[test]
fn whoever_replaces_a_configuration_in_mid_fetch_takes_the_fetch_over() {
    for seed in 0..50 {
        let process = Process::new(seed, Box::new(slowly));
        let former = process.load(VMS, 1, "first");
        process.pass(Duration::from_millis(100));
        let new = process.load(VMS, 1, "first");
        (new..new + VMS).for_each(|vm| process.request_in(0, vm, 0));
        process.pass(Duration::from_millis(100));
        (former..former + VMS).for_each(|vm| process.stop(vm));
        process.pass(Duration::from_secs(2));
        assert!((new..new + VMS).all(|vm| process.held(vm, 0).is_some()), "seed {seed}");
        assert_eq!(process.state.borrow().asked.len(), 2, "seed {seed}");
    }
}

#[test]
fn a_cluster_that_comes_later_than_the_configuration_is_found() {
    let process = Process::new(1, Box::new(|_, _| What::NotSent(FailureKind::ClusterUnknown).after(0)));
    let first = process.load(VMS, 1, "secret");
    process.pass(Duration::from_millis(500));
    drop(process.script.replace(grants(60.0)));
    process.pass(Duration::from_secs(5));
    assert!((first..first + VMS).all(|vm| process.held(vm, 0).is_some()));
}

/// The new secret is in the configuration before its token server knows it; then the old token is revoked.
#[test]
fn a_challenge_to_the_former_token_has_a_denied_secret_tried_again() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(3600.0));
        let former = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(2));
        drop(process.script.replace(Box::new(|_, _| What::Error("invalid_client").after(5))));
        let new = replace(&process, former, "second");
        process.pass(Duration::from_secs(120));
        drop(process.script.replace(grants(3600.0)));
        let (old, generation) = process.held(new, 0).expect("the former token serves");
        process.upstream_refuses(new, 0, generation);
        for request in 0..700 {
            process.request_in(request * 100, new, 0);
        }
        process.pass(Duration::from_secs(70));
        let (token, generation) = process.held(new, 0).unwrap();
        assert!(token != old && generation == 1, "seed {seed}: it serves still");
        let state = process.state.borrow();
        assert!(state.outcomes.iter().all(|(.., outcome)| !matches!(outcome, Outcome::Refused(_))), "seed {seed}");
    }
}

/// What was set aside is not what the next secret begins with.
#[test]
fn a_new_secret_begins_with_the_token_that_serves() {
    for seed in 0..20 {
        let process = Process::new(seed, grants(60.0));
        let former = process.load(VMS, 1, "first");
        process.pass(Duration::from_secs(40));
        while process.state.borrow().asked.len() < 2 {
            process.pass(Duration::from_millis(100));
        }
        process.pass(Duration::from_millis(100));
        process.upstream_refuses(former, 0, 2);
        let (serves, _) = process.held(former, 0).unwrap();
        drop(process.script.replace(Box::new(slowly)));
        let new = process.load(VMS, 1, "second");
        assert_eq!(process.held(new, 0), Some((serves, 0)), "seed {seed}");
    }
}

/// A token is often revoked, and then the secret replaced.
#[test]
fn a_challenged_token_is_the_second_best_for_the_next_secret_as_well() {
    let process = Process::new(1, grants(3600.0));
    let former = process.load(VMS, 1, "first");
    process.pass(Duration::from_secs(2));
    let (_, generation) = process.held(former, 0).unwrap();
    drop(process.script.replace(Box::new(slowly)));
    for vm in former..former + VMS {
        process.upstream_refuses(vm, 0, generation);
    }
    let new = process.load(VMS, 1, "second");
    for vm in new..new + VMS {
        process.request_in(0, vm, 0);
        assert_eq!(process.held(vm, 0), None);
    }
    process.pass(Duration::from_secs(4));
    assert!(process.state.borrow().outcomes.iter().all(|(.., outcome)| *outcome != Outcome::AtOnce));
}
