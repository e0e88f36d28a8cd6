//! What must come of a run in a scripted world, and whether it did. Pure but for the run itself.

use sandbox::{Failure, Verdict};
use serde_json::Value;

use crate::Outcome;
use crate::case::{Expect, Run};
use crate::subject::{Shown, Subject, code, state, told};

/// Calls after the time was used up that a check may still make: closing what it opened, reading once more.
const LATE: u32 = 16;

/// Tries a case with its own configuration, or with every example.
pub(crate) async fn try_on(run: &Run, subject: &Subject) -> Outcome {
    let configs = match &run.config {
        Some(config) => match subject.plugin.schema.complete(config) {
            Ok(config) => vec![config],
            Err(mistakes) if run.expect.codes == ["config"] => {
                let wanted = run.expect.mistake_at.as_deref();
                return match wanted.is_none_or(|at| mistakes.iter().any(|mistake| mistake.at == at)) {
                    true => Outcome::Passed,
                    false => Outcome::Failed(mistakes.iter().map(ToString::to_string).collect()),
                };
            }
            Err(mistakes) => return Outcome::Failed(mistakes.iter().map(ToString::to_string).collect()),
        },
        None => subject.good_examples(),
    };
    if configs.is_empty() {
        return Outcome::NotApplicable("the check documents no example that its schema accepts".to_owned());
    }
    let mut reasons = Vec::new();
    let mut judged = false;
    for config in &configs {
        let mut job = subject.job(config, run.timeout);
        for (name, secret) in &run.secrets {
            job.secrets.insert(name.as_str(), secret.clone().into_bytes());
        }
        if run.nothing_granted {
            job.grant = std::sync::Arc::default();
        }
        let shown = subject.run(job, &run.world).await;
        // A check that broke has met whatever was there.
        let broke = matches!(shown.report.verdict, Verdict::Fault(_));
        let met = run.met.as_deref().is_none_or(|wanted| met(wanted, &shown));
        let broke_at_it = broke && shown.seen.calls > 0 && run.met.as_deref() != Some("tls");
        if !(met || broke_at_it) {
            continue;
        }
        judged = true;
        for reason in mismatches(&run.expect, &shown) {
            reasons.push(format!("with {}: {reason}", short(config)));
        }
    }
    match (judged, reasons.is_empty()) {
        (false, _) => Outcome::NotApplicable(format!(
            "no example comes to it ({})",
            run.met.as_deref().unwrap_or("nothing is asked of the world")
        )),
        (true, true) => Outcome::Passed,
        (true, false) => Outcome::Failed(reasons),
    }
}

fn met(wanted: &str, shown: &Shown) -> bool {
    match wanted {
        "denial" => !shown.seen.denials.is_empty(),
        other => shown.seen.met.contains(&other),
    }
}

/// Everything in which a run is not what was expected.
fn mismatches(expect: &Expect, shown: &Shown) -> Vec<String> {
    let verdict = &shown.report.verdict;
    let mut found = Vec::new();
    if let Some(wanted) = &expect.state
        && wanted != state(verdict)
    {
        found.push(format!("expected {wanted}, came out {}", told(verdict)));
    } else if !expect.codes.is_empty() && !expect.codes.iter().any(|pattern| fits(pattern, code(verdict))) {
        found.push(format!("expected the code {}, came out {}", expect.codes.join(" or "), told(verdict)));
    }
    if shown.seen.late > LATE {
        found.push(format!("{} calls to the host after the time was used up", shown.seen.late));
    }
    let outcome = match verdict {
        Verdict::Outcome(outcome) => Some(outcome),
        _ => None,
    };
    for (id, passed) in &expect.findings {
        let own = outcome.and_then(|outcome| outcome.findings.iter().find(|finding| finding.id == *id));
        match own {
            Some(finding) if finding.passed == *passed => {}
            Some(finding) => found.push(format!("the finding {id} says {}", finding.passed)),
            None => found.push(format!("there is no finding {id}")),
        }
    }
    if let Some(part) = &expect.summary_contains
        && !summary(verdict).contains(part.as_str())
    {
        found.push(format!("the summary lacks {part:?}: {}", told(verdict)));
    }
    if let Some(at) = &expect.mistake_at {
        let named = matches!(verdict, Verdict::Failure(Failure::InvalidConfig(mistakes))
            if mistakes.iter().any(|mistake| mistake.at == *at));
        if !named {
            found.push(format!("no mistake is at {at:?}: {}", told(verdict)));
        }
    }
    // Otherwise whoever wrote the script would look for a slow check.
    if !found.is_empty() {
        found.extend(shown.seen.waits.iter().cloned());
    }
    found
}

/// What a person reads of it.
fn summary(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Outcome(outcome) => outcome.summary.clone(),
        Verdict::Failure(failure) => failure.to_string(),
        Verdict::Fault(fault) => fault.to_string(),
    }
}

/// A star stands for the rest.
fn fits(pattern: &str, code: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => code.ends_with(end),
        (None, Some(start)) => code.starts_with(start),
        (None, None) => pattern == code,
    }
}

/// A configuration as a message shows it.
pub(crate) fn short(config: &Value) -> String {
    let text = config.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_the_rest_of_a_code() {
        for (pattern, code, expected) in [
            ("*.refused", "tcp.refused", true),
            ("*.refused", "tcp.reset", false),
            ("tls.*", "tls.expired", true),
            ("tls.*", "tcp.refused", false),
            ("*", "anything", true),
            ("config", "config", true),
            ("config", "configured", false),
        ] {
            assert_eq!(fits(pattern, code), expected, "{pattern} {code}");
        }
    }
}
