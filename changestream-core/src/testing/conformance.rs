//! What every sink must do, checked on one and the receiver that it sends to.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use changestream_core::{
//!     SinkSpec,
//!     testing::{
//!         RecordingSink,
//!         conformance::{self, Receiver},
//!     },
//! };
//!
//! struct Recording(RecordingSink);
//!
//! impl Receiver for Recording {
//!     fn sink(&self) -> SinkSpec {
//!         self.0.clone().into()
//!     }
//!
//!     async fn received(&self) -> Vec<Bytes> {
//!         let deliveries = self.0.deliveries();
//!         deliveries.iter().map(|delivery| delivery.message().payload().clone()).collect()
//!     }
//!
//!     async fn stop(&self) {
//!         self.0.fail_next(u32::MAX);
//!     }
//!
//!     async fn start(&self) {
//!         self.0.fail_next(0);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::check(&Recording(RecordingSink::default())).await;
//! # }
//! ```

use std::{collections::BTreeSet, future::Future, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{join_all, poll_immediate},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::{change, delivery_of, service};
use crate::{
    handler::{Disposition, HandlerError},
    message::Message,
    sink::{BoxSink, Delivery, SinkSpec},
};

/// How long the receiver may take for what it takes at once.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a sink is listened to that must not say that it has delivered.
const SILENCE: Duration = Duration::from_secs(3);

/// What a sink sends to, as its own test has it.
pub trait Receiver: Sync {
    /// A new sink that sends here.
    fn sink(&self) -> SinkSpec;

    /// The payloads that have arrived, oldest first. They may come twice.
    fn received(&self) -> impl Future<Output = Vec<Bytes>> + Send;

    /// Goes out of reach until it is started again; what has arrived stays.
    fn stop(&self) -> impl Future<Output = ()> + Send;

    /// Is back, at the same address.
    fn start(&self) -> impl Future<Output = ()> + Send;
}

/// What is sent, as JSON: the messages of one `check` and `key` are numbered from 0 in `n`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Payload {
    check: String,
    key: String,
    n: u32,
}

/// Checks that the sink
///
/// - says that it has delivered only what has arrived, and only then;
/// - keeps the order of a key's messages, of several keys side by side;
/// - lets deliveries be given up, with no harm to the others;
/// - holds nothing back that it said it had delivered, when it is dropped;
/// - neither delivers nor rejects while the receiver is out of reach, and delivers when it is back, without being made anew.
///
/// The payloads are JSON with the fields `check`, `key` and `n`, and about inserts of documents with an `_id` and the same
/// fields.
///
/// # Panics
///
/// When the sink does otherwise, with what it did.
pub async fn check(receiver: &impl Receiver) {
    let sink = service(receiver.sink());
    acknowledges(receiver, &sink).await;
    keeps_order(receiver, &sink).await;
    is_cancelled(receiver, &sink).await;
    drop(sink);
    holds_nothing_back(receiver).await;
    waits_for_its_receiver(receiver).await;
}

async fn acknowledges(receiver: &impl Receiver, sink: &BoxSink) {
    for n in 0..3 {
        deliver(sink, "acknowledgement", "a", n).await;
        arrived(receiver, "acknowledgement", n as usize + 1).await;
    }
}

async fn keeps_order(receiver: &impl Receiver, sink: &BoxSink) {
    const KEYS: usize = 16;
    const EACH: u32 = 20;
    let keys: Vec<_> = (0..KEYS).map(|key| format!("key-{key}")).collect();
    let of_key = async |key: &String| {
        for n in 0..EACH {
            deliver(sink, "order", key, n).await;
        }
    };
    join_all(keys.iter().map(of_key)).await;
    let payloads = arrived(receiver, "order", KEYS * EACH as usize).await;
    for key in &keys {
        let of_key = payloads.iter().filter(|payload| payload.key == *key);
        let mut order: Vec<_> = of_key.map(|payload| payload.n).collect();
        order.dedup();
        assert_eq!(
            order,
            (0..EACH).collect::<Vec<_>>(),
            "the messages of one key are to arrive in their order"
        );
    }
}

