//! G11 with processes of their own: one is killed, one is stopped and goes on past its lease.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use changestream::{Lease, LeaseStore, MongoLeases};
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{DateTime, Document, doc},
};
use nix::sys::signal::Signal;

use crate::support::{
    BoxError, RUNTIME, TestResult,
    child::{Child, Settings, copies, wait_until_watching},
    commit::Commits,
    eventually,
    preload::WrongClock,
    within,
    writer::Writer,
};

/// Not a test: the service that the tests below start as a process of its own.
/// A child, and a replica of it in this process, with a lease of four seconds.
struct Pair {
    server: MongoServer,
    client: Client,
    child: Child,
    commits: Commits,
}

impl Pair {
    const LEASE: Duration = Duration::from_secs(4);

    /// Starts a child that stops itself before this one of its saves.
    async fn start(stops_at_save: u32) -> Result<Self, BoxError> {
        let server = MongoServer::start().await?;
        let client = crate::support::client(&server.uri()).await;
        let commits = Commits::watch(&client.database("shop")).await?;
        let settings = Settings {
            stops_at_save,
            ..Self::settings()
        };
        let child = Child::start(&server.uri(), settings);
        wait_until_watching(&client).await;
        Ok(Self {
            server,
            client,
            child,
            commits,
        })
    }

    fn settings() -> Settings {
        Settings {
            lease: Self::LEASE,
            ..Settings::default()
        }
    }

    fn standby(&self) -> Child {
        Child::start(&self.server.uri(), Self::settings())
    }

    async fn lease(&self) -> Lease {
        let leases = MongoLeases::new(&self.client.database("shop"));
        let lease = leases.load(RUNTIME).await.expect("read");
        lease.expect("it was held")
    }

    /// Until when the lease is given, on the server's clock.
    async fn expires_at(&self) -> DateTime {
        let leases = self.client.database("shop");
        let leases = leases.collection::<Document>(MongoLeases::COLLECTION);
        let lease = leases.find_one(doc! { "_id": RUNTIME }).await;
        let lease = lease.expect("read").expect("it was held");
        *lease.get_datetime("expiresAt").expect("a time")
    }

    async fn insert(&self, ids: std::ops::Range<i64>) -> TestResult {
        let orders = self
            .client
            .database("shop")
            .collection::<Document>("orders");
        for id in ids {
            orders.insert_one(doc! { "_id": id, "n": id }).await?;
        }
        Ok(())
    }

