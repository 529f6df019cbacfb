//! The time in a signature, and the key that is derived for its day.

use std::cell::RefCell;

use super::Case;
use super::reference::{sha256, signature};
use crate::aws::signer::Signer;
use crate::time::Time;

const DAY: u64 = 86_400_000;

fn call() -> Case {
    Case::published("POST", "/mcp", &[])
}

/// The timestamp of what is sent at `now`, if its day is the one that the key is for.
fn timestamp(now: Time) -> String {
    let sent = Case { now, ..call() }.sign().unwrap();
    let time = sent.only("x-amz-date").unwrap().to_owned();
    let scope = format!("Credential=AKIDEXAMPLE/{}/us-east-1/service/aws4_request,", &time[..8]);
    let authorization = sent.only("authorization").unwrap();
    assert!(authorization.contains(&scope), "{time}: {authorization}");
    time
}

#[test]
fn a_timestamp_is_in_seconds_of_utc() {
    for (millis, expected) in [
        (0, "19700101T000000Z"),
        (999, "19700101T000000Z"),
        (1_000, "19700101T000001Z"),
        (1_440_938_160_000, "20150830T123600Z"),
        (1_709_251_199_999, "20240229T235959Z"),
        (1_709_251_200_000, "20240301T000000Z"),
        (4_107_542_400_000, "21000301T000000Z"),
    ] {
        assert_eq!(timestamp(Time::from_millis(millis)), expected);
    }
}

#[test]
fn a_clock_gone_wrong_gives_the_last_second_that_can_be_written() {
    for millis in [253_402_300_799_000, 253_402_300_799_999, 253_402_300_800_000, u64::MAX / 1000, u64::MAX] {
        assert_eq!(timestamp(Time::from_millis(millis)), "99991231T235959Z");
    }
}

#[test]
fn a_day_ends_at_midnight_in_utc() {
    let midnight = 1_440_979_200_000;
    for (millis, day) in [(midnight - DAY, "20150830"), (midnight - 1, "20150830"), (midnight, "20150831")] {
        let call = Case { now: Time::from_millis(millis), ..call() };
        assert_eq!(&timestamp(call.now)[..8], day);
        call.agrees();
    }
}

/// A signer that holds a key which was derived for another region. The region of a key that is held does not matter, as
/// a signer has one. So whether it used that key or derived one shows in the signature.
struct Marked {
    signer: Signer,
    region: &'static str,
}

impl Marked {
    /// One whose key is for the day and the keys of this request.
    fn new(call: &Case) -> Self {
        let region = "eu-west-1";
        let elsewhere = Signer { region: region.to_owned(), ..call.signer() };
        call.sign_with(&elsewhere).unwrap();
        Self { signer: Signer { of_the_day: RefCell::new(elsewhere.of_the_day.take()), ..call.signer() }, region }
    }

    /// Signs, and says whether a key was derived for that.
    fn derives(&self, call: &Case) -> bool {
        let hash = sha256(call.body.as_ref().unwrap());
        let steps = call.signer().signature(&call.keys(), &call.fake_headers().0, &hash, call.now).unwrap();
        let sent = call.sign_with(&self.signer).unwrap();
        let (_, sent) = sent.only("authorization").unwrap().split_once("Signature=").unwrap();
        let elsewhere = Case { region: self.region.to_owned(), ..call.clone() };
        let [held, derived] = [&elsewhere, call].map(|case| signature(case, &steps.string_to_sign));
        assert!([&held, &derived].iter().any(|either| *either == sent), "{sent} is of neither key");
        sent == derived
    }
}

#[test]
fn the_key_is_derived_once_for_all_requests_of_a_day() {
    let signer = Marked::new(&call());
    let start = 1_440_892_800_000;
    for (target, method, body, millis) in [
        ("/mcp", "POST", "{}", start),
        ("/other?a=1", "GET", "", start + 1),
        ("/mcp", "POST", "{}", start + DAY / 2),
        ("/mcp", "POST", "{}", start + DAY - 1),
    ] {
        let now = Time::from_millis(millis);
        let body = Some(body.as_bytes().to_vec());
        assert!(!signer.derives(&Case { body, now, ..Case::published(method, target, &[]) }), "{target} {millis}");
    }
}

#[test]
fn another_day_and_other_keys_get_another_key() {
    let next_day = Time::from_millis(call().now.as_millis() + DAY);
    let day_before = Time::from_millis(call().now.as_millis() - DAY);
    for other in [
        Case { now: next_day, ..call() },
        Case { now: day_before, ..call() },
        Case { secret_access_key: "another".to_owned(), ..call() },
        Case { access_key_id: "another".to_owned(), ..call() },
    ] {
        let signer = Marked::new(&call());
        assert!(!signer.derives(&call()), "{other:?}");
        assert!(signer.derives(&other), "{other:?}");
        // The one before is gone: there is room for one.
        assert!(signer.derives(&call()), "{other:?}");
    }
}

#[test]
fn another_session_token_needs_no_other_key() {
    let signer = Marked::new(&call());
    for session_token in [Some("one".to_owned()), Some("two".to_owned()), None] {
        assert!(!signer.derives(&Case { session_token, ..call() }));
    }
}
