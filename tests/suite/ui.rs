//! What the compiler says about mistakes in `#[on_change]`, and what it must not mind.
//!
//! `TRYBUILD=overwrite cargo nextest run --all-features ui::` writes the messages anew.

#[test]
fn on_change() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
