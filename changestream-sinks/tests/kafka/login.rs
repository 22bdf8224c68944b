//! Logins.

use changestream_core::{Disposition::Retry, FailureKind};
use changestream_sinks::KafkaSink;
use changestream_testkit::KafkaServer;

use crate::{chain, of, send, service};

#[tokio::test]
async fn a_refused_login_is_retried_and_said() {
    let server = KafkaServer::builder().arg("--authentication").start().await;
    let server = server.expect("a broker");
    let sink = KafkaSink::new(server.bootstrap(), "orders")
        .and_then(|sink| sink.option("security.protocol", "sasl_plaintext"))
        .and_then(|sink| sink.option("sasl.mechanism", "PLAIN"))
        .and_then(|sink| sink.option("sasl.username", "shop"))
        .and_then(|sink| sink.option("sasl.password", "s3cret"))
        .and_then(|sink| sink.option("message.timeout.ms", "1500"))
        .unwrap();
    let error = send(&service(sink), of(1, "1")).await.unwrap_err();
    assert_eq!(error.disposition(), Retry);
    assert_eq!(error.kind(), FailureKind::Unavailable);
    let message = format!("`{}` refused the login", server.bootstrap());
    assert_eq!(error.to_string(), message, "{}", chain(&error));
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_login_that_lacks_something_is_said_at_the_first_delivery() {
    let sink = KafkaSink::new("localhost:1", "orders")
        .and_then(|sink| sink.option("security.protocol", "sasl_plaintext"))
        .and_then(|sink| sink.option("sasl.mechanism", "PLAIN"))
        .unwrap();
    let error = send(&service(sink), of(1, "1")).await.unwrap_err();
    assert_eq!(error.disposition(), Retry);
    assert_eq!(
        chain(&error),
        "librdkafka does not take the options of the Kafka sink for `localhost:1`: sasl.username and sasl.password must be \
         set"
    );
}
