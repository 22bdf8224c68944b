use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{Error, Result};

const CHUNK: usize = 64 * 1024;

/// A TCP proxy in front of a server, whose network fails on demand; ends on drop.
///
/// It forwards everything until it is told otherwise. Each fault replaces the one before, and [`heal`](Self::heal)
/// ends it. Faults have taken effect when the call returns.
///
/// A MongoDB client goes through it with [`MongoServer::uri_through`](crate::MongoServer::uri_through).
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    target: SocketAddr,
    fault: StdMutex<watch::Sender<Fault>>,
    /// What keeps stranded connections silent.
    stranded: StdMutex<Vec<watch::Sender<Fault>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    acceptor: Mutex<JoinSet<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Delay(Duration),
    BlackHole,
    DropReplies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Reply,
}

impl FaultProxy {
    /// Starts a proxy in front of `target` on a free port.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = listen(0).await?;
        let proxy = Self {
            addr: listener
                .local_addr()
                .map_err(Error::io("tell the proxy's port"))?,
            target,
            fault: StdMutex::new(watch::Sender::new(Fault::None)),
            stranded: StdMutex::default(),
            connections: Arc::default(),
            acceptor: Mutex::default(),
        };
        proxy.accept_on(listener).await;
        Ok(proxy)
    }

    /// The address to connect to.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes all connections. New ones are accepted as before.
    pub async fn cut(&self) {
        self.connections.lock().await.shutdown().await;
    }

    /// Refuses new connections: nothing listens any more. Those there are go on; [`cut`](Self::cut) ends them.
    pub async fn refuse(&self) {
        self.acceptor.lock().await.shutdown().await;
    }

    /// Delays everything, each way: each burst of up to 64 KiB waits this long.
    pub async fn delay(&self, delay: Duration) -> Result<()> {
        self.set(Fault::Delay(delay)).await
    }

    /// Forwards nothing. Connections stay, new ones are accepted, and what was sent arrives after [`heal`](Self::heal),
    /// as after a network partition.
    pub async fn black_hole(&self) -> Result<()> {
        self.set(Fault::BlackHole).await
    }

    /// Silences the connections there are for good, as a firewall does that has forgotten them. New ones work.
    pub async fn strand(&self) -> Result<()> {
        let fault = std::mem::replace(&mut *self.fault(), watch::Sender::new(Fault::None));
        fault.send_replace(Fault::BlackHole);
        lock(&self.stranded).push(fault);
        self.refuse().await;
        self.set(Fault::None).await
    }

    /// Forwards requests and swallows replies, so that the server has done what the client does not know of.
    ///
    /// TCP loses nothing out of the middle of a stream, so [`heal`](Self::heal) closes connections that lost a reply.
    pub async fn drop_replies(&self) -> Result<()> {
        self.set(Fault::DropReplies).await
    }

    /// Ends whatever fault there is.
    pub async fn heal(&self) -> Result<()> {
        self.set(Fault::None).await
    }

    async fn set(&self, fault: Fault) -> Result<()> {
        self.fault().send_replace(fault);
        let refusing = self.acceptor.lock().await.is_empty();
        if refusing {
            self.accept_on(listen(self.addr.port()).await?).await;
        }
        Ok(())
    }

    fn fault(&self) -> MutexGuard<'_, watch::Sender<Fault>> {
        lock(&self.fault)
    }

    async fn accept_on(&self, listener: TcpListener) {
        let (target, fault) = (self.target, self.fault().subscribe());
        let connections = Arc::clone(&self.connections);
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut connections = connections.lock().await;
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(client, target, fault.clone()));
            }
        };
        self.acceptor.lock().await.spawn(accept);
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(Error::io(format!("listen on port {port} for a proxy")))
}

/// Carries one connection until either side is done with it, or it has lost data.
async fn carry(client: TcpStream, target: SocketAddr, fault: watch::Receiver<Fault>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        // Without it replies are only slower.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(from_client, to_server, fault.clone(), Way::Request);
    let replies = pump(from_server, to_client, fault, Way::Reply);
    // An error on either way ends both, as does the drop of this task; there is nobody to report it to but the peers,
    // who see the connection closed.
    let _ = tokio::try_join!(requests, replies);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    way: Way,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        let lost = hold(&mut fault).await? == Fault::DropReplies && way == Way::Reply;
        if read == 0 {
            return to.shutdown().await;
        }
        if lost {
            return swallow(from, &mut chunk, fault).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

/// Waits as long as the fault holds data back; gives the fault that is then left.
async fn hold(fault: &mut watch::Receiver<Fault>) -> io::Result<Fault> {
    loop {
        let current = *fault.borrow_and_update();
        match current {
            Fault::None | Fault::DropReplies => return Ok(current),
            Fault::BlackHole => changed(fault).await?,
            Fault::Delay(delay) => tokio::select! {
                () = sleep(delay) => return Ok(current),
                now = changed(fault) => now?,
            },
        }
    }
}

/// Reads and forgets until the fault ends, which then ends the connection.
async fn swallow(
    mut from: OwnedReadHalf,
    chunk: &mut [u8],
    mut fault: watch::Receiver<Fault>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            now = changed(&mut fault) => {
                now?;
                if *fault.borrow() != Fault::DropReplies {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            read = from.read(chunk) => {
                if read? == 0 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
    }
}

async fn changed(fault: &mut watch::Receiver<Fault>) -> io::Result<()> {
    fault.changed().await.map_err(io::Error::other)
}
