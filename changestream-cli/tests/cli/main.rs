//! The real binary, against a real server and runtimes that run on it.

mod checkpoints;
mod discard;
mod list;
mod replay;
mod shop;
mod usage;
