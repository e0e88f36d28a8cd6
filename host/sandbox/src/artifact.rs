//! Compiled components on disk: machine code that is run as it is read, so every file carries a MAC of ours and one that does not
//! fit is compiled anew. Owns the key; does not compile.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use zeroize::Zeroizing;

use crate::error::Error;

const KEY_FILE: &str = "artifact.key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

/// The compiled components of one engine.
pub(crate) struct Cache {
    dir: PathBuf,
    key: Zeroizing<[u8; KEY_BYTES]>,
    engine: String,
}

impl Cache {
    /// Opens the directory, making it (0700) and its key (0600) when they are not there.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> Result<Cache, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Cache { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let path = dir.join(KEY_FILE);
        let key = match read_key(&path) {
            Ok(Some(key)) => key,
            Ok(None) => make_key(&path)?,
            Err(error) => return Err(failed(&path)(error)),
        };
        let cache = Cache { dir: dir.to_owned(), key, engine: fingerprint(engine) };
        cache.sweep();
        Ok(cache)
    }

    /// Removes what an upgrade or a crash left behind: artifacts of other engines, and drafts. What cannot be removed only takes
    /// space.
    fn sweep(&self) {
        let own = format!("-{}.cwasm", self.engine);
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".draft") || (name.ends_with(".cwasm") && !name.ends_with(&own)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The artifact of the component with this digest (64 hexadecimal digits), if one is there and ours.
    pub(crate) fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(digest)).ok()?;
        let artifact = bytes.split_off_checked(MAC_BYTES)?;
        self.mac(digest, &artifact).verify_slice(&bytes).ok()?;
        Some(artifact)
    }

    /// Keeps an artifact. A file lost in a power cut is compiled again, a torn one fails its MAC.
    pub(crate) fn put(&self, digest: &str, artifact: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let draft = path.with_extension(format!("{}.draft", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&self.mac(digest, artifact).finalize().into_bytes())?;
        file.write_all(artifact)?;
        file.sync_all()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "synced above, and a lost cache file costs one compilation"
        )]
        fs::rename(&draft, &path)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.cwasm", self.engine))
    }

    /// Over everything that decides whether these bytes may run: which component, which engine, and the code.
    fn mac(&self, digest: &str, artifact: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes keys of any length");
        mac.update(digest.as_bytes());
        mac.update(b"\n");
        mac.update(self.engine.as_bytes());
        mac.update(b"\n");
        mac.update(artifact);
        mac
    }
}

/// `Vec::split_off` that does not panic.
trait SplitOff: Sized {
    fn split_off_checked(&mut self, at: usize) -> Option<Self>;
}

impl SplitOff for Vec<u8> {
    fn split_off_checked(&mut self, at: usize) -> Option<Self> {
        (self.len() >= at).then(|| self.split_off(at))
    }
}

/// The key, or none where there is no whole one: a torn key only costs a compilation.
fn read_key(path: &Path) -> io::Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match file.read_exact(&mut *key) {
        Ok(()) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_key(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *key).map_err(Error::Random)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&*key)?;
        file.sync_all()
    };
    write().map_err(|source| Error::Cache { path: path.to_owned(), source })?;
    Ok(key)
}

/// What the engine's artifacts depend on: version, settings, and this machine's processor features.
fn fingerprint(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex::encode(&hasher.0.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache"), &crate::engine::engine(1).unwrap()).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_was_put_is_found_again() {
        let (dir, cache) = cache();
        cache.put("abc", b"code").unwrap();
        assert_eq!(cache.get("abc").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get("abd"), None);
        let again = Cache::open(&dir.path().join("cache"), &crate::engine::engine(1).unwrap()).unwrap();
        assert_eq!(again.get("abc").as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn a_changed_file_is_not_ours() {
        let (_dir, cache) = cache();
        cache.put("abc", b"code").unwrap();
        let whole = fs::read(cache.path("abc")).unwrap();
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 1;
            fs::write(cache.path("abc"), &bytes).unwrap();
            assert_eq!(cache.get("abc"), None, "byte {index}");
            fs::write(cache.path("abc"), &whole[..index]).unwrap();
            assert_eq!(cache.get("abc"), None, "cut at {index}");
        }
    }

    #[test]
    fn an_artifact_does_not_stand_for_another_component() {
        let (_dir, cache) = cache();
        cache.put("abc", b"code").unwrap();
        fs::copy(cache.path("abc"), cache.path("abd")).unwrap();
        assert_eq!(cache.get("abd"), None);
    }

    #[test]
    fn what_an_upgrade_left_behind_is_removed() {
        let (_dir, cache) = cache();
        cache.put("abc", b"code").unwrap();
        fs::write(cache.dir.join("abc-0123456789abcdef.cwasm"), "older").unwrap();
        fs::write(cache.dir.join("abc-x.1.draft"), "torn").unwrap();
        let again = Cache::open(&cache.dir, &crate::engine::engine(1).unwrap()).unwrap();
        assert_eq!(again.get("abc").as_deref(), Some(&b"code"[..]));
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 2, "the artifact and the key");
    }

    #[test]
    fn the_key_is_for_its_owner_only() {
        let (_dir, cache) = cache();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&cache.dir.join(KEY_FILE)), 0o600);
        assert_eq!(mode(&cache.dir), 0o700);
    }
}
