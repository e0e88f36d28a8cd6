//! G5, G13: what crosses the border between a component and the host: texts in three encodings, whole, broken and far too long; lists
//! that lie about their length; places that are none; handles that nobody gave.

use std::time::Duration;

use picket_hostile::{Guest, HEAP, OUTCOME, SCRATCH, SUMMARY, StringEncoding, WIDE, job};
use sandbox::{Fault, Job, Report, Verdict};
use serde_json::json;

use crate::{LOG, check, load, run};

const ENCODINGS: [StringEncoding; 3] =
    [StringEncoding::UTF8, StringEncoding::UTF16, StringEncoding::CompactUTF16];

/// What a component handed over was refused: as a fault of it, and nothing else happened.
#[track_caller]
fn refused(report: &Report, what: &str) {
    assert!(
        matches!(report.verdict, Verdict::Fault(Fault::Output(_) | Fault::Trap(_))),
        "{what}: {report:?}"
    );
}

/// Answers with the text at `place`, of `length` units, as summary.
fn say(place: &str, length: &str) -> String {
    format!(
        "(i32.store (i32.const {}) {place}) (i32.store (i32.const {}) {length})",
        OUTCOME + 16,
        OUTCOME + 20
    )
}

#[tokio::test]
async fn texts_go_in_and_out_whole_in_every_encoding() {
    let run = say("(local.get $monitor)", "(local.get $monitor_len)");
    for encoding in ENCODINGS {
        let (sandbox, plugin) = load(Guest { run: &run, encoding, ..Guest::default() }).await;
        for text in ["", "plain", "häuser", "日本語", "a\0b", "\u{10ffff}\u{fffd}", "ÿ\u{100}", "🦔🦔🦔"]
        {
            let report =
                sandbox.run(&plugin, Job { monitor: text.to_owned(), ..job(json!({}), MOMENT) }).await;
            let Verdict::Outcome(outcome) = report.verdict else { panic!("{encoding} {text:?}: {report:?}") };
            assert_eq!(outcome.summary, text, "{encoding}");
        }
    }
}

#[tokio::test]
async fn a_text_with_half_a_surrogate_pair_is_refused() {
    for (encoding, wide) in [(StringEncoding::UTF16, 0), (StringEncoding::CompactUTF16, WIDE)] {
        for units in [&[0xd800u16][..], &[0xdc00, 0xd800], &[0x61, 0xdfff, 0x62], &[0xd83e, 0xd83e, 0xdd94]] {
            let bytes: Vec<String> =
                units.iter().flat_map(|unit| unit.to_le_bytes()).map(|b| format!("\\{b:02x}")).collect();
            let items = format!("(data (i32.const {SCRATCH}) \"{}\")", bytes.concat());
            let run_ =
                say(&format!("(i32.const {SCRATCH})"), &format!("(i32.const {})", wide | units.len() as u32));
            let guest = Guest { items: &items, run: &run_, encoding, ..Guest::default() };
            refused(&run(guest).await, &format!("{encoding} {units:04x?}"));
        }
    }
}

/// Fills 24 bytes with noise from the seed `$budget`, masked by `$config_len`'s sort of text, and answers with some of them.
const NOISE: &str = "(local $at i32) (local $x i64)
    (local.set $x (i64.extend_i32_u (local.get $budget)))
    (local.set $at (i32.const 98304))
    (loop $more
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 98328))))
    (i32.store (i32.const 80) (i32.const 98304))
    (i32.store (i32.const 84) (local.get $attempt))";

/// The same 24 bytes.
fn noise(seed: u64) -> Vec<u8> {
    let mut x = seed;
    let mut bytes = Vec::new();
    for _ in 0..3 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes
}

