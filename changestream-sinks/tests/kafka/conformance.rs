//! What every sink must do.

use bytes::Bytes;
use changestream_core::{
    SinkSpec,
    testing::conformance::{self, Receiver},
};
use changestream_sinks::KafkaSink;
use changestream_testkit::KafkaServer;

use crate::reader::{Reader, create_topic};

const TOPIC: &str = "conformance";

/// A broker that keeps what it has when it is killed.
struct Broker {
    server: KafkaServer,
    reader: Reader,
}

impl Receiver for Broker {
    fn sink(&self) -> SinkSpec {
        let sink = KafkaSink::new(self.server.bootstrap(), TOPIC);
        sink.expect("a sink").into()
    }

    async fn received(&self) -> Vec<Bytes> {
        let read = self.reader.so_far().into_iter();
        read.map(|read| read.payload.expect("a payload").into())
            .collect()
    }

    async fn stop(&self) {
        self.server.kill().await.expect("killed");
    }

    async fn start(&self) {
        self.server.restart().await.expect("restarted");
    }
}

#[tokio::test]
async fn the_sink_does_what_every_sink_must() {
    let server = KafkaServer::builder().durable().start().await;
    let server = server.expect("a broker");
    create_topic(&server.bootstrap(), TOPIC, 4).await;
    let reader = Reader::start(&server.bootstrap(), TOPIC, 4);
    conformance::check(&Broker { server, reader }).await;
}
