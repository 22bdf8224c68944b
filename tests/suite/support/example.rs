//! The examples as programs.

use std::{path::PathBuf, time::Duration};

use tokio::{process::Command, time::timeout};

/// Builds an example, which running the tests of one file does not do, and says where it is.
pub(crate) async fn example(name: &str) -> PathBuf {
    let build = Command::new(env!("CARGO"))
        .args("build --quiet --workspace --all-features --example".split(' '))
        .arg(name)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    let built = timeout(Duration::from_secs(600), build).await;
    assert!(built.expect("in time").expect("cargo runs").success());
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(|deps| deps.parent());
    let profile = profile.expect("the test is in target/<profile>/deps");
    profile.join("examples").join(name)
}
