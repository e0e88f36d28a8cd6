//! What may be chosen by name in a configuration, and what YAML makes of such names where they stand without quotes.

use std::borrow::Cow;
use std::fmt::{self, Display};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What is spoken before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Starttls {
    /// EHLO and STARTTLS (RFC 3207).
    Smtp,
    /// CAPABILITY and STARTTLS (RFC 9051).
    Imap,
    /// CAPA and STLS (RFC 2595).
    Pop3,
    /// AUTH TLS (RFC 4217).
    Ftp,
    /// The extended operation StartTLS (RFC 4511, section 4.14).
    Ldap,
    /// A stream, and starttls in it (RFC 6120, section 5).
    Xmpp,
    /// SSLRequest (PostgreSQL's frontend/backend protocol).
    Postgres,
    /// The SSL request packet (MySQL's client/server protocol).
    Mysql,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Version {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl Version {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Version::V12 => "1.2",
            Version::V13 => "1.3",
        }
    }
}

/// Who is asked about revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Revocation {
    /// Nobody.
    Off,
    /// The server's staple.
    #[default]
    Stapled,
    /// The responders.
    Ocsp,
    /// The lists.
    Crl,
    /// All, in this order.
    Any,
}

/// By name, or by the number that YAML makes of a `1.3` without quotes.
impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) if text == "1.2" => Ok(Self::V12),
            Written::Text(text) if text == "1.3" => Ok(Self::V13),
            Written::Number(1.2) => Ok(Self::V12),
            Written::Number(1.3) => Ok(Self::V13),
            other => Err(D::Error::custom(format!("found {other}, expected 1.2 or 1.3"))),
        }
    }
}

/// By name, or by the false that YAML makes of an `off` without quotes.
impl<'de> Deserialize<'de> for Revocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        match &written {
            Written::Truth(false) => return Ok(Self::Off),
            Written::Text(text) => match text.as_str() {
                "off" => return Ok(Self::Off),
                "stapled" => return Ok(Self::Stapled),
                "ocsp" => return Ok(Self::Ocsp),
                "crl" => return Ok(Self::Crl),
                "any" => return Ok(Self::Any),
                _ => {}
            },
            _ => {}
        }
        Err(D::Error::custom(format!("found {written}, expected off, stapled, ocsp, crl or any")))
    }
}

/// What may stand where a name is expected.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name")]
enum Written {
    Text(String),
    Number(f64),
    Truth(bool),
}

impl Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Text(text) => write!(f, "\"{text}\""),
            Written::Number(number) => write!(f, "{number}"),
            Written::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

impl JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

impl JsonSchema for Revocation {
    fn schema_name() -> Cow<'static, str> {
        "Revocation".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["off", "stapled", "ocsp", "crl", "any", false] })
    }
}

/// What not knowing means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum RevocationMode {
    /// A finding.
    #[default]
    Soft,
    /// Down.
    Hard,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check<T: serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        written: Value,
        expected: Result<T, &str>,
    ) {
        let read = serde_json::from_value::<T>(written).map_err(|error| error.to_string());
        assert_eq!(read, expected.map_err(str::to_owned));
    }

    #[test]
    fn revocation_is_off_also_where_yaml_reads_a_truth() {
        check(json!("off"), Ok(Revocation::Off));
        check(json!(false), Ok(Revocation::Off));
        check(json!("any"), Ok(Revocation::Any));
        check::<Revocation>(json!(true), Err("found true, expected off, stapled, ocsp, crl or any"));
        check::<Revocation>(json!("on"), Err("found \"on\", expected off, stapled, ocsp, crl or any"));
    }

    #[test]
    fn a_version_is_a_name_also_where_yaml_reads_a_number() {
        check(json!("1.2"), Ok(Version::V12));
        check(json!(1.3), Ok(Version::V13));
        check::<Version>(json!(1.1), Err("found 1.1, expected 1.2 or 1.3"));
        check::<Version>(json!("TLSv1.3"), Err("found \"TLSv1.3\", expected 1.2 or 1.3"));
    }
}
