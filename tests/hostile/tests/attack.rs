//! I6: whatever a check does, the checks of others are not late. A program of its own, so that nothing else runs beside it.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_hostile::{Guest, SCRATCH, SUMMARY, job};
use sandbox::{Job, Plugin, Sandbox, Settings, Verdict};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// What a plugin's attack may cost the schedule of others.
const LATE: Duration = Duration::from_millis(250);
/// One attack goes on for so long; runs of others begin every [`EVERY`] meanwhile.
const ATTACK: Duration = Duration::from_millis(700);
const EVERY: Duration = Duration::from_millis(20);
/// Attackers at the same time: more than there are threads for them.
const ATTACKERS: usize = 3;
/// A machine that does something else meanwhile is late by itself, now and then. A run that blocks its thread is so every time.
const MEASURES: usize = 4;
/// What a thread is late that does nothing but wake up counts so often: a run needs the processor several times.
const MACHINES: u32 = 10;
/// The attack by an instruction that moves all of a memory, which cannot be interrupted. During this one alone a run may have to wait for
/// one of every attacker, for as long as this machine takes for them.
const MOVED: &str = "memory moved up and down";
const MOVES: u32 = ATTACKERS as u32;

const LOG: &str = r#"(import "picket:net/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const TCP: &str = r#"
    (import "picket:net/tcp@0.1.0" "connect" (func $connect (param i32 i32 i32 i32 i32)))
    (import "picket:net/tcp@0.1.0" "[method]connection.read" (func $read (param i32 i32 i32)))"#;
const PRINT: &str = r#"
    (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
      (func $print (param i32 i32 i32 i32)))"#;
const TIMERS: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
    (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))"#;
const REGEX: &str = r#"
    (import "picket:net/regex@0.1.0" "compile" (func $compile (param i32 i32 i32)))
    (import "picket:net/regex@0.1.0" "[method]pattern.matches" (func $matches (param i32 i32 i32 i32)))
    (import "picket:net/regex@0.1.0" "[method]pattern.captures" (func $captures (param i32 i32 i32 i32)))
    (import "picket:net/regex@0.1.0" "[method]pattern.groups" (func $groups (param i32 i32)))"#;
/// Puts so many times a unit behind a front; both lie at 512, one behind the other.
const FILL: &str = r#"
    (func $fill (param $front i32) (param $unit i32) (param $times i32) (result i32)
      (local $at i32)
      (memory.copy (i32.const 131072) (i32.const 512) (local.get $front))
      (local.set $at (i32.add (i32.const 131072) (local.get $front)))
      (loop $more
        (memory.copy (local.get $at) (i32.add (i32.const 512) (local.get $front)) (local.get $unit))
        (local.set $at (i32.add (local.get $at) (local.get $unit)))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br_if $more (local.get $times)))
      (i32.sub (local.get $at) (i32.const 131072)))
    (data (i32.const 512) "(?i)\\p{Any}")"#;
const RANDOM: &str =
    r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#;

