//! What every sink must do.

use bytes::Bytes;
use changestream_core::{
    SinkSpec,
    testing::conformance::{Receiver, check},
};
use changestream_sinks::NatsSink;
use changestream_testkit::{FaultProxy, NatsServer};

use crate::{stream::Stream, subscriber::Subscriber};

impl Receiver for Stream {
    fn sink(&self) -> SinkSpec {
        let sink = NatsSink::jetstream(self.server.uri(), "shop.{collection}.{full_document.key}");
        sink.unwrap().into()
    }

    async fn received(&self) -> Vec<Bytes> {
        let stored = self.stored().await.into_iter();
        stored.map(|message| message.payload).collect()
    }

    async fn stop(&self) {
        self.server.kill().await.unwrap();
    }

    async fn start(&self) {
        self.server.restart().await.unwrap();
    }
}

#[tokio::test]
async fn jetstream_does_what_every_sink_must() {
    check(&Stream::start().await).await;
}

/// A subscriber gets nothing that comes while it is gone: the network is, between sink and server.
struct BehindProxy {
    _server: NatsServer,
    proxy: FaultProxy,
    subscriber: Subscriber,
}

impl Receiver for BehindProxy {
    fn sink(&self) -> SinkSpec {
        let url = format!("nats://{}", self.proxy.addr());
        let sink = NatsSink::core(url, "shop.{collection}.{full_document.key}");
        sink.unwrap().into()
    }

    async fn received(&self) -> Vec<Bytes> {
        let received = self.subscriber.received().into_iter();
        received.map(|message| message.payload).collect()
    }

    async fn stop(&self) {
        self.proxy.refuse().await;
        self.proxy.cut().await;
    }

    async fn start(&self) {
        self.proxy.heal().await.unwrap();
    }
}

#[tokio::test]
async fn core_nats_does_what_every_sink_must() {
    let server = NatsServer::start().await.unwrap();
    let receiver = BehindProxy {
        proxy: FaultProxy::start(server.addr()).await.unwrap(),
        subscriber: Subscriber::start(&server).await,
        _server: server,
    };
    check(&receiver).await;
}
