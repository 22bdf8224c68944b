use std::{net::SocketAddr, sync::Arc};

use changestream_testkit::{KafkaServer, KafkaServerBuilder};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::DEADLINE;

/// The host that clients know a broker as.
pub(crate) const HOST: &str = "127.0.0.1";

/// A broker that encrypts: Tansu, which does not, behind a proxy.
pub(crate) struct Broker {
    addr: SocketAddr,
    _server: KafkaServer,
    _proxy: JoinSet<()>,
}

impl Broker {
    pub(crate) async fn start(tls: ServerConfig) -> Self {
        Self::with(KafkaServer::builder(), tls).await
    }

    pub(crate) async fn with(server: KafkaServerBuilder, tls: ServerConfig) -> Self {
        let mut server = server.start().await.expect("a broker");
        let listener = TcpListener::bind((HOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        server.advertise(addr).await.expect("advertised");
        let mut proxy = JoinSet::new();
        proxy.spawn(encrypt(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            server.addr(),
        ));
        Self {
            addr,
            _server: server,
            _proxy: proxy,
        }
    }

    /// For `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> String {
        self.addr.to_string()
    }
}

/// Carries connections to `target` until it is dropped.
async fn encrypt(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Whatever goes wrong, the client sees its connection closed.
            if let Ok(mut client) = acceptor.accept(client).await
                && let Ok(mut server) = TcpStream::connect(target).await
            {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

pub(crate) fn client(broker: &Broker, options: &[(&str, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (name, value) in options {
        config.set(*name, value);
    }
    config
}

/// Makes a topic of one partition.
pub(crate) async fn create_topic(client: &ClientConfig, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client.create().expect("a client");
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&new], &AdminOptions::new()).await;
    assert_eq!(made.expect("an answer"), [Ok(topic.to_owned())]);
}

/// Reads the payloads of the first messages in a topic, as many as `count`.
pub(crate) async fn read(client: &ClientConfig, topic: &str, count: usize) -> Vec<String> {
    let mut client = client.clone();
    client
        .set("group.id", "unused")
        .set("enable.auto.commit", "false");
    let consumer: StreamConsumer = client.create().expect("a consumer");
    let mut first = TopicPartitionList::new();
    first
        .add_partition_offset(topic, 0, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&first).expect("a partition");
    let mut read = Vec::new();
    let reading = async {
        while read.len() < count {
            let message = consumer.recv().await.expect("a message");
            let payload = message.payload().expect("a payload");
            read.push(String::from_utf8(payload.to_vec()).expect("UTF-8"));
        }
    };
    timeout(DEADLINE, reading).await.expect("all in time");
    read
}
