//! What is refused when a sink is made, and what it shows of itself.

use changestream_core::Error;
use changestream_sinks::KafkaSink;

#[track_caller]
fn refused(result: Result<KafkaSink, Error>) -> String {
    let error = result.expect_err("refused");
    assert!(error.is_configuration());
    error.to_string()
}

fn sink() -> KafkaSink {
    KafkaSink::new("localhost:9092", "orders").unwrap()
}

#[test]
fn brokers_are_hosts_with_ports() {
    for brokers in [
        "localhost",
        "localhost:9092",
        "kafka-1.internal:9092, kafka-2.internal:9092",
        "127.0.0.1:9092",
        "[::1]:9092,[fe80::1]",
        "SASL_SSL://kafka:9093",
    ] {
        assert!(KafkaSink::new(brokers, "orders").is_ok(), "{brokers}");
    }
    for brokers in [
        "",
        ",",
        "localhost:9092,",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:port",
        "::1:9092",
        "[::1]9092",
        "kafka://localhost:9092",
        "http://localhost:9092",
        "localhost:9092/orders",
        "localhost 9092",
    ] {
        assert_eq!(
            refused(KafkaSink::new(brokers, "orders")),
            "the brokers of a Kafka sink are not `host:port`, several with commas between them",
            "{brokers}"
        );
    }
    assert_eq!(
        refused(KafkaSink::new("shop:s3cret@localhost:9092", "orders")),
        "the brokers of a Kafka sink carry a user name or password; set `sasl.username` and `sasl.password` with \
         `.option(..)`"
    );
}

#[test]
fn a_topic_is_a_name_or_a_template() {
    for topic in [
        "orders",
        "a.b_c-D9",
        "{collection}",
        "shop.{full_document.category | \"none\"}",
    ] {
        assert!(KafkaSink::new("localhost", topic).is_ok(), "{topic}");
    }
    let long = "x".repeat(250);
    for (topic, message) in [
        (
            "orders/new",
            "the topic `orders/new` of a Kafka sink has other characters than `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`",
        ),
        (
            "..",
            "the topic `..` of a Kafka sink is `.` or `..`, which no topic is named",
        ),
        (
            &long,
            &format!("the topic `{long}` of a Kafka sink is longer than 249 characters"),
        ),
        ("", "the template ``: it is empty"),
        (
            "{collection",
            "the template `{collection`: a `{` has no partner; write `{{` for a brace",
        ),
    ] {
        assert_eq!(refused(KafkaSink::new("localhost", topic)), message);
    }
}

#[test]
fn what_the_sink_relies_on_stays() {
    for (name, value) in [
        ("acks", "all"),
        ("acks", "-1"),
        ("request.required.acks", "-1"),
        ("enable.idempotence", "true"),
        ("queuing.strategy", "fifo"),
    ] {
        assert!(sink().option(name, value).is_ok(), "{name}");
    }
    for (name, value, only) in [
        ("acks", "1", "all"),
        ("request.required.acks", "0", "all"),
        ("enable.idempotence", "false", "true"),
        ("enable.gapless.guarantee", "true", "false"),
        ("delivery.report.only.error", "true", "false"),
        ("queuing.strategy", "lifo", "fifo"),
    ] {
        let message = format!(
            "the option {name:?} of a Kafka sink cannot be other than `{only}`, which order and acknowledgements rely \
             on; remove it"
        );
        assert_eq!(refused(sink().option(name, value)), message);
    }
    for (name, reason) in [
        (
            "bootstrap.servers",
            "the brokers are those of `KafkaSink::new`",
        ),
        (
            "metadata.broker.list",
            "the brokers are those of `KafkaSink::new`",
        ),
    ] {
        let message =
            format!("the option {name:?} of a Kafka sink cannot be set: {reason}; remove it");
        assert_eq!(refused(sink().option(name, "x")), message);
    }
}

