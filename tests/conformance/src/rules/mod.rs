//! What is true of every check and needs no script: by name, as a `case.json` writes it. What each looks at lies in `describe`,
//! `schema`, `config` and `runs`.

mod config;
mod describe;
mod runs;
mod schema;

use serde::Deserialize;

use crate::Outcome;
use crate::subject::Subject;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// It loaded: whatever would have been wrong was told before.
    Loaded,
    /// `describe` takes little time.
    DescribeQuick,
    /// `describe` asks for nothing.
    DescribePure,
    /// `describe` says the same twice.
    DescribeTwice,
    /// Every option says what it does.
    SchemaDocumented,
    /// Every default is one.
    SchemaDefaults,
    /// Whoever can reach something marks what.
    SchemaTargets,
    /// There is an example.
    ExamplesDocumented,
    /// Every example is a configuration.
    ExamplesValid,
    /// Every example runs.
    ExamplesRun,
    /// A configuration that lacks everything.
    ConfigEmpty,
    /// Values of another type.
    ConfigWrongType,
    /// A key that nobody knows.
    ConfigUnknownKey,
    /// Much too much.
    ConfigHuge,
    /// Texts that are no JSON, or no object.
    ConfigEncoding,
    /// Nothing is reached that is not marked.
    GrantTargets,
    /// No secret is told, not in parts either.
    SecretsOutput,
    /// Only described metrics, in their units.
    MetricsDescribed,
    /// A trace gives its verdict again.
    ReplaySame,
    /// A thousand runs take no more memory than one.
    MemoryFlat,
}

impl Rule {
    pub(crate) async fn try_on(self, subject: &Subject) -> Outcome {
        let found = match self {
            Rule::Loaded => Ok(Vec::new()),
            Rule::DescribeQuick => describe::quick(subject).await,
            Rule::DescribePure => describe::pure(subject).await,
            Rule::DescribeTwice => describe::twice(subject).await,
            Rule::SchemaDocumented => schema::documented(subject),
            Rule::SchemaDefaults => schema::defaults(subject),
            Rule::SchemaTargets => schema::targets(subject),
            Rule::ExamplesDocumented => schema::examples_documented(subject),
            Rule::ExamplesValid => schema::examples_valid(subject).await,
            Rule::ExamplesRun => runs::examples(subject).await,
            Rule::ConfigEmpty => config::empty(subject).await,
            Rule::ConfigWrongType => config::wrong_type(subject).await,
            Rule::ConfigUnknownKey => config::unknown_key(subject).await,
            Rule::ConfigHuge => config::huge(subject).await,
            Rule::ConfigEncoding => config::encoding(subject).await,
            Rule::GrantTargets => runs::targets(subject).await,
            Rule::SecretsOutput => runs::secrets(subject).await,
            Rule::MetricsDescribed => runs::metrics(subject).await,
            Rule::ReplaySame => runs::replay(subject).await,
            Rule::MemoryFlat => runs::memory(subject).await,
        };
        match found {
            Ok(reasons) if reasons.is_empty() => Outcome::Passed,
            Ok(reasons) => Outcome::Failed(reasons),
            Err(Unfit(reason)) => Outcome::NotApplicable(reason.to_owned()),
        }
    }
}

/// Every way in which a rule is broken, or why it says nothing about this check.
type Found = Result<Vec<String>, Unfit>;

/// Why a rule says nothing about a check.
struct Unfit(&'static str);

const NO_EXAMPLE: Unfit = Unfit("the check documents no example that its schema accepts");
