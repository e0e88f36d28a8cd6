//! A configuration as it came: packed or as JSON. It is kept in that form, on disk and in memory, and read monitor by monitor, so that
//! a hundred thousand of them never stand beside what is made of them.
//!
//! Owns how it is read and how far: what unpacks to more than [`LIMIT`] is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use wire::config::{Assignment, LIMIT, PACKED_MAGIC, PACKED_WINDOW_LOG};

/// A whole configuration that can be read.
#[derive(Debug)]
pub(crate) struct Told {
    bytes: Vec<u8>,
    version: u64,
    fingerprint: [u8; 32],
}

/// By check, what its monitors have where they do not say otherwise.
pub(crate) type Common = BTreeMap<String, Map<String, Value>>;

impl Told {
    /// Takes what came, or was kept, after one look at all of it.
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, serde_json::Error> {
        let (version, fingerprint) = look(&bytes)?;
        Ok(Self { bytes, version, fingerprint })
    }

    /// Grows with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// SHA-256 over its JSON, however it is packed.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// As it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives each monitor, and what is common, to `each`.
    pub(crate) fn monitors(&self, mut each: impl FnMut(&Common, Assignment)) {
        let read = unpacked(&self.bytes).map_err(serde_json::Error::io);
        read.and_then(|json| visit(json, &mut each)).expect("it was read whole before");
    }
}

/// The version and the fingerprint of what can be read whole.
fn look(bytes: &[u8]) -> Result<(u64, [u8; 32]), serde_json::Error> {
    let mut json = Hashed { inner: unpacked(bytes).map_err(serde_json::Error::io)?, hash: Sha256::new() };
    let version = visit(&mut json, &mut |_, _| {})?;
    Ok((version, json.hash.finalize().into()))
}

/// Its JSON, no more than [`LIMIT`] bytes of it.
fn unpacked(bytes: &[u8]) -> io::Result<Bounded<Box<dyn BufRead + '_>>> {
    let inner: Box<dyn BufRead> = match bytes.starts_with(&PACKED_MAGIC) {
        true => {
            let mut packed = zstd::Decoder::with_buffer(bytes)?;
            packed.window_log_max(PACKED_WINDOW_LOG)?;
            Box::new(BufReader::new(packed))
        }
        false => Box::new(bytes),
    };
    Ok(Bounded { inner, left: LIMIT })
}

/// Reads so much, then fails.
struct Bounded<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or_else(|| io::Error::other(format!("it is larger than {} MiB", LIMIT / (1024 * 1024))))?;
        Ok(read)
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}

/// Reads a configuration to its end and gives its version.
fn visit(json: impl Read, each: &mut dyn FnMut(&Common, Assignment)) -> Result<u64, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::with_capacity(CHUNK, json));
    let version = deserializer.deserialize_map(Whole(each))?;
    deserializer.end()?;
    Ok(version)
}

struct Whole<'a>(&'a mut dyn FnMut(&Common, Assignment));

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let (mut version, mut common, mut listed) = (None, Common::new(), false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "version" => version = Some(map.next_value()?),
                "common" if listed => return Err(A::Error::custom("common stands after the monitors")),
                "common" => common = map.next_value()?,
                "monitors" if listed => return Err(A::Error::custom("monitors stands there twice")),
                "monitors" => {
                    map.next_value_seed(List { common: &common, each: self.0 })?;
                    listed = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !listed {
            return Err(A::Error::missing_field("monitors"));
        }
        version.ok_or_else(|| A::Error::missing_field("version"))
    }
}

struct List<'a> {
    common: &'a Common,
    each: &'a mut dyn FnMut(&Common, Assignment),
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of monitors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(assignment) = list.next_element()? {
            (self.each)(self.common, assignment);
        }
        Ok(())
    }
}

/// What is unpacked at a time.
const CHUNK: usize = 16 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use wire::config::Configuration;

    use super::*;

    pub(crate) fn told(configuration: &Configuration) -> Told {
        Told::read(serde_json::to_vec(configuration).unwrap()).unwrap()
    }

    fn example() -> Value {
        let monitor = |n: u128| {
            json!({"id": uuid::Uuid::from_u128(n), "name": format!("m{n}"), "check": "http", "interval_ms": 5000,
                "timeout_ms": 1000, "config": {"n": n}, "digest": "d"})
        };
        json!({"version": 7, "common": {"http": {"a": 1}}, "monitors": [monitor(1), monitor(2)]})
    }

    #[test]
    fn the_same_monitors_are_read_from_json_and_packed() {
        let json = example().to_string().into_bytes();
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        let configuration: Configuration = serde_json::from_slice(&json).unwrap();
        let mut fingerprints = Vec::new();
        for bytes in [json, packed] {
            let told = Told::read(bytes.clone()).unwrap();
            let mut monitors = Vec::new();
            told.monitors(|common, assignment| {
                assert_eq!(*common, configuration.common);
                monitors.push(assignment);
            });
            assert_eq!(
                (told.version(), told.bytes(), monitors),
                (7, &bytes[..], configuration.monitors.clone())
            );
            fingerprints.push(told.fingerprint());
        }
        assert_eq!(fingerprints[0], fingerprints[1]);
    }

    #[test]
    fn what_is_cut_or_no_configuration_is_refused_whole() {
        let json = example().to_string().into_bytes();
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        for bytes in [&json, &packed] {
            for length in 0..bytes.len() {
                assert!(Told::read(bytes[..length].to_vec()).is_err(), "cut at {length}");
            }
        }
        for text in [
            r#"{"version":1}"#,
            r#"{"monitors":[]}"#,
            r#"{"version":1,"monitors":[],"common":{}}"#,
            r#"{"version":1,"monitors":[],"monitors":[]}"#,
            r#"{"version":1,"monitors":[{"name":"shop"}]}"#,
            r#"{"version":1,"monitors":[]}{}"#,
        ] {
            assert!(Told::read(text.into()).is_err(), "{text}");
        }
        Told::read(br#"{"version":1,"later":[1],"monitors":[]}"#.to_vec()).unwrap();
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused_without_holding_it() {
        let bomb = |size: u64| {
            let mut packer = zstd::Encoder::new(Vec::new(), 3).unwrap();
            let start = &br#"{"version":1,"monitors":["#[..];
            let spaces = io::repeat(b' ').take(size - start.len() as u64 - 2);
            io::copy(&mut start.chain(spaces).chain(&b"]}"[..]), &mut packer).unwrap();
            packer.finish().unwrap()
        };
        let packed = bomb(LIMIT as u64 + 1);
        assert!(packed.len() < 100_000, "{}", packed.len());
        let error = Told::read(packed).unwrap_err().to_string();
        assert!(error.contains("larger than 64 MiB"), "{error}");
        assert_eq!(Told::read(bomb(LIMIT as u64)).unwrap().version(), 1);

        let mut wide = zstd::Encoder::new(Vec::new(), 3).unwrap();
        wide.window_log(PACKED_WINDOW_LOG + 1).unwrap();
        io::copy(&mut &br#"{"version":1,"monitors":[]}"#[..], &mut wide).unwrap();
        assert!(Told::read(wide.finish().unwrap()).is_err(), "a reader holds as much as that");
    }
}
