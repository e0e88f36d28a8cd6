//! How a monitor is run, whatever its check: the fields that every monitor may have, parsed, as an agent gets them. As people write
//! them they stand in [`crate::admin::MonitorSpec`]; the names are the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How a monitor is run. Everything has a default that is as if nobody had said anything, so that what an older control plane sent
/// or an older agent keeps reads the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Manner {
    /// Further attempts after one that is down.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u32,
    /// Milliseconds from the end of an attempt to the start of the next one.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_interval_ms: u64,
    /// Milliseconds: a success that takes longer is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded_after_ms: Option<u64>,
    /// Which addresses of a name are used.
    #[serde(skip_serializing_if = "is_default")]
    pub ip_family: IpFamily,
    /// How many of them.
    #[serde(skip_serializing_if = "is_default")]
    pub address_mode: AddressMode,
    /// Name servers that are asked instead of the agent's own.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>)]
    pub resolver: Vec<SocketAddr>,
    /// What every TCP connection goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// How TLS is spoken where the check does not say.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Tls,
    /// Whether what is up is down, and what is down is up.
    #[serde(skip_serializing_if = "is_default")]
    pub invert: bool,
}

impl Manner {
    /// Whether nobody has said anything.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The secrets that are referred to, by name.
    pub fn secret_names(&self) -> BTreeSet<String> {
        let proxy = self.proxy.iter().flat_map(|proxy| [&proxy.user, &proxy.password]);
        let tls = [&self.tls.ca, &self.tls.cert, &self.tls.key];
        proxy.chain(tls).flatten().filter_map(Text::secret).map(str::to_owned).collect()
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// Both, IPv6 first, in turns (RFC 8305).
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// How many addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressMode {
    /// The first that answers.
    #[default]
    Any,
    /// The first, and no other when it fails.
    First,
    /// Each: all of them must pass.
    All,
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// "http://host:port", without user and password.
    pub url: String,
    /// For a proxy that wants to know who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// The user's; always a secret by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Text>,
}

/// How TLS is spoken where the check does not say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate authorities instead of the system's: PEM text, or the path of a PEM file on the agent that its operator opened. Default: the
    /// system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Text>,
    /// The certificate that is shown to a server that asks for one, perhaps with its intermediates behind it: PEM text, or the path of
    /// such a file. Only with `key`. Default: none is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<Text>,
    /// The certificate's key, not encrypted: a secret by name, or the path of such a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text>,
    /// The name to ask for (SNI) and to verify. Default: the target's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whether the server must prove who it is. Where it need not, no secret is sent to it. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub verify: bool,
    /// The lowest version that is spoken: "1.2" or "1.3". Default "1.2".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    /// The highest version that is spoken: "1.2" or "1.3". Default "1.3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_version: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca: None,
            cert: None,
            key: None,
            server_name: None,
            verify: true,
            min_version: None,
            max_version: None,
        }
    }
}

/// A text, or a secret in its place: `{"$secret": name}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Text {
    /// As it stands.
    Plain(String),
    /// What the agent has under this name.
    Secret {
        /// Its name.
        #[serde(rename = "$secret")]
        secret: String,
    },
}

impl Text {
    /// The name of the secret, if it is one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Secret { secret } => Some(secret),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn is_yes(b: &bool) -> bool {
    *b
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_empty_and_reads_as_nothing() {
        assert_eq!(serde_json::to_value(Manner::default()).unwrap(), json!({}));
        assert_eq!(serde_json::from_value::<Manner>(json!({})).unwrap(), Manner::default());
    }

    #[test]
    fn what_is_said_comes_back_and_a_newer_field_is_passed_over() {
        let said = json!({
            "retries": 2, "retry_interval_ms": 500, "degraded_after_ms": 200, "ip_family": "v6", "address_mode": "all",
            "resolver": ["10.0.0.53:53", "[fd00::53]:5353"], "invert": true,
            "proxy": {"url": "http://proxy:3128", "user": "guard", "password": {"$secret": "proxy"}},
            "tls": {"ca": "/etc/ca.pem", "cert": {"$secret": "cert"}, "key": {"$secret": "key"}, "verify": false},
        });
        let manner: Manner = serde_json::from_value(said.clone()).unwrap();
        assert_eq!(serde_json::to_value(&manner).unwrap(), said);
        assert_eq!(manner.secret_names().into_iter().collect::<Vec<_>>(), ["cert", "key", "proxy"]);
        assert_eq!(serde_json::from_value::<Manner>(json!({"newer": 1})).unwrap(), Manner::default());
    }
}
