//! Whether a server has the role that it must have.

use sdk::{Finding, Outcome, Stop};

use crate::choice::Role;
use crate::config::Config;

/// The expectation that holds, or the outcome where it does not: nothing else is judged then.
pub(crate) fn judge(config: &Config, in_recovery: bool) -> Result<Finding, Stop> {
    let (expected, found) = (config.expected_role(), Role::of(in_recovery));
    let passed = expected == Role::Any || expected == found;
    let finding = Finding::new("expect_role", passed, expected.text(), found.text());
    if passed {
        return Ok(finding);
    }
    let summary = || format!("the server is a {}, a {} was expected", found.text(), expected.text());
    Err(Outcome::up("").must(finding, "postgres.role", summary).into())
}
