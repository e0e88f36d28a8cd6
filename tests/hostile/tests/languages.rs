//! Checks in other languages, which reach their target by the networking of their own standard library: over `wasi:sockets`, under the grant
//! of their monitor, measured as any other. The toolchains come by `scripts/setup test`; what they make lies under `target/guests`.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use picket_hostile::{Step, StringEncoding, Zone, encoded_world, job};
use sandbox::{Job, Plugin, Report, Sandbox, Settings, State, Verdict};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(file)
}

/// Runs a tool of a toolchain.
fn tool(command: &mut Command) {
    let out = command.output().unwrap_or_else(|error| {
        panic!("{}: {error}; scripts/setup test installs it", command.get_program().to_string_lossy())
    });
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A check in C, over the libc for wasm32-wasip2 that comes with Rust's target.
fn in_c() -> Vec<u8> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()).output().unwrap();
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim());
    let libc = sysroot.join("lib/rustlib/wasm32-wasip2/lib/self-contained");
    let builtins = "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a";
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("c.wasm");
    tool(
        Command::new("clang-19")
            .args([
                "--target=wasm32-wasi",
                "-fuse-ld=/usr/bin/wasm-ld-19",
                "-nostdlib",
                "-nostdlibinc",
                "-mexec-model=reactor",
            ])
            .args(["-Os", "-Wall", "-Werror", "-Wl,--strip-debug", "-o"])
            .arg(&module)
            .arg(source("c.c"))
            .args([libc.join("crt1-reactor.o"), libc.join("libc.a"), builtins.into()]),
    );
    encoded_world(std::fs::read(&module).unwrap(), StringEncoding::UTF8)
}

/// A check in Python: the interpreter and its library, 20 MB. Made anew only when its source or the contract is another one, because it is another
/// component each time, which takes long to compile.
fn in_python() -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    for file in
        [source("python/app.py"), root().join("wit/check.wit"), root().join("wit/deps/picket-net/net.wit")]
    {
        std::fs::read(file).unwrap().hash(&mut hasher);
    }
    let kept = root().join(format!("target/guests/python-{:016x}.wasm", hasher.finish()));
    if let Ok(component) = std::fs::read(&kept) {
        return component;
    }
    let dir = tempfile::tempdir_in(root().join("target/guests")).unwrap();
    let component = dir.path().join("python.wasm");
    // Python leaves what it compiled beside its source.
    std::fs::copy(source("python/app.py"), dir.path().join("app.py")).unwrap();
    tool(
        Command::new(root().join("target/guests/venv/bin/componentize-py"))
            .arg("-d")
            .arg(root().join("wit"))
            .args(["-w", "picket:check/check", "componentize", "app", "-p"])
            .arg(dir.path())
            .arg("-o")
            .arg(&component),
    );
    let bytes = std::fs::read(&component).unwrap();
    // Whole or not at all; somebody else may have been quicker.
    let _ = std::fs::hard_link(&component, &kept);
    bytes
}

/// A page on loopback, a name for it, and a sandbox whose operator opened loopback.
struct Field {
    sandbox: Sandbox,
    port: u16,
    _zone: Zone,
}

impl Field {
    async fn new() -> Field {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
            }
        });
        let address = Step::Address("127.0.0.1".parse().unwrap());
        let zone = Zone::start("127.0.0.1:0".parse().unwrap(), move |name| {
            name.ends_with(".test").then(|| vec![address.clone()])
        })
        .unwrap();
        let ceiling = net::Ceiling { allow: vec!["127.0.0.0/8".parse().unwrap()], ..net::Ceiling::default() };
        let resolver = Some(vec![zone.address()]);
        let network = net::Network::new(net::Settings { ceiling, resolver }).unwrap();
        let settings = Settings {
            slots: 2,
            // Compiled once, and then only when the interpreter or the compiler is another one.
            cache: Some(root().join("target/guests/cache")),
            max_component_bytes: 32 << 20,
            ..Settings::default()
        };
        Field { sandbox: Sandbox::new(settings, network).unwrap(), port, _zone: zone }
    }

    async fn run(&self, plugin: &Arc<Plugin>, host: &str, allow: &str) -> Report {
        let grant = plugin.schema.grant(&json!({}), &[allow.to_owned()]).unwrap();
        let job = Job {
            monitor: host.to_owned(),
            attempt: self.port.into(),
            grant: grant.into(),
            ..job(json!({}), Duration::from_secs(10))
        };
        self.sandbox.run(plugin, job).await
    }
}

/// A granted target by address and by name is reached and measured; one that is not is refused, in words to whoever reads the report.
async fn check(component: Vec<u8>, connections: u32, denied: [(&str, &str); 2]) {
    let field = Field::new().await;
    let plugin = field.sandbox.load(&component).await.unwrap();
    let at = |host: &str| format!("{host}:{}", field.port);
    for host in ["127.0.0.1", "app.test"] {
        let report = field.run(&plugin, host, &at(host)).await;
        let Verdict::Outcome(outcome) = &report.verdict else { panic!("{host}: {report:?}") };
        assert_eq!(outcome.state, State::Up, "{host}: {report:?}");
        assert!(outcome.summary.contains("200"), "{host}: {report:?}");
        let measured = &report.measured;
        assert_eq!(measured.connections, connections, "{host}: {report:?}");
        assert_eq!(measured.remote, Some(at("127.0.0.1").parse().unwrap()), "{host}: {report:?}");
        assert!(measured.received >= 40, "{host}: {report:?}");
        assert_eq!(measured.phases.resolve.is_some(), host == "app.test", "{host}: {report:?}");
        for phase in [measured.phases.connect, measured.phases.send, measured.phases.first_byte] {
            assert!(phase.is_some(), "{host}: {report:?}");
        }
        assert!(measured.denials.is_empty(), "{host}: {report:?}");
    }
    let [connecting, looking_up] = denied;
    for (host, allow, (code, words)) in [
        ("127.0.0.1", "127.0.0.1:1", connecting),
        ("127.0.0.1", "app.test", connecting),
        ("app.test", "app.test:1", connecting),
        ("app.test", "other.test", looking_up),
    ] {
        let report = field.run(&plugin, host, allow).await;
        let Verdict::Outcome(outcome) = &report.verdict else { panic!("{host}, {allow}: {report:?}") };
        assert_eq!((outcome.state, outcome.code.as_str()), (State::Down, code), "{allow}: {report:?}");
        assert!(outcome.summary.contains(words), "{host}, {allow}: {report:?}");
        assert_eq!(report.measured.connections, 0, "{host}, {allow}: {report:?}");
        assert_eq!(report.measured.denials.len(), 1, "{host}, {allow}: {report:?}");
        assert!(report.measured.denials[0].contains("add allow:"), "{report:?}");
    }
}

#[tokio::test]
async fn a_check_in_c_speaks_by_its_libc() {
    check(in_c(), 1, [("c.connect", "Permission denied"), ("c.lookup", "getaddrinfo")]).await;
}

#[tokio::test]
async fn a_check_in_python_speaks_by_its_standard_library() {
    check(in_python(), 2, [("python.urllib", "PermissionError"), ("python.urllib", "PermissionError")]).await;
}