/// Every attack, with its name. A guest finds the port of a peer that sends for ever as `$attempt`.
fn attacks() -> Vec<(&'static str, Guest<'static>)> {
    let guest = |run| Guest { run, ..Guest::default() };
    vec![
        ("an endless loop", guest("(loop $more (br $more))")),
        (
            "a loop over all of its memory",
            Guest {
                pages: 900,
                ..guest("(loop $more (memory.fill (i32.const 0) (i32.const 1) (i32.const 58982400)) (br $more))")
            },
        ),
        (
            MOVED,
            Guest {
                pages: 900,
                ..guest(
                    "(loop $more
                       (memory.copy (i32.const 1) (i32.const 0) (i32.const 58982399))
                       (memory.copy (i32.const 0) (i32.const 1) (i32.const 58982399))
                       (br $more))",
                )
            },
        ),
        (
            "memory that grows and is written",
            guest(
                "(loop $more (drop (memory.grow (i32.const 16)))
                   (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $more))",
            ),
        ),
        (
            "tables filled again and again",
            Guest {
                items: "(table $t 16000 funcref)",
                ..guest("(loop $more (table.fill $t (i32.const 0) (ref.null func) (i32.const 16000)) (br $more))")
            },
        ),
        (
            "recursion",
            Guest {
                items: "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))",
                ..guest("(drop (call $deep (i64.const 1)))")
            },
        ),
        ("a crash at once", guest("(unreachable)")),
        (
            "a flood of notes",
            Guest {
                imports: LOG,
                ..guest("(loop $more (call $log (i32.const 1) (i32.const 1024) (i32.const 4)) (br $more))")
            },
        ),
        (
            "a flood of long notes",
            Guest {
                imports: LOG,
                pages: 20,
                ..guest("(loop $more (call $log (i32.const 1) (i32.const 0) (i32.const 1000000)) (br $more))")
            },
        ),
        (
            "a flood of printed text",
            Guest {
                imports: PRINT,
                world: "import wasi:cli/stdout@0.2.12;",
                ..guest(
                    "(local $out i32) (local.set $out (call $stdout))
                     (loop $more (call $print (local.get $out) (i32.const 0) (i32.const 4096) (i32.const 256)) (br $more))",
                )
            },
        ),
        (
            "a flood of randomness",
            Guest {
                imports: RANDOM,
                world: "import wasi:random/random@0.2.12;",
                ..guest(
                    "(loop $more (call $random (i64.const 65536) (i32.const 256))
                       (global.set $free (i32.const 65536)) (br $more))",
                )
            },
        ),
        (
            "a flood of polls of many timers",
            Guest {
                imports: TIMERS,
                world: "import wasi:io/poll@0.2.12; import wasi:clocks/monotonic-clock@0.2.12;",
                ..guest(
                    "(local $at i32) (local.set $at (i32.const 98304))
                     (loop $make (i32.store (local.get $at) (call $timer (i64.const 0)))
                       (local.set $at (i32.add (local.get $at) (i32.const 4)))
                       (br_if $make (i32.lt_u (local.get $at) (i32.const 101904))))
                     (loop $more (call $poll (i32.const 98304) (i32.const 900) (i32.const 256))
                       (global.set $free (i32.const 65536)) (br $more))",
                )
            },
        ),
        (
            "patterns whose classes would take minutes to compile",
            Guest {
                imports: REGEX,
                items: FILL,
                pages: 4,
                ..guest(
                    "(local $len i32) (local.set $len (call $fill (i32.const 4) (i32.const 7) (i32.const 9284)))
                     (loop $more (call $compile (i32.const 131072) (local.get $len) (i32.const 256))
                       (global.set $free (i32.const 65536)) (br $more))",
                )
            },
        ),
        (
            "patterns that are as heavy as they may be, each another one",
            Guest {
                imports: REGEX,
                items: FILL,
                pages: 4,
                ..guest(
                    "(local $len i32) (local $n i32) (local $end i32)
                     (local.set $len (call $fill (i32.const 4) (i32.const 7) (i32.const 3)))
                     (local.set $end (i32.add (i32.const 131072) (local.get $len)))
                     (loop $more
                       (local.set $n (i32.add (local.get $n) (i32.const 1)))
                       (i32.store8 (local.get $end) (i32.add (i32.const 97) (i32.and (local.get $n) (i32.const 15))))
                       (i32.store8 offset=1 (local.get $end)
                         (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 15))))
                       (i32.store8 offset=2 (local.get $end)
                         (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $n) (i32.const 8)) (i32.const 15))))
                       (call $compile (i32.const 131072) (i32.add (local.get $len) (i32.const 3)) (i32.const 256))
                       (global.set $free (i32.const 65536)) (br $more))",
                )
            },
        ),
        (
            "a search that makes a new state for each byte",
            Guest {
                imports: REGEX,
                items: r#"(data (i32.const 512) "[01]*1[01]{3000}2")"#,
                pages: 20,
                ..guest(
                    "(local $at i32) (local $seed i64) (local.set $at (i32.const 131072)) (local.set $seed (i64.const 1))
                     (loop $more
                       (local.set $seed (i64.add (i64.const 1442695040888963407)
                         (i64.mul (local.get $seed) (i64.const 6364136223846793005))))
                       (i32.store8 (local.get $at)
                         (i32.add (i32.const 48) (i32.wrap_i64 (i64.shr_u (local.get $seed) (i64.const 63)))))
                       (local.set $at (i32.add (local.get $at) (i32.const 1)))
                       (br_if $more (i32.lt_u (local.get $at) (i32.const 1131072))))
                     (call $compile (i32.const 512) (i32.const 17) (i32.const 256))
                     (if (i32.load8_u (i32.const 256)) (then (unreachable)))
                     (local.set $at (i32.load (i32.const 260)))
                     (loop $again
                       (call $matches (local.get $at) (i32.const 131072) (i32.const 1000000) (i32.const 256)) (br $again))",
                )
            },
        ),
        (
            "a flood of searches",
            Guest {
                imports: REGEX,
                items: r#"(data (i32.const 512) "x*y")"#,
                pages: 20,
                ..guest(
                    "(local $handle i32)
                     (memory.fill (i32.const 131072) (i32.const 120) (i32.const 1000000))
                     (call $compile (i32.const 512) (i32.const 3) (i32.const 256))
                     (if (i32.load8_u (i32.const 256)) (then (unreachable)))
                     (local.set $handle (i32.load (i32.const 260)))
                     (loop $again
                       (call $matches (local.get $handle) (i32.const 131072) (i32.const 1000000) (i32.const 256)) (br $again))",
                )
            },
        ),
        (
            "a flood of groups of a large pattern",
            Guest {
                imports: REGEX,
                items: r#"(data (i32.const 512) "(\\w{30}|x)y")"#,
                ..guest(
                    "(local $handle i32)
                     (call $compile (i32.const 512) (i32.const 11) (i32.const 256))
                     (if (i32.load8_u (i32.const 256)) (then (unreachable)))
                     (local.set $handle (i32.load (i32.const 260)))
                     (loop $again
                       (call $groups (local.get $handle) (i32.const 256))
                       (global.set $free (i32.const 65536)) (br $again))",
                )
            },
        ),
        (
            "a flood of captures of a large pattern",
            Guest {
                imports: REGEX,
                items: r#"(data (i32.const 512) "(\\w{30}|x)yxy")"#,
                ..guest(
                    "(local $handle i32)
                     (call $compile (i32.const 512) (i32.const 11) (i32.const 256))
                     (if (i32.load8_u (i32.const 256)) (then (unreachable)))
                     (local.set $handle (i32.load (i32.const 260)))
                     (loop $again
                       (call $captures (local.get $handle) (i32.const 523) (i32.const 2) (i32.const 256))
                       (if (i32.load8_u (i32.const 256)) (then (unreachable)))
                       (global.set $free (i32.const 65536)) (br $again))",
                )
            },
        ),
        (
            "a giant answer",
            Guest {
                pages: 900,
                summary_len: 50 << 20,
                ..guest("(memory.fill (i32.const 1024) (i32.const 97) (i32.const 52428800))")
            },
        ),
        (
            "a storm of connections, and a peer that never ends",
            Guest {
                imports: TCP,
                items: "(data (i32.const 512) \"127.0.0.1\")",
                ..guest(
                    "(local $handle i32)
                     (loop $more
                       (call $connect (i32.const 512) (i32.const 9) (local.get $attempt) (i32.const 0) (i32.const 256))
                       (local.set $handle (i32.load (i32.const 260)))
                       (if (i32.eqz (i32.load8_u (i32.const 256)))
                         (then (loop $again
                           (call $read (local.get $handle) (i32.const 65536) (i32.const 256))
                           (global.set $free (i32.const 65536))
                           (br_if $again (i32.eqz (i32.load8_u (i32.const 256)))))))
                       (br $more))",
                )
            },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_of_others_are_not_late_during_any_attack() {
    assert_eq!((SCRATCH, SUMMARY), (256, 1024), "the guests' numbers are those of the skeleton");
    let ceiling = net::Ceiling { allow: vec!["127.0.0.1".parse().unwrap()], ..net::Ceiling::default() };
    let network = net::Network::new(net::Settings { ceiling, ..net::Settings::default() }).unwrap();
    let sandbox = Sandbox::new(Settings::default(), network).unwrap();
    let quiet = sandbox.load(&Guest::default().component()).await.unwrap();
    let port = endless_peer().await;
    let (mut table, mut slow, moves) = (String::new(), Vec::new(), MOVES * one_move());
    let late_by = |name| if name == MOVED { LATE + moves } else { LATE };
    for (name, guest) in attacks() {
        let attacker = sandbox.load(&guest.component()).await.unwrap();
        let mut found = (Duration::ZERO, Duration::ZERO);
        let in_time = 'measured: {
            for _ in 0..MEASURES {
                let machine = Machine::watch();
                let late = lateness(&sandbox, &quiet, &attacker, port).await;
                found = (late, machine.lateness());
                if late < late_by(name) + MACHINES * found.1 {
                    break 'measured true;
                }
            }
            false
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let _ =
            writeln!(table, "{:>8.1} ms, the machine itself {:>6.1} ms  {name}", ms(found.0), ms(found.1));
        if !in_time {
            slow.push(name);
        }
    }
    let _ = writeln!(
        table,
        "{:>8.1} ms are {MOVES} moves of all of a memory, allowed for {MOVED:?}",
        moves.as_secs_f64() * 1e3
    );
    println!("How late runs of others were, 99th percentile, during\n{table}");
    assert!(slow.is_empty(), "runs of others were late during {slow:?}:\n{table}");
}

/// How long this machine takes to move as many bytes of fresh memory as a component may have, by one, at worst: the kernel has to find
/// every page of it first.
fn one_move() -> Duration {
    let once = || {
        let begun = std::time::Instant::now();
        let mut memory = vec![0_u8; 900 << 16];
        let end = memory.len() - 1;
        memory.copy_within(..end, 1);
        std::hint::black_box(&mut memory);
        begun.elapsed()
    };
    (0..3).map(|_| once()).max().unwrap_or_default()
}

/// The 99th percentile of how late quiet runs were done, from when they were due, while others attack.
async fn lateness(sandbox: &Sandbox, quiet: &Arc<Plugin>, attacker: &Arc<Plugin>, port: u16) -> Duration {
    let end = Instant::now() + ATTACK;
    let mut attacks = Vec::new();
    for _ in 0..ATTACKERS {
        let (sandbox, attacker) = (sandbox.clone(), Arc::clone(attacker));
        attacks.push(tokio::spawn(async move {
            let grant = attacker.schema.grant(&json!({}), &[format!("127.0.0.1:{port}")]).unwrap();
            // At least once, however late the machine is.
            loop {
                let job = Job {
                    attempt: port.into(),
                    grant: grant.clone().into(),
                    ..job(json!({}), Duration::from_millis(400))
                };
                let report = sandbox.run(&attacker, job).await;
                assert!(matches!(report.verdict, Verdict::Fault(_)), "{report:?}");
                if Instant::now() >= end {
                    break;
                }
                // As the agent's runs do, each of which is a task of its own.
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut late = quiet_runs(sandbox, quiet, (ATTACK.as_millis() / EVERY.as_millis()) as u32).await;
    for attack in attacks {
        attack.await.unwrap();
    }
    late.sort();
    late[late.len() * 99 / 100]
}

/// A thread that only sleeps, and finds out how late the machine wakes it: what nobody's attack is to blame for, except by using the processor.
struct Machine(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<Vec<Duration>>);

impl Machine {
    fn watch() -> Machine {
        let (end, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut late = Vec::new();
            loop {
                let due = Instant::now() + EVERY;
                if ended.recv_timeout(EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
                    return late;
                }
                late.push(due.elapsed());
            }
        });
        Machine(end, thread)
    }

    /// The 99th percentile.
    fn lateness(self) -> Duration {
        drop(self.0);
        let mut late = self.1.join().unwrap();
        late.sort();
        late.get(late.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// How long each of so many quiet runs took, from when it was due to its end.
async fn quiet_runs(sandbox: &Sandbox, plugin: &Arc<Plugin>, runs: u32) -> Vec<Duration> {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..runs {
        // Due by the clock, not by when the one before was begun: being woken late is being late.
        let due = begun + EVERY * n;
        tokio::time::sleep_until(due.into()).await;
        let (sandbox, plugin) = (sandbox.clone(), Arc::clone(plugin));
        tasks.push(tokio::spawn(async move {
            let report = sandbox.run(&plugin, job(json!({}), Duration::from_secs(10))).await;
            assert!(matches!(report.verdict, Verdict::Outcome(_)), "{report:?}");
            due.elapsed()
        }));
    }
    let mut late = Vec::new();
    for task in tasks {
        late.push(task.await.unwrap());
    }
    late
}

/// A peer that sends as fast as it can, for ever; its port.
async fn endless_peer() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { while stream.write_all(&[b'x'; 65_536]).await.is_ok() {} });
        }
    });
    port
}
