//! Keeps secrets out of the log. Token servers repeat what they were sent, and in other spellings.
//!
//! A text with an escape of any kind is not decoded but withheld: what stands before an escape can change its meaning, and
//! descriptions that help have none.

use std::collections::HashSet;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::digest::hex;
use crate::secret::Secret;

/// So many consecutive characters of a secret are too many.
const WINDOW: usize = 6;

/// So many characters of base64 are needed for [`WINDOW`] bytes.
const SHORTEST_BASE64: usize = 8;

/// Base64 without padding; the last character may have bits of a byte that was cut off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Whether `text` may show six consecutive characters of one of `secrets`, or the whole of a shorter one: as they are, with
/// other letter case, white space or `+` for it, in base64 or hexadecimal, or escaped. It errs on the side of withholding.
pub fn may_show(text: &str, secrets: &[Secret]) -> bool {
    if has_escape(text) {
        return true;
    }
    let mut read = readings(text).to_vec();
    for bytes in base64_decoded(text) {
        read.extend(readings(&String::from_utf8_lossy(&bytes)));
        // As Latin-1.
        read.extend(readings(&bytes.iter().copied().map(char::from).collect::<String>()));
    }
    let windows: HashSet<&[char]> = read.iter().flat_map(|reading| reading.windows(WINDOW)).collect();
    let shows = |part: &[char]| match part.len() {
        0 => false,
        1..WINDOW => read.iter().any(|reading| reading.windows(part.len()).any(|window| window == part)),
        _ => part.windows(WINDOW).any(|window| windows.contains(window)),
    };
    secrets.iter().any(|secret| {
        let is_shown = readings(secret.expose()).iter().any(|reading| shows(reading));
        is_shown
            || encodings(secret).iter().flat_map(|code| readings(code.expose())).any(|code| shows_code(&code, &windows))
    })
}

/// Whether a part of `code`, which is a secret in another alphabet, is among `windows`.
fn shows_code(code: &[char], windows: &HashSet<&[char]>) -> bool {
    code.windows(WINDOW).any(|window| windows.contains(window))
}

/// Whether `text` has an escape of a URL, of HTML or of a string of JSON and most languages, or the beginning of one.
fn has_escape(text: &str) -> bool {
    let starts = |(place, letter): (usize, char)| {
        let next = |count| text.get(place + 1..place + 1 + count).unwrap_or_default();
        match letter {
            '\\' => true,
            '%' => next(1) == "u" || next(2).len() == 2 && next(2).bytes().all(|digit| digit.is_ascii_hexdigit()),
            '&' => next(1) == "#" || next(1).bytes().any(|letter| letter.is_ascii_alphabetic()),
            _ => false,
        }
    };
    text.char_indices().any(starts)
}

/// `text` without regard to letter case, in which each white-space character, control character and `+` is a space; the same
/// without these; and without the white space alone.
fn readings(text: &str) -> [Vec<char>; 3] {
    let is_space = |letter: &char| letter.is_whitespace() || letter.is_control();
    // The upper case of some letters has two, and has no way back.
    let folded: Vec<_> = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    let without =
        |is_left_out: &dyn Fn(&char) -> bool| folded.iter().copied().filter(|letter| !is_left_out(letter)).collect();
    let is_space_or_plus = |letter: &char| is_space(letter) || *letter == '+';
    let spaced = folded.iter().map(|letter| if is_space_or_plus(letter) { ' ' } else { *letter }).collect();
    [spaced, without(&is_space_or_plus), without(&is_space)]
}

/// `text` in the standard alphabet of base64, without white space.
fn standard(text: &str) -> String {
    let one_alphabet = |letter| match letter {
        '-' => '+',
        '_' => '/',
        letter => letter,
    };
    text.chars().filter(|letter| !letter.is_whitespace() && !letter.is_control()).map(one_alphabet).collect()
}

/// What each part of `text` that may be base64 means, read from each of four places, as other characters may stand before it.
fn base64_decoded(text: &str) -> Vec<Vec<u8>> {
    let text = standard(text);
    let runs = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '+' && letter != '/');
    let starts =
        runs.filter(|run| run.len() >= SHORTEST_BASE64).flat_map(|run| (0..4).filter_map(|skip| run.get(skip..)));
    // One character alone means no byte.
    let whole = starts.filter_map(|run| if run.len() % 4 == 1 { run.get(..run.len() - 1) } else { Some(run) });
    whole.filter_map(|run| BASE64.decode(run).ok()).collect()
}

