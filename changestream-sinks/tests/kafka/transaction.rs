//! Messages that are sent in transactions.

use std::{collections::BTreeSet, time::Duration};

use changestream_core::{
    Disposition::{self, Reject, Retry},
    FailureKind, HandlerError, Message,
    testing::{change, delivery_of},
};
use changestream_sinks::KafkaSink;
use changestream_testkit::NoidaServer;
use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::{
        RDKafkaApiKey as Api,
        RDKafkaRespErr::{self, *},
    },
};
use tokio::time::timeout;

use crate::{
    DEADLINE, assert_error,
    failures::{TOPIC, brokers},
    of,
    reader::{Read, Reader, create_topic},
    send, service,
};

fn sink(brokers: &str) -> KafkaSink {
    KafkaSink::new(brokers, TOPIC)
        .and_then(|sink| sink.option("transactional.id", "shop"))
        .expect("a sink")
}

/// A broker with a topic of one partition.
async fn broker() -> NoidaServer {
    let broker = NoidaServer::start().await.expect("a broker");
    create_topic(&broker.bootstrap(), TOPIC, 1).await;
    broker
}

/// What those read who are shown what was committed, when as many records are there.
async fn committed(broker: &NoidaServer, count: usize) -> Vec<Read> {
    let reader = Reader::start(&broker.bootstrap(), TOPIC, 1);
    reader.read(count).await
}

fn texts(read: &[Read]) -> Vec<&str> {
    read.iter().map(Read::text).collect()
}

#[tokio::test]
async fn what_comes_together_is_committed_together() {
    let broker = broker().await;
    let service = service(sink(&broker.bootstrap()));
    let all = (0..100).map(|id| send(&service, of(id, id.to_string())));
    for sent in join_all(all).await {
        sent.expect("delivered");
    }
    send(&service, of(100, "100")).await.expect("delivered");

    let read = committed(&broker, 101).await;
    let all: Vec<_> = (0..=100).map(|id| id.to_string()).collect();
    assert_eq!(texts(&read), all);
    // A commit takes an offset of its own.
    let offsets: Vec<_> = read.iter().map(|read| read.offset).collect();
    let expected: Vec<_> = (0..100).chain([101]).collect();
    assert_eq!(offsets, expected);
}

#[tokio::test]
async fn a_message_that_is_refused_fails_alone_and_repeats_nothing() {
    let broker = broker().await;
    let service = service(sink(&broker.bootstrap()));
    let text = |id: i32| match id {
        7 => "x".repeat(1_000_001),
        id => id.to_string(),
    };
    let all = (0..20).map(|id| send(&service, of(id, text(id))));
    for (id, sent) in join_all(all).await.into_iter().enumerate() {
        match id {
            7 => {
                let error = sent.expect_err("too large");
                assert_eq!(error.disposition(), Reject);
            }
            _ => sent.expect("delivered"),
        }
    }
    send(&service, of(20, "20")).await.expect("delivered");

    let read = committed(&broker, 20).await;
    let others = (0..=20).filter(|id| *id != 7).map(|id| id.to_string());
    assert_eq!(texts(&read), others.collect::<Vec<_>>());
}

#[tokio::test]
async fn who_comes_later_with_the_same_id_takes_over() {
    let broker = broker().await;
    let [first, second] = [(); 2].map(|()| service(sink(&broker.bootstrap())));
    send(&first, of(1, "1")).await.expect("delivered");
    send(&second, of(2, "2")).await.expect("delivered");
    let error = send(&first, of(3, "3")).await.expect_err("another sends");
    assert_eq!(error.kind(), FailureKind::Unavailable);
    let message = format!(
        "another producer took over the `transactional.id` of the sink at `{}`; each process, and each sink in it, needs \
         one of its own",
        broker.bootstrap()
    );
    assert_eq!(error.to_string(), message);

    send(&second, of(4, "4")).await.expect("delivered");
    send(&first, of(3, "3")).await.expect("taken over again");
    assert_eq!(texts(&committed(&broker, 4).await), ["1", "2", "4", "3"]);
}

