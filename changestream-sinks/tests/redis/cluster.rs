//! A Redis Cluster.

use std::time::Duration;

use bson::doc;
use changestream_core::{
    Disposition, FailureKind, Message,
    testing::{change, delivery_of},
};
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use futures::{StreamExt as _, future::join_all};
use redis::{FromRedisValue, cluster_routing::Slot};
use tokio::time::{Instant, sleep, timeout};

use crate::{DEADLINE, Redis, assert_error, client, history, of, send, service};

const SLOTS: u16 = 16_384;

/// Nodes that share the slots evenly, in their order.
pub(crate) struct Cluster {
    nodes: Vec<Redis>,
    /// Where others meet the first one.
    port: u16,
}

impl Cluster {
    async fn start(nodes: u16) -> Self {
        let nodes = join_all((0..nodes).map(|_| start_node())).await;
        let port = nodes[0].server.port();
        Self::of(nodes, port).await
    }

    pub(crate) async fn of(nodes: Vec<Redis>, port: u16) -> Self {
        let cluster = Self { nodes, port };
        let of_one = SLOTS.div_ceil(cluster.nodes.len() as u16);
        for (node, epoch) in cluster.nodes.iter().zip(1..) {
            let (begin, end) = ((epoch - 1) * of_one, (epoch * of_one).min(SLOTS) - 1);
            let _: () = node
                .ask(&format!("CLUSTER ADDSLOTSRANGE {begin} {end}"))
                .await;
            let _: () = node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}")).await;
            cluster.meet(node).await;
        }
        for node in &cluster.nodes {
            cluster.wait_for_slots(node).await;
        }
        cluster
    }

    async fn meet(&self, node: &Redis) {
        let meet = format!("CLUSTER MEET 127.0.0.1 {}", self.port);
        let _: () = node.ask(&meet).await;
    }

    /// Until a node knows who has which slot, and takes what it has.
    async fn wait_for_slots(&self, node: &Redis) {
        until(async || {
            let info: String = node.ask("CLUSTER INFO").await;
            let all = format!("cluster_slots_ok:{SLOTS}");
            info.contains("cluster_state:ok") && info.contains(&all)
        })
        .await;
    }

    /// A sink that is told of one node.
    fn sink(&self) -> RedisSink {
        self.nodes[0].sink()
    }

    /// The place of the node that has a key by the slots that it was given first.
    fn place_of(&self, key: &str) -> usize {
        let of_one = SLOTS.div_ceil(self.nodes.len() as u16);
        (slot_of(key) / of_one).into()
    }

    fn node_of(&self, key: &str) -> &Redis {
        &self.nodes[self.place_of(key)]
    }

    /// The first of these keys that a node has.
    fn key_at(&self, place: usize, key: impl Fn(i32) -> String) -> (i32, String) {
        let mut keys = (0..).map(|id| (id, key(id)));
        let key = keys.find(|(_, key)| self.place_of(key) == place);
        key.unwrap()
    }

    async fn get<T: FromRedisValue>(&self, key: &str) -> T {
        self.node_of(key).ask(&format!("GET {key}")).await
    }

    pub(crate) async fn size(&self) -> Vec<usize> {
        join_all(self.nodes.iter().map(|node| node.ask("DBSIZE"))).await
    }
}

fn slot_of(key: &str) -> u16 {
    let slot = (0..SLOTS).find(|slot| Slot::new(*slot) == Some(Slot::for_key(key)));
    slot.unwrap()
}

/// What a node is started with.
pub(crate) const OPTIONS: [(&str, &str); 4] = [
    ("--cluster-enabled", "yes"),
    ("--cluster-node-timeout", "1000"),
    ("--cluster-require-full-coverage", "no"),
    ("--repl-diskless-sync-delay", "0"),
];

async fn start_node() -> Redis {
    let server = RedisServer::builder();
    let server = OPTIONS
        .into_iter()
        .fold(server, |server, (name, value)| server.arg(name).arg(value));
    Redis::of(server.start().await.unwrap()).await
}

/// How many commands a node has not done because another one has the key.
async fn redirects(node: &Redis) -> Option<String> {
    let info: String = node.ask("INFO errorstats").await;
    let mut lines = info.lines();
    lines.find_map(|line| Some(line.strip_prefix("errorstat_MOVED:")?.to_owned()))
}

async fn until(holds: impl AsyncFn() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < DEADLINE, "it does not come to hold");
        sleep(Duration::from_millis(10)).await;
    }
}

fn key(id: i32) -> String {
    format!("s:{id}")
}

