//! Rules that are broken on purpose, to show that their being broken is noticed: by `cargo xtask crash --mutants` and
//! `cargo xtask simulate --mutants`, in the builds that these make and in no other.

/// Whether the rule of this name is broken, as the variable `CHANGESTREAM_MUTANT` says.
#[cfg(any(test, changestream_crash))]
pub(crate) fn is_broken(name: &str) -> bool {
    use std::{env, sync::LazyLock};

    static BROKEN: LazyLock<Option<String>> =
        LazyLock::new(|| env::var("CHANGESTREAM_MUTANT").ok());
    BROKEN.as_deref() == Some(name)
}

#[cfg(not(any(test, changestream_crash)))]
pub(crate) const fn is_broken(_name: &str) -> bool {
    false
}