#[tokio::test]
async fn noise_is_a_text_exactly_when_it_is_one() {
    assert_eq!((OUTCOME + 16, HEAP + 32_768), (80, 98_304), "the guest's numbers are those of the skeleton");
    for encoding in ENCODINGS {
        let (sandbox, plugin) = load(Guest { run: NOISE, encoding, ..Guest::default() }).await;
        let (mut texts, mut refusals) = (0, 0);
        for n in 0..600u32 {
            // Bytes for UTF-8 and Latin-1, units for UTF-16; both fit into what was filled.
            let length = n % 12;
            let wide = encoding == StringEncoding::CompactUTF16 && n % 2 == 1;
            let seed = 5000 + u64::from(n) * 7;
            let expected = expected(encoding, wide, &noise(seed), length as usize);
            let job = Job {
                attempt: if wide { WIDE | length } else { length },
                ..job(json!({}), Duration::from_millis(seed))
            };
            let report = sandbox.run(&plugin, job).await;
            match (&report.verdict, expected) {
                (Verdict::Outcome(outcome), Some(text)) => {
                    assert_eq!(outcome.summary, text, "{encoding} {n}");
                    texts += 1;
                }
                (Verdict::Fault(Fault::Output(_)), None) => refusals += 1,
                (_, expected) => panic!("{encoding} {n}: {report:?}, expected {expected:?}"),
            }
        }
        assert!(texts > 20, "{encoding}: {texts} texts, {refusals} refusals");
        // Every byte is a letter of Latin-1; the other two encodings have gaps.
        assert!(refusals > 0, "{encoding}: {texts} texts, {refusals} refusals");
    }
}

fn expected(encoding: StringEncoding, wide: bool, bytes: &[u8], length: usize) -> Option<String> {
    let units = || {
        bytes.chunks(2).take(length).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
    };
    match encoding {
        StringEncoding::UTF8 => String::from_utf8(bytes[..length].to_vec()).ok(),
        StringEncoding::UTF16 => String::from_utf16(&units()).ok(),
        StringEncoding::CompactUTF16 if wide => String::from_utf16(&units()).ok(),
        StringEncoding::CompactUTF16 => Some(bytes[..length].iter().map(|byte| char::from(*byte)).collect()),
    }
}

#[tokio::test]
async fn a_text_that_lies_nowhere_is_refused() {
    for (place, length) in [(0u32, u32::MAX), (131_071, 2), (u32::MAX, 1), (131_072, 1), (1 << 31, 1 << 31)] {
        let out = say(&format!("(i32.const {place})"), &format!("(i32.const {length})"));
        refused(&run(Guest { run: &out, ..Guest::default() }).await, "a summary");
        let log = format!("(call $log (i32.const 1) (i32.const {place}) (i32.const {length}))");
        let report = run(Guest { imports: LOG, run: &log, ..Guest::default() }).await;
        refused(&report, "a note");
        assert!(report.log.is_empty(), "{report:?}");
    }
    for encoding in [StringEncoding::UTF16, StringEncoding::CompactUTF16] {
        let odd = say(&format!("(i32.const {})", SUMMARY + 1), &format!("(i32.const {})", WIDE | 2));
        refused(&run(Guest { run: &odd, encoding, ..Guest::default() }).await, "an odd place");
    }
}

#[tokio::test]
async fn memory_that_cabi_realloc_does_not_have_is_refused() {
    for realloc in [
        "(return (i32.const -16))",
        "(return (i32.const 131072))",
        "(return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))",
    ] {
        let (sandbox, plugin) = load(Guest { realloc, ..Guest::default() }).await;
        let report = sandbox.run(&plugin, job(json!({}), MOMENT)).await;
        refused(&report, realloc);
    }
    // An odd place for a text of two-byte units.
    let realloc = "(return (i32.const 65537))";
    let (sandbox, plugin) =
        load(Guest { realloc, encoding: StringEncoding::UTF16, ..Guest::default() }).await;
    refused(&sandbox.run(&plugin, job(json!({}), MOMENT)).await, realloc);
}

