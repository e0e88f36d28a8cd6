//! A guest that imports every function of WASI that there is, as the runtimes of large languages do. It calls none.

use std::fmt::Write as _;
use std::path::Path;

use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Resolve, TypeDefKind, WorldItem};

use crate::Guest;

/// The component, whose WASI is of that version of 0.2.
///
/// # Panics
/// When the packages of WASI do not parse.
pub fn everything(version: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut resolve = Resolve::default();
    resolve.push_dir(root.join("wit")).expect("the contract parses");
    // In the order in which they need each other.
    for file in [
        "deps/io",
        "deps/clocks",
        "deps/random",
        "deps/filesystem",
        "deps/sockets",
        "deps/cli",
        "deps/http",
        "world",
    ] {
        let path = root.join("host/sandbox/wasi").join(file).with_extension("wit");
        let text = std::fs::read_to_string(&path).expect("the package is there");
        // Since when something is there does not matter: a library imports what its own version has.
        let is_gate =
            |line: &&str| ["@since", "@deprecated"].iter().any(|gate| line.trim_start().starts_with(gate));
        let lines = text.lines().filter(|line| !is_gate(line));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        resolve.push_str(&path, &text.replace("0.2.12", version)).expect("the package parses");
    }
    let (package, _) =
        resolve.packages.iter().find(|(_, package)| package.name.name == "wasi").expect("our world of WASI");
    let world = resolve.select_world(&[package], Some("imports")).expect("it has that world");
    let mut imports = String::new();
    for item in resolve.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        let (interface, module) = (&resolve.interfaces[*id], resolve.id_of(*id).expect("it has a name"));
        for function in interface.functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            let (params, results) = (types(&signature.params), types(&signature.results));
            let name = &function.name;
            let _ = writeln!(
                imports,
                "(import \"{module}\" \"{name}\" (func (param {params}) (result {results})))"
            );
        }
        for (name, id) in &interface.types {
            if matches!(resolve.types[*id].kind, TypeDefKind::Resource) {
                let _ =
                    writeln!(imports, "(import \"{module}\" \"[resource-drop]{name}\" (func (param i32)))");
            }
        }
    }
    let guest = Guest { imports: &imports, world: "include picket:wasi/imports;", ..Guest::default() };
    guest.component_in(resolve).expect("the guest becomes a component")
}

fn types(types: &[WasmType]) -> String {
    let name = |kind: &WasmType| match kind {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32 ",
        WasmType::I64 | WasmType::PointerOrI64 => "i64 ",
        WasmType::F32 => "f32 ",
        WasmType::F64 => "f64 ",
    };
    types.iter().map(name).collect()
}
