//! Each step that a token's record can make.

use std::time::Duration;

use prost::Message;

use super::token_server::Random;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::record::{Challenged, Due, Outlook, Record};
use crate::token::{Failure, FailureKind, Grant};

const NOW: Time = Time::NOON;
const TIMEOUT: Duration = Duration::from_secs(7);
const DAY: Duration = Duration::from_secs(86_400);

/// Names of fetches.
const ME: u64 = 1;
const OTHER: u64 = 2;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grant(lifetime: Duration) -> Grant {
    Grant { token: Secret::new("token".to_owned()), lifetime }
}

/// A record with a token that was asked for and granted at `now`.
fn granted(lifetime: Duration, now: Time, random: u64) -> Record {
    let mut record = Record::default();
    record.claim(ME, now, TIMEOUT);
    assert!(record.granted(ME, &grant(lifetime), now, random));
    record
}

/// Lets a fetch fail. Gives when the next one is due.
fn fail(record: &mut Record, kind: FailureKind, retry_after: Option<Duration>, now: Time, random: u64) -> Duration {
    record.claim(ME, now, TIMEOUT);
    let failure = Failure { kind, retry_after, detail: String::new() };
    assert!(record.failed(ME, &failure, now, random));
    let Due::At(retry) = record.due(now, true) else { panic!("no backoff") };
    assert_eq!(record.outlook(now), Outlook::Failed(kind, retry));
    retry.since(now)
}

#[test]
fn without_a_token_a_fetch_is_due_whether_a_request_waits_or_not() {
    let record = Record::default();
    assert_eq!((record.due(NOW, false), record.due(NOW, true)), (Due::Now, Due::Now));
    assert_eq!(record.outlook(NOW), Outlook::Hopeful);
    assert!(record.token().is_none() && record.generation() == 0);
}

#[test]
fn what_is_claimed_is_nobody_elses_until_the_claim_runs_out() {
    let mut record = Record::default();
    record.claim(ME, NOW, TIMEOUT);
    let until = NOW.after(TIMEOUT);
    assert_eq!((record.due(NOW, true), record.outlook(NOW)), (Due::At(until), Outlook::Hopeful));
    assert_eq!(record.due(until.before(Duration::from_millis(1)), true), Due::At(until));
    assert_eq!(record.due(until, false), Due::Now);
    // Whoever claims longer than anybody may is believed for two minutes.
    record.claim(ME, NOW, DAY);
    assert_eq!(record.due(NOW, true), Due::At(NOW.after(seconds(120))));
}

#[test]
fn only_whoever_claimed_it_ends_a_fetch() {
    let failure = Failure::new(FailureKind::Unavailable, "");
    let mut record = Record::default();
    record.claim(ME, NOW, TIMEOUT);
    // Another takes over what seems dead, and then the dead one speaks.
    record.claim(OTHER, NOW.after(TIMEOUT), TIMEOUT);
    let before = record.clone();
    let late = NOW.after(TIMEOUT + seconds(1));
    assert!(!record.granted(ME, &grant(DAY), late, 0));
    assert!(!record.failed(ME, &failure, late, 0));
    assert!(!record.abandon(ME));
    assert!(record == before, "it changed something");
    assert!(record.granted(OTHER, &grant(DAY), late, 0));
    assert!(!record.granted(OTHER, &grant(DAY), late, 0), "twice");
    assert_eq!(record.generation(), 1);
}

#[test]
fn what_is_abandoned_is_due_at_once() {
    let mut record = Record::default();
    record.claim(ME, NOW, TIMEOUT);
    assert!(record.abandon(ME));
    assert_eq!(record.due(NOW, false), Due::Now);
}

