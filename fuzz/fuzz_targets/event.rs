#![no_main]

#[path = "../rules/event.rs"]
mod event;

libfuzzer_sys::fuzz_target!(|data: &[u8]| event::check(data));
