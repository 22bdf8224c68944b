//! What brokers refuse, and what becomes of it.

use std::{collections::BTreeSet, time::Duration};

use changestream_core::{
    BoxSink, Delivery,
    Disposition::{self, Reject, Retry},
    FailureKind,
};
use changestream_sinks::KafkaSink;
use futures::future::join_all;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{
        RDKafkaApiKey as Api,
        RDKafkaRespErr::{self, *},
    },
};

use tokio::time::{Instant, sleep};

use crate::{DEADLINE, assert_error, of, reader::Reader, send, service};

pub(crate) const TOPIC: &str = "orders";

/// Brokers that fail on demand, and a topic of one partition.
pub(crate) fn brokers(count: i32) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(count).expect("brokers");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    cluster
}

fn sink(cluster: &MockCluster<'_, DefaultProducerContext>) -> KafkaSink {
    KafkaSink::new(cluster.bootstrap_servers(), TOPIC).expect("a sink")
}

/// What is read of the topic, when as many are there.
async fn texts(cluster: &MockCluster<'_, DefaultProducerContext>, count: usize) -> Vec<String> {
    let reader = Reader::start(&cluster.bootstrap_servers(), TOPIC, 1);
    let read = reader.read(count).await;
    read.iter().map(|read| read.text().to_owned()).collect()
}

/// What a delivery becomes when brokers answer each of its two requests like this, and that the next one passes.
async fn refused(error: RDKafkaRespErr, disposition: Disposition, message: &str) {
    let cluster = brokers(1);
    let service = service(sink(&cluster));
    send(&service, of(1, "before")).await.expect("delivered");
    cluster.request_errors(Api::Produce, &[error, error]);
    let message = message.replace("{}", &cluster.bootstrap_servers());
    assert_error(
        send(&service, of(2, "refused")).await,
        disposition,
        &message,
    );
    cluster.clear_request_errors(Api::Produce);
    send(&service, of(3, "after")).await.expect("delivered");
    assert_eq!(texts(&cluster, 2).await, ["before", "after"]);
}

#[tokio::test]
async fn what_no_retry_mends_is_rejected() {
    refused(
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Reject,
        "the message is too large for the topic `orders` of `{}`; the bounds are `message.max.bytes` of the sink, \
         1,000,000 unless set, and `max.message.bytes` of the topic: MessageSizeTooLarge (Broker: Message size too \
         large)",
    )
    .await;
    for (error, cause) in [
        (
            RD_KAFKA_RESP_ERR_INVALID_RECORD,
            "InvalidRecord (Broker: Broker failed to validate record)",
        ),
        (
            RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
            "PolicyViolation (Broker: Policy violation)",
        ),
    ] {
        let message = format!("`{{}}` refused the message for the topic `orders`: {cause}");
        refused(error, Reject, &message).await;
    }
}

