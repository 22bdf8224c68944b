//! What core NATS gives to those who subscribe.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::Message;
use changestream_core::{Disposition, testing::delivery};
use changestream_sinks::NatsSink;
use changestream_testkit::{FaultProxy, NatsServer};
use futures::StreamExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{DEADLINE, assert_error, send, service, stream::header, text};

pub(crate) struct Subscriber {
    received: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Subscribed when it returns.
    pub(crate) async fn start(server: &NatsServer) -> Self {
        let client = async_nats::connect(server.uri()).await.expect("connected");
        let mut messages = client.subscribe("shop.>").await.expect("subscribed");
        // An answer of the server comes after the subscription has reached it.
        client
            .request("nobody", "".into())
            .await
            .expect_err("nobody");
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let _client = client;
            while let Some(message) = messages.next().await {
                kept.lock().expect("no panic").push(message);
            }
        });
        Self { received, task }
    }

    pub(crate) fn received(&self) -> Vec<Message> {
        self.received.lock().expect("no panic").clone()
    }

    async fn arrived(&self, count: usize) -> Vec<Message> {
        let begin = Instant::now();
        loop {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            assert!(begin.elapsed() < DEADLINE, "{received:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_message_goes_to_who_subscribes() {
    let server = NatsServer::start().await.unwrap();
    let subscriber = Subscriber::start(&server).await;
    let sink = service(NatsSink::core(server.uri(), "shop.{collection}").unwrap());
    let delivery = delivery(text("m"));
    send(&sink, delivery.clone()).await.unwrap();
    let [message] = &subscriber.arrived(1).await[..] else {
        panic!("one message");
    };
    assert_eq!(message.subject.as_str(), "shop.orders");
    assert_eq!(&message.payload[..], b"m");
    assert_eq!(header(message, "Idempotency-Key"), delivery.id());
}

#[tokio::test]
async fn where_nobody_subscribes_the_server_having_it_is_enough() {
    let server = NatsServer::start().await.unwrap();
    let sink = service(NatsSink::core(server.uri(), "shop").unwrap());
    send(&sink, delivery(text("m"))).await.unwrap();
}

#[tokio::test]
async fn what_the_server_has_not_said_that_it_has_is_not_delivered() {
    let server = NatsServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let sink = NatsSink::core(format!("nats://{}", proxy.addr()), "shop").unwrap();
    let sink = service(sink.ack_timeout(Duration::from_millis(300)));
    send(&sink, delivery(text("m"))).await.unwrap();
    proxy.black_hole().await.unwrap();
    let message = format!("no acknowledgement from `{}` within 300ms", proxy.addr());
    let result = send(&sink, delivery(text("m"))).await;
    assert_error(result, Disposition::Retry, &message);
    proxy.cut().await;
}
