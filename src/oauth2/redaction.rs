//! Keeps secrets out of the log. Token servers are known to repeat what they were sent, and in other spellings.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::percent_decode_str;

use crate::digest::hex;
use crate::secret::Secret;

/// So many consecutive characters of a secret are too many.
const WINDOW: usize = 6;

/// The most spellings of a text that are looked at. A text with more is taken for one that shows a secret.
const MOST_FORMS: usize = 64;

/// Whether `text` shows a part of one of `secrets`: as it is, or percent-encoded, form-encoded, HTML-escaped or
/// JSON-escaped, each also over another one; with other letter case or white space; or in base64 or hexadecimal.
pub fn shows(text: &str, secrets: &[Secret]) -> bool {
    let Some(forms) = forms(text) else { return true };
    let windows: HashSet<Window> = forms.iter().flat_map(|form| windows(&plain(form))).collect();
    secrets.iter().any(|secret| {
        let plain = plain(secret.expose());
        if plain.len() < WINDOW {
            let whole: String = plain.iter().collect();
            return !whole.is_empty() && forms.iter().any(|form| form.to_lowercase().contains(&whole));
        }
        let has_window = |characters: &[char]| windows_of(characters).any(|window| windows.contains(&window));
        has_window(&plain) || encodings(secret).iter().any(|encoding| has_window(&self::plain(encoding.expose())))
    })
}

/// A part of a text.
type Window = [char; WINDOW];

fn windows(characters: &[char]) -> Vec<Window> {
    windows_of(characters).collect()
}

fn windows_of(characters: &[char]) -> impl Iterator<Item = Window> {
    characters.windows(WINDOW).filter_map(|window| window.try_into().ok())
}

/// `text` without white space and control characters, in lower case, with one alphabet for base64.
fn plain(text: &str) -> Vec<char> {
    let letters = text.chars().filter(|letter| !letter.is_whitespace() && !letter.is_control());
    let one_alphabet = |letter| match letter {
        '-' => '+',
        '_' => '/',
        letter => letter,
    };
    letters.flat_map(char::to_lowercase).map(one_alphabet).collect()
}

/// `secret` in hexadecimal, and in base64 as it stands behind any number of other bytes.
fn encodings(secret: &Secret) -> Vec<Secret> {
    let bytes = secret.expose().as_bytes();
    let aligned = (0..3).filter_map(|skipped| bytes.get(skipped..)).map(|bytes| {
        // The last character of an incomplete group depends on the byte that follows.
        let whole = bytes.get(..bytes.len() / 3 * 3).unwrap_or_default();
        STANDARD_NO_PAD.encode(whole)
    });
    aligned.chain([hex(bytes)]).map(Secret::new).collect()
}

/// `text` in every way that it may be meant; nothing if there are too many.
fn forms(text: &str) -> Option<Vec<String>> {
    let mut forms = vec![text.to_owned()];
    let mut next = 0;
    while let Some(form) = forms.get(next).cloned() {
        next += 1;
        for decode in [percent_decoded, form_decoded, html_unescaped, json_unescaped] {
            let decoded = decode(&form);
            if !forms.contains(&decoded) {
                forms.push(decoded);
            }
        }
        if forms.len() > MOST_FORMS {
            return None;
        }
    }
    Some(forms)
}

fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn form_decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// The character references that escaping HTML makes: numbers, and five names.
fn html_unescaped(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        unescaped.push_str(before);
        let reference = behind.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest)));
        let (letter, next) = reference.unwrap_or(('&', behind));
        unescaped.push(letter);
        rest = next;
    }
    unescaped.push_str(rest);
    unescaped
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = reference.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)
        }
    }
}