/// Expiry counts from the request, as the server's own count began before its answer arrived.
#[test]
fn a_token_expires_when_its_server_says_and_is_refreshed_before() {
    const HOUR: u64 = 3600;
    // Lifetime, and how long before its end the refresh begins: at the least and at the most.
    for (lifetime, least, most) in [
        (seconds(1), 0.2, 0.3),
        (seconds(2), 0.4, 0.6),
        (seconds(10), 2.0, 3.0),
        (seconds(60), 12.0, 18.0),
        (seconds(300), 60.0, 90.0),
        (seconds(1500), 300.0, 450.0),
        (seconds(HOUR), 300.0, 450.0),
        (seconds(24 * HOUR), 300.0, 450.0),
        (seconds(30 * 24 * HOUR), 300.0, 450.0),
        // 10^12 s, and the largest there is: 30 days.
        (seconds(1_000_000_000_000), 300.0, 450.0),
        (Duration::MAX, 300.0, 450.0),
    ] {
        let expected = lifetime.min(30 * DAY);
        let mut random = Random(7);
        let mut margins = Vec::new();
        for _ in 0..200 {
            let record = granted(lifetime, NOW, random.next());
            let token = record.token().unwrap();
            assert_eq!(token.expires(), NOW.after(expected), "{lifetime:?}");
            assert!(token.is_good(NOW) && token.is_good(NOW.after(expected).before(Duration::from_millis(1))));
            assert!(!token.is_good(NOW.after(expected)) && !token.is_for_once());
            let Due::At(refresh) = record.due(NOW, true) else { panic!("{lifetime:?}") };
            assert_eq!(record.due(refresh, false), Due::Now);
            margins.push(token.expires().since(refresh).as_secs_f64());
        }
        let (soonest, latest) =
            (margins.iter().copied().fold(0.0, f64::max), margins.iter().copied().fold(most, f64::min));
        assert!(latest >= least && soonest <= most, "{lifetime:?}: {latest} to {soonest}");
        // All of the range is in use, so that many proxies do not come at once.
        assert!(latest < least + (most - least) / 5.0 && soonest > most - (most - least) / 5.0, "{lifetime:?}");
    }
}

#[test]
fn a_slow_answer_shortens_what_is_left() {
    let mut record = Record::default();
    record.claim(ME, NOW, TIMEOUT);
    let now = NOW.after(seconds(4));
    record.granted(ME, &grant(seconds(10)), now, 0);
    assert_eq!(record.token().unwrap().expires(), NOW.after(seconds(10)));
    // A second later at the soonest, though two thirds of it are gone.
    record.claim(ME, NOW, TIMEOUT);
    let now = NOW.after(seconds(9));
    record.granted(ME, &grant(seconds(10)), now, 0);
    assert_eq!(record.due(now, true), Due::At(NOW.after(seconds(10))));
}

#[test]
fn a_token_that_is_over_on_arrival_is_for_once() {
    let mut late = Record::default();
    late.claim(ME, NOW, TIMEOUT);
    let now = NOW.after(seconds(2));
    late.granted(ME, &grant(seconds(2)), now, 0);
    for record in [granted(Duration::ZERO, now, 0), late] {
        let token = record.token().unwrap();
        assert!(token.is_for_once() && !token.is_good(now) && token.at() == now && token.token() == "token");
        assert_eq!((record.due(now, false), record.due(now, true)), (Due::OnDemand, Due::Now));
    }
}

#[test]
fn each_failure_has_its_backoff_which_doubles_up_to_a_limit() {
    for (kind, first, most) in [
        (FailureKind::Refused, 10_000, 60_000),
        (FailureKind::Unavailable, 250, 30_000),
        (FailureKind::Malformed, 250, 30_000),
        (FailureKind::ClusterUnknown, 250, 5_000),
        (FailureKind::NoHealthyHost, 250, 2_000),
    ] {
        for seed in 0..50 {
            let (mut record, mut now, mut random) = (Record::default(), NOW, Random(seed));
            let mut longest: u64 = first;
            for attempt in 0..40 {
                let delay = fail(&mut record, kind, None, now, random.next());
                let range = Duration::from_millis(longest / 2)..=Duration::from_millis(longest);
                assert!(range.contains(&delay), "{kind:?}, attempt {attempt}: {delay:?} is not in {range:?}");
                now = now.after(delay);
                assert_eq!((record.due(now, true), record.outlook(now)), (Due::Now, Outlook::Hopeful));
                // Who is refused asks again for those only who want it.
                let is_refused = kind == FailureKind::Refused;
                assert_eq!(record.due(now, false), if is_refused { Due::OnDemand } else { Due::Now });
                longest = (longest * 2).min(most);
            }
            // A grant makes up for all.
            record.claim(ME, now, TIMEOUT);
            record.granted(ME, &grant(Duration::ZERO), now, 0);
            let delay = fail(&mut record, kind, None, now, random.next());
            assert!(delay <= Duration::from_millis(first), "{kind:?}: {delay:?}");
        }
    }
}

