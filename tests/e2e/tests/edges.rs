//! Who may import whom. The table is ARCHITECTURE.md's; any other edge between our crates fails here.

use std::collections::{BTreeMap, BTreeSet};

/// Crate, ours that it may use, crates from outside that it must not see.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("picket-wire", &[], &["tokio", "wasmtime", "reqwest"]),
    ("picket-net", &[], &["wasmtime"]),
    ("picket-failpoint", &[], &["tokio", "wasmtime"]),
    ("picket-spool", &["picket-failpoint"], &["wasmtime"]),
    ("picket-sandbox", &["picket-net"], &["fjall"]),
    (
        "picket-agent",
        &["picket-failpoint", "picket-sandbox", "picket-net", "picket-spool", "picket-wire"],
        &["wasmtime", "fjall", "axum"],
    ),
    ("picket-control", &["picket-failpoint", "picket-sandbox", "picket-wire"], &["wasmtime"]),
    (
        "picket",
        &[
            "picket-agent",
            "picket-conformance",
            "picket-control",
            "picket-failpoint",
            "picket-net",
            "picket-sandbox",
            "picket-servers",
            "picket-spool",
            "picket-wire",
        ],
        &["wasmtime", "fjall"],
    ),
    ("picket-conformance", &["picket-net", "picket-sandbox"], &["tokio", "wasmtime"]),
    ("picket-sdk", &[], &["tokio", "wasmtime"]),
];

#[test]
fn no_crate_uses_one_that_the_architecture_does_not_allow() {
    let metadata =
        cargo_metadata::MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in a checkout");
    let ours: BTreeSet<_> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    let edges: BTreeMap<_, _> = EDGES.iter().map(|(name, may, never)| (*name, (*may, *never))).collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let dependencies =
            package.dependencies.iter().filter(|d| d.kind == cargo_metadata::DependencyKind::Normal);
        let name = package.name.to_string();
        let folder = package.manifest_path.as_str();
        let (may, never): (&[&str], &[&str]) = match edges.get(name.as_str()) {
            Some(edge) => *edge,
            None if folder.contains("/plugins/") => (&["picket-sdk"], &["tokio"]),
            None if folder.contains("/tests/") => continue,
            None => {
                wrong.push(format!("{name} is not in the table of edges"));
                continue;
            }
        };
        for dependency in dependencies {
            if ours.contains(&dependency.name) && !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} uses {}", dependency.name));
            }
            if never.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} sees {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that ARCHITECTURE.md does not draw:\n{}", wrong.join("\n"));
    for (name, ..) in EDGES {
        assert!(ours.contains(*name), "{name} is in the table of edges, but not in the workspace");
    }
}