async fn is_cancelled(receiver: &impl Receiver, sink: &BoxSink) {
    const CALLS: u32 = 32;
    let mut calls = Vec::new();
    for n in 0..CALLS {
        let key = format!("key-{n}");
        let mut call = sink.clone().oneshot(of("cancellation", &key, 0)).boxed();
        let first = poll_immediate(&mut call).await;
        // Every second one is given up as soon as it has begun.
        if n % 2 == 0 {
            calls.push((key, first, call));
        }
    }
    let kept: Vec<_> = calls.iter().map(|(key, ..)| key.clone()).collect();
    let results = calls.into_iter().map(|(_, first, call)| async {
        match first {
            Some(result) => result,
            None => timeout(DEADLINE, call).await.expect("a result in time"),
        }
    });
    for result in join_all(results).await {
        result.expect("what was not given up is delivered");
    }
    let payloads = arrived(receiver, "cancellation", kept.len()).await;
    for key in kept {
        let has = payloads.iter().any(|payload| payload.key == key);
        assert!(has, "what was not given up has arrived");
    }
    deliver(sink, "after cancellation", "a", 0).await;
    arrived(receiver, "after cancellation", 1).await;
}

async fn holds_nothing_back(receiver: &impl Receiver) {
    const COUNT: u32 = 50;
    let sink = service(receiver.sink());
    let calls = (0..COUNT).map(|n| {
        let key = format!("key-{n}");
        let sink = &sink;
        async move { deliver(sink, "shutdown", &key, 0).await }
    });
    join_all(calls).await;
    drop(sink);
    arrived(receiver, "shutdown", COUNT as usize).await;
}

async fn waits_for_its_receiver(receiver: &impl Receiver) {
    let sink = service(receiver.sink());
    deliver(&sink, "outage", "a", 0).await;
    receiver.stop().await;
    let out_of_reach = sink.clone().oneshot(of("outage", "a", 1));
    match timeout(SILENCE, out_of_reach).await {
        Ok(Ok(())) => {
            panic!("the sink said that it had delivered to a receiver that is out of reach")
        }
        Ok(Err(error)) => assert_may_be_retried(&error),
        Err(_) => {}
    }
    receiver.start().await;
    let begin = Instant::now();
    loop {
        match timeout(DEADLINE, sink.clone().oneshot(of("outage", "a", 1))).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                assert_may_be_retried(&error);
                let waited = begin.elapsed();
                assert!(
                    waited < DEADLINE,
                    "the receiver is back for {waited:?}: {error}"
                );
                sleep(Duration::from_millis(50)).await;
            }
            Err(_) => panic!("no answer of the sink for {DEADLINE:?} after its receiver is back"),
        }
    }
    arrived(receiver, "outage", 2).await;
}

fn assert_may_be_retried(error: &HandlerError) {
    assert_ne!(
        error.disposition(),
        Disposition::Reject,
        "what a receiver that is out of reach did not take is to be retried: {error}"
    );
}

async fn deliver(sink: &BoxSink, check: &str, key: &str, n: u32) {
    let call = sink.clone().oneshot(of(check, key, n));
    let result = timeout(DEADLINE, call).await;
    let result =
        result.unwrap_or_else(|_| panic!("{check}: no answer of the sink for {DEADLINE:?}"));
    result.unwrap_or_else(|error| panic!("{check}: {error}"));
}

fn of(check: &str, key: &str, n: u32) -> Delivery {
    let payload = Payload {
        check: check.to_owned(),
        key: key.to_owned(),
        n,
    };
    let message = Message::json(&payload).expect("it serializes").key(key);
    let id = format!("{check}/{key}/{n}");
    let document = bson::doc! { "_id": &id, "check": check, "key": key, "n": n };
    let change = change::insert("conformance")
        .id(id)
        .full_document(&document);
    delivery_of(change, message)
}

/// Waits until so many different payloads of a check are there: all of it.
async fn arrived(receiver: &impl Receiver, check: &str, count: usize) -> Vec<Payload> {
    let begin = Instant::now();
    loop {
        let received = receiver.received().await;
        let payloads: Vec<_> = received
            .iter()
            .map(|payload| {
                serde_json::from_slice::<Payload>(payload).expect("the payload as it was sent")
            })
            .filter(|payload| payload.check == check)
            .collect();
        let of_payload = |payload: &Payload| (payload.key.clone(), payload.n);
        let different: BTreeSet<_> = payloads.iter().map(of_payload).collect();
        if different.len() >= count {
            return payloads;
        }
        let waited = begin.elapsed();
        assert!(
            waited < DEADLINE,
            "{check}: {} of {count} messages that were delivered have arrived after {waited:?}",
            different.len()
        );
        sleep(Duration::from_millis(20)).await;
    }
}
