//! Options that are one word of a few.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum SslMode {
    /// Not at all.
    Disable,
    /// Against listeners.
    #[default]
    Require,
    /// Against listeners and whoever has no certificate of the authority.
    VerifyCa,
    /// Against listeners and impostors.
    VerifyFull,
}

/// Whether the login is tied to the TLS session (RFC 5929).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both can.
    #[default]
    Prefer,
    /// Always.
    Require,
}

/// From where replication is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Mode {
    /// From the standby.
    #[default]
    Replica,
    /// From the primary.
    Primary,
    /// From both.
    Pair,
    /// From what is kept back for those who follow.
    Slots,
    /// From subscriptions and those who feed them.
    Logical,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Role {
    /// It follows another.
    Standby,
    /// It writes.
    Primary,
    /// Either.
    Any,
}

/// How bounds on time and on bytes go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Combine {
    /// One is enough.
    #[default]
    Any,
    /// Every one that is set.
    All,
}

impl Role {
    pub(crate) fn of(in_recovery: bool) -> Role {
        if in_recovery { Role::Standby } else { Role::Primary }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Role::Standby => "standby",
            Role::Primary => "primary",
            Role::Any => "any",
        }
    }
}
