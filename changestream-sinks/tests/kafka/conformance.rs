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
    options: &'static [(&'static str, &'static str)],
}

impl Broker {
    async fn with_sink(options: &'static [(&'static str, &'static str)]) -> Self {
        let server = KafkaServer::builder().durable().start().await;
        let server = server.expect("a broker");
        create_topic(&server.bootstrap(), TOPIC, 4).await;
        Self {
            reader: Reader::start(&server.bootstrap(), TOPIC, 4),
            server,
            options,
        }
    }
}

impl Receiver for Broker {
    fn sink(&self) -> SinkSpec {
        let mut sink = KafkaSink::new(self.server.bootstrap(), TOPIC).expect("a sink");
        for (name, value) in self.options {
            sink = sink.option(name, value).expect("an option");
        }
        sink.into()
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
    conformance::check(&Broker::with_sink(&[]).await).await;
}

#[tokio::test]
async fn so_does_one_with_transactions() {
    conformance::check(&Broker::with_sink(&[("transactional.id", "shop")]).await).await;
}
