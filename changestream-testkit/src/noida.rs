use std::path::Path;

use crate::{
    Result, SinkServer, daemon::Daemon, kafka::PROBE, kind::Kind, lifecycle::lifecycle,
    wheel::Wheel,
};

pub(crate) const KIND: Kind = Kind {
    program: "noida-db",
    listening: "press Ctrl-C to stop",
    port_taken: "is already in use",
    probe: Some(PROBE),
};
pub(crate) const WHEEL: Wheel = Wheel {
    requirement: "noida-db==0.2.3",
    hash: "40a2fb15567e3d344e7483df62bb439e7d64ac6fb232f4f223554aed58204f82",
    program: "/noida-db",
};

/// A broker of its own for a test that speaks as Kafka does, and whose readers with `read_committed` see what was committed
/// alone; killed, and its data removed, on drop.
///
/// It is noida-db, not Apache Kafka. It tells its clients its own address, so that no proxy can stand between.
#[derive(Debug)]
pub struct NoidaServer {
    daemon: Daemon,
}

impl NoidaServer {
    /// Starts a broker, and waits until it answers.
    pub async fn start() -> Result<Self> {
        let args = |port, dir: &_| Ok(args(port, dir));
        Ok(Self {
            daemon: SinkServer::Noida.start(Vec::new(), args).await?,
        })
    }

    /// The address for `bootstrap.servers`, as in `127.0.0.1:9092`.
    pub fn bootstrap(&self) -> String {
        self.addr().to_string()
    }

    lifecycle!(daemon);
}

pub(crate) fn args(port: u16, dir: &Path) -> Vec<String> {
    let (port, data) = (port.to_string(), dir.join("data"));
    let data = data.to_string_lossy();
    let args = [
        "start",
        "--only",
        "kafka",
        "--kafka-port",
        &port,
        "--data-dir",
        &data,
    ];
    args.map(str::to_owned).into()
}
