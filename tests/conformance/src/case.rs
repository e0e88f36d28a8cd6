//! What a case is, as its folder's `case.json` says: a rule that holds for every check, or a world and what must come of a run in
//! it. Owns the format and how a file is refused; how a case is tried is in `lib`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::rules::Rule;
use crate::world::script::{Script, duration};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its matter and its name: "failures/refused".
    pub id: String,
    /// What holds, in a sentence.
    pub about: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Something that is true of every check.
    Rule(Rule),
    /// Something that must come of a run.
    Run(Box<Run>),
}

/// A run in a scripted world.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Every example that the check documents when none.
    pub(crate) config: Option<Value>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) timeout: Duration,
    pub(crate) world: Script,
    /// Whether the run may reach nothing at all.
    pub(crate) nothing_granted: bool,
    /// Only a run that met this operation is judged.
    pub(crate) met: Option<String>,
    pub(crate) expect: Expect,
}

/// What must come of a run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// "up", "degraded", "down" or "error".
    pub(crate) state: Option<String>,
    /// One of these; a star stands for the rest: "*.refused", "tls.*".
    #[serde(alias = "code", deserialize_with = "one_or_more")]
    pub(crate) codes: Vec<String>,
    /// By id: whether it passed.
    pub(crate) findings: BTreeMap<String, bool>,
    /// A part of the summary.
    pub(crate) summary_contains: Option<String>,
    /// For the code config: the JSON pointer of a mistake.
    pub(crate) mistake_at: Option<String>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    about: String,
    rule: Option<Rule>,
    config: Option<Value>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default = "usual", deserialize_with = "duration")]
    timeout: Duration,
    world: Option<Script>,
    #[serde(default)]
    grant: Granted,
    met: Option<String>,
    expect: Option<Expect>,
}

/// What a run may reach.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Granted {
    /// What its configuration names.
    #[default]
    Configured,
    Nothing,
}

/// Why a folder is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The folder or the file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON, or not a case.
    #[error("{id}: {reason}")]
    Form {
        /// The case, or its file.
        id: String,
        /// What was found.
        reason: String,
    },
    /// There is none in that folder.
    #[error("{} holds no case: a case is a folder with a case.json", .0.display())]
    Empty(PathBuf),
}

impl CaseError {
    /// The same of a file that can be opened.
    fn at(self, file: &Path) -> Self {
        match self {
            CaseError::Form { reason, .. } => CaseError::Form { id: file.display().to_string(), reason },
            other => other,
        }
    }
}

impl Case {
    /// Reads the text of a `case.json`.
    ///
    /// # Errors
    /// When it is no case.
    pub fn read(id: &str, text: &str) -> Result<Case, CaseError> {
        let form = |reason: String| CaseError::Form { id: id.to_owned(), reason };
        let written: Written = serde_json::from_str(text).map_err(|e| form(e.to_string()))?;
        let kind = match (written.rule, written.world, written.expect) {
            (Some(rule), None, None) => Kind::Rule(rule),
            (None, Some(world), Some(expect)) => Kind::Run(Box::new(Run {
                config: written.config,
                secrets: written.secrets,
                timeout: written.timeout,
                world,
                nothing_granted: written.grant == Granted::Nothing,
                met: written.met,
                expect,
            })),
            _ => return Err(form("a case has a world and what it expects, or a rule".to_owned())),
        };
        Ok(Case { id: id.to_owned(), about: written.about, kind })
    }

    /// Every case below a folder, at any depth; sorted.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn below(folder: &Path) -> Result<Vec<Case>, CaseError> {
        let mut cases = Vec::new();
        collect(folder, folder, &mut cases)?;
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        if cases.is_empty() { Err(CaseError::Empty(folder.to_owned())) } else { Ok(cases) }
    }
}

fn collect(root: &Path, folder: &Path, cases: &mut Vec<Case>) -> Result<(), CaseError> {
    let read = |source| CaseError::Read { path: folder.to_owned(), source };
    let file = folder.join("case.json");
    if file.is_file() {
        let text = std::fs::read_to_string(&file)
            .map_err(|source| CaseError::Read { path: file.clone(), source })?;
        let inner = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().replace('\\', "/");
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Case::read(if inner.is_empty() { &name } else { &inner }, &text);
        cases.push(case.map_err(|error| error.at(&file))?);
    }
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() {
            collect(root, &path, cases)?;
        }
    }
    Ok(())
}

/// `"code": "x"` is short for `"codes": ["x"]`.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a code, or a list of codes")]
    enum Written {
        One(String),
        More(Vec<String>),
    }
    Ok(match Written::deserialize(from)? {
        Written::One(code) => vec![code],
        Written::More(codes) => codes,
    })
}

fn usual() -> Duration {
    Duration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(text: &str, expected: &str) {
        let error = Case::read("x/y", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_case_that_is_none_is_told_why() {
        refuse("{", "x/y: EOF");
        refuse(r#"{"about": "a"}"#, "a case has a world");
        refuse(r#"{"about": "a", "rule": "loaded", "world": {}}"#, "a case has a world");
        refuse(r#"{"about": "a", "rule": "no-such-rule"}"#, "no-such-rule");
        refuse(r#"{"about": "a", "world": {}, "expect": {"statte": "up"}}"#, "`code`");
        refuse(r#"{"about": "a", "world": {}, "expect": {"code": 7}}"#, "a code, or a list of codes");
        refuse(r#"{"about": "a", "world": {"peers": [{"does": ["explode"]}]}, "expect": {}}"#, "explode");
        refuse(
            r#"{"about": "a", "world": {"peers": [{"does": [{"delay": "soon"}]}]}, "expect": {}}"#,
            "\"soon\" is not a length of time",
        );
    }

    #[test]
    fn a_case_is_read_with_its_defaults() {
        let text = r#"{"about": "a", "world": {"peers": [{"does": ["refuse"]}]}, "expect": {"code": "tcp.refused"}}"#;
        let case = Case::read("x/y", text).unwrap();
        let Kind::Run(run) = case.kind else { panic!("not a run") };
        assert_eq!((run.timeout, run.expect.codes), (Duration::from_secs(2), vec!["tcp.refused".to_owned()]));
        assert_eq!(run.world.peers[0].at, "*");
    }
}
