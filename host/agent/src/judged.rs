//! What a monitor makes of a report beside its check: too slow, all addresses, the other way round, worth another attempt. Pure.

use std::net::IpAddr;
use std::time::Duration;

use sandbox::{Fault, Finding, Report, State, Verdict};

use crate::found::Found;

/// A success for which the network took longer than `limit` is degraded. Only what the host measured counts, not how busy the agent
/// was.
pub(crate) fn slow(mut report: Report, limit: Option<Duration>) -> Report {
    let (Some(limit), took) = (limit, report.measured.phases.total) else { return report };
    let Verdict::Outcome(outcome) = &mut report.verdict else { return report };
    if outcome.state == State::Down {
        return report;
    }
    let passed = took <= limit;
    if !passed && outcome.state == State::Up {
        outcome.state = State::Degraded;
        outcome.code = "slow".to_owned();
        outcome.summary = format!("slow, {} instead of {}: {}", span(took), span(limit), outcome.summary);
    }
    outcome.findings.push(Finding {
        id: "degraded_after".to_owned(),
        passed,
        expected: format!("at most {}", span(limit)),
        actual: span(took),
    });
    report
}

/// One report of several, each of its address: the worst, with a finding for every address. What is down speaks before what could not
/// be checked, and that before what is well: all of them must pass.
pub(crate) fn worst(reports: Vec<(IpAddr, Report)>) -> Option<Report> {
    let findings: Vec<_> = reports.iter().map(|(ip, report)| finding(*ip, &report.verdict)).collect();
    let (failed, all) = (findings.iter().filter(|finding| !finding.passed).count(), findings.len());
    let duration = reports.iter().map(|(_, report)| report.duration).max()?;
    // The first of the worst: `min_by_key` keeps it.
    let (ip, worst) = reports.into_iter().min_by_key(|(_, report)| rank(&report.verdict))?;
    let mut worst = Report { duration, ..worst };
    match &mut worst.verdict {
        Verdict::Outcome(outcome) => {
            if outcome.state != State::Up && all > 1 {
                outcome.summary = format!("{failed} of {all} addresses, {ip}: {}", outcome.summary);
            }
            outcome.findings.extend(findings);
        }
        Verdict::Failure(_) | Verdict::Fault(_) => {}
    }
    Some(worst)
}

/// What is up is down, and what is down is up. What could not be checked says nothing either way.
pub(crate) fn inverted(mut report: Report) -> Report {
    if let Verdict::Outcome(outcome) = &mut report.verdict {
        let found = format!("{} ({})", name(outcome.state), outcome.code);
        let down = outcome.state == State::Down;
        (outcome.state, outcome.code, outcome.summary) = match down {
            true => (State::Up, "ok".to_owned(), format!("down, as it should be: {}", outcome.summary)),
            false => {
                let summary = format!("{}, and should be down: {}", name(outcome.state), outcome.summary);
                (State::Down, "inverted".to_owned(), summary)
            }
        };
        let (id, expected) = ("invert".to_owned(), "down".to_owned());
        outcome.findings.push(Finding { id, passed: down, expected, actual: found });
    }
    report
}

/// Whether another attempt may say something else: what is down may have been a lost packet, and a place to run may be free again.
/// Nothing else that is wrong with us passes by itself within seconds.
pub(crate) fn is_worth_another(found: &Found) -> bool {
    found.state == wire::results::State::Down || found.code == Fault::Exhausted.code()
}

fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Outcome(outcome) => match outcome.state {
            State::Down => 0,
            State::Degraded => 2,
            State::Up => 3,
        },
        Verdict::Failure(_) | Verdict::Fault(_) => 1,
    }
}

fn finding(ip: IpAddr, verdict: &Verdict) -> Finding {
    let said = match verdict {
        Verdict::Outcome(outcome) => format!("{} ({})", name(outcome.state), outcome.code),
        Verdict::Failure(failure) => format!("error: {failure}"),
        Verdict::Fault(fault) => format!("error: {fault}"),
    };
    let passed = rank(verdict) == 3;
    Finding { id: "address".to_owned(), passed, expected: "up".to_owned(), actual: format!("{ip} {said}") }
}

fn name(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Degraded => "degraded",
        State::Down => "down",
    }
}

