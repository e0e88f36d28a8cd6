//! Response codes: their names and their numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Response codes (RFC 1035, RFC 2136).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    YxDomain,
    YxRrSet,
    NxRrSet,
    NotAuth,
    NotZone,
}

impl Rcode {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::YxDomain => 6,
            Self::YxRrSet => 7,
            Self::NxRrSet => 8,
            Self::NotAuth => 9,
            Self::NotZone => 10,
        }
    }
}

/// As people write it; "RCODE_65" where it has no name.
pub(crate) fn name(rcode: u16) -> String {
    RCODES.get(usize::from(rcode)).map_or_else(|| format!("RCODE_{rcode}"), ToString::to_string)
}

const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];
