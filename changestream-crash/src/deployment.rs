//! The servers of the runs, and what is done to them.

use changestream::mongodb::{Client, bson::doc, options::ClientOptions};
use changestream_testkit::{FaultProxy, MongoServer, ReplicaSet, Version};
use tokio::time::sleep;

use crate::{
    Result,
    plan::{self, FaultKind},
};

/// Sees within half a second that a server is back or another one primary.
const CLIENT_OPTIONS: &str = "heartbeatFrequencyMS=500";

/// Servers that serve one run after the other, started when they are first wanted.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    single: Option<Single>,
    set: Option<ReplicaSet>,
}

#[derive(Debug)]
pub(crate) struct Single {
    server: MongoServer,
    proxy: FaultProxy,
}

/// The deployment of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deployment<'a> {
    Single(&'a Single),
    Set(&'a ReplicaSet),
}

impl Pool {
    /// The version of the servers.
    pub(crate) fn version(&self) -> String {
        let single = self.single.as_ref().map(|single| single.server.version());
        let version = single.or_else(|| self.set.as_ref().map(ReplicaSet::version));
        version.map_or_else(String::new, |version| version.to_string())
    }

    pub(crate) async fn get(&mut self, kind: plan::Deployment) -> Result<Deployment<'_>> {
        match kind {
            plan::Deployment::Single => {
                if self.single.is_none() {
                    self.single = Some(Single::start().await?);
                }
                let single = self.single.as_ref();
                Ok(Deployment::Single(single.expect("just started")))
            }
            plan::Deployment::Set => {
                if self.set.is_none() {
                    let set = ReplicaSet::builder(3).oplog_size_mb(OPLOG_MB).start();
                    self.set = Some(set.await?);
                }
                let set = self.set.as_ref();
                Ok(Deployment::Set(set.expect("just started")))
            }
        }
    }
}

/// Holds many runs, and is soon written.
const OPLOG_MB: u32 = 256;

impl Single {
    async fn start() -> Result<Self> {
        let server = MongoServer::builder()
            .oplog_size_mb(OPLOG_MB)
            .start()
            .await?;
        let proxy = FaultProxy::start(server.addr()).await?;
        Ok(Self { server, proxy })
    }
}

impl Deployment<'_> {
    /// Whether the server splits events that are too large.
    pub(crate) fn splits_events(self) -> bool {
        let version = match self {
            Self::Single(single) => single.server.version(),
            Self::Set(set) => set.version(),
        };
        version >= Version::new(6, 0, 9)
    }

    /// The connection string of the service.
    pub(crate) fn service_uri(self) -> String {
        let uri = match self {
            Self::Single(single) => single.server.uri_through(single.proxy.addr()),
            Self::Set(set) => set.uri(),
        };
        format!("{uri}&{CLIENT_OPTIONS}")
    }

    /// A client that no fault of the network concerns.
    pub(crate) async fn client(self) -> Result<Client> {
        let uri = match self {
            Self::Single(single) => single.server.uri(),
            Self::Set(set) => set.uri(),
        };
        let options = ClientOptions::parse(format!("{uri}&{CLIENT_OPTIONS}")).await?;
        Ok(Client::with_options(options)?)
    }

    /// Does what `fault` says; at the end everything is well again.
    pub(crate) async fn suffer(self, fault: &FaultKind) -> Result<()> {
        match self {
            Self::Single(single) => single.suffer(fault).await,
            Self::Set(set) => suffer_as_set(set, fault).await,
        }
    }
}

impl Single {
    async fn suffer(&self, fault: &FaultKind) -> Result<()> {
        let Self { server, proxy } = self;
        match fault {
            FaultKind::Cut => proxy.cut().await,
            FaultKind::Refuse(time) => {
                proxy.refuse().await;
                proxy.cut().await;
                sleep(*time).await;
            }
            FaultKind::Stall(time) => {
                proxy.black_hole().await?;
                sleep(*time).await;
            }
            FaultKind::DropReplies(time) => {
                proxy.drop_replies().await?;
                sleep(*time).await;
            }
            FaultKind::KillServer(time) => {
                server.kill().await?;
                sleep(*time).await;
                server.restart().await?;
            }
            FaultKind::StepDown => {
                // The connection on which it is asked may be closed before it answers.
                server.step_down().await.ok();
                server.wait_until_writable().await?;
            }
        }
        proxy.heal().await?;
        Ok(())
    }
}

async fn suffer_as_set(set: &ReplicaSet, fault: &FaultKind) -> Result<()> {
    match fault {
        FaultKind::KillServer(time) => {
            let killed = set.kill_primary().await?;
            sleep(*time).await;
            set.restart(killed).await?;
        }
        FaultKind::StepDown => {
            let before = set.wait_for_primary().await?;
            set.step_down().await.ok();
            set.wait_for_primary().await?;
            // It may be elected again.
            set.admin_command(before, doc! { "replSetFreeze": 0 })
                .await
                .ok();
        }
        _ => unreachable!("a set has no proxy"),
    }
    Ok(())
}
