//! Keys: which there are, how they are kept, and that they do not show.

use crate::aws::keys::{Keys, check};
use crate::secret::Secret;

/// The parts of keys, to be compared.
fn parts(keys: &Keys) -> (&str, &str, Option<&str>) {
    let token = keys.session_token.as_ref().map(Secret::expose);
    (keys.access_key_id.expose(), keys.secret_access_key.expose(), token)
}

#[test]
fn keys_come_back_from_the_text_that_they_are_kept_as() {
    for (id, secret, token) in [
        ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None),
        ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("AQoDYXdzEPT//////////wE==")),
        ("!", "~", Some(r#"{"a":"b\n"}"#)),
    ] {
        let keys = Keys::new(id, secret, token).unwrap();
        assert_eq!(parts(&keys), (id, secret, token));
        assert_eq!(parts(&Keys::from_text(&keys.to_text()).unwrap()), (id, secret, token));
    }
}

#[test]
fn an_empty_session_token_is_none() {
    assert_eq!(parts(&Keys::new("i", "s", Some("")).unwrap()), ("i", "s", None));
}

#[test]
fn what_no_key_has_is_refused() {
    assert_eq!(check(""), Err("must not be empty"));
    for text in [" ", "a b", "a ", "a\n", "a\r", "a\t", "a\0", "a\u{7f}", "ä", "a\u{a0}"] {
        assert_eq!(check(text), Err("must be visible ASCII characters"), "{text:?}");
        assert!(Keys::new(text, "s", None).is_err(), "{text:?}");
        assert!(Keys::new("i", text, None).is_err(), "{text:?}");
        assert!(Keys::new("i", "s", Some(text)).is_err(), "{text:?}");
    }
    assert!(Keys::new("", "s", None).is_err());
    assert!(Keys::new("i", "", None).is_err());
}

#[test]
fn a_text_that_was_not_made_of_keys_gives_none() {
    for text in ["", "i", "\n", "i\n", "\ns", "i\n\nt", "i\ns\nt t", "i\r\ns"] {
        assert!(Keys::from_text(&Secret::new(text.to_owned())).is_none(), "{text:?}");
    }
}

#[test]
fn keys_sign_alike_whatever_their_session_token_is() {
    let keys = |id, secret, token| Keys::new(id, secret, token).unwrap();
    assert!(keys("i", "s", None).sign_as(&keys("i", "s", Some("t"))));
    assert!(!keys("i", "s", None).sign_as(&keys("j", "s", None)));
    assert!(!keys("i", "s", None).sign_as(&keys("i", "z", None)));
}

#[test]
fn debug_shows_no_key() {
    let keys = Keys::new("AKID", "s3cr3t", Some("t0k3n")).unwrap();
    let shown = format!("{keys:?} {keys:#?} {:?}", keys.to_text());
    for hidden in ["AKID", "s3cr3t", "t0k3n"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}
