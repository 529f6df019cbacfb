//! `${NAME}` in a string stands for an environment variable of the VM; `$${` is a literal `${`.

use crate::json::Json;
use crate::json::error::{Checks, Rule};

/// Looks up an environment variable by its name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the environment's values into every string of `json`, at any depth.
///
/// Line breaks at the end of a value are left out: they come from files. What looks like a reference in a value is not looked
/// up again.
pub fn expand(json: &mut Json, environment: Environment<'_>, mut checks: Checks<'_>) {
    match json {
        Json::String(text) => {
            if let Some(expanded) = checks.accept(expand_text(text, environment)) {
                *text = expanded;
            }
        }
        Json::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                expand(element, environment, checks.index(index));
            }
        }
        Json::Object(entries) => {
            for (name, value) in entries {
                expand(value, environment, checks.at(name));
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn expand_text(text: &str, environment: Environment<'_>) -> Result<String, Rule> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = reference.get(2..).unwrap_or_default();
            continue;
        }
        expanded.push_str(before);
        let (name, after) = variable(reference)?;
        expanded.push_str(&value_of(name, environment)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Splits `${NAME}rest` into `NAME` and `rest`.
fn variable(reference: &str) -> Result<(&str, &str), Rule> {
    reference
        .strip_prefix("${")
        .and_then(|inner| inner.split_once('}'))
        .filter(|(name, _)| is_variable_name(name))
        .ok_or(Rule::Borrowed("has `${` without a variable's name and `}` behind it; a literal `${` is written `$${`"))
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn value_of(name: &str, environment: Environment<'_>) -> Result<String, Rule> {
    environment(name)
        .map(|value| value.trim_end_matches(['\r', '\n']).to_owned())
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Rule::Owned(format!("environment variable {name} is not set in the VM, empty, or not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::expand_text;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "B_2" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb \r\n\n".to_owned()),
            "ONLY_LINES" => Some("\r\n".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_and_escapes_kept() {
        for (text, expected) in [
            ("", ""),
            ("plain $ {x} $$ }", "plain $ {x} $$ }"),
            ("${A}", "alpha"),
            ("<${A}${A}>", "<alphaalpha>"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$${${A}}", "${alpha}"),
            ("${B_2}", "${A}"),
            ("é${A}ü", "éalphaü"),
            ("<${LINES}>\n", "<a\nb >\n"),
        ] {
            assert_eq!(expand_text(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_reference_that_cannot_be_resolved_is_an_error_without_the_text() {
        for text in ["${", "a${A", "${}", "${1A}", "${A B}", "${A-B}", "${${A}}"] {
            let rule = expand_text(text, &environment).unwrap_err();
            assert!(rule.starts_with("has `${` without"), "{text}: {rule}");
        }
        for (text, name) in [("${MISSING}", "MISSING"), ("x${EMPTY}", "EMPTY"), ("${ONLY_LINES}", "ONLY_LINES")] {
            let rule = expand_text(text, &environment).unwrap_err();
            assert_eq!(rule, format!("environment variable {name} is not set in the VM, empty, or not UTF-8"));
        }
    }
}
