//! Rules that are broken on purpose, to show that their being broken is noticed.

/// Whether the rule of this name is broken: always in a build with `--cfg changestream_mutant="name"`, as `cargo xtask
/// simulate --mutants` makes them; in one with `--cfg changestream_crash` where the environment says so, so that
/// `cargo xtask crash --mutants` takes one build for all.
macro_rules! is_broken {
    ($name:tt) => {
        cfg!(changestream_mutant = $name) || $crate::mutant::is_chosen($name)
    };
}
pub(crate) use is_broken;

#[cfg(not(changestream_crash))]
pub(crate) const fn is_chosen(_name: &str) -> bool {
    false
}

#[cfg(changestream_crash)]
pub(crate) fn is_chosen(name: &str) -> bool {
    use std::{env, sync::LazyLock};

    static CHOSEN: LazyLock<Option<String>> =
        LazyLock::new(|| env::var("CHANGESTREAM_MUTANT").ok());
    CHOSEN.as_deref() == Some(name)
}
