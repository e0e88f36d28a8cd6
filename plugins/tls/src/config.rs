//! What can be asked of the tls check, with defaults and bounds.

use schemars::JsonSchema;
use sdk::Stop;
use serde::Deserialize;

/// The configuration of one monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The name or address of the server; also the name that its certificate must carry unless `server_name` says otherwise.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub host: String,
    /// The port; 443 by default, the port of HTTPS.
    #[serde(default = "https")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The name to ask for (SNI) and to find in the certificate; `host` by default.
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// The name or address to dial instead of `host`: one server behind a balancer. `host` by default.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub connect_to: Option<String>,
    /// The dialogue in front of the handshake: `smtp` (RFC 3207) or `postgres` (SSLRequest). None by default: TLS from the first
    /// byte.
    pub starttls: Option<Starttls>,
    /// Days, from 0; degraded when the first certificate of the chain expires in fewer. 14 by default: an automatic renewal that
    /// failed twice, with a working week left.
    #[serde(default = "fortnight")]
    pub warn_days: u16,
    /// Days, from 0, at most `warn_days`; down when the first certificate of the chain expires in fewer. 7 by default.
    #[serde(default = "week")]
    pub critical_days: u16,
    /// Whether the chain must lead to a trusted authority; true by default. Expiry, name and signatures are judged either way.
    #[serde(default = "yes")]
    pub verify_chain: bool,
    /// Whether the certificate must carry the server's name; true by default.
    #[serde(default = "yes")]
    pub verify_hostname: bool,
    /// Whether a certificate that signed itself is good enough; false by default.
    #[serde(default)]
    pub allow_self_signed: bool,
    /// Certificate authorities instead of the system's: PEM text, or the path of a PEM file on the agent.
    #[schemars(length(min = 1))]
    pub ca: Option<String>,
    /// The lowest version of TLS that the server may agree on; 1.2 by default (RFC 8996 retired what is older).
    #[serde(default)]
    pub min_tls_version: Version,
}

/// What is spoken before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Starttls {
    /// EHLO and STARTTLS (RFC 3207).
    Smtp,
    /// SSLRequest (PostgreSQL's frontend/backend protocol).
    Postgres,
}

/// A version of TLS.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize, JsonSchema,
)]
#[schemars(inline)]
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

impl Config {
    /// What the schema cannot say.
    pub(crate) fn validate(&self) -> Result<(), Stop> {
        if self.critical_days > self.warn_days {
            return Err(Stop::mistake(
                "/critical_days",
                format!(
                    "{} is above warn_days, which is {}; write at most that",
                    self.critical_days, self.warn_days
                ),
            ));
        }
        Ok(())
    }

    /// The name or address to connect to.
    pub(crate) fn dialled(&self) -> &str {
        self.connect_to.as_deref().unwrap_or(&self.host)
    }

    /// The name that the certificate must carry.
    pub(crate) fn expected_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }
}

fn https() -> u16 {
    443
}

fn fortnight() -> u16 {
    14
}

fn week() -> u16 {
    7
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_days_above_warn_days_are_a_mistake_that_names_both() {
        let config: Config =
            serde_json::from_str(r#"{"host": "shop.test", "warn_days": 5, "critical_days": 6}"#).unwrap();
        let Err(Stop::Failure(sdk::Failure::InvalidConfig(mistakes))) = config.validate() else { panic!() };
        assert_eq!(mistakes[0].at, "/critical_days");
        assert_eq!(mistakes[0].message, "6 is above warn_days, which is 5; write at most that");
    }
}
