//! The server of the URL or, where that is one of a cluster, all of its nodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::redis::{Pipeline, Value};
use changestream_core::HandlerError;
use futures::future::{FutureExt as _, select_ok};

use super::{
    connection::{Connection, lock},
    layout::{Cluster, Layout},
    server::{Address, Server},
};

#[derive(Clone)]
pub(super) struct Nodes(Arc<Inner>);

struct Inner {
    first: Connection,
    /// `None` where it has to be asked for.
    layout: tokio::sync::Mutex<Option<Arc<Layout>>>,
    /// The nodes of a cluster.
    connections: Mutex<HashMap<Address, Connection>>,
}

impl Nodes {
    pub(super) fn new(server: Server) -> Self {
        Self(Arc::new(Inner {
            first: Connection::new(server),
            layout: tokio::sync::Mutex::default(),
            connections: Mutex::default(),
        }))
    }

    /// That of the URL.
    pub(super) fn server(&self) -> &Server {
        self.0.first.server()
    }

    pub(super) async fn layout(&self, patience: Duration) -> Result<Arc<Layout>, HandlerError> {
        let mut layout = self.0.layout.lock().await;
        if let Some(layout) = &*layout {
            return Ok(Arc::clone(layout));
        }
        let learned = Arc::new(self.learn(patience).await?);
        Ok(Arc::clone(layout.insert(learned)))
    }

    /// Has it asked for anew.
    pub(super) async fn doubt(&self, doubted: &Arc<Layout>) {
        let mut layout = self.0.layout.lock().await;
        layout.take_if(|layout| Arc::ptr_eq(layout, doubted));
    }

    /// The node of this address.
    pub(super) fn node(&self, address: Address) -> Connection {
        let mut connections = lock(&self.0.connections);
        let connection = connections
            .entry(address)
            .or_insert_with_key(|address| Connection::new(self.server().at(address.clone())));
        connection.clone()
    }

    /// From the node that answers first, since any of them may be down.
    async fn learn(&self, patience: Duration) -> Result<Layout, HandlerError> {
        let known: Vec<_> = lock(&self.0.connections).values().cloned().collect();
        let asked = [&self.0.first].into_iter().chain(&known);
        let asked = asked.map(|node| ask(node.clone(), patience).boxed());
        let (answer, _) = select_ok(asked).await?;
        let Some((host, slots)) = answer else {
            return Ok(Layout::Single(self.0.first.clone()));
        };
        let mut left = HashMap::new();
        let cluster = Cluster::of(&slots, &host, |address| {
            let node = self.node(address.clone());
            left.insert(address, node.clone());
            node
        });
        *lock(&self.0.connections) = left;
        Ok(Layout::Cluster(cluster))
    }
}

/// The node's own host, and what it says of the slots: nothing where it is no node of a cluster.
async fn ask(
    node: Connection,
    patience: Duration,
) -> Result<Option<(String, Vec<Value>)>, HandlerError> {
    let mut commands = Pipeline::new();
    commands.cmd("HELLO").cmd("CLUSTER").arg("SLOTS");
    let mut replies = node.query(&mut commands, patience).await?;
    match (replies.pop(), replies.pop()) {
        (Some(Value::Array(slots)), _) => Ok(Some((node.server().host().to_owned(), slots))),
        (Some(Value::ServerError(error)), Some(hello)) if is_of_cluster(&hello) => {
            Err(HandlerError::unavailable(format!(
                "`{}` is of a cluster, and refused CLUSTER SLOTS, which says who has which keys: {} {}",
                node.server().name,
                error.code(),
                error.details().unwrap_or_default()
            )))
        }
        _ => Ok(None),
    }
}

/// By the answer to `HELLO`, which everybody may ask.
fn is_of_cluster(hello: &Value) -> bool {
    let Value::Array(fields) = hello else {
        return false;
    };
    let is = |value: &Value, text: &[u8]| *value == Value::BulkString(text.into());
    let mut pairs = fields.chunks_exact(2);
    pairs.any(|pair| is(&pair[0], b"mode") && is(&pair[1], b"cluster"))
}
