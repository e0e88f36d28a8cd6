//! What can be asked of the tls check, with defaults and bounds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use sdk::{Failure, Mistake, Stop};
use serde::Deserialize;

use crate::choice::{Revocation, RevocationMode, Starttls, Version};

/// The configuration of one monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The name or address of the server; also the name that its certificate must carry unless `server_name` says otherwise.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub host: String,
    /// The port; 443 by default, the port of HTTPS. With `starttls` it is the port of the plain protocol, such as 25 or 143.
    #[serde(default = "https")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The name to ask for (SNI) and to find in the certificate; `host` by default.
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// The name or address to dial instead of `host`: one server behind a balancer. `host` by default.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub connect_to: Option<String>,
    /// The dialogue in front of the handshake: `smtp` (RFC 3207), `imap` (RFC 9051), `pop3` (RFC 2595), `ftp` (RFC 4217), `ldap`
    /// (RFC 4511), `xmpp` (RFC 6120), `postgres` (SSLRequest) or `mysql` (SSL request packet; MariaDB too). None by default: TLS from
    /// the first byte.
    pub starttls: Option<Starttls>,
    /// Days, from 0; degraded when the first certificate of the chain expires in fewer. Leaf and intermediates count, an authority
    /// that is trusted here does not. 14 by default: an automatic renewal that failed twice, with a working week left.
    #[serde(default = "fortnight")]
    pub warn_days: u16,
    /// Days, from 0, at most `warn_days`; down when the first certificate of the chain expires in fewer. 7 by default.
    #[serde(default = "week")]
    pub critical_days: u16,
    /// Whether the chain must lead to a trusted authority; true by default. Dates, name, signatures, keys and pins are judged either
    /// way.
    #[serde(default = "yes")]
    pub verify_chain: bool,
    /// Whether the certificate must carry the server's name; true by default.
    #[serde(default = "yes")]
    pub verify_hostname: bool,
    /// Whether a certificate that signed itself is good enough; false by default. One that `ca` holds is good without this.
    #[serde(default)]
    pub allow_self_signed: bool,
    /// Certificate authorities instead of the system's: PEM text, or the path of a PEM file on the agent.
    #[schemars(length(min = 1))]
    pub ca: Option<String>,
    /// Keys of which one must stand in the chain from the leaf to the root: SHA-256 over a subjectPublicKeyInfo (RFC 7469), 64
    /// hexadecimal digits or base64, at most 16. None by default. Down with `tls.pin` otherwise. Name a spare key too, so that a
    /// renewal is no outage.
    #[serde(default)]
    #[schemars(length(max = 16), inner(regex(pattern = PIN)))]
    pub pin_sha256: Vec<String>,
    /// Who must have issued the server's certificate: a distinguished name as RFC 4514 writes it ("CN=R11,O=Let's Encrypt,C=US"), or
    /// its common name alone ("R11"); upper and lower case are the same. Anybody by default. Down with `tls.issuer` otherwise.
    #[schemars(length(min = 1, max = 1024))]
    pub expected_issuer: Option<String>,
    /// Names and addresses that the certificate must carry, each literally ("*.example.com" only where that stands in it) and all of
    /// them, at most 64. None by default. Down with `tls.san` otherwise.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub expected_san: Vec<String>,
    /// The lowest version of TLS that the server may agree on, `1.2` or `1.3`; 1.2 by default (RFC 8996 retired what is older). Down
    /// with `tls.version` otherwise.
    #[serde(default)]
    pub min_tls_version: Version,
    /// The highest version of TLS to offer, `1.2` or `1.3`: with `1.2` a server that speaks only 1.3 is down with `tls.version`. The
    /// highest that Picket speaks by default.
    pub max_tls_version: Option<Version>,
    /// Where it is asked whether a certificate was revoked: `off` (or false), `stapled` (what the server sends with the handshake), `ocsp` or `crl`
    /// (the addresses that the certificates name, the intermediates too), or `any` (these in turn until one knows). `stapled` by
    /// default, because fetching hangs behind firewalls. The hosts of responders and lists must stand in the monitor's `allow`.
    /// Revoked is down with `tls.revoked`; so is a certificate that promises a staple and has none, with `tls.must_staple`.
    #[serde(default)]
    pub revocation: Revocation,
    /// What it means when nobody knows whether a certificate was revoked: `soft` says so and goes on, `hard` is down with
    /// `tls.revocation_unknown`, or an error where the monitor's `allow` lacks the host. With `hard` an intermediate that names nobody
    /// to ask is passed over. `soft` by default.
    #[serde(default)]
    pub revocation_mode: RevocationMode,
}