#[test]
fn another_kind_of_failure_begins_anew() {
    let mut record = Record::default();
    let mut now = NOW;
    for _ in 0..8 {
        now = now.after(fail(&mut record, FailureKind::Unavailable, None, now, 0));
    }
    // It is the same whether a server does not answer or answers nonsense.
    assert_eq!(fail(&mut record, FailureKind::Malformed, None, now, 0), seconds(15));
    assert_eq!(fail(&mut record, FailureKind::Refused, None, now, 0), seconds(5));
    assert_eq!(fail(&mut record, FailureKind::Unavailable, None, now, 0), Duration::from_millis(125));
}

#[test]
fn a_wish_to_be_left_alone_is_granted_for_ten_minutes_at_the_most() {
    for (asked_for, random, expected) in [
        (seconds(0), 0, Duration::from_millis(125)),
        (Duration::from_millis(10), 0, Duration::from_millis(125)),
        (seconds(3), u64::MAX, seconds(3)),
        (seconds(120), 0, seconds(120)),
        (seconds(600), 0, seconds(600)),
        (seconds(601), 0, seconds(600)),
        (Duration::MAX, 0, seconds(600)),
    ] {
        let delay = fail(&mut Record::default(), FailureKind::Unavailable, Some(asked_for), NOW, random);
        assert_eq!(delay, expected, "{asked_for:?}");
    }
}

#[test]
fn a_token_outlives_failed_refreshes() {
    let mut record = granted(seconds(60), NOW, 0);
    let now = NOW.after(seconds(50));
    fail(&mut record, FailureKind::Refused, None, now, 0);
    assert!(record.token().unwrap().is_good(now) && record.generation() == 1);
}

#[test]
fn a_fetch_under_way_is_hope_in_spite_of_a_failure_before() {
    let mut record = Record::default();
    fail(&mut record, FailureKind::Refused, Some(seconds(60)), NOW, 0);
    let now = NOW.after(seconds(30));
    record.claim(ME, now, TIMEOUT);
    assert_eq!(record.outlook(now), Outlook::Hopeful);
    assert_eq!(record.due(now, true), Due::At(now.after(TIMEOUT)));
}

#[test]
fn a_clock_that_is_set_back_ends_claims_and_backoffs_that_it_would_prolong() {
    let before = NOW.before(seconds(3600));
    let mut claimed = Record::default();
    claimed.claim(ME, NOW, TIMEOUT);
    assert_eq!(claimed.due(before, true), Due::Now);
    let mut failed = Record::default();
    fail(&mut failed, FailureKind::Refused, None, NOW, 0);
    assert_eq!((failed.due(before, true), failed.outlook(before)), (Due::Now, Outlook::Hopeful));
    let mut refused = granted(DAY, NOW, 0);
    assert_eq!(refused.challenged(1, NOW, 0), Challenged::Replace);
    refused.claim(ME, before, TIMEOUT);
    refused.granted(ME, &grant(DAY), before, 0);
    assert_eq!(refused.challenged(2, before, 0), Challenged::Replace);
}

/// The number of the token that serves, and whether it does so at once.
fn best(record: &Record, now: Time) -> Option<(u64, bool)> {
    record.best(now).map(|best| (best.generation, best.serves))
}

/// Lets a fetch bring another token at `now`.
fn renew(record: &mut Record, now: Time) {
    record.claim(ME, now, TIMEOUT);
    assert!(record.granted(ME, &grant(DAY), now, 0));
}

