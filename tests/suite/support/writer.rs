//! A client that writes all the time, whatever happens to its server.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use mongodb::{
    Collection,
    bson::{Document, doc},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Event, PATIENCE, Seen, within};

/// How many documents a writer keeps changing.
const DOCUMENTS: i64 = 8;

/// Gives documents one new version after the other, in turn, until it is stopped.
pub(crate) struct Writer {
    stop: watch::Sender<bool>,
    acknowledged: watch::Receiver<Vec<Version>>,
    task: JoinHandle<()>,
}

/// A document's id and its version.
pub(crate) type Version = (i64, i64);

impl Writer {
    pub(crate) fn start(collection: Collection<Document>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (acknowledge, acknowledged) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            for n in 0_i64.. {
                if *stopped.borrow() {
                    return;
                }
                let id = n % DOCUMENTS;
                let update = doc! { "$set": { "n": n } };
                let written = collection
                    .update_one(doc! { "_id": id }, update)
                    .upsert(true);
                if written.await.is_ok() {
                    acknowledge.send_modify(|versions| versions.push((id, n)));
                }
            }
        });
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) async fn more(&mut self, count: usize) {
        let count = self.acknowledged.borrow().len() + count;
        let enough = self
            .acknowledged
            .wait_for(|versions| versions.len() >= count);
        within("writes are acknowledged", enough)
            .await
            .expect("the writer writes");
    }

    /// Stops it; what was acknowledged.
    pub(crate) async fn stop(self) -> Vec<Version> {
        self.stop.send_replace(true);
        within("the writer stops", self.task)
            .await
            .expect("no panic");
        self.acknowledged.borrow().clone()
    }
}

/// Waits until every one of `versions` was seen, and checks that each document's versions came in order and once.
pub(crate) async fn assert_all_in_order(seen: &Seen, versions: &[Version]) {
    let events = all(seen, versions).await;
    let mut newest = HashMap::new();
    for (id, n) in events.iter().filter_map(version) {
        let before = newest.insert(id, n);
        assert!(
            before.is_none_or(|before| before < n),
            "document {id}: {n} came after {before:?}"
        );
    }
}

/// Waits until every one of `versions` was seen.
pub(crate) async fn all(seen: &Seen, versions: &[Version]) -> Vec<Event> {
    let look = || {
        let events = seen.events();
        let handled: HashSet<_> = events.iter().filter_map(version).collect();
        let missing = versions.iter().filter(|version| !handled.contains(version));
        (missing.copied().collect::<Vec<_>>(), events)
    };
    // Not `until`: the set is made once per look, not once per event.
    let looking = async {
        loop {
            let (missing, events) = look();
            if missing.is_empty() {
                return events;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    match timeout(PATIENCE, looking).await {
        Ok(events) => events,
        Err(_elapsed) => {
            let (missing, events) = look();
            panic!(
                "of {} acknowledged writes {missing:?} are not handled; the last event is {:?}",
                versions.len(),
                events.last()
            );
        }
    }
}

fn version(event: &Event) -> Option<Version> {
    event.id.zip(event.n)
}