fn span(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use sandbox::{Failure, Outcome};

    use super::*;

    fn report(state: State, code: &str, ms: u64) -> Report {
        let outcome = Outcome {
            state,
            code: code.to_owned(),
            summary: format!("said {code}"),
            metrics: Vec::new(),
            findings: Vec::new(),
            attributes: Vec::new(),
            evidence: None,
            cut: false,
        };
        let mut report = Report { verdict: Verdict::Outcome(outcome), ..Report::fault(Fault::Shutdown) };
        report.measured.phases.total = Duration::from_millis(ms);
        report
    }

    fn failure(failure: Failure) -> Report {
        Report { verdict: Verdict::Failure(failure), ..Report::fault(Fault::Shutdown) }
    }

    /// State and code; "error" for everything that is no outcome.
    fn said(report: &Report) -> (&str, &str) {
        match &report.verdict {
            Verdict::Outcome(outcome) => (name(outcome.state), &outcome.code),
            Verdict::Failure(_) | Verdict::Fault(_) => ("error", ""),
        }
    }

    fn findings(report: &Report) -> Vec<(&str, bool, &str)> {
        let Verdict::Outcome(outcome) = &report.verdict else { return Vec::new() };
        outcome.findings.iter().map(|f| (&f.id[..], f.passed, &f.actual[..])).collect()
    }

    #[test]
    fn a_slow_success_is_degraded_and_nothing_else_changes() {
        let limit = Some(Duration::from_millis(100));
        for (found, limit, expected, finding) in [
            (report(State::Up, "ok", 100), limit, ("up", "ok"), Some((true, "100 ms"))),
            (report(State::Up, "ok", 101), limit, ("degraded", "slow"), Some((false, "101 ms"))),
            (
                report(State::Degraded, "tls.expires", 900),
                limit,
                ("degraded", "tls.expires"),
                Some((false, "900 ms")),
            ),
            (report(State::Down, "http.status", 900), limit, ("down", "http.status"), None),
            (report(State::Up, "ok", 900), None, ("up", "ok"), None),
            (failure(Failure::Denied("no".into())), limit, ("error", ""), None),
        ] {
            let judged = slow(found, limit);
            assert_eq!(said(&judged), expected);
            let found = findings(&judged);
            assert_eq!(found.first().map(|(_, passed, actual)| (*passed, *actual)), finding);
        }
    }

    #[test]
    fn inverting_turns_what_speaks_about_the_target_and_leaves_errors() {
        for (found, expected, passed) in [
            (report(State::Up, "ok", 1), ("down", "inverted"), Some(false)),
            (report(State::Degraded, "slow", 1), ("down", "inverted"), Some(false)),
            (report(State::Down, "tcp.refused", 1), ("up", "ok"), Some(true)),
            (failure(Failure::Denied("no".into())), ("error", ""), None),
            (Report::fault(Fault::Wall), ("error", ""), None),
        ] {
            let judged = inverted(found);
            assert_eq!(said(&judged), expected);
            assert_eq!(findings(&judged).first().map(|(_, passed, _)| *passed), passed);
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_worth_another_attempt() {
        for (found, expected) in [
            (report(State::Down, "tcp.refused", 1), true),
            (report(State::Down, "http.status", 1), true),
            (Report::fault(Fault::Exhausted), true),
            (report(State::Up, "ok", 1), false),
            (report(State::Degraded, "slow", 1), false),
            (failure(Failure::Denied("no".into())), false),
            (failure(Failure::InvalidConfig(Vec::new())), false),
            (Report::fault(Fault::Trap("unreachable".into())), false),
            (Report::fault(Fault::Wall), false),
        ] {
            let found = Found::from(found);
            assert_eq!(is_worth_another(&found), expected, "{found:?}");
        }
    }

    #[test]
    fn of_all_addresses_the_worst_counts_and_each_is_told() {
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let (up, down) = (|| report(State::Up, "ok", 1), || report(State::Down, "tcp.refused", 1));
        let (degraded, denied) =
            (|| report(State::Degraded, "slow", 1), || failure(Failure::Denied("no".into())));
        for (reports, expected) in [
            (vec![up(), up()], ("up", "ok")),
            (vec![up(), degraded(), up()], ("degraded", "slow")),
            (vec![degraded(), denied(), up()], ("error", "")),
            (vec![denied(), up(), down()], ("down", "tcp.refused")),
        ] {
            let reports: Vec<_> = (1..).map(ip).zip(reports).collect();
            let all = reports.len();
            let judged = worst(reports).unwrap();
            assert_eq!(said(&judged), expected);
            assert!(matches!(judged.verdict, Verdict::Outcome(_)) || findings(&judged).is_empty());
            if let Verdict::Outcome(outcome) = &judged.verdict {
                assert_eq!(outcome.findings.len(), all);
            }
        }
        let judged = worst(vec![(ip(1), up()), (ip(2), down())]).unwrap();
        assert_eq!(
            findings(&judged),
            [("address", true, "10.0.0.1 up (ok)"), ("address", false, "10.0.0.2 down (tcp.refused)")]
        );
        let Verdict::Outcome(outcome) = &judged.verdict else { panic!("{judged:?}") };
        assert_eq!(outcome.summary, "1 of 2 addresses, 10.0.0.2: said tcp.refused");
        assert!(worst(Vec::new()).is_none());
    }
}