#[test]
fn a_challenge_is_about_one_token_and_no_other() {
    let mut record = granted(DAY, NOW, 0);
    for other in [0, 2, u64::MAX] {
        assert_eq!(record.challenged(other, NOW, 0), Challenged::Stale);
        assert_eq!(best(&record, NOW), Some((1, true)));
    }
    assert_eq!(record.challenged(1, NOW, 0), Challenged::Replace);
    assert_eq!((record.due(NOW, false), best(&record, NOW)), (Due::Now, Some((1, false))));
    assert_eq!(record.challenged(1, NOW, 0), Challenged::Stale);
    renew(&mut record, NOW);
    assert_eq!(best(&record, NOW), Some((2, true)));
    assert_eq!(record.challenged(1, NOW, 0), Challenged::Stale, "a late answer to the former");
    assert_eq!(record.challenged(2, NOW, 0), Challenged::Ignored, "it is hardly there");
    assert_eq!(best(&record, NOW), Some((2, true)));
}

#[test]
fn a_challenged_token_serves_once_its_replacement_is_late() {
    let mut record = granted(DAY, NOW, 0);
    record.challenged(1, NOW, 0);
    record.claim(ME, NOW, TIMEOUT);
    let late = NOW.after(seconds(1));
    assert_eq!((best(&record, NOW), record.next_change(NOW)), (Some((1, false)), late));
    assert_eq!((best(&record, late), record.next_change(late)), (Some((1, true)), Time::NEVER));
    for kind in [FailureKind::Refused, FailureKind::Unavailable, FailureKind::Malformed] {
        let mut record = granted(seconds(600), NOW, 0);
        record.challenged(1, NOW, 0);
        fail(&mut record, kind, None, NOW, 0);
        // It goes on serving while further attempts are made.
        let mut now = NOW;
        while now < NOW.after(seconds(599)) {
            assert_eq!(best(&record, now), Some((1, true)), "{kind:?}");
            if record.due(now, false) == Due::Now {
                record.claim(ME, now, TIMEOUT);
                assert_eq!(best(&record, now), Some((1, true)), "{kind:?}");
                record.failed(ME, &Failure::new(kind, ""), now, 0);
            }
            now = now.after(seconds(1));
        }
        assert_eq!(best(&record, NOW.after(seconds(600))), None, "{kind:?}");
    }
}

#[test]
fn a_brand_new_token_that_is_challenged_gives_way_to_the_former() {
    let mut record = granted(seconds(3600), NOW, 0);
    let now = NOW.after(seconds(3300));
    renew(&mut record, now);
    assert_eq!(record.challenged(2, now, 0), Challenged::SetAside);
    let Due::At(refresh) = record.due(now, true) else { panic!("a fetch is due") };
    assert!(refresh > now.after(seconds(60)));
    let returns = now.after(seconds(10));
    assert_eq!((best(&record, now), record.next_change(now)), (Some((1, true)), returns));
    assert_eq!(record.challenged(2, now, 0), Challenged::Stale, "another request that carried it");
    assert_eq!((best(&record, returns), record.next_change(returns)), (Some((2, true)), Time::NEVER));
    assert_eq!(record.challenged(1, returns, 0), Challenged::Stale, "the former does not serve any more");
    // The upstream's clock may be further behind.
    assert_eq!(record.challenged(2, returns, 0), Challenged::SetAside);
    assert_eq!(best(&record, returns), Some((1, true)));
    let no_longer_new = now.after(seconds(60));
    assert_eq!(best(&record, no_longer_new), Some((2, true)));
    assert_eq!(record.challenged(2, no_longer_new, 0), Challenged::Replace);
    assert_eq!((record.due(no_longer_new, false), best(&record, no_longer_new)), (Due::Now, Some((2, false))));
}

#[test]
fn if_the_former_is_challenged_too_a_fetch_is_due() {
    let mut record = granted(DAY, NOW, 0);
    renew(&mut record, NOW);
    assert_eq!(record.challenged(2, NOW, 0), Challenged::SetAside);
    assert_eq!(record.challenged(1, NOW, 0), Challenged::Replace);
    assert_eq!((record.due(NOW, false), best(&record, NOW)), (Due::Now, Some((2, false))));
    renew(&mut record, NOW);
    assert_eq!(best(&record, NOW), Some((3, true)));
    assert_eq!(record.challenged(3, NOW, 0), Challenged::Ignored, "no former is left that could serve");
}

