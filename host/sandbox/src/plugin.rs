//! A loaded component and what it says about itself. Loading it lies in `load`, running it in `run`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::component::ComponentExportIndex;

use crate::Sandbox;
use crate::error::LoadError;
use crate::host::bindings::CheckPre;
use crate::host::bindings::exports::picket::check::checker as wit;
use crate::schema::Schema;
use crate::state::State;
use crate::verdict::{Fault, Mistake};

/// What `describe` and `validate` have.
pub(crate) const PURE: Duration = Duration::from_secs(1);

/// A component that is a check, compiled, linked and described.
pub struct Plugin {
    /// "sha256:" and 64 hexadecimal digits, over the component.
    pub digest: String,
    /// What it says about itself.
    pub description: Description,
    /// The schema of its configuration.
    pub schema: Schema,
    /// The interfaces it asks for, as it names them.
    pub imports: Vec<String>,
    /// The interfaces it offers.
    pub exports: Vec<String>,
    /// Bytes of the component.
    pub size: usize,
    pub(crate) metrics: BTreeSet<String>,
    pub(crate) pre: CheckPre<State>,
    pub(crate) validator: Option<ComponentExportIndex>,
    pub(crate) sandbox: Sandbox,
}

impl Plugin {
    /// The plugin's own rules for a completed configuration, those that no schema can say; no mistake when it has none. As pure as
    /// `describe`: no network, no secret, one second.
    ///
    /// # Errors
    /// The fault of a validator that broke.
    pub async fn validate(&self, completed: &Value) -> Result<Vec<Mistake>, Fault> {
        self.sandbox.validate(self, completed).await
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.description.name)
            .field("version", &self.description.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// "http": lower case, digits, hyphens, at most 32 characters.
    pub name: String,
    /// Semantic version of the check.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// JSON Schema 2020-12 of the configuration.
    pub config_schema: Value,
    /// What a run may emit.
    pub metrics: Vec<MetricDescription>,
}

/// What `describe` returned, word for word, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Each text with what it is.
    pub texts: [(&'static str, String); 5],
    /// Calls to interfaces of `picket:net`.
    pub calls: u32,
    /// Time on the processor.
    pub cpu: Duration,
}

/// One metric that a run may emit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDescription {
    /// Lower case with dots: "dns.answers".
    pub name: String,
    /// UCUM.
    pub unit: String,
    /// What it counts.
    pub description: String,
}

impl Description {
    /// Checks what `describe` returned.
    pub(crate) fn read(wit: wit::Description) -> Result<(Description, Schema), LoadError> {
        let wrong = |message: String| LoadError::Description(message);
        if !is_name(&wit.name) {
            return Err(wrong(format!(
                "found the name {:?}, expected 1 to 32 lower case letters, digits and hyphens, beginning with a letter",
                crate::redact::cut(wit.name, 64).0
            )));
        }
        if !is_version(&wit.version) {
            let found = crate::redact::cut(wit.version, 64).0;
            return Err(wrong(format!(
                "found the version {found:?}, expected a semantic version such as \"1.0.0\""
            )));
        }
        if wit.summary.trim().is_empty() || wit.summary.len() > 512 || wit.summary.contains('\n') {
            return Err(wrong("the summary must be one line of 1 to 512 bytes".to_owned()));
        }
        let metrics: Vec<MetricDescription> = serde_json::from_str(&wit.metrics).map_err(|error| {
            wrong(format!("the metrics are not a JSON list of {{name, unit, description}}: {error}"))
        })?;
        let config_schema: Value = serde_json::from_str(&wit.config_schema)
            .map_err(|error| wrong(format!("the configuration schema is not JSON: {error}")))?;
        let schema = Schema::parse(&config_schema)?;
        let description = Description {
            name: wit.name,
            version: wit.version,
            summary: wit.summary,
            config_schema,
            metrics,
        };
        Ok((description, schema))
    }

    /// The number before the first dot of the version.
    pub fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// MAJOR.MINOR.PATCH with an optional suffix behind "-" or "+" (semver.org, 2.0.0).
fn is_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number =
        |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    let printable = version.len() <= 64
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte));
    core.split('.').count() == 3 && core.split('.').all(number) && printable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut wit::Description), expected: &str) {
        let mut description = wit::Description {
            name: "tcp".into(),
            version: "0.1.0".into(),
            summary: "Connects.".into(),
            config_schema: r#"{"type":"object","additionalProperties":false}"#.into(),
            metrics: "[]".into(),
        };
        assert!(Description::read(description.clone()).is_ok());
        change(&mut description);
        let error = Description::read(description).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_wrong_description_is_told_what_is_wrong() {
        check(|d| d.name = "TCP".into(), "found the name \"TCP\"");
        check(|d| d.name = String::new(), "found the name \"\"");
        check(|d| d.name = "x".repeat(33), "expected 1 to 32");
        check(|d| d.version = "1".into(), "found the version \"1\"");
        check(|d| d.version = "1.0.0\n".into(), "found the version");
        check(|d| d.summary = "two\nlines".into(), "one line");
        check(|d| d.metrics = "{}".into(), "not a JSON list");
        check(|d| d.config_schema = "{".into(), "not JSON");
        check(|d| d.config_schema = r#"{"type":"object"}"#.into(), "accepts unknown keys");
    }
}
