//! What came of a suite as other programs read it: JUnit's XML. JSON is what [`Tried`] serialises to.

use std::fmt::Write as _;

use crate::{Outcome, Tried};

/// The report that CI systems read: one suite, a case each, named after the check.
pub fn junit(check: &str, tried: &[Tried]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| tried.iter().filter(|one| wanted(&one.outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::NotApplicable(_)));
    let time: u64 = tried.iter().map(|one| one.duration_ms).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{}\">",
        escaped(check),
        tried.len(),
        seconds(time)
    );
    for one in tried {
        let (matter, name) = one.id.rsplit_once('/').unwrap_or(("", &one.id));
        let _ = write!(
            text,
            "  <testcase classname=\"{}.{}\" name=\"{}\" time=\"{}\"",
            escaped(check),
            escaped(matter),
            escaped(name),
            seconds(one.duration_ms)
        );
        let inner = match &one.outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed(reasons) => format!(
                "<failure message=\"{}\">{}</failure>",
                escaped(&one.about),
                escaped(&reasons.join("\n"))
            ),
            Outcome::NotApplicable(reason) => format!("<skipped message=\"{}\"/>", escaped(reason)),
        };
        let _ = match inner.is_empty() {
            true => writeln!(text, "/>"),
            false => writeln!(text, ">{inner}</testcase>"),
        };
    }
    text.push_str("</testsuite>\n");
    text
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// XML 1.0: what must not stand in a text, and what may not stand in a document at all.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_failed_and_why() {
        let one = |id: &str, outcome| Tried {
            id: id.into(),
            about: "It <holds>.".into(),
            outcome,
            duration_ms: 1500,
        };
        let tried = [
            one("schema/valid", Outcome::Passed),
            one("failures/reset", Outcome::Failed(vec!["a & b".into(), "\u{1b}".into()])),
            one("failures/tls", Outcome::NotApplicable("no TLS".into())),
        ];
        let text = junit("tcp", &tried);
        assert!(text.contains(r#"tests="3" failures="1" errors="0" skipped="1" time="4.500""#), "{text}");
        assert!(text.contains(r#"<testcase classname="tcp.schema" name="valid" time="1.500"/>"#), "{text}");
        assert!(
            text.contains("<failure message=\"It &lt;holds&gt;.\">a &amp; b&#10;\u{fffd}</failure>"),
            "{text}"
        );
    }
}
