//! Every bundled check passes the suite, and every broken guest fails the one case that it breaks. And the components of every
//! released contract still run, and are still denied what is not granted.

#![allow(clippy::unwrap_used, reason = "every function here belongs to a test")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use conformance::{Case, Outcome, Suite, Tried};
use libtest_mimic::{Arguments, Failed, Trial};
use picket_hostile::Guest;
use sandbox::{Failure, Sandbox, Settings, Verdict};
use serde_json::json;

/// What is broken, and the case that says so.
const BROKEN: &[(&str, &str)] = &[
    ("describe/answers", "describe/answers"),
    ("describe/quick", "describe/quick"),
    ("describe/pure", "describe/pure"),
    ("describe/twice", "describe/twice"),
    ("schema/valid", "schema/valid"),
    ("schema/documented", "schema/documented"),
    ("schema/defaults", "schema/defaults"),
    ("schema/targets", "schema/targets"),
    ("examples/documented", "examples/documented"),
    ("examples/valid", "examples/valid"),
    ("examples/run", "examples/run"),
    ("config/empty", "config/empty"),
    ("config/wrong-type", "config/wrong-type"),
    ("config/unknown-key", "config/unknown-key"),
    ("config/huge", "config/huge"),
    ("config/encoding", "config/encoding"),
    ("failures/refused", "failures/refused"),
    ("failures/unreachable", "failures/unreachable"),
    ("failures/black-hole", "failures/black-hole"),
    ("failures/silent", "failures/silent"),
    ("failures/reset", "failures/reset"),
    ("failures/closed", "failures/closed"),
    ("failures/slow", "failures/slow"),
    ("failures/garbage", "failures/garbage"),
    ("failures/tls-expired", "failures/tls-expired"),
    ("failures/dns-nxdomain", "failures/dns-nxdomain"),
    ("grant/denied", "grant/denied"),
    ("grant/targets", "grant/targets"),
    ("secrets/output", "secrets/output"),
    ("metrics/described", "metrics/described"),
    ("metrics/unit", "metrics/described"),
    ("memory/flat", "memory/flat"),
];

/// Runs of a broken guest in the case that looks at memory: it grows at once or not at all.
const FEW: u32 = 20;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One case looks at how large this process becomes.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for (name, path) in bundled() {
        trials.push(Trial::test(format!("bundled/{name}"), move || passes(&path, Suite::bundled().runs)));
    }
    trials.push(Trial::test("guest/nothing is broken", || passes(&guest(), FEW)));
    for (way, case) in BROKEN {
        trials.push(Trial::test(format!("broken/{way}"), move || {
            fails_only(&broken(&component(&guest())?, way), case)
        }));
    }
    for (name, bytes, case) in misfits() {
        trials.push(Trial::test(format!("broken/{name}"), move || fails_only(&bytes, case)));
    }
    for path in golden() {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path).display().to_string();
        let denied = path.clone();
        trials.push(Trial::test(format!("{name} passes"), move || passes(&path, FEW)));
        trials.push(Trial::test(format!("{name} is denied"), move || is_denied(&denied)));
    }
    trials.push(Trial::test("scripted/revocation is told as the script says", || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripted");
        let suite = Suite { cases: Case::below(&folder).unwrap(), runs: FEW };
        let failed = failures(&tried_by(&suite, &component(&check("tls"))?));
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
    }));
    trials.push(Trial::test("scripted/what a peer waited for is told", || {
        let text = r#"{"about": "It greets.", "config": {"host": "a.example", "port": 25, "send": "EHLO\r\n", "expect": "250"},
            "world": {"peers": [{"does": ["accept", {"expect": "HELO"}, {"send": "250"}]}]}, "expect": {"code": "ok"}}"#;
        let suite = Suite { cases: vec![Case::read("x/y", text).unwrap()], runs: FEW };
        let failed = failures(&tried_by(&suite, &component(&check("tcp"))?)).concat();
        let told = r#"a.example:25 waited for "HELO", and heard "EHLO\r\n""#;
        if failed.contains(told) { Ok(()) } else { Err(format!("{told} is not in: {failed}").into()) }
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn bundled() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("plugins")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !["sdk", "templates"].contains(&name.as_str()) {
            found.push((name.clone(), check(&name)));
        }
    }
    found.sort();
    found
}

fn check(name: &str) -> PathBuf {
    root().join(format!("target/plugins/{name}.wasm"))
}

/// `make plugins` builds it beside the checks.
fn guest() -> PathBuf {
    root().join("target/wasm32-wasip2/guest/picket_conformance_guest.wasm")
}

/// Every component of every released contract.
fn golden() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")).unwrap();
    let files = versions.flatten().filter_map(|version| std::fs::read_dir(version.path()).ok());
    let mut found: Vec<_> = files.flat_map(|files| files.flatten().map(|file| file.path())).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    found.sort();
    assert!(!found.is_empty(), "no golden component is there");
    found
}

fn component(path: &Path) -> Result<Vec<u8>, Failed> {
    std::fs::read(path).map_err(|e| format!("{}: {e}; `make plugins` builds it", path.display()).into())
}

