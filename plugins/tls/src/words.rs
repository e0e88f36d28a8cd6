//! Certificates and times in words, as a summary needs them. Judges nothing.

use crate::facts::Certificate;

/// The common name where there is one, the whole subject otherwise.
pub(crate) fn name_of(certificate: &Certificate) -> String {
    common_name(&certificate.subject).or_else(|| certificate.names.first().cloned()).unwrap_or_else(|| {
        match certificate.subject.as_str() {
            "" => "the server".to_owned(),
            subject => subject.to_owned(),
        }
    })
}

/// The CN of a distinguished name (RFC 4514), where a backslash takes a comma's meaning.
pub(crate) fn common_name(subject: &str) -> Option<String> {
    let start = match subject.starts_with("CN=") {
        true => 3,
        false => subject.find(",CN=")? + 4,
    };
    let mut name = String::new();
    let mut chars = subject[start..].chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => name.extend(chars.next()),
            ',' | '+' => break,
            other => name.push(other),
        }
    }
    Some(name)
}

pub(crate) fn whose(certificate: &Certificate, leaf: &Certificate) -> String {
    if certificate.sha256 == leaf.sha256 {
        name_of(leaf)
    } else {
        format!("the intermediate {}", name_of(certificate))
    }
}

pub(crate) fn days(at: i64, now: i64) -> f64 {
    (at.saturating_sub(now)) as f64 / 86_400.0
}

/// Whole days, rounded down: what is left for a person to act.
pub(crate) fn in_words(days: f64) -> String {
    match days.floor() {
        1.0 => "1 day".to_owned(),
        whole => format!("{whole} days"),
    }
}

/// RFC 3339, UTC. The days of the civil calendar follow Howard Hinnant's algorithm, where a year begins in March.
pub(crate) fn date(at: i64) -> String {
    let (days, seconds) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_found_and_unescaped() {
        for (subject, name) in [
            ("CN=shop.test", Some("shop.test")),
            (r"O=Acme\, Inc.,CN=Acme\, short+OU=x,C=DE", Some("Acme, short")),
            ("O=Acme", None),
            ("", None),
        ] {
            assert_eq!(common_name(subject).as_deref(), name);
        }
    }

    #[test]
    fn dates_are_printed_as_rfc_3339() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(at), text);
        }
    }
}