impl Config {
    /// What the schema cannot say; every mistake at once.
    pub(crate) fn validate(&self) -> Result<(), Stop> {
        let mut mistakes = Vec::new();
        if self.critical_days > self.warn_days {
            mistakes.push(Mistake {
                at: "/critical_days".into(),
                message: format!(
                    "{} is above warn_days, which is {}; write at most that",
                    self.critical_days, self.warn_days
                ),
            });
        }
        if let Some(highest) = self.max_tls_version.filter(|highest| *highest < self.min_tls_version) {
            mistakes.push(Mistake {
                at: "/max_tls_version".into(),
                message: format!(
                    "{} is below min_tls_version, which is {}; write at least that",
                    highest.text(),
                    self.min_tls_version.text()
                ),
            });
        }
        for (index, text) in self.pin_sha256.iter().enumerate() {
            if pin(text).is_none() {
                mistakes.push(Mistake {
                    at: format!("/pin_sha256/{index}"),
                    message: format!(
                        "`{text}` is not a SHA-256 hash: write 64 hexadecimal digits, or 44 characters of base64"
                    ),
                });
            }
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(Failure::InvalidConfig(mistakes).into()),
        }
    }

    /// The name or address to connect to.
    pub(crate) fn dialled(&self) -> &str {
        self.connect_to.as_deref().unwrap_or(&self.host)
    }

    /// The name that the certificate must carry.
    pub(crate) fn expected_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }

    /// Hashes of keys, in lower-case hexadecimal.
    pub(crate) fn pins(&self) -> Vec<String> {
        self.pin_sha256.iter().filter_map(|text| pin(text)).collect()
    }
}

/// In lower-case hexadecimal, whatever it was written in; what curl and others write in front is left out.
fn pin(text: &str) -> Option<String> {
    let bare = [Some(text), text.strip_prefix("sha256//"), text.strip_prefix("sha256/")];
    bare.into_iter().flatten().find_map(|text| {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(text.to_ascii_lowercase());
        }
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 32)?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    })
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

/// A hash as it may be written.
const PIN: &str = "^(sha256//?)?([0-9a-fA-F]{64}|[A-Za-z0-9+/]{43}=)$";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, at: &str, message: &str) {
        let config: Config = serde_json::from_str(json).unwrap();
        let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = config.validate() else {
            panic!("{json}")
        };
        assert_eq!((mistakes[0].at.as_str(), mistakes[0].message.as_str()), (at, message));
    }

    #[test]
    fn bounds_that_contradict_each_other_are_a_mistake_that_names_both() {
        check(
            r#"{"host": "shop.test", "warn_days": 5, "critical_days": 6}"#,
            "/critical_days",
            "6 is above warn_days, which is 5; write at most that",
        );
        check(
            r#"{"host": "shop.test", "min_tls_version": "1.3", "max_tls_version": "1.2"}"#,
            "/max_tls_version",
            "1.2 is below min_tls_version, which is 1.3; write at least that",
        );
    }

    #[test]
    fn a_pin_is_read_from_hexadecimal_and_from_base64() {
        let hex = "00".repeat(31) + "ff";
        let base64 = STANDARD.encode([&[0; 31][..], &[255]].concat());
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            base64.clone(),
            format!("sha256//{base64}"),
            format!("sha256/{base64}"),
        ] {
            assert_eq!(pin(&text), Some(hex.clone()), "{text}");
        }
        let slashes = STANDARD.encode([255; 32]);
        assert!(slashes.starts_with('/'), "{slashes}");
        for text in [slashes.clone(), format!("sha256/{slashes}"), format!("sha256//{slashes}")] {
            assert_eq!(pin(&text), Some("ff".repeat(32)), "{text}");
        }
        check(
            r#"{"host": "shop.test", "pin_sha256": ["abc"]}"#,
            "/pin_sha256/0",
            "`abc` is not a SHA-256 hash: write 64 hexadecimal digits, or 44 characters of base64",
        );
    }
}