/// The guest with its text of what is broken overwritten.
fn broken(component: &[u8], way: &str) -> Vec<u8> {
    let mark = b"what-is-broken: ";
    let mut bytes = component.to_vec();
    let at = bytes.windows(mark.len()).position(|part| part == mark).unwrap() + mark.len();
    bytes[at..at + 32].fill(b' ');
    bytes[at..at + way.len()].copy_from_slice(way.as_bytes());
    bytes
}

/// Components that never come to be a check.
fn misfits() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let export = Guest::default().component();
    let other = replaced(&export, b"picket:check/checker@0.1.0", b"picket:check/checker@0.2.0");
    vec![
        ("no WebAssembly", b"#!/bin/sh\n".to_vec(), "contract/component"),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), "contract/component"),
        ("another version of the contract", other, "contract/exports"),
        (
            "an import that nobody gives",
            replaced(&component_with_log(), b"picket:net/log@0.1.0", b"picket:net/gol@0.1.0"),
            "contract/imports",
        ),
        (
            "a function that the contract lacks",
            replaced(&component_with_log(), b"write", b"wrote"),
            "contract/imports",
        ),
    ]
}

/// A component that asks for the log.
fn component_with_log() -> Vec<u8> {
    let imports = r#"(import "picket:net/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    Guest { imports, ..Guest::default() }.component()
}

/// Every occurrence of a name replaced by one of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(from.len()).position(|part| part == from) {
        bytes[at + next..at + next + from.len()].copy_from_slice(to);
        at += next + from.len();
    }
    bytes
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    sandbox: Sandbox,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let sandbox = runtime.block_on(async { Sandbox::describing(Settings::default()).unwrap() });
        Bench { runtime, sandbox }
    })
}

fn tried(bytes: &[u8], runs: u32) -> Vec<Tried> {
    tried_by(&Suite { runs, ..Suite::bundled() }, bytes)
}

fn tried_by(suite: &Suite, bytes: &[u8]) -> Vec<Tried> {
    let bench = bench();
    bench.runtime.block_on(suite.try_component(&bench.sandbox, bytes, |_| {}))
}

fn failures(tried: &[Tried]) -> Vec<String> {
    let failed = tried.iter().filter_map(|one| match &one.outcome {
        Outcome::Failed(reasons) => Some(format!("{}:\n  {}", one.id, reasons.join("\n  "))),
        _ => None,
    });
    failed.collect()
}

fn passes(path: &Path, runs: u32) -> Result<(), Failed> {
    let tried = tried(&component(path)?, runs);
    let failed = failures(&tried);
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    // Whoever is tried by nothing passes everything.
    let passed = tried.iter().filter(|one| one.outcome == Outcome::Passed).count();
    if passed < tried.len() / 2 { Err(format!("only {passed} cases apply").into()) } else { Ok(()) }
}

fn fails_only(bytes: &[u8], case: &str) -> Result<(), Failed> {
    let failed = failures(&tried(bytes, FEW));
    match failed.as_slice() {
        [only] if only.starts_with(&format!("{case}:")) => Ok(()),
        [] => Err("no case fails".into()),
        others => Err(format!("expected {case} to fail and no other:\n{}", others.join("\n")).into()),
    }
}

/// A golden component reaches for a listener of this machine, in the real world: with nothing granted, and with a grant that the
/// machine's own ceiling forbids.
fn is_denied(path: &Path) -> Result<(), Failed> {
    let bench = bench();
    let bytes = component(path)?;
    bench.runtime.block_on(async {
        // An address of our own: whoever else tests on this machine may try any port of 127.0.0.1.
        let own = std::process::id();
        let host = format!("127.77.{}.{}", own >> 8 & 0xff, own & 0xff);
        let listener = std::net::TcpListener::bind((host.as_str(), 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let plugin = bench.sandbox.load(&bytes).await.map_err(|e| e.to_string())?;
        for example in plugin.schema.value()["examples"].as_array().unwrap() {
            let mut config = example.clone();
            config["host"] = json!(host);
            config["port"] = json!(port);
            let config = plugin.schema.complete(&config).unwrap();
            let granted = plugin.schema.grant(&config, &[]).unwrap();
            for grant in [net::Grant::default(), granted] {
                let mut job = picket_hostile::job(config.clone(), Duration::from_secs(5));
                job.grant = grant.into();
                for name in plugin.schema.secret_names(&config) {
                    job.secrets.insert(name, b"hunter22".to_vec());
                }
                let report = bench.sandbox.run(&plugin, job).await;
                let Verdict::Failure(Failure::Denied(text)) = &report.verdict else {
                    return Err(format!("{config}: {:?}", report.verdict).into());
                };
                assert!(!text.is_empty());
                assert!(!report.measured.denials.is_empty());
                assert_eq!(report.measured.connections, 0, "{config}");
            }
        }
        // On loopback a connection waits to be accepted before whoever opened it hears of it.
        match listener.accept() {
            Ok(_) => Err("a connection reached the listener".into()),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                Ok(())
            }
        }
    })
}