/// `secret` in hexadecimal, and in base64 of both alphabets as it stands behind any number of other bytes. A part of base64 too
/// short to mean six characters is found by these, as is base64 in other letter case, which does not decode.
fn encodings(secret: &Secret) -> Vec<Secret> {
    let bytes = secret.expose().as_bytes();
    let aligned = (0..3).filter_map(|skipped| bytes.get(skipped..)).flat_map(|bytes| {
        // The last character of an incomplete group depends on the byte that follows.
        let code = BASE64.encode(bytes.get(..bytes.len() / 3 * 3).unwrap_or_default());
        [code.replace('+', "-").replace('/', "_"), code]
    });
    aligned.chain([hex(bytes)]).map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, proptest};

    use super::may_show;
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

    /// As libraries of several languages do it; `&` first.
    fn html_named(text: &str) -> String {
        let names = [('&', "&amp;"), ('<', "&lt;"), ('"', "&quot;"), ('ä', "&auml;"), ('+', "&plus;"), ('/', "&sol;")];
        names.into_iter().fold(text.to_owned(), |text, (letter, name)| text.replace(letter, name))
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
            html(text).replace(';', ""),
            html_named(text),
            json(&html_named(text)),
            html_named(&form(text)),
            text.chars().map(|letter| format!("%u{:04x}", u32::from(letter))).collect(),
            text.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
            hex(text.as_bytes()),
            hex(text.as_bytes()).to_uppercase(),
        ];
        for prefix in ["", "i", "id", "id:"] {
            spellings.push(STANDARD.encode(format!("{prefix}{text}")));
            spellings.push(URL_SAFE_NO_PAD.encode(format!("{prefix}{text}:")));
        }
        spellings
    }

    #[test]
    fn a_secret_is_seen_in_every_spelling() {
        for text in [SECRET, "s3cr3t", "gr\u{e4}ß&e", "pass\u{1f600}word", "open sesame now", "a+b c+d e"] {
            let secrets = [secret("another-secret"), secret(text)];
            for spelling in spellings(text) {
                for echo in [
                    spelling.clone(),
                    format!("the secret {spelling} is wrong"),
                    format!("a={spelling}, b=c"),
                    format!("%{spelling}"),
                    format!("\\{spelling}"),
                    format!("it is{spelling}"),
                ] {
                    assert!(may_show(&echo, &secrets), "{echo}");
                }
            }
        }
        for text in ["p&s s<w", "P&SS<W", "rd/ü+\n=", "is p&ss<w it?"] {
            assert!(may_show(text, &[secret(SECRET)]), "{text}");
        }
        assert!(may_show("is it a b c d?", &[secret("a b c d e f g")]), "six characters, spaces among them");
    }

    #[test]
    fn base64_is_seen_in_lines_and_in_another_letter_case() {
        let secrets = [secret("a-longer-s3cr3t-than-one-line")];
        let code = STANDARD.encode("id:a-longer-s3cr3t-than-one-line");
        let lines = code.as_bytes().chunks(5).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
        for text in [code.to_lowercase(), lines.join("\r\n"), format!("x{}", lines.join(" "))] {
            assert!(may_show(&text, &secrets), "{text}");
        }
    }

    #[test]
    fn descriptions_that_help_are_said() {
        let secrets =
            [secret(SECRET), secret("s3cr3t-0123456789"), secret("cl1ent-s3cr3t"), secret("MIIEvAIBADANBgkqhkiG9w0")];
        for text in [
            "",
            "Client authentication failed",
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
             value, not the client secret ID, for a secret added to app '6731de76-14a6-49ae-97bc-6eba6914391e'. Trace ID: \
             0f2c4f5e-3c53-4f0e-9d5c-0f1b6f2a1d00 Timestamp: 2026-11-27 22:21:54Z",
            "The client secret supplied for a confidential client is invalid.",
            "unknown scope mcp:tools (50% & more), see https://auth.example/errors?code=17",
            "is it s3cr3?",
        ] {
            assert!(!may_show(text, &secrets), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_seen_as_a_whole() {
        for (text, short) in [
            ("is it pw?", "pw"),
            ("is it PW?", "pw"),
            ("is it p w?", "pw"),
            ("is it a-b?", "a-b"),
            ("is it a_b?", "a_b"),
            ("is it a b?", "a b"),
            ("is it a+b?", "a b"),
            ("is it +?", "+"),
            ("is it %70w?", "pw"),
        ] {
            assert!(may_show(text, &[secret(short)]), "{text}");
        }
        assert!(!may_show("is it p?", &[secret("pw")]) && !may_show("anything", &[secret("")]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn six_characters_of_a_secret_are_seen(
            before in "[ -~]{0,20}",
            behind in "[ -~]{0,20}",
            (text, start) in "([!-~]|[ -~äß\u{1f600}]){6,40}"
                .prop_flat_map(|text| { let last = text.chars().count() - 6; (proptest::strategy::Just(text), 0..=last) }),
            which in any::<proptest::sample::Index>(),
        ) {
            let part: String = text.chars().skip(start).take(6).collect();
            let spelling = which.get(&spellings(&part)).clone();
            prop_assert!(may_show(&format!("{before}{spelling}{behind}"), &[secret(&text)]), "{}", spelling);
        }

        #[test]
        fn no_text_and_no_secret_is_a_trap(text in "\\PC{0,60}", secret_text in "\\PC{0,20}") {
            may_show(&text, &[secret(&secret_text)]);
        }
    }
}
