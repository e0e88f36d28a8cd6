//! G10: what a run could learn about the machine that it has no business to know: environment, arguments, files, a fine clock. And that
//! everything a language's runtime imports for that is there to say no.

use picket_hostile::{Guest, SCRATCH, everything};
use sandbox::{Fault, Verdict};

use crate::{run, sandbox};

/// Every interface of WASI that runtimes import at once: Go, QuickJS, Python, and C with a libc (languages.md).
const OF_RUNTIMES: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

#[tokio::test]
async fn every_import_of_every_runtime_is_there_in_every_version() {
    // The first one, what libraries are built with today, and what the host has.
    for version in ["0.2.0", "0.2.6", "0.2.9", "0.2.12"] {
        let component = everything(version);
        let plugin = sandbox().load(&component).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        let mut imports: Vec<_> =
            plugin.imports.iter().filter_map(|name| name.strip_suffix(&format!("@{version}"))).collect();
        imports.retain(|name| name.starts_with("wasi:"));
        imports.sort_unstable();
        assert_eq!(imports, OF_RUNTIMES, "{version}");
    }
}

/// Ends the run as a crash unless what is at that place is zero.
fn must_be_zero(place: usize) -> String {
    format!("(if (i32.load (i32.const {place})) (then (unreachable)))")
}

async fn behaves(guest: Guest<'_>) {
    let report = run(guest).await;
    assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
}

#[tokio::test]
async fn there_is_no_environment_no_argument_no_directory_and_no_file() {
    // Each gives a list: its length is at the second word. Of the directory, whether there is one.
    let imports = r#"
        (import "wasi:cli/environment@0.2.12" "get-environment" (func $environment (param i32)))
        (import "wasi:cli/environment@0.2.12" "get-arguments" (func $arguments (param i32)))
        (import "wasi:cli/environment@0.2.12" "initial-cwd" (func $directory (param i32)))
        (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $directories (param i32)))"#;
    let call = |name: &str, place: usize| {
        format!(
            "(i32.store (i32.const {place}) (i32.const 9)) (call {name} (i32.const {SCRATCH})) {}",
            must_be_zero(place)
        )
    };
    let run_ = [
        call("$environment", SCRATCH + 4),
        call("$arguments", SCRATCH + 4),
        // One byte says whether there is one; the three behind it are those of the nine.
        format!("(call $directory (i32.const {SCRATCH})) (if (i32.load8_u (i32.const {SCRATCH})) (then (unreachable)))"),
        call("$directories", SCRATCH + 4),
    ]
    .concat();
    assert!(std::env::vars().count() > 0, "this process has an environment that could leak");
    behaves(Guest {
        imports,
        run: &run_,
        world: "import wasi:cli/environment@0.2.12; import wasi:filesystem/preopens@0.2.12;",
        ..Guest::default()
    })
    .await;
    // Without a directory there is no handle to begin with, whatever number one tries.
    for handle in [0, 1, 3, 4] {
        let run_ = format!("(call $read (i32.const {handle}) (i64.const 0) (i32.const {SCRATCH}))");
        let report = run(Guest {
            imports: r#"(import "wasi:filesystem/types@0.2.12" "[method]descriptor.read-via-stream" (func $read (param i32 i64 i32)))"#,
            run: &run_,
            world: "import wasi:filesystem/types@0.2.12;",
            ..Guest::default()
        })
        .await;
        assert!(matches!(report.verdict, Verdict::Fault(Fault::Trap(_) | Fault::Output(_))), "{report:?}");
    }
}

