//! What an error of the server says: about the target, or about the account that we log in with. By SQLSTATE (PostgreSQL's
//! appendix A).
//!
//! A login that is refused is no dead target: the server answers, and says that this account may not in. A rotated password
//! would wake somebody for a database that is well. So it is the missing right of the account, and goes to whoever owns the
//! monitor.

use sdk::{Failure, Outcome, Stop};

use crate::target::Target;
use crate::wire::Report;

/// What an answer to a query says.
pub(crate) fn of(report: &Report, role: &str) -> Stop {
    match report.code.as_str() {
        "42501" => lacks(&said(report), role),
        // A view or a column that is not there: not a PostgreSQL of the version that it says.
        "42883" | "42P01" | "42703" => {
            unsupported(&format!("the server lacks what is asked: {}", said(report)))
        }
        _ => fault(report),
    }
}

/// What an answer during the login says.
pub(crate) fn at_login(report: &Report, target: &Target) -> Stop {
    let said = said(report);
    let permission = |text: String| Failure::Permission(text).into();
    match report.code.as_str() {
        "28P01" => permission(format!(
            "the server refuses the login: {said}; hold the role and the secret of {}/password against the server's",
            target.at
        )),
        code if code.starts_with("28") => {
            let hint = if report.message.contains("no encryption") {
                "set sslmode: require"
            } else if report.message.contains("certificate") {
                "give the monitor the role's client certificate: tls: {cert, key}"
            } else {
                "let its pg_hba.conf have a line for this role and the agent's address, or name another role"
            };
            permission(format!("the server refuses the login: {said}; {hint}"))
        }
        "42501" => permission(format!(
            "{said}; let a superuser run: GRANT CONNECT ON DATABASE {} TO {}",
            quoted(&target.dbname),
            quoted(&target.user)
        )),
        _ => fault(report),
    }
}

/// Columns are there, but their values are hidden from this role.
pub(crate) fn hidden(what: &str, role: &str) -> Stop {
    lacks(&format!("role {role} may not read {what}"), role)
}

/// A standby's replay was in the way of a query: nothing is wrong, and the query may be asked again.
pub(crate) fn is_conflict(report: &Report) -> bool {
    matches!(report.code.as_str(), "40001" | "40P01")
}

pub(crate) fn unsupported(message: &str) -> Stop {
    Failure::Unsupported(message.into()).into()
}

/// Says something about the target.
fn fault(report: &Report) -> Stop {
    let reason = match report.code.as_str() {
        "3D000" | "57P04" => "database",
        "53300" => "too_many_connections",
        "57014" => "timeout",
        "57P01" | "57P02" | "57P03" | "57P05" => "unavailable",
        _ => "error",
    };
    Outcome::down(format!("postgres.{reason}"), said(report)).into()
}

fn lacks(what: &str, role: &str) -> Stop {
    let text = format!("{what}; let a superuser run: GRANT pg_monitor TO {}", quoted(role));
    Failure::Permission(text).into()
}

/// The message, so short that the hint behind it is kept.
fn said(report: &Report) -> String {
    let end = report.message.char_indices().nth(LONGEST).map_or(report.message.len(), |(end, _)| end);
    format!("{} (SQLSTATE {})", &report.message[..end], report.code)
}

fn quoted(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}

/// Characters of a server's message; the host keeps 512 bytes of a summary.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use crate::target::Ends;

    fn report(code: &str, message: &str) -> Report {
        Report { code: code.into(), message: message.into() }
    }

    #[track_caller]
    fn check(stop: Stop, expected: &str, words: &str) {
        let (code, text) = match stop {
            Stop::Outcome(outcome) => (outcome.code, outcome.summary),
            Stop::Failure(Failure::Permission(text)) => ("permission".into(), text),
            Stop::Failure(Failure::Unsupported(text)) => ("unsupported".into(), text),
            Stop::Failure(failure) => panic!("{failure:?}"),
        };
        assert_eq!(code, expected);
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn an_error_of_a_query_is_sorted_by_its_sqlstate() {
        for (code, expected) in [
            ("3D000", "postgres.database"),
            ("57P04", "postgres.database"),
            ("53300", "postgres.too_many_connections"),
            ("57P03", "postgres.unavailable"),
            ("57P05", "postgres.unavailable"),
            ("57014", "postgres.timeout"),
            ("42501", "permission"),
            ("42883", "unsupported"),
            ("XX000", "postgres.error"),
            ("", "postgres.error"),
        ] {
            check(of(&report(code, "no"), "picket"), expected, "no (SQLSTATE");
        }
        check(of(&report("42501", "no"), "a\"b"), "permission", "GRANT pg_monitor TO \"a\"\"b\"");
    }

    #[test]
    fn a_login_that_is_refused_is_a_missing_right_and_no_dead_target() {
        let Ends::One(target) = config("{}").ends().unwrap() else { panic!() };
        let refused = |code, message| at_login(&report(code, message), &target);
        check(refused("28P01", "password authentication failed"), "permission", "/password");
        check(
            refused("28000", "no pg_hba.conf entry for host, no encryption"),
            "permission",
            "sslmode: require",
        );
        check(
            refused("28000", "connection requires a valid client certificate"),
            "permission",
            "tls: {cert, key}",
        );
        check(refused("28000", "role \"x\" does not exist"), "permission", "pg_hba.conf");
        check(
            refused("42501", "permission denied for database"),
            "permission",
            "GRANT CONNECT ON DATABASE \"postgres\" TO \"picket\"",
        );
        check(refused("3D000", "no such database"), "postgres.database", "no such database");
        check(refused("53300", "sorry"), "postgres.too_many_connections", "sorry");
        check(refused("57P03", "starting up"), "postgres.unavailable", "starting up");
    }

    #[test]
    fn a_long_message_leaves_room_for_what_to_do() {
        let Stop::Failure(Failure::Permission(text)) = of(&report("42501", &"é".repeat(5000)), "picket")
        else {
            panic!()
        };
        assert!(text.len() < 512 && text.ends_with("GRANT pg_monitor TO \"picket\""), "{text}");
    }
}
