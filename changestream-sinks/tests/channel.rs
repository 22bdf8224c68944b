//! The channel sink.

use std::time::Duration;

use changestream_core::{
    Disposition, HandlerError, HandlerSpec, MemoryDeadLetters, Message, SinkSpec,
    testing::{TestRuntime, change, delivery},
};
use changestream_sinks::{ChannelReceiver, ChannelSink};
use futures::stream;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

fn message() -> Message {
    Message::new("m", "text/plain")
}

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_when_it_is_acknowledged() {
    let (sink, mut receiver) = ChannelSink::new(1);
    let delivery = delivery(message());
    let mut sending = std::pin::pin!(sink.oneshot(delivery.clone()));
    assert!(timeout(SECOND, &mut sending).await.is_err(), "it waits");
    let received = receiver.recv().await.expect("a message");
    assert_eq!(received.delivery().id(), delivery.id());
    assert!(
        timeout(SECOND, &mut sending).await.is_err(),
        "it still waits"
    );
    received.acknowledge();
    sending.await.expect("delivered");
}

#[tokio::test]
async fn what_the_receiver_says_decides() {
    let (sink, mut receiver) = ChannelSink::new(4);
    let answering = async move {
        let mut received = async || receiver.recv().await.expect("a message");
        received().await.fail(HandlerError::reject("no"));
        received().await.fail(HandlerError::retry("later"));
        drop(received().await);
    };
    let expected = [
        (Disposition::Reject, "no"),
        (Disposition::Retry, "later"),
        (Disposition::Retry, "dropped without an answer"),
        (Disposition::Retry, "nobody receives from the channel"),
    ];
    let sending = async {
        for (disposition, text) in expected {
            let error = sink.clone().oneshot(delivery(message())).await;
            let error = error.expect_err(text);
            assert_eq!(
                (error.disposition(), &*error.to_string()),
                (disposition, text)
            );
        }
    };
    tokio::join!(sending, answering);
}

/// Acknowledges each after a second, but for what `fails` says; the documents, in their order.
async fn take(mut receiver: ChannelReceiver, fails: fn(u32) -> bool) -> Vec<(i64, i32)> {
    let mut taken = Vec::new();
    let mut count = 0;
    while let Some(received) = receiver.recv().await {
        sleep(SECOND).await;
        count += 1;
        if fails(count) {
            received.fail(HandlerError::retry("not yet"));
            continue;
        }
        let change = received.delivery().change();
        let id = change.document_key().expect("of a document");
        let n = change.update_description().expect("an update");
        taken.push((
            id.get("_id").expect("an integer").expect("there"),
            n.get("n").expect("an integer").expect("set"),
        ));
        received.acknowledge();
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn all_of_a_key_come_in_order_whatever_fails() {
    let (sink, receiver) = ChannelSink::new(2);
    let letters = MemoryDeadLetters::default();
    let send = async || Ok::<_, HandlerError>("message");
    let spec = HandlerSpec::new("send", send)
        .collections(["orders"])
        .to(["channel"]);
    let runtime = TestRuntime::builder()
        .handlers([spec])
        .sink("channel", SinkSpec::new(sink).timeout(60 * SECOND))
        .dead_letter_store(letters.clone())
        .drain_deadline(24 * 3600 * SECOND)
        .build()
        .expect("a runtime");
    let update = |(id, n): (i64, i32)| change::update("orders").id(id).set("n", n);
    let all = (0..40).flat_map(|n| (0..5).map(move |id| (id, n)));
    let batches = stream::iter([all.map(update).collect::<Vec<_>>()]);
    let taking = tokio::spawn(take(receiver, |count| count % 7 == 0));
    let begin = Instant::now();
    runtime.run(batches).await;
    let taken = taking.await.expect("no panic");
    assert_eq!(taken.len(), 200, "in {:?}", begin.elapsed());
    for id in 0..5 {
        let of_one = taken.iter().filter(|(of, _)| *of == id);
        assert!(of_one.map(|(_, n)| *n).eq(0..40), "document {id}");
    }
    assert!(letters.letters().is_empty());
}