#[tokio::test]
async fn a_list_that_lies_about_its_length_is_refused() {
    // Metrics, findings, attributes: each a place and a length in the answer.
    for list in [24, 32, 40] {
        for (place, length) in [(0u32, 1u32 << 28), (131_064, 100), (1, 1), (u32::MAX - 7, 1), (8, u32::MAX)]
        {
            let lie = format!(
                "(i32.store (i32.const {}) (i32.const {place})) (i32.store (i32.const {}) (i32.const {length}))",
                OUTCOME + list,
                OUTCOME + list + 4
            );
            refused(&run(Guest { run: &lie, ..Guest::default() }).await, &format!("{list} {place} {length}"));
        }
    }
}

#[tokio::test]
async fn a_million_entries_are_refused_before_they_are_read() {
    for (list, name) in [(24, "metrics"), (32, "findings"), (40, "attributes")] {
        let many = format!(
            "(i32.store (i32.const {}) (i32.const {HEAP})) (i32.store (i32.const {}) (i32.const 1000000))",
            OUTCOME + list,
            OUTCOME + list + 4
        );
        let report = run(Guest { run: &many, pages: 700, ..Guest::default() }).await;
        check(&report, &Fault::Output(String::new()));
        assert!(report.spent.memory <= 64 << 20, "{name}: {report:?}");
    }
}

#[tokio::test]
async fn a_million_headers_are_refused_before_they_are_read() {
    let imports = r#"(import "picket:net/http@0.1.0" "send" (func $send (param i32 i32)))"#;
    // A request whose texts are empty, and whose headers are a million of them.
    let run_ = format!(
        "(i32.store (i32.const {place}) (i32.const {HEAP}))
         (i32.store (i32.const {length}) (i32.const 1000000))
         (call $send (i32.const {SCRATCH}) (i32.const {answer}))",
        place = SCRATCH + 16,
        length = SCRATCH + 20,
        answer = SCRATCH + 256,
    );
    let report = run(Guest { imports, run: &run_, pages: 700, ..Guest::default() }).await;
    check(&report, &Fault::Output(String::new()));
    assert_eq!(report.measured.connections, 0, "{report:?}");
}

#[tokio::test]
async fn a_value_that_its_type_does_not_have_is_refused() {
    // The state, whether it is an outcome at all, and whether there is evidence.
    for (place, value) in [(4, 3), (0, 2), (48, 2)] {
        let odd = format!("(i32.store8 (i32.const {}) (i32.const {value}))", OUTCOME + place);
        refused(&run(Guest { run: &odd, ..Guest::default() }).await, &format!("{value} at {place}"));
    }
    let level = format!("(call $log (i32.const 9) (i32.const {SUMMARY}) (i32.const 4))");
    refused(&run(Guest { imports: LOG, run: &level, ..Guest::default() }).await, "a level");
    // An answer that lies outside of memory, or at a place that its type cannot have.
    for place in ["-4", "131072", "66"] {
        let there = format!("(return (i32.const {place}))");
        refused(&run(Guest { run: &there, ..Guest::default() }).await, &format!("an answer at {place}"));
    }
}

#[tokio::test]
async fn a_handle_that_nobody_gave_is_refused() {
    let imports = r#"
        (import "picket:net/tcp@0.1.0" "[method]connection.read" (func $read (param i32 i32 i32)))
        (import "picket:net/tcp@0.1.0" "[resource-drop]connection" (func $drop (param i32)))
        (import "picket:net/dns@0.1.0" "[method]answer.rcode" (func $rcode (param i32) (result i32)))
        (import "picket:net/http@0.1.0" "[method]response.status" (func $status (param i32) (result i32)))"#;
    for call in [
        "(call $read (i32.const 7) (i32.const 1) (i32.const 256))",
        "(call $read (i32.const 0) (i32.const 1) (i32.const 256))",
        "(call $read (i32.const -1) (i32.const 1) (i32.const 256))",
        "(call $drop (i32.const 1))",
        "(drop (call $rcode (i32.const 123456789)))",
        "(drop (call $status (i32.const 2)))",
    ] {
        refused(&run(Guest { imports, run: call, ..Guest::default() }).await, call);
    }
}

/// Enough for whoever does not wait.
const MOMENT: Duration = Duration::from_secs(5);