/// The server grants tokens for once from some time on, and the former one serves for the rest of its life.
#[test]
fn a_former_token_that_is_challenged_is_replaced_whyever_it_serves() {
    let mut record = granted(seconds(3600), NOW, 0);
    let now = NOW.after(seconds(3300));
    record.claim(ME, now, TIMEOUT);
    record.granted(ME, &grant(Duration::ZERO), now, 0);
    assert_eq!((best(&record, now), record.due(now, false)), (Some((1, true)), Due::OnDemand));
    assert_eq!(record.challenged(2, now, 0), Challenged::Stale, "nobody has it any more");
    assert_eq!(record.challenged(1, now, 0), Challenged::Replace);
    assert_eq!((best(&record, now), record.due(now, true)), (None, Due::Now));
}

#[test]
fn a_former_token_serves_no_longer_than_it_is_good() {
    let mut record = granted(seconds(100), NOW, 0);
    let now = NOW.after(seconds(95));
    renew(&mut record, now);
    assert_eq!(record.challenged(2, now, 0), Challenged::SetAside);
    let expired = NOW.after(seconds(100));
    assert_eq!(best(&record, expired.before(Duration::from_millis(1))), Some((1, true)));
    assert_eq!(best(&record, expired), Some((2, true)));
    // One that has served for a minute is not brand-new.
    let mut record = granted(DAY, NOW, 0);
    renew(&mut record, NOW);
    assert_eq!(record.challenged(2, NOW.after(seconds(60)), 0), Challenged::Replace);
}

#[test]
fn an_upstream_that_refuses_all_the_time_has_few_tokens_dropped() {
    for seed in 0..100 {
        let (mut record, mut random) = (granted(DAY, NOW, 0), Random(seed));
        let mut drops = Vec::new();
        for moment in 0..60_000 {
            let now = NOW.after(Duration::from_millis(moment * 10));
            if record.challenged(record.generation(), now, random.next()) == Challenged::Replace {
                drops.push(now.since(NOW));
                record.claim(ME, now, TIMEOUT);
                record.granted(ME, &grant(DAY), now, 0);
            }
        }
        for (minute, from) in (0..10).map(|minute| (minute, seconds(minute * 60))) {
            let count = drops.iter().filter(|drop| (from..from + seconds(60)).contains(*drop)).count();
            assert!(count <= if minute == 0 { 6 } else { 2 }, "seed {seed}, minute {minute}: {count}");
        }
        assert!(drops.windows(2).all(|pair| pair[1] - pair[0] >= seconds(5)), "seed {seed}: {drops:?}");
        // It is tried again and again nevertheless.
        assert!(drops.last().unwrap() >= &seconds(500), "seed {seed}: {drops:?}");
    }
}

#[test]
fn refusals_far_apart_do_not_add_up() {
    let mut record = granted(DAY, NOW, 0);
    let mut now = NOW;
    for round in 0..20 {
        assert_eq!(record.challenged(record.generation(), now, u64::MAX), Challenged::Replace, "{round}");
        record.claim(ME, now, TIMEOUT);
        record.granted(ME, &grant(DAY), now, 0);
        now = now.after(seconds(11));
        // The longest first delay is ten seconds, and the pause makes this a first one.
        assert_eq!(record.challenged(record.generation(), now, 0), Challenged::Replace, "{round}");
        record.claim(ME, now, TIMEOUT);
        record.granted(ME, &grant(DAY), now, 0);
        now = now.after(seconds(301));
    }
}

#[test]
fn a_watcher_is_there_once_until_it_leaves() {
    let mut record = Record::default();
    assert!(record.watch(3) && record.watch(4) && !record.watch(3));
    assert_eq!(record.watchers(), [3, 4]);
    assert!(record.unwatch(3) && !record.unwatch(3));
    assert_eq!(record.watchers(), [4]);
}

#[test]
fn a_record_is_the_same_after_it_was_in_shared_data() {
    let mut record = granted(DAY, NOW, 5);
    record.watch(9);
    record.challenged(1, NOW, 5);
    fail(&mut record, FailureKind::Malformed, Some(seconds(9)), NOW, 5);
    record.claim(u64::MAX, NOW, TIMEOUT);
    assert!(Record::decode(record.encode_to_vec().as_slice()).unwrap() == record);
    assert!(Record::default().encode_to_vec().is_empty(), "nothing known is nothing written");
}
