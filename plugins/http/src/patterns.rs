//! Regular expressions of the configuration: compiled and searched by the host, so that the body stays there.

use schemars::JsonSchema;
use sdk::http::Response;
use sdk::regex::Pattern;
use sdk::{Failure, Patterns, Stop};
use serde::{Deserialize, Serialize};

use crate::Config;

/// A header and a regular expression.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderPattern {
    /// The header's name, in any case.
    #[schemars(regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub(crate) name: String,
    /// The regular expression, looked for anywhere in a value: "^" and "$" in it are the value's ends.
    pub(crate) regex: String,
    /// Whether a response without the header passes. False unless set: it fails.
    #[serde(default)]
    pub(crate) allow_missing: bool,
}

/// All of a configuration, compiled.
pub(crate) struct Assertions {
    body: Vec<Pattern>,
    body_not: Vec<Pattern>,
    header: Vec<Pattern>,
    header_not: Vec<Pattern>,
}

/// What was found.
#[derive(Clone, Default)]
pub(crate) struct Found {
    /// Whether one of `body_matches` does; none when there are none.
    pub(crate) body: Option<bool>,
    /// The first of `body_not_matches` that matches; none of either when there are none.
    pub(crate) body_not: Option<Option<String>>,
    /// For each of `header_matches`: the header's values, and whether one matches.
    pub(crate) header: Vec<(Vec<String>, bool)>,
    /// The same for `header_not_matches`.
    pub(crate) header_not: Vec<(Vec<String>, bool)>,
}

impl Assertions {
    /// Compiles everything; the mistakes of all of it at once.
    pub(crate) fn read(config: &Config) -> Result<Self, Stop> {
        let mut patterns = Patterns::default();
        let read = Self {
            body: patterns.list("body_matches", &config.body_matches),
            body_not: patterns.list("body_not_matches", &config.body_not_matches),
            header: headers("header_matches", &config.header_matches, &mut patterns),
            header_not: headers("header_not_matches", &config.header_not_matches, &mut patterns),
        };
        patterns.all(read)
    }

    /// Searches the response for all of them.
    pub(crate) fn ask(&self, config: &Config, response: &Response) -> Result<Found, Stop> {
        let in_body = |pattern: &Pattern| response.matches(pattern).map_err(Failure::Unsupported);
        let mut found = Found::default();
        for pattern in &self.body {
            let known = found.body.get_or_insert(false);
            *known = *known || in_body(pattern)?;
        }
        for (pattern, text) in self.body_not.iter().zip(&config.body_not_matches) {
            let known = found.body_not.get_or_insert(None);
            if known.is_none() && in_body(pattern)? {
                *known = Some(text.clone());
            }
        }
        for (pattern, header) in self.header.iter().zip(&config.header_matches) {
            found.header.push(in_header(pattern, response.header(&header.name))?);
        }
        for (pattern, header) in self.header_not.iter().zip(&config.header_not_matches) {
            found.header_not.push(in_header(pattern, response.header(&header.name))?);
        }
        Ok(found)
    }
}

fn headers(option: &str, list: &[HeaderPattern], patterns: &mut Patterns) -> Vec<Pattern> {
    let each = list.iter().enumerate();
    each.filter_map(|(index, header)| patterns.compile(format!("/{option}/{index}/regex"), &header.regex))
        .collect()
}

fn in_header(pattern: &Pattern, values: Vec<String>) -> Result<(Vec<String>, bool), Stop> {
    for value in &values {
        if pattern.matches(value.as_bytes()).map_err(Failure::Unsupported)? {
            return Ok((values, true));
        }
    }
    Ok((values, false))
}
