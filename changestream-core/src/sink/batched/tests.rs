use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all, poll_immediate};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, service_fn};

use super::*;
use crate::{
    message::Message,
    sink::SinkSpec,
    testing::{
        conformance::{self, Receiver},
        delivery,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// What was sent, batch by batch.
type Batches = Arc<Mutex<Vec<Vec<String>>>>;

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message().payload().to_vec()).expect("UTF-8")
}

fn of(text: impl Into<String>) -> Delivery {
    delivery(Message::new(text.into(), "text/plain"))
}

/// A service that takes a second for each batch and answers what `answer` says.
fn batched(
    max: usize,
    answer: fn(&[String]) -> Result<(), HandlerError>,
) -> (
    impl Service<Delivery, Response = (), Error = HandlerError, Future: Send> + Clone + Send,
    Batches,
) {
    let batches = Batches::default();
    let seen = Arc::clone(&batches);
    let service = service_fn(move |batch: Vec<Delivery>| {
        let seen = Arc::clone(&seen);
        async move {
            let texts: Vec<_> = batch.iter().map(text).collect();
            let result = answer(&texts);
            lock(&seen).push(texts);
            sleep(SECOND).await;
            result
        }
    });
    (Batched::new(max, service), batches)
}

/// As many batches under way as there may be, so that what comes now is the next one.
async fn busy<'a>(
    sink: &(
         impl Service<Delivery, Response = (), Error = HandlerError, Future: Send> + Clone + Send + 'a
     ),
) -> Vec<BoxFuture<'a, Result<(), HandlerError>>> {
    let mut under_way = Vec::new();
    for _ in 0..AT_ONCE {
        let mut call = sink.clone().oneshot(of("before")).boxed();
        assert!(poll_immediate(&mut call).await.is_none());
        yield_now().await;
        under_way.push(call);
    }
    under_way
}

/// While the service is busy with other batches.
async fn send_all(
    sink: &(impl Service<Delivery, Response = (), Error = HandlerError, Future: Send> + Clone + Send),
    texts: &[&str],
) -> Vec<Result<(), HandlerError>> {
    let before = busy(sink).await;
    let calls = texts.iter().map(|text| sink.clone().oneshot(of(*text)));
    join(join_all(calls), join_all(before)).await.0
}

