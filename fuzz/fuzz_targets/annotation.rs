//! A macro can be called by the compiler alone, so its files are a part of this target.

#![no_main]

#[path = "../rules/annotation.rs"]
mod annotation;
#[path = "../../changestream-derive/src/bounds.rs"]
mod bounds;
#[path = "../../changestream-derive/src/expand.rs"]
mod expand;
#[path = "../../changestream-derive/src/model.rs"]
mod model;
#[path = "../../changestream-derive/src/on_change.rs"]
mod on_change;
#[path = "../../changestream-derive/src/parse.rs"]
mod parse;
#[path = "../../changestream-derive/src/signature.rs"]
mod signature;
#[path = "../../changestream-derive/src/suggest.rs"]
mod suggest;
#[path = "../../changestream-derive/src/ty.rs"]
mod ty;
#[path = "../../changestream-derive/src/validate.rs"]
mod validate;


libfuzzer_sys::fuzz_target!(|text: &str| annotation::check(text));