#[test]
fn an_option_that_librdkafka_does_not_take_is_refused_at_once() {
    for (name, value, problem) in [
        (
            "nonsense",
            "1",
            "is no property of librdkafka; its `CONFIGURATION.md` lists them",
        ),
        (
            "linger.ms",
            "-1",
            "is not valid: Configuration property \"queue.buffering.max.ms\" value -1 is outside allowed range \
             0..900000",
        ),
        (
            "max.in.flight",
            "6",
            "does not go with the others: `max.in.flight` must be set <= 5 when `enable.idempotence` is true",
        ),
        (
            "linger.ms",
            "9000",
            "does not go with the others: `message.timeout.ms` must be greater than `linger.ms`",
        ),
        (
            "message.timeout.ms",
            "0",
            "cannot be 0, without end: what a delivery has given up would be sent some time; name a time",
        ),
        ("client.id", "a\0b", "has a NUL in its name or value"),
        (
            "transactional.id",
            "",
            "cannot be empty; name the process by it",
        ),
    ] {
        assert_eq!(
            refused(sink().option(name, value)),
            format!("the option {name:?} of a Kafka sink {problem}")
        );
    }
}

#[test]
fn a_message_may_not_outlast_its_transaction() {
    let patient = |sink: KafkaSink| sink.option("message.timeout.ms", "60000");
    assert!(patient(sink()).is_ok());
    let transactional = sink().option("transactional.id", "shop").unwrap();
    assert_eq!(
        refused(patient(transactional.clone())),
        "the option \"message.timeout.ms\" of a Kafka sink does not go with the others: `message.timeout.ms` must be set \
         <= `transaction.timeout.ms`"
    );
    let longer = transactional.option("transaction.timeout.ms", "70000");
    assert!(patient(longer.unwrap()).is_ok());
}

#[test]
fn what_is_not_built_in_is_said_with_its_mend() {
    for (name, value, feature) in [
        ("security.protocol", "ssl", "ssl"),
        ("security.protocol", "sasl_ssl", "ssl"),
        ("ssl.ca.location", "/etc/ssl/ca.pem", "ssl"),
        ("ssl.key.password", "s3cret", "ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512", "ssl"),
        ("sasl.mechanisms", "GSSAPI", "gssapi"),
        ("compression.type", "gzip", "libz"),
        ("compression.type", "zstd", "zstd"),
    ] {
        let message = format!(
            "the option {name:?} of a Kafka sink asks for what is not built in; add `rdkafka = {{ version = \"0.39\", \
             default-features = false, features = [\"{feature}\"] }}` to the dependencies of the application"
        );
        assert_eq!(refused(sink().option(name, value)), message);
    }
    for compression in ["lz4", "snappy"] {
        assert!(sink().option("compression.type", compression).is_ok());
    }
    assert!(sink().option("sasl.mechanism", "PLAIN").is_ok());
}

#[test]
fn a_value_that_may_be_a_secret_is_not_shown() {
    let error = refused(sink().option("sasl.kerberos.min.time.before.relogin", "s3cret"));
    assert!(!error.contains("s3cret"), "{error}");
    let error = refused(sink().option("sasl.jaas.config", "s3cret"));
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_header_that_is_not_valid_is_refused() {
    for (name, message) in [
        ("", r#""" is not a valid name of a Kafka header"#),
        ("a\nb", r#""a\nb" is not a valid name of a Kafka header"#),
        (
            "id",
            "the Kafka sink sets the header `id` itself; remove it",
        ),
        (
            "Content-Type",
            "the Kafka sink sets the header `Content-Type` itself; remove it",
        ),
    ] {
        assert_eq!(refused(sink().header(name, "s3cret")), message);
    }
    assert!(sink().header("correlation-id", "1").is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let sink = KafkaSink::new("kafka-1:9092, kafka-2:9092", "shop.{collection}")
        .and_then(|sink| sink.header("token", "s3cret"))
        .and_then(|sink| sink.option("sasl.password", "s3cret"))
        .and_then(|sink| sink.option("queue.buffering.max.ms", "0"))
        .unwrap();
    assert_eq!(
        format!("{sink:?}"),
        "KafkaSink { brokers: \"kafka-1:9092,kafka-2:9092\", topic: Template(\"shop.{collection}\"), source: None, \
         headers: [\"token\"], options: {\"linger.ms\", \"sasl.password\"}, .. }"
    );
}
