//! The demo shop tells right from wrong.

use std::process::Output;

use changestream_testkit::TestServer;
use tokio::process::Command;

use crate::support::{BoxError, TestResult, example::example, within};

/// Runs the shop.
async fn shop(server: &TestServer, args: &str) -> Result<(Output, String), BoxError> {
    let mut shop = Command::new(example("shop").await);
    shop.args(args.split(' '))
        .env("MONGODB_URI", server.uri())
        .kill_on_drop(true);
    let output = within("the shop's end", shop.output()).await?;
    let printed = [&output.stdout[..], &output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    Ok((output, printed))
}

#[tokio::test]
async fn everything_arrives_where_it_should() -> TestResult {
    let server = TestServer::from_env_or_start().await?;
    let (output, printed) = shop(&server, "--events 120").await?;
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("2 dead letters"), "{printed}");
    let verdict = "deliveries arrived, each where it should";
    assert!(printed.contains(verdict), "{printed}");
    Ok(())
}

#[tokio::test]
async fn a_service_that_refuses_everything_is_noticed() -> TestResult {
    let server = TestServer::from_env_or_start().await?;
    let args = "--events 60 --deadline 4 --broken profile-service";
    let (output, printed) = shop(&server, args).await?;
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let missing = "missing at profile-service, from customer_joined";
    assert!(printed.contains(missing), "{printed}");
    Ok(())
}
