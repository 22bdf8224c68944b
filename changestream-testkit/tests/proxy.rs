//! Each fault of the proxy, with an echo server behind it, and once with a real client.

use std::{io, net::SocketAddr, time::Duration};

use changestream_testkit::{FaultProxy, MongoServer};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

const MOMENT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends back what it gets, and tells the test of it.
struct Echo {
    addr: SocketAddr,
    heard: mpsc::Receiver<Vec<u8>>,
    _tasks: JoinSet<io::Result<()>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, heard) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await?;
                connections.spawn(echo(stream, tell.clone()));
            }
        });
        Self {
            addr,
            heard,
            _tasks: tasks,
        }
    }
}

async fn echo(mut stream: TcpStream, tell: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let _ = tell.send(buffer[..read].to_vec()).await;
        stream.write_all(&buffer[..read]).await?;
    }
}

async fn connected() -> (Echo, FaultProxy, TcpStream) {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut client, b"hello").await.unwrap(), b"hello");
    (echo, proxy, client)
}

async fn ask(client: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    client.write_all(text).await?;
    reply(client).await
}

async fn reply(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64];
    let read = timeout(PATIENCE, client.read(&mut buffer)).await??;
    buffer.truncate(read);
    Ok(buffer)
}

async fn is_closed(client: &mut TcpStream) -> bool {
    match reply(client).await {
        Ok(bytes) => bytes.is_empty(),
        Err(error) => error.kind() != io::ErrorKind::TimedOut,
    }
}

#[tokio::test]
async fn cut_closes_connections_and_accepts_new_ones() {
    let (_echo, proxy, mut client) = connected().await;
    proxy.cut().await;
    assert!(is_closed(&mut client).await);

    let mut again = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut again, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn refuse_turns_away_new_connections_only() {
    let (_echo, proxy, mut client) = connected().await;
    proxy.refuse().await;
    let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut client, b"still").await.unwrap(), b"still");

    proxy.heal().await.unwrap();
    let mut again = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut again, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn delay_holds_up_both_ways() {
    let (_echo, proxy, mut client) = connected().await;
    proxy.delay(MOMENT).await.unwrap();
    let begin = Instant::now();
    assert_eq!(ask(&mut client, b"slow").await.unwrap(), b"slow");
    assert!(begin.elapsed() >= 2 * MOMENT);

    proxy.delay(Duration::from_secs(3_600)).await.unwrap();
    client.write_all(b"held").await.unwrap();
    proxy.heal().await.unwrap();
    assert_eq!(reply(&mut client).await.unwrap(), b"held");
}

#[tokio::test]
async fn black_hole_forwards_what_it_held_back_after_it_is_healed() {
    let (mut echo, proxy, mut client) = connected().await;
    echo.heard.recv().await.unwrap();
    proxy.black_hole().await.unwrap();
    client.write_all(b"held").await.unwrap();
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    new.write_all(b"new").await.unwrap();
    assert!(timeout(MOMENT, echo.heard.recv()).await.is_err());

    proxy.heal().await.unwrap();
    assert_eq!(reply(&mut client).await.unwrap(), b"held");
    assert_eq!(reply(&mut new).await.unwrap(), b"new");
}

#[tokio::test]
async fn strand_silences_old_connections_for_good_and_serves_new_ones() {
    let (mut echo, proxy, mut client) = connected().await;
    echo.heard.recv().await.unwrap();
    proxy.strand().await.unwrap();
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut new, b"new").await.unwrap(), b"new");
    assert_eq!(echo.heard.recv().await.unwrap(), b"new");

    proxy.heal().await.unwrap();
    client.write_all(b"lost").await.unwrap();
    assert!(timeout(MOMENT, echo.heard.recv()).await.is_err());
}

#[tokio::test]
async fn drop_replies_lets_the_request_through() {
    let (mut echo, proxy, mut client) = connected().await;
    echo.heard.recv().await.unwrap();
    proxy.drop_replies().await.unwrap();
    client.write_all(b"lost").await.unwrap();
    assert_eq!(echo.heard.recv().await.unwrap(), b"lost");
    let mut buffer = [0; 64];
    assert!(timeout(MOMENT, client.read(&mut buffer)).await.is_err());

    proxy.heal().await.unwrap();
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn ends_on_drop() {
    let (_echo, proxy, mut client) = connected().await;
    let addr = proxy.addr();
    drop(proxy);
    assert!(is_closed(&mut client).await);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_driver_reconnects_through_it() {
    let server = MongoServer::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let uri = server.uri_through(proxy.addr());
    let client = Client::with_uri_str(uri).await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();

    proxy.cut().await;
    let found = things.find_one(doc! {}).await.unwrap();
    assert_eq!(found, Some(doc! { "_id": 1 }));
}
