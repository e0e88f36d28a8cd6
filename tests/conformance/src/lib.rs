//! The conformance suite: whether a component keeps Picket's contract, told from its description and its examples alone. A folder
//! with a `case.json` is a case. Called by `picket plugin test` and by our own tests; no network is needed.
//!
//! [`Suite`] holds the cases, [`Suite::try_component`] tries a component, [`Tried`] is what came of a case. Worlds are played in
//! [`world`], rules that need no script are in `rules`.

mod case;
mod judge;
mod report;
mod rules;
mod subject;
pub mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::{LoadError, Sandbox};

use case::Kind;
pub use case::{Case, CaseError};
pub use report::junit;
use subject::Subject;

/// The cases to try, and how long.
#[derive(Clone, Debug)]
pub struct Suite {
    /// In the order in which they are tried.
    pub cases: Vec<Case>,
    /// Runs of the case that looks at memory.
    pub runs: u32,
}

/// What came of one case.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Tried {
    /// The case: "failures/refused".
    pub id: String,
    /// What holds, in a sentence.
    pub about: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reasons")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not; each way in which it does not.
    Failed(Vec<String>),
    /// It says nothing about this check, and why.
    NotApplicable(String),
}

impl Suite {
    /// The cases that every check must pass.
    pub fn bundled() -> Suite {
        let read = |(id, text): &(&str, &str)| Case::read(id, text).expect("a test reads every bundled case");
        Suite { cases: CASES.iter().map(read).collect(), runs: RUNS }
    }

    /// Adds the cases of a folder: those of one check, with a configuration of their own.
    ///
    /// # Errors
    /// When it holds none, or one that cannot be read.
    pub fn with_folder(mut self, folder: &Path) -> Result<Suite, CaseError> {
        self.cases.extend(Case::below(folder)?);
        Ok(self)
    }

    /// Only the cases whose id contains one of these texts; all of them when there is none.
    #[must_use]
    pub fn only(mut self, filters: &[String]) -> Suite {
        if !filters.is_empty() {
            self.cases.retain(|case| filters.iter().any(|filter| case.id.contains(filter.as_str())));
        }
        self
    }

    /// Tries a component; `each` is told of every case as it ends.
    pub async fn try_component(
        &self,
        sandbox: &Sandbox,
        bytes: &[u8],
        mut each: impl FnMut(&Tried),
    ) -> Vec<Tried> {
        let subject = match sandbox.load(bytes).await {
            Ok(plugin) => Ok(Subject { sandbox: sandbox.clone(), plugin, runs: self.runs }),
            Err(error) => Err(error),
        };
        let mut tried = Vec::new();
        for case in &self.cases {
            let begun = Instant::now();
            let outcome = match &subject {
                Ok(subject) => match &case.kind {
                    Kind::Rule(rule) => rule.try_on(subject).await,
                    Kind::Run(run) => judge::try_on(run, subject).await,
                },
                Err(error) => refused(&case.id, error),
            };
            let one = Tried {
                id: case.id.clone(),
                about: case.about.clone(),
                outcome,
                duration_ms: millis(begun.elapsed()),
            };
            each(&one);
            tried.push(one);
        }
        tried
    }
}

/// What becomes of a case about a component that is no check here: the one that its mistake belongs to fails.
fn refused(id: &str, error: &LoadError) -> Outcome {
    use sandbox::Fault;
    let owner = match error {
        LoadError::Empty
        | LoadError::TooLarge { .. }
        | LoadError::Large { .. }
        | LoadError::NotWasm
        | LoadError::CoreModule
        | LoadError::Compile(_)
        | LoadError::CompileBudget { .. }
        | LoadError::Compiler(_) => "contract/component",
        LoadError::Import(_) | LoadError::Contract(_) => "contract/imports",
        LoadError::World | LoadError::Version { .. } => "contract/exports",
        LoadError::Describe(Fault::Cpu | Fault::Wall) => "describe/quick",
        LoadError::Describe(_) | LoadError::Description(_) => "describe/answers",
        LoadError::Schema(_) => "schema/valid",
    };
    match id == owner {
        true => Outcome::Failed(vec![error.to_string()]),
        false => Outcome::NotApplicable(format!("not tried: {owner} failed")),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const RUNS: u32 = 1000;

/// Id and text of every bundled case.
const CASES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/cases.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_case_can_be_read_and_says_what_it_is_about() {
        let suite = Suite::bundled();
        assert!(suite.cases.len() > 30, "{}", suite.cases.len());
        for case in &suite.cases {
            assert!(case.about.ends_with('.'), "{}: {}", case.id, case.about);
        }
    }

    #[test]
    fn every_way_not_to_load_belongs_to_a_case_that_exists() {
        let ids: Vec<_> = Suite::bundled().cases.into_iter().map(|case| case.id).collect();
        let errors = [
            LoadError::Empty,
            LoadError::World,
            LoadError::Import(vec!["x".into()]),
            LoadError::Describe(sandbox::Fault::Cpu),
            LoadError::Describe(sandbox::Fault::Memory),
            LoadError::Description("x".into()),
        ];
        for error in errors {
            let failing = |id: &&String| matches!(refused(id, &error), Outcome::Failed(_));
            assert_eq!(ids.iter().filter(failing).count(), 1, "{error}");
        }
    }
}