fn texts(results: Vec<Result<(), HandlerError>>) -> Vec<Result<(), String>> {
    let texts = results.into_iter();
    texts
        .map(|result| result.map_err(|error| error.to_string()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn those_that_come_while_it_is_busy_are_the_next_batch() {
    let (sink, batches) = batched(3, |_| Ok(()));
    let begin = Instant::now();
    let results = send_all(&sink, &["b", "c", "d", "e"]).await;
    assert!(results.iter().all(Result::is_ok));
    let expected: [&[&str]; 4] = [&["before"], &["before"], &["b", "c", "d"], &["e"]];
    assert_eq!(*lock(&batches), expected);
    assert_eq!(begin.elapsed(), 2 * SECOND, "two batches at a time");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_fails_alone_where_the_service_names_it() {
    let (sink, _) = batched(3, |texts| {
        match texts.iter().position(|text| text == "bad") {
            Some(place) => Err(HandlerError::partial([(
                place,
                HandlerError::reject("bad"),
            )])),
            None => Ok(()),
        }
    });
    let results = texts(send_all(&sink, &["a", "bad", "c"]).await);
    assert_eq!(results, [Ok(()), Err("bad".to_owned()), Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_batch_is_that_of_each_delivery() {
    let (sink, batches) = batched(3, |_| Err(HandlerError::retry_after(SECOND, "down")));
    for result in send_all(&sink, &["a", "b"]).await {
        let error = result.expect_err("down");
        assert_eq!(error.disposition(), Disposition::RetryAfter(SECOND));
        assert_eq!(BoxError::from(error).to_string(), "down");
    }
    assert_eq!(lock(&batches).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_is_rejected_the_deliveries_are_sent_one_by_one() {
    let (sink, batches) = batched(3, |texts| match texts.iter().any(|text| text == "bad") {
        true => Err(HandlerError::reject("too large")),
        false => Ok(()),
    });
    let results = texts(send_all(&sink, &["a", "bad", "c"]).await);
    assert_eq!(results, [Ok(()), Err("too large".to_owned()), Ok(())]);
    let expected: [&[&str]; 4] = [&["a", "bad", "c"], &["a"], &["bad"], &["c"]];
    assert_eq!(lock(&batches)[AT_ONCE..], expected);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_not_in_the_batch_makes_all_of_it_fail() {
    let (sink, _) = batched(3, |_| {
        Err(HandlerError::partial([(2, HandlerError::reject("no"))]))
    });
    for result in texts(send_all(&sink, &["a", "b"]).await) {
        let error = result.expect_err("misplaced");
        assert!(
            error.starts_with("the sink says that delivery 2 failed, of a batch of 2"),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_before_it_is_sent_is_not_sent() {
    let (sink, batches) = batched(3, |_| Ok(()));
    let before = busy(&sink).await;
    let mut given_up = sink.clone().oneshot(of("b")).boxed();
    assert!(poll_immediate(&mut given_up).await.is_none());
    let mut kept = sink.clone().oneshot(of("c")).boxed();
    assert!(poll_immediate(&mut kept).await.is_none());
    drop(given_up);
    kept.await.expect("delivered");
    for before in before {
        before.await.expect("delivered");
    }
    assert_eq!(*lock(&batches), [["before"], ["before"], ["c"]]);

    let mut alone = sink.clone().oneshot(of("d")).boxed();
    assert!(timeout(SECOND / 2, &mut alone).await.is_err());
    drop(alone);
    sink.oneshot(of("e"))
        .await
        .expect("another batch is not in the way");
    assert_eq!(lock(&batches).last(), Some(&vec!["e".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_what_is_given_up_while_its_batch_goes_on() {
    for (is_given_up, halves) in [(false, 3), (true, 4)] {
        let (sink, _) = batched(3, |_| Ok(()));
        let begin = Instant::now();
        let mut first = sink.clone().oneshot(of("a")).boxed();
        let mut other = sink.clone().oneshot(of("b")).boxed();
        assert!(poll_immediate(&mut first).await.is_none());
        assert!(poll_immediate(&mut other).await.is_none());
        assert!(timeout(SECOND / 2, &mut first).await.is_err());
        if is_given_up {
            drop(first);
        }
        sink.oneshot(of("a")).await.expect("delivered");
        assert_eq!(begin.elapsed(), halves * SECOND / 2);
        other.await.expect("delivered");
    }
}

#[derive(Default)]
struct Remote {
    received: Arc<Mutex<Vec<Bytes>>>,
    is_down: Arc<Mutex<bool>>,
}

impl Receiver for Remote {
    fn sink(&self) -> SinkSpec {
        let (received, is_down) = (Arc::clone(&self.received), Arc::clone(&self.is_down));
        SinkSpec::batched(
            7,
            service_fn(move |batch: Vec<Delivery>| {
                let (received, is_down) = (Arc::clone(&received), Arc::clone(&is_down));
                async move {
                    tokio::task::yield_now().await;
                    if *lock(&is_down) {
                        return Err(HandlerError::retry("down"));
                    }
                    let payloads = batch
                        .iter()
                        .map(|delivery| delivery.message().payload().clone());
                    lock(&received).extend(payloads);
                    Ok(())
                }
            }),
        )
    }

    async fn received(&self) -> Vec<Bytes> {
        lock(&self.received).clone()
    }

    async fn stop(&self) {
        *lock(&self.is_down) = true;
    }

    async fn start(&self) {
        *lock(&self.is_down) = false;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_a_sink_as_any() {
    let remote = Remote::default();
    conformance::check(&remote).await;
}
