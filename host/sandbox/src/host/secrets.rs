//! `picket:net/secrets`: what a check may have made with a secret without seeing it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::bindings::picket::net::secrets;
use crate::redact::Secrets;
use crate::state::State;

/// The most iterations that a server may ask for (RFC 5802 bounds only from below). PostgreSQL's own default is 4,096; a hundred
/// thousand cost about 50 ms.
const MAX_ITERATIONS: u32 = 100_000;

/// A secret that a component holds.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Secret(Source);

#[derive(Clone)]
enum Source {
    /// Its name in the run's secrets.
    Configured(String, Arc<Secrets>),
    /// The host made it in this run, to be sent in headers only.
    Made(Zeroizing<Vec<u8>>),
}

impl Secret {
    /// One that the host made; whoever makes it has it redacted.
    pub(super) fn made(bytes: Zeroizing<Vec<u8>>) -> Self {
        Secret(Source::Made(bytes))
    }

    /// The bytes; empty for a name that is not there, which `get` does not hand out.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Source::Configured(name, all) => all.bytes(name).unwrap_or_default(),
            Source::Made(bytes) => bytes,
        }
    }

    /// What a trace calls it.
    fn name(&self) -> &str {
        match &self.0 {
            Source::Configured(name, _) => name,
            Source::Made(_) => "made in the run",
        }
    }

    /// Whether it may be sent in a header and nowhere else.
    pub(super) fn is_for_headers(&self) -> bool {
        matches!(self.0, Source::Made(_))
    }
}

impl secrets::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, String>> {
        self.meter.within()?;
        if self.secrets.bytes(&name).is_none() {
            return Ok(Err(format!("this monitor's configuration names no secret \"{name}\"")));
        }
        Ok(Ok(self.table.push(Secret(Source::Configured(name, Arc::clone(&self.secrets))))?))
    }
}

impl State {
    /// Passes what was made with a secret through the run's world.
    fn made(
        &self,
        secret: &Secret,
        function: &str,
        made: Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, String> {
        match &self.world {
            Some(world) => world.made(secret.name(), function, made),
            None => made,
        }
    }

    /// The same for what is text.
    fn made_text(
        &self,
        secret: &Secret,
        function: &str,
        made: Result<String, String>,
    ) -> Result<String, String> {
        let made = self.made(secret, function, made.map(String::into_bytes))?;
        String::from_utf8(made).map_err(|_| "what was made is not text".to_owned())
    }
}

impl secrets::HostSecret for State {
    fn hmac_sha256(&mut self, secret: Resource<Secret>, data: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        self.meter.within()?;
        let secret = self.table.get(&secret)?;
        let code = self.made(secret, "hmac-sha256", Ok(hmac(secret.bytes(), &data).to_vec()));
        self.meter.worked(Instant::now());
        // Nothing but a trace that lacks it has a reason to refuse.
        Ok(code.unwrap_or_default())
    }

    fn scram_sha256(
        &mut self,
        secret: Resource<Secret>,
        client_first_bare: String,
        server_first: String,
        channel_binding: String,
    ) -> wasmtime::Result<Result<String, String>> {
        self.meter.within()?;
        let secret = self.table.get(&secret)?;
        let answer = scram_sha256(secret.bytes(), &client_first_bare, &server_first, &channel_binding);
        let answer = self.made_text(secret, "scram-sha256", answer);
        self.meter.worked(Instant::now());
        Ok(answer)
    }

    fn postgres_md5(
        &mut self,
        secret: Resource<Secret>,
        user: String,
        salt: Vec<u8>,
    ) -> wasmtime::Result<String> {
        self.meter.within()?;
        let secret = self.table.get(&secret)?;
        // The message always carries four bytes; another length cannot be answered rightly, and the server will say so.
        let mut four = [0; 4];
        for (to, from) in four.iter_mut().zip(salt) {
            *to = from;
        }
        let hash = postgres_protocol::authentication::md5_hash(user.as_bytes(), secret.bytes(), four);
        let hash = self.made_text(secret, "postgres-md5", Ok(hash));
        self.meter.worked(Instant::now());
        Ok(hash.unwrap_or_default())
    }

    fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// The client-final-message, a line feed, and the server's signature in base64 (RFC 5802, section 3).
fn scram_sha256(
    password: &[u8],
    client_first_bare: &str,
    server_first: &str,
    channel_binding: &str,
) -> Result<String, String> {
    let mut fields = server_first.split(',');
    let mut field = |name: char| -> Result<&str, String> {
        let found = fields.next().unwrap_or_default();
        let value = found.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        value.ok_or_else(|| format!("found \"{found}\" in the server-first-message, expected \"{name}=\""))
    };
    let nonce = field('r')?;
    let salt = STANDARD.decode(field('s')?).map_err(|_| "the salt is not base64".to_owned())?;
    let count = field('i')?;
    let iterations: u32 =
        count.parse().map_err(|_| format!("found {count} iterations, expected a number"))?;
    if !(1..=MAX_ITERATIONS).contains(&iterations) {
        return Err(format!("found {iterations} iterations, expected 1 to {MAX_ITERATIONS}"));
    }
    let own = client_first_bare.split(',').find_map(|part| part.strip_prefix("r=")).unwrap_or_default();
    if own.is_empty() || !nonce.starts_with(own) || nonce.len() == own.len() {
        return Err("the server's nonce does not begin with the client's".to_owned());
    }
    let without_proof = format!("c={channel_binding},r={nonce}");
    let auth = format!("{client_first_bare},{server_first},{without_proof}");
    let salted = Zeroizing::new(salt_password(&normalized(password), &salt, iterations));
    let client_key = Zeroizing::new(hmac(&*salted, b"Client Key"));
    let stored_key = Sha256::digest(*client_key);
    let signature = hmac(&stored_key, auth.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
    let server_key = Zeroizing::new(hmac(&*salted, b"Server Key"));
    let expected = hmac(&*server_key, auth.as_bytes());
    Ok(format!("{without_proof},p={}\n{}", STANDARD.encode(proof), STANDARD.encode(expected)))
}

/// `Hi` of RFC 5802, section 2.2: PBKDF2 with one block.
fn salt_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = Hmac::<Sha256>::new_from_slice(password).expect("HMAC takes keys of any length");
    let step = |data: &[&[u8]]| -> [u8; 32] {
        let mut mac = keyed.clone();
        for part in data {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut last = step(&[salt, &1_u32.to_be_bytes()]);
    let mut all = last;
    for _ in 1..iterations {
        last = step(&[&last]);
        all.iter_mut().zip(last).for_each(|(to, from)| *to ^= from);
    }
    all
}

/// SASLprep (RFC 4013); as PostgreSQL does, a password that it refuses is used as it is.
fn normalized(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(
        text.map_or_else(|| password.to_vec(), |text: Cow<'_, str>| text.into_owned().into_bytes()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    const FIRST: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_exchange_of_the_rfc_is_reproduced() {
        let answer = scram_sha256(b"pencil", FIRST, SERVER, "biws").unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=\n6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    fn refuse(server: &str, expected: &str) {
        let error = scram_sha256(b"pencil", FIRST, server, "biws").unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_refused() {
        refuse("", "expected \"r=\"");
        refuse("e=other-error", "expected \"r=\"");
        refuse("r=other,s=W22Z,i=4096", "nonce");
        refuse("r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096", "nonce");
        refuse("r=rOprNGfwEbeRWgbNEkqO1,s=!,i=4096", "base64");
        refuse("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=0", "found 0 iterations");
        refuse("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=4000000000", "expected 1 to 100000");
        refuse("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=many", "expected a number");
    }

    #[test]
    fn a_password_is_normalized_where_that_is_possible() {
        assert_eq!(&**normalized("I\u{AD}X".as_bytes()), b"IX");
        assert_eq!(&**normalized(b"\xff"), b"\xff");
        assert_eq!(&**normalized(b"\x07"), b"\x07");
    }

    #[test]
    fn hmac_is_that_of_the_rfc() {
        // RFC 4231, test case 2.
        assert_eq!(
            hex::encode(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
