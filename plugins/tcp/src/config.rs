//! What can be asked of the tcp check, with defaults and bounds.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use sdk::{Failure, Mistake, Stop};
use serde::{Deserialize, Serialize};

use crate::expectation::Expectations;
use crate::template::{Part, Payload};

/// What to connect to, and what to say and hear there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The name or address to connect to. An IPv6 address stands without brackets.
    #[schemars(length(min = 1), extend("x-picket-target" = "host"))]
    pub host: String,
    /// The port to connect to, 1 to 65535.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What to send after connecting: a text as it stands, `{hex: "0d 0a"}`, or a secret. Without `expect` any reply passes. Unset,
    /// nothing is sent.
    pub send: Option<Payload>,
    /// What the answer must contain: a text, `{regex: …}` in the syntax of Rust's regex crate, `{hex: …}`, or a list of up to 16 of
    /// these (see `match`). In a regex `^` and `$` stand at the ends of lines, and `.` stops there. Without `send` it is the banner, what the target says first. Unset,
    /// the answer is not read unless something was sent.
    pub expect: Option<Expectations>,
    /// A dialogue in steps instead of `send` and `expect`, at most 32. Each step expects, then sends, then begins TLS, as far as it says
    /// so. What an answer held behind the last line that was expected is kept for the next step. Unset, there is none.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub query_response: Vec<Step>,
    /// Whether `all` or `any` of a list in `expect` must be in one answer; `all` unless set.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// How many bytes of an answer to read at most, 1 to 65536. 1024 unless set: a banner or a status line fits many times.
    #[serde(default = "max_bytes")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_bytes: u32,
    /// Whether TLS begins right after connecting; false unless set. Not beside a step of `query_response` that says `starttls`. How TLS is
    /// spoken and who is trusted, the `tls` of the monitor says.
    #[serde(default)]
    pub tls: bool,
    /// The state when the connection is refused: `down`, `degraded` or `up`; `down` unless set. `up` is for what must not listen, or
    /// does so only now and then.
    #[serde(default)]
    pub on_refused: Otherwise,
    /// The state when an answer is not as expected: `down`, `degraded` or `up`; `down` unless set. No answer at all is always down.
    #[serde(default)]
    pub on_mismatch: Otherwise,
}

/// One step of a dialogue.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Step {
    /// What must be heard before this step goes on, as `expect` of the whole check. Unset, nothing is waited for.
    pub expect: Option<Expectations>,
    /// What to send then, as `send` of the whole check. In a text `${1}` stands for what the first group in brackets of the last regex
    /// matched, `${name}` for what the group `(?P<name>…)` of any earlier one did, and `$${` for `${` itself. Unset, nothing is sent.
    pub send: Option<Payload>,
    /// Whether TLS begins then, as after STARTTLS; false unless set. What the target says in the clear behind its answer is refused.
    #[serde(default)]
    pub starttls: bool,
}

/// How much of a list must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Match {
    /// Each.
    #[default]
    All,
    /// One.
    Any,
}

/// What a failed expectation makes of the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Otherwise {
    /// It does not serve.
    #[default]
    Down,
    /// It needs attention.
    Degraded,
    /// It is meant to be so.
    Up,
}

/// Groups in brackets that a text may refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    /// How many the last regex has; the most, where there are several.
    pub(crate) most: usize,
    /// Names of those of any.
    pub(crate) names: BTreeSet<String>,
}

impl Config {
    /// What the schema cannot say; every mistake at once. `groups` knows those of what a step expects.
    pub(crate) fn validate(&self, groups: impl Fn(usize) -> Option<Groups>) -> Result<(), Stop> {
        let mut mistakes = Vec::new();
        let mut mistake = |at: String, message: String| mistakes.push(Mistake { at, message });
        for (key, is_set) in [("send", self.send.is_some()), ("expect", self.expect.is_some())] {
            if is_set && !self.query_response.is_empty() {
                mistake(
                    format!("/{key}"),
                    "stands beside query_response: write it as a step there, or leave one of them out"
                        .to_owned(),
                );
            }
        }
        let mut known = Groups::default();
        let mut is_tls = self.tls;
        for (index, step) in self.query_response.iter().enumerate() {
            let at = format!("/query_response/{index}");
            if step.expect.is_none() && step.send.is_none() && !step.starttls {
                mistake(at.clone(), "says nothing: write expect, send or starttls".to_owned());
            }
            if let Some(new) = groups(index) {
                known.most = new.most;
                known.names.extend(new.names);
            }
            for problem in step.send.iter().flat_map(|send| unknown(send, &known)) {
                mistake(format!("{at}/send"), problem);
            }
            if step.starttls && is_tls {
                mistake(
                    format!("{at}/starttls"),
                    "TLS has begun before this: leave it out here, or leave out tls".to_owned(),
                );
            }
            is_tls |= step.starttls;
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(Failure::InvalidConfig(mistakes).into()),
        }
    }

