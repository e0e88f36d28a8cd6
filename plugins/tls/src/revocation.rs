//! The verdict over what was heard about revocation. Who is asked is the host's business; see `Facts::ask_revocation`.

use sdk::tls::{Revocation, RevocationSource};
use sdk::{Failure, Finding, Outcome, State};

use crate::choice::{self, RevocationMode};
use crate::config::Config;
use crate::facts::{Facts, Heard};
use crate::words::{name_of, whose};

/// Whom to ask, in this order.
pub(crate) fn sources(config: &Config) -> &'static [RevocationSource] {
    use RevocationSource::{Crl, Ocsp, Stapled};
    match config.revocation {
        choice::Revocation::Off => &[],
        choice::Revocation::Stapled => &[Stapled],
        choice::Revocation::Ocsp => &[Ocsp],
        choice::Revocation::Crl => &[Crl],
        choice::Revocation::Any => &[Stapled, Ocsp, Crl],
    }
}

/// What is revoked is down, whatever else is expected. The host reads a staple also where others are to be asked.
pub(crate) fn revoked(mut outcome: Outcome, config: &Config, facts: &Facts) -> Outcome {
    if config.revocation == choice::Revocation::Off {
        return outcome;
    }
    let is_told = facts.heard.iter().any(|heard| heard.place == 0 && heard.revocation == Revocation::Revoked);
    for defect in facts.defects.iter().filter(|defect| defect.code == "revoked" && !is_told) {
        let finding = Finding::new("revocation", false, EXPECTED, defect.message.clone());
        outcome = outcome.must(finding, "tls.revoked", || defect.message.clone());
    }
    for heard in facts.heard.iter().filter(|heard| heard.revocation == Revocation::Revoked) {
        let finding = Finding::new("revocation", false, EXPECTED, said(heard));
        outcome = outcome.must(finding, "tls.revoked", || {
            format!("the certificate of {} is {}", subject(facts, heard.place), said(heard))
        });
    }
    outcome
}

/// What is not known to be good, and promises that are not kept.
pub(crate) fn unknown(mut outcome: Outcome, config: &Config, facts: &Facts) -> Result<Outcome, Failure> {
    if config.revocation == choice::Revocation::Off {
        return Ok(outcome);
    }
    for defect in facts.defects.iter().filter(|defect| defect.code == "must-staple") {
        let finding = Finding::new("must_staple", false, "a staple that says good", defect.message.clone());
        outcome = outcome.must(finding, "tls.must_staple", || defect.message.clone());
    }
    let mut refusal = None;
    for place in 0..facts.path.len() {
        let heard: Vec<&Heard> = facts.heard.iter().filter(|heard| heard.place == place).collect();
        let Some(last) = heard.last() else { continue };
        match last.revocation {
            Revocation::Revoked => continue,
            Revocation::Good => {
                outcome = outcome.finding(Finding::new("revocation", true, EXPECTED, said(last)));
                continue;
            }
            Revocation::Unknown => {}
        }
        let why: Vec<String> = heard.iter().map(|heard| said(heard)).collect();
        let (whose, why) = (subject(facts, place), why.join("; "));
        let said = format!("{whose}: unknown, {why}");
        let denied = heard.iter().find(|heard| heard.denied);
        let is_needed = config.revocation_mode == RevocationMode::Hard
            && (place == 0 || heard.iter().any(|heard| heard.named));
        outcome = match (is_needed, denied) {
            // Our own rules are in the way: that says nothing about the server.
            (_, Some(denied)) => {
                refusal = refusal.or(is_needed.then(|| denied.message.clone()));
                outcome.finding(Finding::new("revocation", false, EXPECTED, said))
            }
            (false, None) => outcome.finding(Finding::new("revocation", true, EXPECTED, said)),
            (true, None) => {
                let finding = Finding::new("revocation", false, EXPECTED, said);
                outcome.must(finding, "tls.revocation_unknown", || {
                    format!("nobody says whether the certificate of {whose} was revoked: {why}")
                })
            }
        };
    }
    match refusal {
        Some(refusal) if outcome.state != State::Down => Err(Failure::Denied(refusal)),
        _ => Ok(outcome),
    }
}

/// What is known of the leaf.
pub(crate) fn in_words(facts: &Facts) -> String {
    let known = |heard: &&Heard| heard.place == 0 && heard.revocation != Revocation::Unknown;
    facts.heard.iter().find(known).map_or_else(|| "unknown".to_owned(), said)
}

fn said(heard: &Heard) -> String {
    format!("{} ({})", heard.message, heard.from)
}

fn subject(facts: &Facts, place: usize) -> String {
    match (facts.path.get(place), facts.path.first()) {
        (Some(certificate), Some(leaf)) => whose(certificate, leaf),
        _ => facts.served.first().map_or_else(String::new, name_of),
    }
}

const EXPECTED: &str = "not revoked";
