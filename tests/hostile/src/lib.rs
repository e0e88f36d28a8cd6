//! Guests that try to break the sandbox, written as WebAssembly text around one skeleton of a check. Owns how a guest is put
//! together; what each attacks stands in the tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Job, Limits, Plugin, Sandbox, Secrets};
use serde_json::Value;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest: the parts that differ from a check that answers "up" at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guest<'a> {
    /// Imports of the core module.
    pub imports: &'a str,
    /// Functions, data and a start function of the core module.
    pub items: &'a str,
    /// What `describe` does before it answers.
    pub describe: &'a str,
    /// What `run` does before it answers; its parameters are `$config`, `$config_len`, `$budget`, `$attempt`, `$monitor`,
    /// `$monitor_len`. It may `return` the place of another answer.
    pub run: &'a str,
    /// Bytes that `run`'s summary claims to have, from [`SUMMARY`]; that of "fine" when 0.
    pub summary_len: u32,
    /// Pages of memory at the start, 2 when 0.
    pub pages: u32,
    /// WIT packages beside ours, and what the world imports of them.
    pub packages: &'a str,
    /// Further lines of the world.
    pub world: &'a str,
    /// The configuration's schema; one that takes nothing when empty.
    pub schema: &'a str,
}

/// A run with nothing granted.
pub fn job(config: Value, timeout: Duration) -> Job {
    Job {
        monitor: "test".to_owned(),
        config,
        attempt: 1,
        timeout,
        grant: net::Grant::default(),
        secrets: Secrets::new(),
        limits: Limits::default(),
    }
}

/// The guest, ready to run in this sandbox.
///
/// # Panics
/// When it is no component: what does not load is not tested by running it.
pub async fn load(sandbox: Sandbox, guest: Guest<'_>) -> (Sandbox, Arc<Plugin>) {
    let plugin = sandbox.load(&guest.component()).await.expect("the guest loads");
    (sandbox, plugin)
}

/// Where `describe` answers.
const DESCRIPTION: usize = 16;
/// Where `run` answers: `result<outcome, failure>`.
pub const OUTCOME: usize = 64;
/// A second place for an answer, all zeros.
pub const SCRATCH: usize = 256;
/// Where the summary's text begins.
pub const SUMMARY: usize = 1024;
/// Where the other texts begin.
const TEXTS: usize = 2048;
/// Where memory is free.
pub const HEAP: usize = 65_536;

const CLOSED: &str = r#"{"type":"object","additionalProperties":false}"#;
const METRICS: &str = r#"[{"name":"guest.answer","unit":"1","description":"Nothing."}]"#;

impl Guest<'_> {
    /// The component.
    ///
    /// # Panics
    /// When the text is wrong: a guest is part of a test.
    pub fn component(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        resolve.push_dir(&wit).expect("the contract parses");
        let world = format!(
            "package hostile:guest;\n{}\nworld guest {{ include picket:check/check@0.1.0; {} }}",
            self.packages, self.world
        );
        let package = resolve.push_str("guest.wit", &world).expect("the guest's world parses");
        let world = resolve.select_world(&[package], Some("guest")).expect("the guest has a world");
        let mut module = wat::parse_str(self.text()).expect("the guest's text parses");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world is encoded");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).expect("the guest fits its world");
        encoder.validate(true).encode().expect("the guest becomes a component")
    }

    fn text(&self) -> String {
        let mut texts = Texts { at: TEXTS, data: String::new() };
        let description: Vec<_> = [
            "guest",
            "0.1.0",
            "A guest of the tests.",
            if self.schema.is_empty() { CLOSED } else { self.schema },
            METRICS,
        ]
        .iter()
        .flat_map(|text| texts.add(text))
        .collect();
        let code = texts.add("ok");
        let summary = [SUMMARY as u32, if self.summary_len == 0 { 4 } else { self.summary_len }];
        // ok, up, code, summary; no metrics, findings, attributes, evidence.
        let outcome = [&[0, 0], &code[..], &summary[..]].concat();
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {pages})
  (global $free (mut i32) (i32.const {HEAP}))
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))))
    (local.get $at))
  (data (i32.const {DESCRIPTION}) "{description}")
  (data (i32.const {OUTCOME}) "{outcome}")
  (data (i32.const {SUMMARY}) "fine")
  {data}
  {items}
  (func (export "picket:check/checker@0.1.0#describe") (result i32)
    {describe}
    (i32.const {DESCRIPTION}))
  (func (export "picket:check/checker@0.1.0#run")
    (param $config i32) (param $config_len i32) (param $budget i32) (param $attempt i32) (param $monitor i32) (param $monitor_len i32)
    (result i32)
    {run}
    (i32.const {OUTCOME}))
)"#,
            imports = self.imports,
            pages = if self.pages == 0 { 2 } else { self.pages },
            description = words(&description),
            outcome = words(&outcome),
            data = texts.data,
            items = self.items,
            describe = self.describe,
            run = self.run,
        )
    }
}

/// Texts in the guest's memory.
struct Texts {
    at: usize,
    data: String,
}

impl Texts {
    /// Place and length of the text.
    fn add(&mut self, text: &str) -> [u32; 2] {
        let place = [self.at as u32, text.len() as u32];
        self.data.push_str(&format!("(data (i32.const {}) \"{}\")\n", self.at, escaped(text.as_bytes())));
        self.at += text.len();
        place
    }
}

fn words(words: &[u32]) -> String {
    escaped(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
