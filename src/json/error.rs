//! What is wrong with a configuration: where, and which rule it breaks, never the value it has.

use std::borrow::Cow;
use std::fmt;

use serde::de;

/// A rule that a value breaks, worded to follow the value's path: `must not be empty`.
pub type Rule = Cow<'static, str>;

/// One mistake in a configuration.
///
/// It prints as `servers.github-mcp.auth.token: must not be empty`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    rule: Rule,
}

/// All mistakes found in one configuration, in the order of finding them; one a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// The place in a configuration that is being checked, and where its mistakes are noted.
pub struct Checks<'a> {
    path: String,
    errors: &'a mut ConfigErrors,
}

impl ConfigError {
    /// A mistake at the current place; [`ConfigError::within`] says where that is.
    pub fn here(rule: impl Into<Rule>) -> Self {
        Self { path: String::new(), rule: rule.into() }
    }

    /// The same mistake as seen from one level up, where its place is called `segment`.
    #[must_use]
    pub fn within(self, segment: &str) -> Self {
        Self { path: join(segment, &self.path), rule: self.rule }
    }
}

impl ConfigErrors {
    /// Checks that begin at the top of the configuration.
    pub fn checks(&mut self) -> Checks<'_> {
        Checks { path: String::new(), errors: self }
    }

    /// Whether no mistake was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Checks<'_> {
    /// The same checks, lent.
    pub fn here(&mut self) -> Checks<'_> {
        Checks { path: self.path.clone(), errors: self.errors }
    }

    /// Where this is: `servers.github-mcp.auth`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes that the value here breaks `rule`.
    pub fn fail(&mut self, rule: impl Into<Rule>) {
        self.errors.0.push(ConfigError { path: self.path.clone(), rule: rule.into() });
    }

    /// The same checks one level down.
    pub fn at(&mut self, name: &str) -> Checks<'_> {
        Checks { path: join(&self.path, &segment(name)), errors: self.errors }
    }

    /// The same checks for the element at `index`.
    pub fn index(&mut self, index: usize) -> Checks<'_> {
        Checks { path: join(&self.path, &index_segment(index)), errors: self.errors }
    }

    /// The value of `result`, or a note of the rule it breaks.
    pub fn accept<T>(&mut self, result: Result<T, impl Into<Rule>>) -> Option<T> {
        result.map_err(|rule| self.fail(rule)).ok()
    }

    /// The value of `result`, or a note of the error at its place below this one.
    pub fn accept_at<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result
            .map_err(|error| {
                self.errors.0.push(ConfigError { path: join(&self.path, &error.path), rule: error.rule });
            })
            .ok()
    }
}

/// One step of a path: bare where that reads well, else quoted, so that a dot in a name
/// (`outbound|443||api.example.com`) is not taken for a step.
pub fn segment(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(plain) { Cow::Borrowed(name) } else { Cow::Owned(format!("[{name:?}]")) }
}

/// The step of a path into an array: `[0]`.
pub fn index_segment(index: usize) -> String {
    format!("[{index}]")
}

fn join(outer: &str, inner: &str) -> String {
    let separator = if outer.is_empty() || inner.is_empty() || inner.starts_with('[') { "" } else { "." };
    format!("{outer}{separator}{inner}")
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "configuration" } else { &self.path };
        write!(formatter, "{path}: {}", self.rule)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Serde hands over the offending value with most errors; each method here drops it.
impl de::Error for ConfigError {
    fn custom<T: fmt::Display>(rule: T) -> Self {
        Self::here(rule.to_string())
    }

    fn invalid_type(_value: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::here(format!("must be {expected}"))
    }

    fn invalid_value(_value: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::here(format!("must be {expected}"))
    }

    fn invalid_length(_length: usize, expected: &dyn de::Expected) -> Self {
        Self::here(format!("must have {expected}"))
    }

    fn unknown_variant(_value: &str, known: &'static [&'static str]) -> Self {
        Self::here(format!("must be one of {}", known.join(", ")))
    }

    fn unknown_field(_name: &str, known: &'static [&'static str]) -> Self {
        Self::here(match known {
            [] => Cow::Borrowed("unknown key; none is allowed here"),
            _ => Cow::Owned(format!("unknown key; known here: {}", known.join(", "))),
        })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::here("is required").within(name)
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::here("is given twice").within(name)
    }
}
