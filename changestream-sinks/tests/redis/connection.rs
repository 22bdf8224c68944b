//! A network that fails.

use std::{net::SocketAddr, time::Duration};

use changestream_core::Disposition;
use changestream_sinks::RedisSink;
use changestream_testkit::FaultProxy;
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};

use crate::{DEADLINE, Redis, assert_error, of, send, service};

const PATIENCE: Duration = Duration::from_secs(1);

fn through(redis: &Redis, addr: SocketAddr) -> RedisSink {
    let sink = RedisSink::new(redis.server.uri_through(addr)).unwrap();
    sink.response_timeout(PATIENCE)
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = free.local_addr().unwrap();
    drop(free);
    let sink = RedisSink::new(format!("redis://:s3cret@{host}")).unwrap();
    let result = send(&service(sink.set("s").unwrap()), of(1, "m")).await;
    let message = format!("no connection to `{host}`: Connection refused (os error 111)");
    assert_error(result, Disposition::Retry, &message);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_back_is_made_anew() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.server.addr()).await.unwrap();
    let sink = service(through(&redis, proxy.addr()).set("s").unwrap());
    send(&sink, of(1, "first")).await.unwrap();
    proxy.strand().await.unwrap();
    let message = format!("no answer from `{}` within {PATIENCE:?}", proxy.addr());
    assert_error(
        send(&sink, of(1, "lost")).await,
        Disposition::Retry,
        &message,
    );
    send(&sink, of(1, "second")).await.unwrap();
    assert_eq!(redis.ask::<String>("GET s").await, "second");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_anew_at_once() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.server.addr()).await.unwrap();
    let sink = RedisSink::new(redis.server.uri_through(proxy.addr())).unwrap();
    let sink = service(sink.response_timeout(10 * DEADLINE).set("s").unwrap());
    send(&sink, of(1, "first")).await.unwrap();
    proxy.cut().await;
    if let Err(error) = send(&sink, of(1, "second")).await {
        assert_eq!(error.disposition(), Disposition::Retry);
        send(&sink, of(1, "second")).await.unwrap();
    }
    assert_eq!(redis.ask::<String>("GET s").await, "second");
}

/// As by a sink's timeout that is shorter than the connection's.
#[tokio::test]
async fn it_is_made_anew_although_every_delivery_is_given_up() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.server.addr()).await.unwrap();
    let sink = service(through(&redis, proxy.addr()).set("s").unwrap());
    send(&sink, of(1, "first")).await.unwrap();
    proxy.strand().await.unwrap();
    let begin = Instant::now();
    while timeout(PATIENCE / 4, send(&sink, of(1, "second")))
        .await
        .is_err()
    {
        assert!(begin.elapsed() < DEADLINE, "it is not");
    }
    assert_eq!(redis.ask::<String>("GET s").await, "second");
}

#[tokio::test]
async fn what_is_on_its_way_on_a_lost_connection_is_not_done_later() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = through(&redis, listener.local_addr().unwrap());
    let sink = service(sink.set("s").unwrap());
    let gate = watch::Sender::new(true);
    let (mut is_open, server) = (gate.subscribe(), redis.server.addr());
    let carrying = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut first = TcpStream::connect(server).await.unwrap();
        let others = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(server).await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            }
        });
        let (mut requests, mut answers) = client.split();
        let (mut from_server, mut to_server) = first.split();
        let back = copy(&mut from_server, &mut answers);
        let there = async {
            let mut chunk = [0; 4096];
            loop {
                let read = requests.read(&mut chunk).await?;
                is_open.wait_for(|open| *open).await.ok();
                if read == 0 {
                    return to_server.shutdown().await;
                }
                to_server.write_all(&chunk[..read]).await?;
            }
        };
        // Both, to the end: the server has read all that it will.
        let _ = tokio::join!(back, there);
        others.abort();
    });
    send(&sink, of(1, "first")).await.unwrap();
    gate.send_replace(false);
    let error = send(&sink, of(1, "stale")).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    send(&sink, of(1, "fresh")).await.unwrap();
    gate.send_replace(true);
    timeout(DEADLINE, carrying).await.unwrap().unwrap();
    assert_eq!(redis.ask::<String>("GET s").await, "fresh");
}

#[tokio::test]
async fn a_delivery_that_is_given_up_takes_no_answer_of_another() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.server.addr()).await.unwrap();
    let sink = RedisSink::new(redis.server.uri_through(proxy.addr())).unwrap();
    let together = sink.hash("h:{document_key._id}").unwrap();
    let apart = together.clone().unlink_matching("none:*").unwrap();
    for id in (0..120).step_by(2) {
        let _: () = redis.ask(&format!("SET h:{id} x")).await;
    }
    for sink in [together, apart].map(service) {
        send(&sink, of(1, r#"{"a": 1}"#)).await.unwrap();
        proxy.delay(Duration::from_millis(50)).await.unwrap();
        for _ in 0..3 {
            let results = (0..120).map(|id| {
                let sending = send(&sink, of(id, r#"{"a": 1}"#));
                // Before the answer, while it comes, and not at all.
                let patience = [
                    Duration::from_millis(20),
                    Duration::from_millis(100),
                    DEADLINE,
                ];
                timeout(patience[id as usize % 3], sending)
            });
            for (id, result) in (0..).zip(join_all(results).await) {
                let Ok(result) = result else {
                    assert_ne!(id % 3, 2, "{id} was given up");
                    continue;
                };
                assert_eq!(result.is_err(), id % 2 == 0, "{id}: {result:?}");
            }
        }
        proxy.heal().await.unwrap();
    }
}