    /// Where the expectation of a step stands, as a JSON pointer.
    pub(crate) fn pointer(&self, step: usize) -> String {
        match self.query_response.is_empty() {
            true => "/expect".to_owned(),
            false => format!("/query_response/{step}/expect"),
        }
    }

    /// The dialogue, also where it was written as `send` and `expect`.
    pub(crate) fn steps(&self) -> Cow<'_, [Step]> {
        if !self.query_response.is_empty() {
            return Cow::Borrowed(&self.query_response);
        }
        let any_reply = || self.send.is_some().then(Expectations::any_reply);
        let first = Step { send: self.send.as_ref().map(Payload::literally), ..Step::default() };
        let second = Step { expect: self.expect.clone().or_else(any_reply), ..Step::default() };
        Cow::Owned(vec![first, second])
    }
}

/// References of a text to groups that no earlier step has.
fn unknown(send: &Payload, known: &Groups) -> Vec<String> {
    let parts = match send.parts() {
        Ok(parts) => parts,
        Err(problem) => return vec![problem],
    };
    let problems = parts.iter().filter_map(|part| match part {
        Part::Literal(_) => None,
        Part::Number(number) => (*number > known.most).then(|| match known.most {
            0 => format!("${{{number}}} stands for a group, and no regex before this has one"),
            most => format!("${{{number}}} stands for a group, and the last regex before this has {most}"),
        }),
        Part::Name(name) => (!known.names.contains(name)).then(|| {
            format!("${{{name}}} stands for a group, and no regex before this has (?P<{name}>…); $${{ is a plain ${{")
        }),
    });
    problems.collect()
}

fn max_bytes() -> u32 {
    1024
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(mut written: Value, mistakes: &[(&str, &str)]) {
        let object = written.as_object_mut().unwrap();
        object.insert("host".into(), "a.test".into());
        object.insert("port".into(), 1.into());
        let config: Config = serde_json::from_value(written.clone()).unwrap();
        // What the host would say of the greeting below.
        let groups = |step: usize| {
            let is_greeting = config.query_response[step].expect.as_ref()?.regexes().next().is_some();
            is_greeting.then(|| Groups { most: 2, names: ["who".to_owned()].into() })
        };
        let found = match config.validate(groups) {
            Ok(()) => Vec::new(),
            Err(Stop::Failure(Failure::InvalidConfig(found))) => found,
            Err(stop) => panic!("{stop:?}"),
        };
        assert_eq!(found.len(), mistakes.len(), "{written}: {found:?}");
        for (found, (at, part)) in found.iter().zip(mistakes) {
            assert_eq!(found.at, *at);
            assert!(found.message.contains(part), "{}", found.message);
        }
    }

    #[test]
    fn a_dialogue_stands_alone_and_says_something() {
        check(json!({"send": "x", "expect": "y"}), &[]);
        check(
            json!({"send": "x", "query_response": [{"expect": "y"}]}),
            &[("/send", "beside query_response")],
        );
        check(json!({"query_response": [{}]}), &[("/query_response/0", "says nothing")]);
        check(
            json!({"query_response": [{"starttls": true}, {"starttls": true}]}),
            &[("/query_response/1/starttls", "has begun")],
        );
        check(
            json!({"tls": true, "query_response": [{"starttls": true}]}),
            &[("/query_response/0/starttls", "leave out tls")],
        );
    }

    #[test]
    fn a_capture_must_have_been_captured() {
        let greeting = json!({"regex": "^220 (?P<who>[^ ]+) (.*)$"});
        check(json!({"query_response": [{"expect": greeting, "send": "${who} ${1} ${2} $${x}"}]}), &[]);
        check(json!({"query_response": [{"expect": greeting}, {"expect": "x", "send": "${who}${2}"}]}), &[]);
        check(
            json!({"query_response": [{"send": "${1} ${who}"}, {"expect": greeting, "send": "${3}"}]}),
            &[
                ("/query_response/0/send", "no regex before this has one"),
                ("/query_response/0/send", "(?P<who>…)"),
                ("/query_response/1/send", "has 2"),
            ],
        );
        check(json!({"query_response": [{"send": "${who"}]}), &[("/query_response/0/send", "does not end")]);
        check(json!({"send": "${who}"}), &[]);
    }
}
