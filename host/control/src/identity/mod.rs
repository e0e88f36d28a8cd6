//! Who is who: the control plane's own secrets, and the sessions of agents.

pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod token;

use subtle::ConstantTimeEq;

/// A token of 256 random bits with this prefix.
pub(crate) fn token(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(random::<32>()))
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness once it has booted");
    bytes
}

/// Whether two secrets, or hashes of them, are the same, in a time that does not tell how much of them is.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