#[tokio::test]
async fn what_is_refused_for_another_in_its_batch_is_sent_alone() {
    let cluster = brokers(1);
    let service = service(
        sink(&cluster)
            .option("linger.ms", "300")
            .expect("an option"),
    );
    send(&service, of(0, "0")).await.expect("delivered");
    cluster.request_errors(Api::Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let all = (1..=20).map(|id| send(&service, of(id, id.to_string())));
    for sent in join_all(all).await {
        sent.expect("delivered");
    }
    let texts: BTreeSet<_> = texts(&cluster, 21).await.into_iter().collect();
    assert_eq!(texts, (0..=20).map(|id| id.to_string()).collect());
}

#[tokio::test]
async fn what_is_too_large_for_the_sink_is_not_sent() {
    let cluster = brokers(1);
    let service = service(sink(&cluster));
    let error = send(&service, of(1, "x".repeat(1_000_001)))
        .await
        .expect_err("too large");
    assert_eq!(error.disposition(), Reject);
    send(&service, of(2, "x".repeat(990_000)))
        .await
        .expect("delivered");
    assert_eq!(texts(&cluster, 1).await[0].len(), 990_000);
}

#[tokio::test]
async fn what_passes_by_itself_is_no_failure_and_no_duplicate() {
    for error in [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        let cluster = brokers(1);
        let service = service(sink(&cluster));
        send(&service, of(1, "1")).await.expect("delivered");
        cluster.request_errors(Api::Produce, &[error; 3]);
        send(&service, of(2, "2"))
            .await
            .unwrap_or_else(|failed| panic!("{error:?}: {failed}"));
        send(&service, of(3, "3")).await.expect("delivered");
        assert_eq!(texts(&cluster, 3).await, ["1", "2", "3"], "{error:?}");
    }
}

#[tokio::test]
async fn a_producer_that_came_to_its_end_is_made_anew() {
    for end in [
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
    ] {
        let cluster = brokers(1);
        let service = service(sink(&cluster));
        send(&service, of(1, "1")).await.expect("delivered");
        cluster.request_errors(Api::Produce, &[end]);
        let all = (2..=50).map(|id| send(&service, of(id, id.to_string())));
        for sent in join_all(all).await {
            sent.unwrap_or_else(|error| panic!("{end:?}: {error}"));
        }
        let texts: BTreeSet<_> = texts(&cluster, 50).await.into_iter().collect();
        assert_eq!(
            texts,
            (1..=50).map(|id| id.to_string()).collect(),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn a_producer_that_may_not_be_one_is_said_to_lack_the_right_until_it_has_it() {
    let cluster = brokers(1);
    let service = service(sink(&cluster));
    cluster.request_errors(
        Api::InitProducerId,
        &[RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 9],
    );
    let broker = cluster.bootstrap_servers();
    let message = format!(
        "the user of the sink may not write to the topic `orders` of `{broker}`; grant it `Write`: Failed to acquire \
         idempotence PID from broker {broker}/1: Broker: Cluster authorization failed: ClusterAuthorizationFailed \
         (Broker: Cluster authorization failed)"
    );
    for _ in 0..2 {
        assert_error(send(&service, of(1, "1")).await, Retry, &message);
    }
    cluster.clear_request_errors(Api::InitProducerId);
    send(&service, of(1, "1")).await.expect("delivered");
}

#[tokio::test]
async fn a_topic_that_may_not_be_written_to_is_retried_until_it_may() {
    let cluster = brokers(1);
    cluster
        .topic_error(TOPIC, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let service = service(sink(&cluster));
    let message = format!(
        "the user of the sink may not write to the topic `orders` of `{}`; grant it `Write`: \
         TopicAuthorizationFailed (Broker: Topic authorization failed)",
        cluster.bootstrap_servers()
    );
    assert_error(send(&service, of(1, "1")).await, Retry, &message);
    cluster
        .topic_error(TOPIC, RD_KAFKA_RESP_ERR_NO_ERROR)
        .expect("none");
    delivered_within_deadline(&service, &of(1, "1")).await;
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_waited_for() {
    let cluster = brokers(1);
    cluster
        .topic_error(TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .expect("an error");
    let service = service(sink(&cluster));
    let error = send(&service, of(1, "1")).await.expect_err("no topic");
    assert_eq!(error.disposition(), Retry);
    let message = format!(
        "`{}` has no topic `orders` and makes none by itself; create it",
        cluster.bootstrap_servers()
    );
    assert_eq!(error.to_string(), message);
    cluster
        .topic_error(TOPIC, RD_KAFKA_RESP_ERR_NO_ERROR)
        .expect("none");
    delivered_within_deadline(&service, &of(1, "1")).await;
}

#[tokio::test]
async fn brokers_that_are_out_of_reach_are_named_and_come_back() {
    let cluster = brokers(2);
    cluster.broker_down(-1).expect("down");
    let service = service(
        sink(&cluster)
            .option("message.timeout.ms", "1000")
            .expect("an option"),
    );
    let error = send(&service, of(1, "1"))
        .await
        .expect_err("nobody is there");
    assert_eq!(error.disposition(), Retry);
    assert_eq!(error.kind(), FailureKind::Unavailable);
    let message = format!("no connection to `{}`", cluster.bootstrap_servers());
    assert_eq!(error.to_string(), message);
    cluster.broker_up(-1).expect("up");
    delivered_within_deadline(&service, &of(1, "1")).await;
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_said_to_owe_an_acknowledgement() {
    let cluster = brokers(1);
    let service = service(
        sink(&cluster)
            .option("message.timeout.ms", "3000")
            .expect("an option"),
    );
    send(&service, of(1, "1")).await.expect("delivered");
    cluster.broker_round_trip_time(-1, DEADLINE).expect("slow");
    let error = send(&service, of(2, "2")).await.expect_err("no answer");
    assert_eq!(error.disposition(), Retry);
    let message = format!(
        "no acknowledgement from `{}` for the topic `orders`",
        cluster.bootstrap_servers()
    );
    assert_eq!(error.to_string(), message);
}

#[tokio::test]
async fn a_full_queue_holds_its_senders_back() {
    let cluster = brokers(1);
    let sink = sink(&cluster)
        .option("queue.buffering.max.messages", "1")
        .expect("an option");
    let service = service(sink);
    let all = (1..=50).map(|id| send(&service, of(id, id.to_string())));
    for sent in join_all(all).await {
        sent.expect("delivered");
    }
}

/// Tries again, as a runtime does.
async fn delivered_within_deadline(service: &BoxSink, delivery: &Delivery) {
    let begin = Instant::now();
    while let Err(error) = send(service, delivery.clone()).await {
        assert_eq!(error.disposition(), Retry, "{error}");
        assert!(begin.elapsed() < DEADLINE, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}
