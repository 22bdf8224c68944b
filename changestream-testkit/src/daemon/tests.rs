//! What each kind of server says when its port is taken.

use std::{cell::OnceCell, net::TcpListener};

use super::*;
use crate::{
    KafkaServer, Mongod, NatsServer, RedisServer, ServerVersion, SinkServer,
    node::{self, Settings},
    noida,
};

async fn assert_takes_another_port(
    kind: &'static Kind,
    program: Program,
    args: impl Fn(u16, &Path) -> Result<Vec<String>>,
) {
    let taken = OnceCell::new();
    let args = |port, dir: &_| {
        taken.get_or_init(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        args(port, dir)
    };
    let daemon = Daemon::start(kind, program, args).await.unwrap();
    let taken = taken.get().unwrap().local_addr().unwrap();
    assert_ne!(daemon.addr(), taken);
}

async fn assert_sink_server_takes_another_port(
    server: SinkServer,
    args: impl Fn(u16, &Path) -> Result<Vec<String>>,
) {
    let program = server.find_or_fetch().unwrap();
    assert_takes_another_port(server.kind(), program, args).await;
}

#[tokio::test]
async fn mongod_takes_another_port() {
    for version in [ServerVersion::V4_4, ServerVersion::default()] {
        let mongod = Mongod::find_or_fetch(Some(version)).unwrap();
        let args = |port, dir: &_| Ok(Settings::default().args(true, port, dir));
        assert_takes_another_port(&node::KIND, mongod.program().clone(), args).await;
    }
}

#[tokio::test]
async fn redis_takes_another_port() {
    let args = |port, dir: &_| Ok(RedisServer::builder().args(port, dir));
    assert_sink_server_takes_another_port(SinkServer::Redis, args).await;
}

#[tokio::test]
async fn nats_takes_another_port() {
    let args = |port, dir: &_| NatsServer::builder().args(port, dir);
    assert_sink_server_takes_another_port(SinkServer::Nats, args).await;
}

#[tokio::test]
async fn tansu_takes_another_port() {
    let advertised = (Ipv4Addr::LOCALHOST, 9092).into();
    let args = |port, _: &_| Ok(KafkaServer::builder().args(port, advertised));
    assert_sink_server_takes_another_port(SinkServer::Tansu, args).await;
}

#[tokio::test]
async fn noida_takes_another_port() {
    let args = |port, dir: &_| Ok(noida::args(port, dir));
    assert_sink_server_takes_another_port(SinkServer::Noida, args).await;
}
