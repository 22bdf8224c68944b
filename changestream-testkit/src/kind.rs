use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How servers of one kind behave.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The name of the program.
    pub(crate) program: &'static str,
    /// What it logs once it takes connections.
    pub(crate) listening: &'static str,
    /// What it logs if its port is taken.
    pub(crate) port_taken: &'static str,
    /// What shows that it answers, where its log does not.
    pub(crate) probe: Option<Probe>,
}

impl Kind {
    /// Whether a server of this kind, with this log and at this address, is ready.
    ///
    /// It is not asked before its log says so: on a port that was taken meanwhile, another server would answer.
    pub(crate) async fn is_ready(&self, addr: SocketAddr, log: &str) -> bool {
        if !log.contains(self.listening) {
            return false;
        }
        match &self.probe {
            Some(probe) => probe.is_answered(addr).await,
            None => true,
        }
    }
}

/// A question to a server.
#[derive(Debug)]
pub(crate) struct Probe {
    /// What is sent.
    pub(crate) request: &'static [u8],
    /// Whether an answer begins like this.
    pub(crate) is_answer: fn(&[u8]) -> bool,
}

impl Probe {
    async fn is_answered(&self, addr: SocketAddr) -> bool {
        let ask = async {
            let mut connection = TcpStream::connect(addr).await?;
            connection.write_all(self.request).await?;
            let mut answer = Vec::new();
            while !(self.is_answer)(&answer) {
                if connection.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            io::Result::Ok(())
        };
        matches!(timeout(ANSWER_WITHIN, ask).await, Ok(Ok(())))
    }
}