async fn send_ok(sink: &changestream_core::BoxSink, id: i32, payload: &str) {
    send(sink, of(id, payload)).await.unwrap();
}

#[tokio::test]
async fn every_node_is_sent_what_it_has() {
    let cluster = Cluster::start(3).await;
    let sink = cluster.sink().set("s:{document_key._id}").unwrap();
    let sink = sink.hash("h:{document_key._id}").unwrap();
    let sink = sink.stream("x:{document_key._id}").unwrap();
    let sink = service(sink.ttl(Duration::from_secs(100)).unwrap());
    let payload = r#"{"a": 1, "b": null}"#;
    let results = join_all((0..100).map(|id| send(&sink, of(id, payload)))).await;
    results.into_iter().for_each(Result::unwrap);
    for id in 0..100 {
        assert_eq!(cluster.get::<String>(&key(id)).await, payload);
        let hash = cluster.node_of(&format!("h:{id}"));
        assert_eq!(hash.ask::<String>(&format!("HGET h:{id} a")).await, "1");
        assert!(hash.ask::<i32>(&format!("TTL h:{id}")).await > 0);
        let stream = cluster.node_of(&format!("x:{id}"));
        assert_eq!(stream.ask::<usize>(&format!("XLEN x:{id}")).await, 1);
    }
    let size = cluster.size().await;
    assert_eq!(size.iter().sum::<usize>(), 300);
    assert!(size.iter().all(|size| *size > 50), "{size:?}");
    for node in &cluster.nodes {
        assert_eq!(redirects(node).await, None);
    }

    let remove = cluster
        .sink()
        .unlink(["s:{document_key._id}", "h:1", "h:2", "h:3"]);
    let remove = service(remove.unwrap());
    let results = join_all((0..100).map(|id| send(&remove, of(id, "m")))).await;
    results.into_iter().for_each(Result::unwrap);
    assert_eq!(cluster.size().await.iter().sum::<usize>(), 197);
}

#[tokio::test]
async fn what_matches_is_removed_from_every_node() {
    let cluster = Cluster::start(3).await;
    let fill = service(
        cluster
            .sink()
            .set("{full_document.prefix}:{document_key._id}")
            .unwrap(),
    );
    let fill = async |prefix: &str| {
        let results = (0..1000).map(|id| {
            let document = doc! { "_id": id, "prefix": prefix };
            let change = change::insert("products").id(id).full_document(&document);
            send(&fill, delivery_of(change, Message::new("m", "text/plain")))
        });
        join_all(results).await.into_iter().for_each(Result::unwrap);
    };
    fill("a").await;
    fill("b").await;
    let sink = cluster.sink().unlink_matching("a:*").unwrap();
    send_ok(&service(sink.clone()), 1, "m").await;
    assert_eq!(cluster.size().await.iter().sum::<usize>(), 1000);

    fill("a").await;
    let few = service(sink.max_matches(900));
    let message = format!(
        "more than 900 keys of `{}` match; so many were removed, and the others are still there",
        cluster.nodes[0].server.addr()
    );
    assert_error(send(&few, of(1, "m")).await, Disposition::Reject, &message);
    assert_eq!(cluster.size().await.iter().sum::<usize>(), 1100);
}

