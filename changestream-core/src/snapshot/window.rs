use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bson::{RawDocument, Timestamp};

use super::record;
use crate::event::{Namespace, RawChange};

/// How many changed documents a window tells apart; with more, all count as changed.
const MOST: usize = 10_000;

const NEVER: Timestamp = Timestamp {
    time: 0,
    increment: 0,
};

/// Where the stream is, and what it changes in the collections that are being read.
#[derive(Debug)]
pub(crate) struct Windows(Mutex<State>);

#[derive(Debug)]
struct State {
    position: Timestamp,
    next: u64,
    open: HashMap<u64, Changed>,
}

/// What was changed in a collection since a time, and when last.
#[derive(Debug)]
struct Changed {
    namespace: Namespace,
    since: Timestamp,
    documents: HashMap<Vec<u8>, Timestamp>,
    /// All of the collection.
    all: Timestamp,
}

/// Open until it is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    windows: Arc<Windows>,
    number: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self(Mutex::new(State {
            position: NEVER,
            next: 0,
            open: HashMap::new(),
        }))
    }
}

impl Windows {
    pub(crate) fn open(self: &Arc<Self>, namespace: Namespace) -> Window {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let changed = Changed {
            namespace,
            since: NEVER,
            documents: HashMap::new(),
            all: NEVER,
        };
        state.open.insert(number, changed);
        Window {
            windows: Arc::clone(self),
            number,
        }
    }

    /// The stream has come to events.
    pub(crate) fn note(&self, changes: &[RawChange]) {
        let mut state = self.lock();
        let State { position, open, .. } = &mut *state;
        for change in changes {
            let Some(time) = change.cluster_time() else {
                continue;
            };
            *position = (*position).max(time.0);
            for changed in open.values_mut() {
                changed.note(change, time.0);
            }
        }
    }

    /// The stream has come to a time.
    pub(crate) fn reach(&self, time: Timestamp) {
        let mut state = self.lock();
        state.position = state.position.max(time);
    }

    pub(crate) fn position(&self) -> Timestamp {
        self.lock().position
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// What was changed until `now` does not count, for what is read will not be older. Returns the time that it
    /// must not be older than.
    pub(crate) fn begin(&self, now: Timestamp) -> Timestamp {
        let mut state = self.windows.lock();
        // Whoever told the time may be behind, as a primary that is none any more.
        let since = state.position.max(now);
        if let Some(changed) = state.open.get_mut(&self.number) {
            changed.since = since;
            changed.documents.retain(|_, time| *time > since);
        }
        since
    }

    /// Whether the stream has changed the document of this key since.
    pub(crate) fn has_changed(&self, key: &RawDocument) -> bool {
        let state = self.windows.lock();
        state
            .open
            .get(&self.number)
            .is_none_or(|changed| changed.has_changed(key))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.lock().open.remove(&self.number);
    }
}

impl Changed {
    fn note(&mut self, change: &RawChange, time: Timestamp) {
        if time <= self.since {
            return;
        }
        let Some(key) = change.raw_document_key().and_then(record::key) else {
            // A drop, a rename and the like.
            self.all = self.all.max(time);
            return;
        };
        if change.database() != self.namespace.database()
            || change.collection() != self.namespace.collection()
        {
            return;
        }
        self.documents.insert(key.into_bytes(), time);
        if self.documents.len() > MOST {
            self.documents.clear();
            self.all = self.all.max(time);
        }
    }

    fn has_changed(&self, key: &RawDocument) -> bool {
        let last = self.documents.get(key.as_bytes()).copied();
        last.unwrap_or(NEVER).max(self.all) > self.since
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, rawdoc};

    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 1 }
    }

    fn event(collection: &str, id: i32, time: u32) -> RawChange {
        let event = rawdoc! {
            "_id": { "_data": "82" }, "operationType": "update", "clusterTime": at(time),
            "ns": { "db": "shop", "coll": collection }, "documentKey": { "shard": 7, "_id": id },
        };
        RawChange::new(event.into_bytes()).expect("an event")
    }

    fn orders(windows: &Arc<Windows>) -> Window {
        windows.open(Namespace::new("shop", Some("orders".into())))
    }

    fn changed(window: &Window, id: impl Into<Bson>) -> bool {
        let key = bson::serialize_to_raw_document_buf(&bson::doc! { "_id": id.into() });
        window.has_changed(&key.expect("a key"))
    }

    #[test]
    fn what_the_stream_changes_after_the_time_counts() {
        let windows = Arc::default();
        let window = orders(&windows);
        windows.note(&[event("orders", 1, 4)]);
        windows.note(&[event("orders", 2, 6)]);
        assert_eq!(
            window.begin(at(5)),
            at(6),
            "the stream is ahead of the clock"
        );
        windows.note(&[event("orders", 3, 6)]);
        windows.note(&[event("orders", 4, 7)]);
        windows.note(&[event("products", 5, 7)]);
        let found: Vec<_> = (1..6).filter(|id| changed(&window, *id)).collect();
        assert_eq!(found, [4]);
    }

    #[test]
    fn a_change_between_the_time_and_the_stream_counts() {
        let windows = Arc::default();
        let window = orders(&windows);
        windows.note(&[event("orders", 1, 3)]);
        assert_eq!(window.begin(at(5)), at(5));
        windows.note(&[event("orders", 2, 4)]);
        windows.note(&[event("orders", 3, 6)]);
        let found: Vec<_> = (1..4).filter(|id| changed(&window, *id)).collect();
        assert_eq!(found, [3]);
    }

    #[test]
    fn a_drop_changes_every_document() {
        let windows = Arc::default();
        let window = orders(&windows);
        window.begin(at(5));
        let drop = rawdoc! {
            "_id": { "_data": "82" }, "operationType": "drop", "clusterTime": at(6),
            "ns": { "db": "shop", "coll": "orders" },
        };
        windows.note(&[RawChange::new(drop.into_bytes()).expect("an event")]);
        assert!(changed(&window, 1));
    }

    #[test]
    fn memory_is_bounded_and_no_change_is_forgotten() {
        let windows = Arc::default();
        let window = orders(&windows);
        window.begin(at(5));
        for id in 0..=MOST as i32 {
            windows.note(&[event("orders", id, 6)]);
        }
        let kept = windows.lock().open[&window.number].documents.len();
        assert!(kept <= MOST);
        assert!(changed(&window, 0) && changed(&window, "another"));
    }

    #[test]
    fn a_closed_window_costs_nothing() {
        let windows: Arc<Windows> = Arc::default();
        drop(orders(&windows));
        assert!(windows.lock().open.is_empty());
    }
}