#[tokio::test]
async fn what_a_killed_process_left_undone_holds_nobody_up_and_is_not_seen() {
    let broker = broker().await;
    let killed: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", "shop")
        .create()
        .expect("a producer");
    killed.init_transactions(DEADLINE).expect("initialized");
    killed.begin_transaction().expect("begun");
    let record = BaseRecord::to(TOPIC).key("1").payload("undone");
    killed
        .send(record)
        .map_err(|(error, _)| error)
        .expect("sent");
    killed.flush(DEADLINE).expect("acknowledged");

    send(&service(sink(&broker.bootstrap())), of(1, "1"))
        .await
        .expect("delivered");
    // noida-db shows nothing more to readers that it had wait for the end of a transaction.
    let read = committed(&broker, 1).await;
    assert_eq!(texts(&read), ["1"]);
    // What was left undone, and its end, are before it.
    assert_eq!(read[0].offset, 2);
}

#[tokio::test]
async fn what_brokers_refuse_for_one_of_a_transaction_is_sent_in_parts() {
    let cluster = brokers(1);
    let service = service(sink(&cluster.bootstrap_servers()));
    send(&service, of(0, "0")).await.expect("delivered");
    cluster.request_errors(Api::Produce, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let all = (1..=20).map(|id| send(&service, of(id, id.to_string())));
    for sent in join_all(all).await {
        sent.expect("delivered");
    }
    let read = Reader::start(&cluster.bootstrap_servers(), TOPIC, 1)
        .read(21)
        .await;
    let texts: BTreeSet<_> = read.iter().map(|read| read.text().to_owned()).collect();
    assert_eq!(texts, (0..=20).map(|id| id.to_string()).collect());
}

#[tokio::test]
async fn what_passes_by_itself_is_no_failure() {
    for (api, error) in [
        (
            Api::InitProducerId,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        ),
        (
            Api::AddPartitionsToTxn,
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        ),
        (Api::Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
    ] {
        let cluster = brokers(1);
        let service = service(sink(&cluster.bootstrap_servers()));
        cluster.request_errors(api, &[error; 4]);
        for id in 1..=2 {
            send(&service, of(id, "m"))
                .await
                .unwrap_or_else(|failed| panic!("{api:?} {error:?}: {failed}"));
        }
    }
}

#[tokio::test]
async fn a_transaction_that_fails_is_retried_as_a_whole() {
    for (api, error) in [
        (Api::Produce, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER),
        (Api::Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
    ] {
        let cluster = brokers(1);
        let service = service(sink(&cluster.bootstrap_servers()));
        send(&service, of(0, "0")).await.expect("delivered");
        cluster.request_errors(api, &[error]);
        let all = (1..=20).map(|id| send(&service, of(id, id.to_string())));
        for sent in join_all(all).await {
            let failed = sent.expect_err("the transaction failed");
            assert_eq!(failed.disposition(), Retry, "{api:?} {error:?}: {failed}");
        }
        let all = (1..=20).map(|id| send(&service, of(id, id.to_string())));
        for sent in join_all(all).await {
            sent.unwrap_or_else(|failed| panic!("{api:?} {error:?}: {failed}"));
        }
    }
}

#[tokio::test]
async fn a_transaction_that_is_given_up_holds_up_no_other() {
    let cluster = brokers(1);
    let service = service(sink(&cluster.bootstrap_servers()));
    send(&service, of(0, "0")).await.expect("delivered");
    cluster.broker_round_trip_time(-1, DEADLINE).expect("slow");
    timeout(Duration::from_millis(300), send(&service, of(1, "1")))
        .await
        .expect_err("no answer yet");
    cluster
        .broker_round_trip_time(-1, Duration::ZERO)
        .expect("fast");
    send(&service, of(2, "2")).await.expect("delivered");
}

#[tokio::test]
async fn a_commit_whose_answer_does_not_come_is_retried() {
    let cluster = brokers(1);
    let sink = sink(&cluster.bootstrap_servers()).option("message.timeout.ms", "1000");
    let service = service(sink.expect("an option"));
    cluster.request_errors(
        Api::EndTxn,
        &[RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 1000],
    );
    let error = send(&service, of(1, "1")).await.expect_err("no commit");
    assert_eq!(error.disposition(), Retry);
    cluster.clear_request_errors(Api::EndTxn);
    send(&service, of(1, "1")).await.expect("delivered");
}

/// How a delivery fares where brokers answer requests of this kind like this.
async fn refused(api: Api, error: RDKafkaRespErr, disposition: Disposition, message: &str) {
    let cluster = brokers(1);
    let sink = sink(&cluster.bootstrap_servers()).option("message.timeout.ms", "1000");
    let service = service(sink.expect("an option"));
    cluster.request_errors(api, &[error; 50]);
    let message = message.replace("{}", &cluster.bootstrap_servers());
    assert_error(send(&service, of(1, "1")).await, disposition, &message);
    cluster.clear_request_errors(api);
    send(&service, of(1, "1")).await.expect("delivered");
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    refused(
        Api::InitProducerId,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Retry,
        "the user of the sink may not use its `transactional.id` at `{}`; grant it `Write` and `Describe`: \
         TransactionalIdAuthorizationFailed (Broker: Transactional Id authorization failed)",
    )
    .await;
    refused(
        Api::InitProducerId,
        RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        Retry,
        "`{}` does not let a transaction take as long as `transaction.timeout.ms` of the sink; set it under the brokers' \
         `transaction.max.timeout.ms`: InvalidTransactionTimeout (Broker: Transaction timeout is larger than the maximum \
         value allowed by the broker's max.transaction.timeout.ms)",
    )
    .await;
    refused(
        Api::AddPartitionsToTxn,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Retry,
        "the user of the sink may not write to the topic `orders` of `{}`; grant it `Write`: \
         TopicAuthorizationFailed (Broker: Topic authorization failed)",
    )
    .await;
}

#[tokio::test]
async fn a_topic_that_cannot_be_written_to_fails_its_messages_alone() {
    let cluster = brokers(1);
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("products", 1, 1).expect("a topic");
    cluster
        .topic_error("products", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let sink = KafkaSink::new(brokers, "{collection}")
        .and_then(|sink| sink.option("transactional.id", "shop"))
        .expect("a sink");
    let service = service(sink);
    let to = |collection: &str, id: i32| {
        let message = Message::new("m", "text/plain");
        delivery_of(change::insert(collection).id(id), message)
    };
    let (forbidden, allowed) = tokio::join!(
        send(&service, to("products", 1)),
        send(&service, to("orders", 2))
    );
    allowed.expect("delivered");
    let error = forbidden.expect_err("no right");
    assert_eq!(error.disposition(), Retry);
    assert!(error.to_string().contains("`products`"), "{error}");
}

#[tokio::test]
async fn brokers_that_are_out_of_reach_are_named_and_come_back() {
    let cluster = brokers(1);
    let sink = sink(&cluster.bootstrap_servers()).option("message.timeout.ms", "1000");
    let service = service(sink.expect("an option"));
    cluster.broker_down(-1).expect("down");
    let down = async || -> HandlerError {
        let error = send(&service, of(1, "1")).await;
        error.expect_err("nobody is there")
    };
    let error = down().await;
    assert_eq!(error.kind(), FailureKind::Unavailable, "{error}");
    cluster.broker_up(-1).expect("up");
    send(&service, of(1, "1")).await.expect("delivered");
    cluster.broker_down(-1).expect("down");
    let error = down().await;
    assert_eq!(error.kind(), FailureKind::Unavailable, "{error}");
    cluster.broker_up(-1).expect("up");
    send(&service, of(1, "1")).await.expect("delivered");
}
