//! A server that is killed and comes back.

use std::time::Duration;

use bytes::Bytes;
use changestream_core::{
    SinkSpec,
    testing::conformance::{self, Receiver},
};
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use tokio::time::sleep;

use crate::{client, history};

struct Stream {
    server: RedisServer,
    has_patterns: bool,
}

impl Receiver for Stream {
    fn sink(&self) -> SinkSpec {
        let sink = RedisSink::new(self.server.uri()).unwrap();
        let sink = sink.stream("stream").unwrap();
        match self.has_patterns {
            true => sink.unlink_matching("none:*").unwrap().into(),
            false => sink.into(),
        }
    }

    async fn received(&self) -> Vec<Bytes> {
        let entries = history::entries(&self.server, "stream").await.into_iter();
        entries.map(|entry| entry.payload.into()).collect()
    }

    async fn stop(&self) {
        self.server.kill().await.unwrap();
    }

    async fn start(&self) {
        self.server.restart().await.unwrap();
    }
}

#[tokio::test]
async fn it_is_as_a_sink_has_to_be() {
    for has_patterns in [false, true] {
        let server = RedisServer::start().await.unwrap();
        conformance::check(&Stream {
            server,
            has_patterns,
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_is_lost_and_all_of_a_document_comes_in_order() {
    let server = RedisServer::start().await.unwrap();
    let sink = RedisSink::new(server.uri())
        .unwrap()
        .stream("stream")
        .unwrap();
    let kills = async {
        for kill in 1..=3 {
            let mut client = client(&server.uri()).await;
            let mut len = redis::cmd("XLEN");
            len.arg("stream");
            while len.query_async::<u32>(&mut client).await.unwrap() < kill * 2000 {
                sleep(Duration::from_millis(5)).await;
            }
            server.kill().await.unwrap();
            server.restart().await.unwrap();
        }
    };
    history::run(sink, kills).await;
    history::assert_all_came(history::entries(&server, "stream").await);
}