/// The escapes of a JSON string (RFC 8259 §7), wherever they stand.
fn json_unescaped(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        unescaped.push_str(before);
        let mut letters = escape.chars();
        let letter = letters.next();
        rest = letters.as_str();
        match letter {
            Some('u') => {
                let digits = rest.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                if let Some(letter) = digits.and_then(char::from_u32) {
                    unescaped.push(letter);
                    rest = rest.get(4..).unwrap_or_default();
                }
            }
            Some('n' | 'r' | 't' | 'b' | 'f') => unescaped.push(' '),
            Some(letter) => unescaped.push(letter),
            None => {}
        }
    }
    unescaped.push_str(rest);
    unescaped
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::{json_unescaped, shows};
    use crate::digest::hex;
    use crate::secret::Secret;

    /// A secret that no spelling leaves as it is.
    const SECRET: &str = "p&ss<w\"rd/ü+=%41zz";

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn percent(text: &str, lower: bool) -> String {
        let encode = |byte: &u8| if lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
        text.as_bytes().iter().map(encode).collect()
    }

    fn form(text: &str) -> String {
        form_urlencoded::byte_serialize(text.as_bytes()).collect()
    }

    fn json(text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].replace('/', "\\/")
    }

    fn json_escapes(text: &str) -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
    }

    fn html(text: &str) -> String {
        text.chars().map(|letter| format!("&#x{:x};", u32::from(letter))).collect()
    }

    fn html_named(text: &str) -> String {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
    }

    /// `text` in all the spellings in which servers repeat it.
    fn spellings(text: &str) -> Vec<String> {
        let mut spellings = vec![
            text.to_owned(),
            text.to_uppercase(),
            percent(text, true),
            percent(text, false),
            form(text),
            form(text).to_lowercase(),
            percent(&percent(text, true), true),
            json(text),
            json_escapes(text),
            json(&json(text)),
            html(text),
            html_named(text),
            json(&html_named(text)),
            html_named(&form(text)),
            hex(text.as_bytes()),
        ];
        for prefix in ["", "i", "id", "id:"] {
            spellings.push(STANDARD.encode(format!("{prefix}{text}")));
            spellings.push(URL_SAFE_NO_PAD.encode(format!("{prefix}{text}:")));
        }
        spellings
    }

    #[test]
    fn a_secret_is_seen_in_every_spelling() {
        let secrets = [secret("another-secret"), secret(SECRET)];
        for spelling in spellings(SECRET) {
            for text in [spelling.clone(), format!("the secret {spelling} is wrong"), format!("a={spelling}&b=c")] {
                assert!(shows(&text, &secrets), "{text}");
            }
        }
        for text in ["p&s s<w", "P&SS<W", "rd/ü+\n=", "is p&ss<w it?"] {
            assert!(shows(text, &secrets), "{text}");
        }
    }

    #[test]
    fn what_helps_is_still_said() {
        let secrets = [secret(SECRET), secret("s3cr3t-0123456789"), secret("-----BEGIN PRIVATE KEY-----\nMIIE")];
        for text in [
            "",
            "Client authentication failed",
            "AADSTS7000215: Invalid client secret provided. Ensure the secret is not the client secret ID (50% &amp; more)",
            "unknown scope mcp:tools \\ \u{0}",
            "p&ss",
        ] {
            assert!(!shows(text, &secrets), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_seen_as_a_whole() {
        assert!(shows("is it pw?", &[secret("pw")]) && shows("is it %70w?", &[secret("PW")]));
        assert!(!shows("is it p w?", &[secret("pw")]) && !shows("anything", &[secret("")]));
    }

    #[test]
    fn a_text_of_endless_layers_is_withheld() {
        let layers = |layers| (0..layers).fold("a".to_owned(), |text, _| percent(&text, true));
        assert!(!shows(&layers(3), &[secret(SECRET)]));
        let text = format!("%{}41", "25".repeat(200));
        assert!(shows(&text, &[secret(SECRET)]));
    }

    #[test]
    fn an_escape_that_ends_early_is_no_trap() {
        for (text, expected) in
            [("\\", ""), ("a\\u", "a"), ("\\u00", "00"), ("\\u00é1", "00é1"), ("\\ud800x", "d800x"), ("\\u0041", "A")]
        {
            assert_eq!(json_unescaped(text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The text before does not end in the beginning of an escape, which would take the first characters along.
        #[test]
        fn six_characters_of_a_secret_are_seen(
            text in "[ -~]{0,20}[a-z ]{8}", secret_text in "[!-~]{6,40}", start in 0_usize..34, which in 0_usize..15,
        ) {
            let start = start.min(secret_text.len() - 6);
            let part = &secret_text[start..start + 6];
            let spelling = &spellings(part)[which];
            prop_assert!(shows(&format!("{text}{spelling}"), &[secret(&secret_text)]), "{}", spelling);
        }
    }
}
