//! What holds in every run of every example, whatever the world does.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Failure, Report, Verdict};

use super::{Found, NO_EXAMPLE, Unfit};
use crate::judge::short;
use crate::subject::{BUDGET, Subject, canary, everybody, told};
use crate::world::Scripted;
use crate::world::script::{Op, Script};

/// How much larger this process may become by a thousand runs, in bytes: what the allocator keeps is less, a memory that stays
/// behind in every run is more.
const GROWTH: u64 = 32 << 20;
/// Letters and digits of a secret in a row that count as a part of it.
const PART: usize = 8;

/// The worlds in which what holds always is looked at.
fn worlds() -> [Script; 4] {
    [
        everybody(vec![Op::Oblige]),
        everybody(vec![Op::Accept, Op::Echo]),
        everybody(vec![Op::Refuse]),
        everybody(vec![Op::Accept, Op::Silence]),
    ]
}

pub(super) async fn examples(subject: &Subject) -> Found {
    let mut found = Vec::new();
    let examples = subject.good_examples();
    if examples.is_empty() {
        return Err(NO_EXAMPLE);
    }
    for config in &examples {
        let shown = subject.run(subject.job(config, BUDGET), &everybody(vec![Op::Oblige])).await;
        let ran = matches!(
            shown.report.verdict,
            Verdict::Outcome(_) | Verdict::Failure(Failure::Permission(_) | Failure::Unsupported(_))
        );
        // Whoever reaches for what is not granted has a case of its own.
        if !ran && shown.seen.denials.is_empty() {
            found.push(format!("{} does not run: {}", short(config), told(&shown.report.verdict)));
        }
    }
    Ok(found)
}

pub(super) async fn targets(subject: &Subject) -> Found {
    let mut found: Vec<String> = Vec::new();
    let mut asked = false;
    for config in &subject.good_examples() {
        for world in worlds() {
            let shown = subject.run(subject.job(config, BUDGET), &world).await;
            asked |= shown.seen.calls > 0;
            for denial in shown.seen.denials {
                let reason = format!("with {}: {denial}", short(config));
                if !found.contains(&reason) {
                    found.push(reason);
                }
            }
        }
    }
    if asked { Ok(found) } else { Err(Unfit("no example asks anything of the world")) }
}

pub(super) async fn secrets(subject: &Subject) -> Found {
    let mut found = Vec::new();
    let mut used = false;
    for config in &subject.good_examples() {
        let count = subject.plugin.schema.secret_names(config).len();
        used |= count > 0;
        if count == 0 {
            continue;
        }
        for world in worlds() {
            let shown = subject.run(subject.job(config, BUDGET), &world).await;
            for index in 0..count {
                if let Some(place) = leak(&shown.report, &canary(index)) {
                    found.push(format!("with {}: a part of a secret stands in {place}", short(config)));
                }
            }
        }
    }
    found.dedup();
    if used { Ok(found) } else { Err(Unfit("no example uses a secret")) }
}

/// Where a part of a secret stands: in any case, with anything between its characters, forwards or backwards.
fn leak(report: &Report, secret: &str) -> Option<&'static str> {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let backwards: String = secret.chars().rev().collect();
    let held = |text: &str| {
        let text = plain(text);
        [secret, &backwards].iter().any(|form| {
            form.as_bytes().windows(PART).any(|part| memchr::memmem::find(text.as_bytes(), part).is_some())
        })
    };
    if report.log.iter().any(|(_, line)| held(line)) {
        return Some("the log");
    }
    let outcome = match &report.verdict {
        Verdict::Outcome(outcome) => outcome,
        Verdict::Failure(failure) => return held(&failure.to_string()).then_some("the failure"),
        Verdict::Fault(fault) => return held(&fault.to_string()).then_some("the fault"),
    };
    let findings = &outcome.findings;
    [
        ("the code", held(&outcome.code)),
        ("the summary", held(&outcome.summary)),
        ("a finding", findings.iter().any(|f| held(&f.expected) || held(&f.actual) || held(&f.id))),
        ("an attribute", outcome.attributes.iter().any(|(name, value)| held(name) || held(value))),
        ("the evidence", outcome.evidence.as_deref().is_some_and(held)),
    ]
    .into_iter()
    .find_map(|(place, held)| held.then_some(place))
}

pub(super) async fn metrics(subject: &Subject) -> Found {
    let described = &subject.plugin.description.metrics;
    let mut found: Vec<String> = Vec::new();
    let mut add = |reason: String| {
        if !found.contains(&reason) {
            found.push(reason);
        }
    };
    for config in &subject.good_examples() {
        for world in worlds() {
            let report = subject.run(subject.job(config, BUDGET), &world).await.report;
            for name in &report.undescribed {
                add(format!("the metric {name:?} is not described"));
            }
            let Verdict::Outcome(outcome) = &report.verdict else { continue };
            for metric in &outcome.metrics {
                let own = described.iter().find(|own| own.name == metric.name);
                if let Some(own) = own.filter(|own| own.unit != metric.unit) {
                    add(format!(
                        "the metric {} has the unit {:?}, described is {:?}",
                        metric.name, metric.unit, own.unit
                    ));
                }
            }
        }
    }
    Ok(found)
}

pub(super) async fn replay(subject: &Subject) -> Found {
    let mut found = Vec::new();
    for config in &subject.good_examples() {
        for script in worlds() {
            let job = subject.job(config, BUDGET);
            let world = Scripted::new(script, net::Grant::clone(&job.grant), job.timeout);
            let recorded = subject.sandbox.record(&subject.plugin, job, |_| Arc::new(world)).await;
            let trace = match recorded {
                Ok((_, trace)) => trace,
                Err(error) => return Ok(vec![error.to_string()]),
            };
            let replayed = subject.sandbox.replay(&subject.plugin, &trace).await;
            if let Some(divergence) = &replayed.divergence {
                let asked = &divergence.found;
                found.push(format!(
                    "with {}: call {} was {asked} the second time",
                    short(config),
                    divergence.at
                ));
            } else if !replayed.same {
                found.push(format!(
                    "with {}: the same answers gave {} the second time, not {}",
                    short(config),
                    told(&replayed.report.verdict),
                    trace.verdict
                ));
            } else if replayed.left > 0 {
                found.push(format!("with {}: {} calls were not made again", short(config), replayed.left));
            }
        }
    }
    Ok(found)
}

pub(super) async fn memory(subject: &Subject) -> Found {
    let Some(config) = subject.good_examples().into_iter().next() else { return Err(NO_EXAMPLE) };
    let world = everybody(vec![Op::Refuse]);
    let mut first = None;
    let mut size = None;
    for run in 1..=subject.runs {
        let mut job = subject.job(&config, Duration::from_secs(2));
        job.attempt = run;
        let used = subject.run(job, &world).await.report.spent.memory;
        let begun = *first.get_or_insert(used);
        if used > begun {
            return Ok(vec![format!("run {run} took {used} bytes of memory, the first one {begun}")]);
        }
        // What is kept for the first time is no growth.
        if run == subject.runs.min(100) {
            size = resident();
        }
    }
    let (Some(before), Some(after)) = (size, resident()) else { return Ok(Vec::new()) };
    Ok(match after.saturating_sub(before) {
        grown if grown > GROWTH => vec![format!("{} runs took {grown} bytes of this process", subject.runs)],
        _ => Vec::new(),
    })
}

/// Bytes of memory of this process; none where the system does not say.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
