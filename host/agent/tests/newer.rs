//! Data of a newer version is refused, in words, and not one byte of it is changed.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_agent as agent;
use sha2::{Digest, Sha256};

/// A slot as a later version might write it: whole, in format 7.
fn slot(kind: &[u8; 2]) -> Vec<u8> {
    let payload = b"something that only that version understands";
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let mut bytes =
        [b"PICKET", &kind[..], &7_u16.to_le_bytes(), &3_u64.to_le_bytes(), &length, payload].concat();
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Every file below a directory, but the lock, which names the process that has it.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("lock") {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

async fn check(part: &str, kind: &[u8; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (name, bytes) in [("slot.a", slot(kind)), ("slot.b", b"what that version left there".to_vec())] {
        std::fs::create_dir_all(data.join(part)).unwrap();
        std::fs::write(data.join(part).join(name), bytes).unwrap();
    }
    let before = files(&data);
    let settings = agent::Settings {
        data: data.clone(),
        control: "http://127.0.0.1:9".parse().unwrap(),
        setup_token: Some("token".into()),
        allow: Vec::new(),
        allow_files: Vec::new(),
        resolver: None,
        plugins: None,
        large_plugins: Vec::new(),
        compiler: sandbox::Compiler::InProcess,
        concurrency: 1,
        ca_file: None,
        proxy: agent::Proxy::default(),
        secrets_dir: data.clone(),
        rotate_every: agent::Settings::ROTATE_EVERY,
        spool: agent::Budget::default(),
        start_wait: Duration::ZERO,
    };
    let error = agent::run(settings, std::future::pending()).await.unwrap_err();
    assert_eq!(error.exit_code(), 65);
    let said = error.to_string();
    for part in [part, "newer version", "format 7", "run the version that wrote it"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(files(&data), before);
}

#[tokio::test]
async fn a_newer_identity_is_not_touched() {
    check("identity", b"id").await;
}

#[tokio::test]
async fn a_newer_configuration_is_not_touched() {
    check("config", b"cf").await;
}

#[tokio::test]
async fn a_newer_count_of_starts_is_not_touched() {
    check("starts", b"st").await;
}

#[tokio::test]
async fn a_newer_lease_is_not_touched() {
    check("session", b"ls").await;
}