#[tokio::test]
async fn what_is_told_later_is_done_later_at_whichever_node() {
    let cluster = Cluster::start(3).await;
    let (_, slow) = cluster.key_at(2, key);
    let (_, fast) = cluster.key_at(0, key);
    let _: () = cluster.nodes[2].ask(&format!("SET {slow} x")).await;
    let _: () = cluster.nodes[0].ask(&format!("SET {fast} x")).await;
    let client = redis::Client::open(cluster.nodes[1].server.uri()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.subscribe("changed").await.unwrap();
    let sink = cluster.sink().unlink([slow.clone(), fast]).unwrap();
    let sink = service(sink.publish("changed").unwrap());
    let _: () = cluster.nodes[2].ask("CLIENT PAUSE 500 WRITE").await;
    let hearing = async {
        let heard = timeout(DEADLINE, subscription.on_message().next()).await;
        heard.unwrap().unwrap();
        cluster.nodes[2]
            .ask::<bool>(&format!("EXISTS {slow}"))
            .await
    };
    let (is_there, ()) = tokio::join!(hearing, send_ok(&sink, 1, "m"));
    assert!(!is_there, "it was told before it was done");
}

#[tokio::test]
async fn what_is_done_at_once_is_at_one_node() {
    let cluster = Cluster::start(3).await;
    let scattered = cluster.sink().set("s:{document_key._id}").unwrap();
    let scattered = scattered.stream("x:{document_key._id}").unwrap().atomic();
    let message = "the keys of what is to be done at once have several slots of a cluster; leave `.atomic()` out, or \
        give them one hash tag, as `{1}` in `product:{1}` and `prices:{1}`";
    let result = send(&service(scattered), of(1, "m")).await;
    assert_error(result, Disposition::Reject, message);
    assert_eq!(cluster.size().await, [0, 0, 0]);

    let together = cluster.sink().set("s:{{{document_key._id}}}").unwrap();
    let together = together.stream("x:{{{document_key._id}}}").unwrap();
    let together = service(together.publish("changed").unwrap().atomic());
    for id in 0..20 {
        send_ok(&together, id, "m").await;
        let node = cluster.node_of(&format!("s:{{{id}}}"));
        let there = format!("EXISTS s:{{{id}}} x:{{{id}}}");
        assert_eq!(node.ask::<usize>(&there).await, 2);
    }
    assert_eq!(cluster.size().await.iter().sum::<usize>(), 40);
}

#[tokio::test]
async fn keys_that_move_to_another_node_are_followed() {
    let cluster = Cluster::start(3).await;
    let [to, other, from] = &cluster.nodes[..] else {
        panic!("three nodes")
    };
    let sink = cluster.sink().ttl(Duration::from_secs(100)).unwrap();
    let sink = sink.hash("h{{0}}:{document_key._id}").unwrap();
    let sinks = [sink.clone(), sink.clone().atomic()].map(service);
    let several = service(sink.set("s{{0}}:{document_key._id}").unwrap().atomic());
    let slot = slot_of("{0}");
    assert_eq!(cluster.place_of("{0}"), 2, "where the test takes it from");
    let payload = r#"{"a": 1, "b": null}"#;
    for sink in &sinks {
        send_ok(sink, 1, payload).await;
    }
    let (from_id, to_id): (String, String) =
        (from.ask("CLUSTER MYID").await, to.ask("CLUSTER MYID").await);
    let set_slot = |what: &str| format!("CLUSTER SETSLOT {slot} {what}");
    let _: () = to.ask(&set_slot(&format!("IMPORTING {from_id}"))).await;
    let _: () = from.ask(&set_slot(&format!("MIGRATING {to_id}"))).await;
    for (sink, id) in sinks.iter().zip(2..) {
        // Those that are there stay, others are made at the new node.
        send_ok(sink, 1, payload).await;
        send_ok(sink, id, payload).await;
    }
    assert_eq!(from.keys().await, ["h{0}:1"]);
    assert_eq!(to.keys().await, ["h{0}:2", "h{0}:3"]);
    // A node does not know yet whether it will have all of them.
    let error = send(&several, of(4, payload)).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    assert!(
        error.to_string().contains(" refused EXEC: TRYAGAIN "),
        "{error}"
    );

    // It knows where the slot was when that changes.
    send_ok(&sinks[0], 1, payload).await;
    let port = to.server.port();
    let _: String = from
        .ask(&format!("MIGRATE 127.0.0.1 {port} h{{0}}:1 0 5000"))
        .await;
    for node in [to, from, other] {
        let _: () = node.ask(&set_slot(&format!("NODE {to_id}"))).await;
    }
    send_ok(&several, 4, payload).await;
    for (sink, id) in sinks.iter().zip(5..) {
        send_ok(sink, 1, payload).await;
        send_ok(sink, id, payload).await;
    }
    assert_eq!(from.keys().await, [""; 0]);
    assert_eq!(to.keys().await.len(), 7);
    for id in 1..=6 {
        let key = format!("h{{0}}:{id}");
        assert_eq!(to.ask::<String>(&format!("HGET {key} a")).await, "1");
        assert!(to.ask::<i32>(&format!("TTL {key}")).await > 0, "{key}");
    }
    // It is known by now.
    let before = redirects(from).await;
    assert!(before.is_some());
    for sink in &sinks {
        send_ok(sink, 1, payload).await;
    }
    assert_eq!(redirects(from).await, before);
}

#[tokio::test]
async fn a_node_that_is_down_fails_only_what_it_has() {
    let cluster = Cluster::start(3).await;
    let sink = service(cluster.sink().set("s:{document_key._id}").unwrap());
    let ids = [0, 1, 2].map(|place| cluster.key_at(place, key).0);
    for id in ids {
        send_ok(&sink, id, "first").await;
    }
    // The one that the sink was told of.
    cluster.nodes[0].server.kill().await.unwrap();
    for round in ["second", "third"] {
        let results = join_all(ids.map(|id| send(&sink, of(id, round)))).await;
        let [lost, others @ ..] = &results[..] else {
            panic!("three results")
        };
        let error = lost.as_ref().unwrap_err();
        if round == "third" {
            assert_eq!(error.kind(), FailureKind::Unavailable);
        }
        let host = cluster.nodes[0].server.addr().to_string();
        assert!(error.to_string().contains(&host), "{error}");
        for result in others {
            assert!(result.is_ok(), "{result:?}");
        }
    }
    for id in &ids[1..] {
        assert_eq!(cluster.get::<String>(&key(*id)).await, "third");
    }
    let lost = key(ids[0]);
    let in_turn = cluster.nodes[1].sink().unlink([lost]).unwrap();
    let in_turn = service(in_turn.set(key(ids[1])).unwrap());
    assert!(send(&in_turn, of(1, "too soon")).await.is_err());
    assert_eq!(cluster.get::<String>(&key(ids[1])).await, "third");

    cluster.nodes[0].server.restart().await.unwrap();
    until(async || send(&sink, of(ids[0], "fourth")).await.is_ok()).await;
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found() {
    let cluster = Cluster::start(3).await;
    let replica = start_node().await;
    cluster.meet(&replica).await;
    cluster.wait_for_slots(&replica).await;
    let lost: String = cluster.nodes[2].ask("CLUSTER MYID").await;
    let _: () = replica.ask(&format!("CLUSTER REPLICATE {lost}")).await;
    let is_in_sync = |info: String| info.contains("master_link_status:up");
    until(async || is_in_sync(replica.ask("INFO replication").await)).await;

    let sink = service(cluster.sink().set("s:{document_key._id}").unwrap());
    let (id, key) = cluster.key_at(2, key);
    send_ok(&sink, id, "first").await;
    cluster.nodes[2].server.kill().await.unwrap();
    until(async || send(&sink, of(id, "second")).await.is_ok()).await;
    assert_eq!(replica.ask::<String>(&format!("GET {key}")).await, "second");
}

#[tokio::test]
async fn a_cluster_whose_nodes_may_not_be_asked_for_is_said_to_be_one() {
    let cluster = Cluster::start(3).await;
    let (id, key) = cluster.key_at(2, key);
    let host = cluster.nodes[0].server.addr();
    let _: () = cluster.nodes[0]
        .ask("ACL SETUSER shop on >s3cret ~* +client|info +set")
        .await;
    let sink = RedisSink::new(format!("redis://shop:s3cret@{host}")).unwrap();
    let patterns = service(sink.clone().unlink_matching("s:*").unwrap());
    let sink = service(sink.set("s:{document_key._id}").unwrap());
    let message = format!(
        "`{host}` is of a cluster, and refused CLUSTER SLOTS, which says who has which keys: NOPERM this user has no \
         permissions to run the 'cluster|slots' command"
    );
    for sink in [&sink, &patterns] {
        assert_error(send(sink, of(id, "m")).await, Disposition::Retry, &message);
    }
    for node in &cluster.nodes {
        let _: () = node
            .ask("ACL SETUSER shop on >s3cret ~* +client|info +set +cluster|slots")
            .await;
    }
    send_ok(&sink, id, "m").await;
    assert_eq!(cluster.get::<String>(&key).await, "m");
}

#[tokio::test]
async fn nothing_is_lost_when_nodes_are_killed_and_all_of_a_document_comes_in_order() {
    let cluster = Cluster::start(3).await;
    let sink = cluster.sink().stream("x:{document_key._id}").unwrap();
    let (_, watched) = cluster.key_at(1, |id| format!("x:{id}"));
    let len = async || -> i32 {
        let mut len = redis::cmd("XLEN");
        len.arg(&watched);
        let mut client = client(&cluster.nodes[1].server.uri()).await;
        len.query_async(&mut client).await.unwrap()
    };
    let kills = async {
        for (kill, place) in [0, 2, 1].into_iter().enumerate() {
            until(async || len().await >= (kill as i32 + 1) * history::EACH / 5).await;
            cluster.nodes[place].server.kill().await.unwrap();
            cluster.nodes[place].server.restart().await.unwrap();
        }
    };
    history::run(sink, kills).await;

    let mut all = Vec::new();
    for document in 0..history::DOCUMENTS {
        let key = format!("x:{document}");
        let entries = history::entries(&cluster.node_of(&key).server, &key).await;
        assert!(entries.iter().all(|entry| entry.update().0 == document));
        all.extend(entries);
    }
    history::assert_all_came(all);
}
