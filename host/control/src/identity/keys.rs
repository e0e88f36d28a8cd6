//! The two secrets in the data directory: the admin token and the server's key. Made at the first start, 0600, on disk before use.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use wire::signature::token_sha256;

use crate::Error;
use crate::identity;

/// Both, in memory. Of the admin token only its hash.
pub(crate) struct Keys {
    /// Signs every answer to an agent.
    pub server: SigningKey,
    /// SHA-256 of the admin token.
    pub admin_sha256: String,
    /// Where the admin token lies.
    pub admin_path: PathBuf,
    /// Whether it was made just now.
    pub admin_is_new: bool,
}

impl Keys {
    /// Reads them, or makes them.
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        let admin_path = data.join("admin.token");
        let (admin, admin_is_new) = read_or_make(&admin_path, || identity::token("pat_"))?;
        if admin.len() < 32 {
            let found = "it holds no token".to_owned();
            return Err(Error::Damaged { path: admin_path, found });
        }
        let path = data.join("server.key");
        let (seed, _) = read_or_make(&path, || hex::encode(identity::random::<32>()))?;
        let mut bytes = [0; 32];
        if hex::decode_to_slice(&seed, &mut bytes).is_err() {
            let found = "it holds something else than 64 hexadecimal digits".to_owned();
            return Err(Error::Damaged { path, found });
        }
        let server = SigningKey::from_bytes(&bytes);
        Ok(Self { server, admin_sha256: token_sha256(&admin), admin_path, admin_is_new })
    }

    /// Whether this is the admin token.
    pub(crate) fn is_admin(&self, token: &str) -> bool {
        identity::same(&token_sha256(token), &self.admin_sha256)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("admin_path", &self.admin_path).finish_non_exhaustive()
    }
}

fn read_or_make(path: &Path, make: impl Fn() -> String) -> Result<(String, bool), Error> {
    let failed = |source| Error::Data { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((text.trim().to_owned(), false)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = make();
            write_once(path, &text).map_err(failed)?;
            Ok((text, true))
        }
        Err(e) => Err(failed(e)),
    }
}

/// Writes beside, then links: whatever happens in between, the file is whole or absent.
fn write_once(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::hard_link(&beside, path)?;
    std::fs::remove_file(&beside)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secrets_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let second = Keys::open(dir.path()).unwrap();
        assert!(first.admin_is_new && !second.admin_is_new);
        assert_eq!(first.server.to_bytes(), second.server.to_bytes());
        let token = std::fs::read_to_string(&second.admin_path).unwrap();
        assert!(second.is_admin(token.trim()) && !second.is_admin("pat_other"));
        for file in ["admin.token", "server.key"] {
            let mode = dir.path().join(file).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(!format!("{second:?}").contains(token.trim()));
    }

    #[test]
    fn a_damaged_secret_stops_the_start_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.key"), "no key").unwrap();
        let error = Keys::open(dir.path()).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("server.key"));
    }
}
