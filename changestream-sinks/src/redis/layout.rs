//! Which node has which keys.

use std::collections::HashMap;

use ::redis::{Value, cluster_routing::Slot};
use changestream_core::HandlerError;

use super::{connection::Connection, plan::Part, server::Address};

pub(super) enum Layout {
    /// No cluster.
    Single(Connection),
    Cluster(Cluster),
}

#[derive(Default)]
pub(super) struct Cluster {
    primaries: Vec<Connection>,
    of_slots: HashMap<Slot, usize>,
}

impl Layout {
    /// The node that has the keys.
    pub(super) fn node(&self, part: &Part) -> Result<&Connection, HandlerError> {
        let cluster = match self {
            Self::Single(node) => return Ok(node),
            Self::Cluster(cluster) => cluster,
        };
        let place = cluster.of_slots.get(&part.slot()?);
        let node = place.and_then(|place| cluster.primaries.get(*place));
        node.ok_or_else(|| HandlerError::unavailable("no node of the Redis cluster has the key"))
    }

    /// The nodes that have keys.
    pub(super) fn primaries(&self) -> &[Connection] {
        match self {
            Self::Single(node) => std::slice::from_ref(node),
            Self::Cluster(cluster) => &cluster.primaries,
        }
    }
}

impl Cluster {
    /// That of the answer to `CLUSTER SLOTS`: ranges of slots, each with the address of its primary, and then those of replicas.
    pub(super) fn of(
        slots: &[Value],
        host: &str,
        mut connection: impl FnMut(Address) -> Connection,
    ) -> Self {
        let mut cluster = Self::default();
        let mut places = HashMap::new();
        for range in slots {
            let Some((begin, end, address)) = range_of(range, host) else {
                continue;
            };
            let place = *places.entry(address.clone()).or_insert_with(|| {
                cluster.primaries.push(connection(address));
                cluster.primaries.len() - 1
            });
            let slots = (begin..=end).filter_map(Slot::new);
            cluster.of_slots.extend(slots.map(|slot| (slot, place)));
        }
        cluster
    }
}

fn range_of(range: &Value, host: &str) -> Option<(u16, u16, Address)> {
    let Value::Array(range) = range else {
        return None;
    };
    let [
        Value::Int(begin),
        Value::Int(end),
        Value::Array(primary),
        ..,
    ] = range.as_slice()
    else {
        return None;
    };
    let [name, Value::Int(port), ..] = primary.as_slice() else {
        return None;
    };
    let name = match name {
        Value::BulkString(name) => std::str::from_utf8(name).ok()?,
        _ => "",
    };
    let address = Address::of_node(name, host, (*port).try_into().ok()?)?;
    Some(((*begin).try_into().ok()?, (*end).try_into().ok()?, address))
}
