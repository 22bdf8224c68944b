//! The demo shop tells right from wrong.

use std::process::Output;

use changestream_testkit::{KafkaServer, NatsServer, RedisServer, TestServer};
use tokio::process::Command;

use crate::support::{BoxError, TestResult, example::example, within};

/// What names the servers that services of the shop are reached by.
const TRANSPORTS: [&str; 3] = ["KAFKA_BROKERS", "NATS_URI", "REDIS_URI"];

/// Runs the shop, whose services are reached by HTTP, but for those that `transports` are for.
async fn shop(
    server: &TestServer,
    args: &str,
    transports: &[(&str, String)],
) -> Result<(Output, String), BoxError> {
    let mut shop = Command::new(example("shop").await);
    for variable in TRANSPORTS {
        shop.env_remove(variable);
    }
    shop.args(args.split(' '))
        .env("MONGODB_URI", server.uri())
        .envs(transports.iter().cloned())
        .kill_on_drop(true);
    let output = within("the shop's end", shop.output()).await?;
    let printed = [&output.stdout[..], &output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    Ok((output, printed))
}

#[tokio::test]
async fn everything_arrives_where_it_should() -> TestResult {
    let server = TestServer::from_env_or_start().await?;
    let (output, printed) = shop(&server, "--events 120", &[]).await?;
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("2 dead letters"), "{printed}");
    let verdict = "deliveries arrived, each where it should";
    assert!(printed.contains(verdict), "{printed}");
    for left_out in ["Kafka: KAFKA_BROKERS", "NATS: NATS_URI", "Redis: REDIS_URI"] {
        let said = format!("is reached by HTTP, for lack of {left_out} is not set");
        assert!(printed.contains(&said), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn services_are_reached_by_kafka_nats_redis_and_http_at_once() -> TestResult {
    let server = TestServer::from_env_or_start().await?;
    let (kafka, nats, redis) = (
        KafkaServer::start().await?,
        NatsServer::start().await?,
        RedisServer::start().await?,
    );
    let transports = [
        ("KAFKA_BROKERS", kafka.bootstrap()),
        ("NATS_URI", nats.uri()),
        ("REDIS_URI", redis.uri()),
    ];
    let (output, printed) = shop(&server, "--events 120", &transports).await?;
    assert!(output.status.success(), "{printed}");
    let verdict = "deliveries arrived, each where it should";
    assert!(printed.contains(verdict), "{printed}");
    for service in [
        "analytics-service is reached by Kafka",
        "tracking-service is reached by NATS",
        "cache-service is reached by Redis",
    ] {
        assert!(printed.contains(service), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_refuses_everything_is_noticed() -> TestResult {
    let server = TestServer::from_env_or_start().await?;
    let args = "--events 60 --deadline 4 --broken profile-service";
    let (output, printed) = shop(&server, args, &[]).await?;
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let missing = "missing at profile-service, from customer_joined";
    assert!(printed.contains(missing), "{printed}");
    Ok(())
}
