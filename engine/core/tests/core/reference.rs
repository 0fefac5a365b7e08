//! The reference of rules: the committed page is the one of the program's tables.

#[test]
fn the_committed_reference_is_that_of_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/REFERENCE.md");
    let text = qscaler_core::reference::text();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == text, "{path} differs: UPDATE=1 cargo test -p qscaler-core reference");
}
