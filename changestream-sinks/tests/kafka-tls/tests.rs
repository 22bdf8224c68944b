//! The Kafka sink over TLS, for which librdkafka is built with OpenSSL, as applications do.

mod authority;
mod broker;
#[path = "../support/chain.rs"]
mod chain;
#[path = "../support/send.rs"]
mod send;

use changestream_core::{
    Delivery,
    Disposition::Retry,
    FailureKind, Message,
    testing::{change, delivery_of, service},
};
use changestream_sinks::KafkaSink;
use changestream_testkit::KafkaServer;

use authority::{Authority, Clients};
use broker::{Broker, HOST, client, create_topic, read};
use chain::chain;
use send::{DEADLINE, send};

const TOPIC: &str = "orders";

fn sink(broker: &Broker, options: &[(&str, String)]) -> KafkaSink {
    let mut sink = KafkaSink::new(broker.bootstrap(), TOPIC).expect("a sink");
    for (name, value) in options {
        sink = sink.option(name, value).expect("an option");
    }
    sink
}

/// The delivery of a text, about the insert of a document with this id.
fn of(id: i32) -> Delivery {
    let message = Message::new(id.to_string(), "text/plain").key(id.to_string());
    delivery_of(change::insert("orders").id(id), message)
}

/// Delivers a hundred messages at once, which arrive.
async fn assert_delivers(broker: &Broker, sink: KafkaSink, options: &[(&str, String)]) {
    let client = client(broker, options);
    create_topic(&client, TOPIC).await;
    let service = service(sink);
    let sending: Vec<_> = (0..100)
        .map(|id| {
            let service = service.clone();
            tokio::spawn(async move { send(&service, of(id)).await })
        })
        .collect();
    for sent in sending {
        sent.await.expect("no panic").expect("delivered");
    }
    let mut arrived: Vec<i32> = read(&client, TOPIC, 100)
        .await
        .iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(0..100));
}

/// That a message is not delivered, for no fault of its own, and that `message` and `cause` are said.
async fn assert_refused(sink: KafkaSink, message: &str, cause: &str) {
    let sink = sink.option("message.timeout.ms", "3000");
    let service = service(sink.expect("an option"));
    let error = send(&service, of(1)).await.expect_err("refused");
    assert_eq!(error.disposition(), Retry);
    let said = chain(&error);
    assert_eq!(error.kind(), FailureKind::Unavailable, "{said}");
    assert_eq!(error.to_string(), message, "{said}");
    assert!(said.contains(cause), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    assert!(!format!("{error:?}").contains("s3cret"));
}

async fn assert_not_trusted(broker: &Broker, options: &[(&str, String)]) {
    let message = format!("no encrypted connection to `{}`", broker.bootstrap());
    assert_refused(
        sink(broker, options),
        &message,
        "certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_from_a_client_that_trusts_the_authority() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server(HOST, Clients::All)).await;
    let options = authority.trusted();
    assert_delivers(&broker, sink(&broker, &options), &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_in_transactions() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server(HOST, Clients::All)).await;
    let options = authority.trusted();
    let sink = sink(&broker, &options).option("transactional.id", "shop");
    assert_delivers(&broker, sink.expect("an option"), &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_from_a_client_that_shows_a_certificate() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server(HOST, Clients::VouchedFor)).await;
    let options = authority.vouched_for();
    assert_delivers(&broker, sink(&broker, &options), &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_shows_no_certificate_is_refused() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server(HOST, Clients::VouchedFor)).await;
    let sink = sink(&broker, &authority.trusted());
    let message = format!("no connection to `{}`", broker.bootstrap());
    // The broker closes the connection; that it says why may come too late.
    assert_refused(sink, &message, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let broker = Broker::start(Authority::new().server(HOST, Clients::All)).await;
    let other = Authority::new();
    assert_not_trusted(&broker, &other.trusted()).await;
    let by_the_system = [("security.protocol", "ssl".to_owned())];
    assert_not_trusted(&broker, &by_the_system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server("kafka.internal", Clients::All)).await;
    assert_not_trusted(&broker, &authority.trusted()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_encrypt_gets_no_connection() {
    let broker = Broker::start(Authority::new().server(HOST, Clients::All)).await;
    let message = format!("no connection to `{}`", broker.bootstrap());
    assert_refused(sink(&broker, &[]), &message, "brokers are down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_said() {
    let authority = Authority::new();
    let tls = authority.server(HOST, Clients::All);
    let broker = Broker::with(KafkaServer::builder().arg("--authentication"), tls).await;
    let mut options = authority.trusted();
    options.extend([
        ("security.protocol", "sasl_ssl".to_owned()),
        ("sasl.mechanism", "SCRAM-SHA-256".to_owned()),
        ("sasl.username", "shop".to_owned()),
        ("sasl.password", "s3cret".to_owned()),
    ]);
    let message = format!("`{}` refused the login", broker.bootstrap());
    assert_refused(sink(&broker, &options), &message, "unknown-user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_is_made_of_is_not_said() {
    let authority = Authority::new();
    let broker = Broker::start(authority.server(HOST, Clients::All)).await;
    let mut options = authority.trusted();
    options.extend([
        ("security.protocol", "sasl_ssl".to_owned()),
        ("sasl.mechanism", "OAUTHBEARER".to_owned()),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true".to_owned()),
        (
            "sasl.oauthbearer.config",
            "principal=shop s3cret=s3cret".to_owned(),
        ),
    ]);
    let message = format!("`{}` refused the login", broker.bootstrap());
    assert_refused(sink(&broker, &options), &message, "Authentication failure").await;
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said() {
    let sink = KafkaSink::new("localhost:1", TOPIC)
        .and_then(|sink| sink.option("security.protocol", "ssl"))
        .and_then(|sink| sink.option("ssl.ca.location", "no/such/file.pem"));
    let service = service(sink.expect("a sink"));
    let error = send(&service, of(1)).await.expect_err("refused");
    assert_eq!(error.disposition(), Retry);
    let said = chain(&error);
    assert!(
        said.starts_with(
            "librdkafka does not take the options of the Kafka sink for `localhost:1`: ssl.ca.location failed: "
        ),
        "{said}"
    );
}
