#![no_main]

#[path = "../rules/filter/mod.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| filter::check(data));