#[tokio::test]
async fn clocks_tell_whole_milliseconds() {
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))
        (import "wasi:clocks/monotonic-clock@0.2.12" "resolution" (func $resolution (result i64)))
        (import "wasi:clocks/wall-clock@0.2.12" "now" (func $wall (param i32)))
        (import "wasi:clocks/wall-clock@0.2.12" "resolution" (func $fineness (param i32)))"#;
    // Nanoseconds that are not whole milliseconds end the run; so does a clock that stands still.
    let run_ = format!(
        "(local $n i32) (local $first i64)
         (if (i64.lt_u (call $resolution) (i64.const 1000000)) (then (unreachable)))
         (call $fineness (i32.const {SCRATCH}))
         (if (i32.lt_u (i32.load (i32.const {nanoseconds})) (i32.const 1000000)) (then (unreachable)))
         (local.set $first (call $now))
         (loop $more
           (if (i64.ne (i64.rem_u (call $now) (i64.const 1000000)) (i64.const 0)) (then (unreachable)))
           (call $wall (i32.const {SCRATCH}))
           (if (i32.rem_u (i32.load (i32.const {nanoseconds})) (i32.const 1000000)) (then (unreachable)))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $n) (i32.const 3000))))
         (loop $wait (br_if $wait (i64.eq (call $now) (local.get $first))))",
        nanoseconds = SCRATCH + 8,
    );
    behaves(Guest {
        imports,
        run: &run_,
        world: "import wasi:clocks/monotonic-clock@0.2.12; import wasi:clocks/wall-clock@0.2.12;",
        ..Guest::default()
    })
    .await;
}

#[tokio::test]
async fn standard_input_is_at_its_end() {
    let imports = r#"
        (import "wasi:cli/stdin@0.2.12" "get-stdin" (func $stdin (result i32)))
        (import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))"#;
    // An error, and the second of its kind: closed.
    let run_ = format!(
        "(call $read (call $stdin) (i64.const 100) (i32.const {SCRATCH}))
         (if (i32.ne (i32.load8_u (i32.const {SCRATCH})) (i32.const 1)) (then (unreachable)))
         (if (i32.ne (i32.load8_u (i32.const {kind})) (i32.const 1)) (then (unreachable)))",
        kind = SCRATCH + 4,
    );
    behaves(Guest { imports, run: &run_, world: "import wasi:cli/stdin@0.2.12;", ..Guest::default() }).await;
}

#[tokio::test]
async fn nobody_listens_and_nobody_binds() {
    let imports = r#"
        (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $create (param i32 i32)))
        (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-bind"
          (func $bind (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-bind" (func $bound (param i32 i32)))
        (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-listen" (func $listen (param i32 i32)))
        (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-listen" (func $listening (param i32 i32)))
        (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.accept" (func $accept (param i32 i32)))"#;
    let bind = |port: u16, address: [u8; 4]| {
        let [a, b, c, d] = address;
        format!(
            "(call $bind (local.get $socket) (call $network) (i32.const 0) (i32.const {port}) (i32.const {a}) (i32.const {b})
               (i32.const {c}) (i32.const {d}) {} (i32.const {SCRATCH}))",
            "(i32.const 0) ".repeat(6)
        )
    };
    let answers = |ok: bool, code: u8| {
        format!(
            "(if (i32.ne (i32.load8_u (i32.const {SCRATCH})) (i32.const {})) (then (unreachable)))
             (if (i32.ne (i32.load8_u (i32.const {})) (i32.const {code})) (then (unreachable)))",
            u8::from(!ok),
            SCRATCH + 1,
        )
    };
    let run_ = format!(
        "(local $socket i32)
         (call $create (i32.const 0) (i32.const {SCRATCH}))
         (local.set $socket (i32.load (i32.const {handle})))
         {port} {denied} {loopback} {denied}
         (i32.store8 (i32.const {code}) (i32.const 0)) {any} {fine}
         (call $bound (local.get $socket) (i32.const {SCRATCH})) {fine}
         (call $listen (local.get $socket) (i32.const {SCRATCH})) {denied}
         (call $listening (local.get $socket) (i32.const {SCRATCH})) {not_begun}
         (call $accept (local.get $socket) (i32.const {SCRATCH}))
         (if (i32.ne (i32.load8_u (i32.const {SCRATCH})) (i32.const 1)) (then (unreachable)))",
        handle = SCRATCH + 4,
        code = SCRATCH + 1,
        port = bind(8080, [0, 0, 0, 0]),
        loopback = bind(0, [127, 0, 0, 1]),
        any = bind(0, [0, 0, 0, 0]),
        denied = answers(false, 1),
        not_begun = answers(false, 7),
        fine = answers(true, 0),
    );
    behaves(Guest {
        imports,
        run: &run_,
        world: "import wasi:sockets/instance-network@0.2.12; import wasi:sockets/tcp@0.2.12; import wasi:sockets/tcp-create-socket@0.2.12;",
        ..Guest::default()
    })
    .await;
}
