//! The document in the tree is the document of the code. `UPDATE=1` rewrites it.

use std::path::PathBuf;

#[test]
fn the_openapi_document_in_the_tree_is_the_one_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let mut document = crate::openapi().to_pretty_json().unwrap();
    document.push('\n');
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        kept == document,
        "docs/openapi.json is old: run this test with UPDATE=1 and look at the difference"
    );
}
