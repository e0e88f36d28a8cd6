//! Guests that try to break the sandbox, written as WebAssembly text around one skeleton of a check. Owns how a guest is put
//! together; what each attacks stands in the tests.

mod doors;
mod everything;
pub mod network;
mod zone;

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sandbox::{Job, Limits, Plugin, Sandbox, Secrets};
use serde_json::Value;
use wit_component::{ComponentEncoder, embed_component_metadata};
use wit_parser::Resolve;

pub use doors::{Attempt, Door};
pub use everything::everything;
pub use wit_component::StringEncoding;
pub use zone::{Step, Zone};

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
    /// What `cabi_realloc` does before it gives memory out; its parameters are `$old`, `$had`, `$align`, `$size`.
    pub realloc: &'a str,
    /// How texts lie in its memory, and how the host has to hand it others.
    pub encoding: StringEncoding,
}

/// A run with nothing granted.
pub fn job(config: Value, timeout: Duration) -> Job {
    Job {
        monitor: "test".to_owned(),
        config: config.to_string(),
        attempt: 1,
        timeout,
        grant: Arc::default(),
        route: net::Route::default(),
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

/// The component of a module that a toolchain made, which says itself what it imports beside the contract.
///
/// # Panics
/// When the module does not export a check.
pub fn encoded_world(mut module: Vec<u8>, encoding: StringEncoding) -> Vec<u8> {
    let (package, _) =
        CONTRACT.packages.iter().find(|(_, package)| package.name.name == "check").expect("the contract");
    let world = CONTRACT.select_world(&[package], Some("check")).expect("the contract has a world");
    embed_component_metadata(&mut module, &CONTRACT, world, encoding).expect("the world is encoded");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("the module fits the world");
    encoder.validate(true).encode().expect("the module becomes a component")
}

/// The component with so many instances of a small module more, which nothing calls.
///
/// # Panics
/// When it is no component.
pub fn crowded(component: &[u8], instances: u32) -> Vec<u8> {
    let modules = sections(component).filter(|id| *id == CORE_MODULE).count();
    let module = wat::parse_str("(module (memory 0) (func))").expect("the module's text parses");
    let mut crowded = component.to_vec();
    section(&mut crowded, CORE_MODULE, &module);
    let mut crowd = Vec::new();
    leb128(&mut crowd, instances as usize);
    for _ in 0..instances {
        // Instantiates the module, which is the last, without arguments.
        crowd.push(0);
        leb128(&mut crowd, modules);
        crowd.push(0);
    }
    section(&mut crowded, CORE_INSTANCE, &crowd);
    crowded
}

/// The component with so many bytes more, which mean nothing.
pub fn padded(component: &[u8], bytes: usize) -> Vec<u8> {
    let mut padded = component.to_vec();
    // A custom section, with a name of no letters.
    section(&mut padded, 0, &vec![0; bytes]);
    padded
}

/// Components within components, so deep.
///
/// # Panics
/// Never: an empty component is one.
pub fn nested(depth: u32) -> Vec<u8> {
    let empty = wat::parse_str("(component)").expect("an empty component");
    (0..depth).fold(empty.clone(), |inner, _| {
        let mut outer = empty.clone();
        section(&mut outer, COMPONENT, &inner);
        outer
    })
}

/// Ids of sections, as the binary format of components numbers them.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;

/// Appends a section.
fn section(component: &mut Vec<u8>, id: u8, content: &[u8]) {
    component.push(id);
    leb128(component, content.len());
    component.extend_from_slice(content);
}

fn leb128(bytes: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The ids of a component's sections, in order.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 8;
    std::iter::from_fn(move || {
        let id = *component.get(at)?;
        let (mut length, mut shift) = (0, 0);
        loop {
            at += 1;
            let byte = *component.get(at)?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        at += 1 + length;
        Some(id)
    })
}

/// The contract, and WASI beside it.
static CONTRACT: LazyLock<Resolve> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut resolve = Resolve::default();
    resolve.push_dir(root.join("wit")).expect("the contract parses");
    resolve.push_dir(root.join("host/sandbox/wasi")).expect("the packages of WASI parse");
    resolve
});

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
        self.try_component().expect("the guest becomes a component")
    }

    /// The component, or why the tool that makes components takes no such module.
    pub fn try_component(&self) -> Result<Vec<u8>, String> {
        self.component_in(CONTRACT.clone())
    }

    fn component_in(&self, mut resolve: Resolve) -> Result<Vec<u8>, String> {
        let world = format!(
            "package hostile:guest;\n{}\nworld guest {{ include picket:check/check@0.1.0; {} }}",
            self.packages, self.world
        );
        let package = resolve.push_str("guest.wit", &world).expect("the guest's world parses");
        let world = resolve.select_world(&[package], Some("guest")).expect("the guest has a world");
        let mut module = wat::parse_str(self.text()).expect("the guest's text parses");
        embed_component_metadata(&mut module, &resolve, world, self.encoding).expect("the world is encoded");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).map_err(|error| format!("{error:#}"))?;
        encoder.validate(true).encode().map_err(|error| format!("{error:#}"))
    }

    fn text(&self) -> String {
        let mut texts = Texts { at: TEXTS, data: String::new(), encoding: self.encoding };
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
    {realloc}
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))))
    (memory.copy (local.get $at) (local.get $old)
      (select (local.get $had) (local.get $size) (i32.lt_u (local.get $had) (local.get $size))))
    (local.get $at))
  (data (i32.const {DESCRIPTION}) "{description}")
  (data (i32.const {OUTCOME}) "{outcome}")
  (data (i32.const {SUMMARY}) "{fine}")
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
            realloc = self.realloc,
            fine = escaped(&encoded("fine", self.encoding).0),
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
    encoding: StringEncoding,
}

impl Texts {
    /// Place and length of the text.
    fn add(&mut self, text: &str) -> [u32; 2] {
        let (bytes, length) = encoded(text, self.encoding);
        let place = [self.at as u32, length];
        self.data.push_str(&format!("(data (i32.const {}) \"{}\")\n", self.at, escaped(&bytes)));
        self.at = (self.at + bytes.len()).next_multiple_of(2);
        place
    }
}

/// The bytes of a text, and its length as the canonical ABI counts it: bytes of UTF-8, units of UTF-16, and with the highest bit set
/// where a text that might be Latin-1 is UTF-16.
pub fn encoded(text: &str, encoding: StringEncoding) -> (Vec<u8>, u32) {
    let wide = || text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let narrow: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    match (encoding, narrow) {
        (StringEncoding::UTF8, _) => (text.as_bytes().to_vec(), text.len() as u32),
        (StringEncoding::CompactUTF16, Some(bytes)) => (bytes, text.chars().count() as u32),
        (StringEncoding::CompactUTF16, None) => (wide(), WIDE | text.encode_utf16().count() as u32),
        (StringEncoding::UTF16, _) => (wide(), text.encode_utf16().count() as u32),
    }
}

/// Says of a length that it counts units of UTF-16.
pub const WIDE: u32 = 1 << 31;

fn words(words: &[u32]) -> String {
    escaped(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