    async fn all_copied(&self, ids: std::ops::Range<i64>) {
        eventually("all of them are copied", async || {
            let copies = copies(&self.client).await;
            ids.clone()
                .all(|id| copies.contains(&(id, id)))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_holder_is_replaced_within_the_lease_time() -> TestResult {
    let mut pair = Pair::start(0).await?;
    let standby = pair.standby();
    pair.insert(0..5).await?;
    pair.all_copied(0..5).await;
    pair.child.signal(Signal::SIGKILL);
    let killed = Instant::now();
    within("the child ends", pair.child.wait()).await;
    pair.insert(5..10).await?;
    pair.all_copied(0..10).await;
    // Starting to watch takes its time too on a slow machine.
    let taken = killed.elapsed();
    assert!(taken < Pair::LEASE + Duration::from_secs(20), "{taken:?}");
    assert_eq!(pair.lease().await.epoch, 2);
    pair.commits.assert_in_order();
    standby.stop().await;
    Ok(())
}

/// One clock is an hour slow, the other one an hour fast: by either, a lease would long be over, or be so in an hour.
#[tokio::test]
async fn whose_clock_is_wrong_by_an_hour_neither_takes_a_lease_nor_keeps_one() -> TestResult {
    const HOUR: i64 = 3_600;
    let clock = WrongClock::build();
    tokio::try_join!(
        stand_by_and_take_over(&clock, -HOUR, HOUR),
        stand_by_and_take_over(&clock, HOUR, -HOUR),
    )?;
    Ok(())
}

async fn stand_by_and_take_over(clock: &WrongClock, holder: i64, standby: i64) -> TestResult {
    let server = MongoServer::start().await?;
    let start = |wrong_by| {
        let environment = clock.wrong_by(wrong_by);
        Child::start_with(&server.uri(), Pair::settings(), environment)
    };
    let child = start(holder);
    let client = crate::support::client(&server.uri()).await;
    wait_until_watching(&client).await;
    let standby = start(standby);
    let mut pair = Pair {
        commits: Commits::watch(&client.database("shop")).await?,
        server,
        client,
        child,
    };
    pair.insert(0..5).await?;
    pair.all_copied(0..5).await;
    let given = pair.expires_at().await;
    eventually("the lease is renewed for twice its time", async || {
        let longer = pair.expires_at().await.saturating_duration_since(given);
        (longer > 2 * Pair::LEASE).then_some(())
    })
    .await;
    assert_eq!(pair.lease().await.epoch, 1, "the other one stands by");
    pair.child.signal(Signal::SIGKILL);
    within("the child ends", pair.child.wait()).await;
    pair.insert(5..10).await?;
    pair.all_copied(0..10).await;
    assert_eq!(pair.lease().await.epoch, 2);
    pair.commits.assert_in_order();
    standby.stop().await;
    Ok(())
}

/// The child stops in the middle of its work, with a commit on its tongue.
#[tokio::test]
async fn a_stopped_holder_that_goes_on_past_its_lease_commits_nothing_and_stands_by() -> TestResult
{
    let pair = Pair::start(2).await?;
    let standby = pair.standby();
    pair.insert(0..20).await?;
    eventually("the other one takes over", async || {
        (pair.lease().await.epoch == 2).then_some(())
    })
    .await;
    pair.insert(20..40).await?;
    pair.all_copied(0..40).await;
    pair.child.signal(Signal::SIGCONT);
    pair.insert(40..60).await?;
    pair.all_copied(0..60).await;
    assert_eq!(pair.lease().await.epoch, 2, "nobody took it back");

    // Who came back stands by, and takes over in its turn.
    standby.stop().await;
    pair.insert(100..105).await?;
    pair.all_copied(100..105).await;
    assert_eq!(pair.lease().await.epoch, 3);
    pair.commits.assert_in_order();
    pair.child.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_partitions_of_a_killed_replica_go_on_in_order() -> TestResult {
    const PARTITIONS: u32 = 4;
    let server = MongoServer::start().await?;
    let client = crate::support::client(&server.uri()).await;
    let shop = client.database("shop");
    let commits = Commits::watch(&shop).await?;
    let settings = Settings {
        partitions: PARTITIONS,
        ..Pair::settings()
    };
    let mut killed = Child::start(&server.uri(), settings);
    let others = [Child::start(&server.uri(), settings)];
    let leases = MongoLeases::new(&shop);
    let seats = ["replica/0", "replica/1"].map(str::to_owned);
    let parts = seats
        .into_iter()
        .chain((0..PARTITIONS).map(|index| index.to_string()));
    let names: Vec<_> = parts.map(|part| format!("{RUNTIME}/{part}")).collect();
    eventually(
        "both replicas are there, and all partitions taken",
        async || {
            let leases = leases.load_all(&names).await.expect("leases");
            let mut leases = leases.iter();
            leases
                .all(|lease| lease.as_ref().is_some_and(|lease| !lease.is_free()))
                .then_some(())
        },
    )
    .await;
    let mut writer = Writer::start(shop.collection("orders"));
    writer.more(100).await;
    killed.signal(Signal::SIGKILL);
    within("the child ends", killed.wait()).await;
    let others = others
        .into_iter()
        .chain([Child::start(&server.uri(), settings)]);
    writer.more(100).await;
    let written = writer.stop().await;
    let copied = eventually("every acknowledged write is copied", async || {
        let copied = copies(&client).await;
        let known: HashSet<_> = copied.iter().collect();
        written
            .iter()
            .all(|version| known.contains(version))
            .then_some(copied)
    })
    .await;
    let (mut known, mut newest) = (HashSet::new(), HashMap::new());
    for (id, n) in copied {
        if known.insert((id, n)) {
            let before = newest.insert(id, n);
            assert!(
                before.is_none_or(|before| before < n),
                "{n} after {before:?}"
            );
        }
    }
    commits.assert_in_order();
    for child in others {
        child.stop().await;
    }
    Ok(())
}
