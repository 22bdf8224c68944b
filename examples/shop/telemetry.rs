//! The runtime's metrics, as any recorder of the `metrics` facade gets them.

use std::collections::HashMap;

use changestream::Delivery;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Attempts at deliveries after the first, by handler.
const REDELIVERIES: &str = "shop_redeliveries_total";
const DEAD_LETTERS: &str = "changestream_dead_letters_total";

#[derive(Debug)]
pub(crate) struct Telemetry {
    snapshotter: Snapshotter,
    /// By metric, label and its value.
    counters: HashMap<(String, String, String), u64>,
}

impl Telemetry {
    /// Installs the recorder of this process.
    pub(crate) fn install() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().expect("the first recorder");
        Self {
            snapshotter,
            counters: HashMap::new(),
        }
    }

    /// Adds what was counted since the last time.
    pub(crate) fn refresh(&mut self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let DebugValue::Counter(count) = value else {
                continue;
            };
            let (_, key) = key.into_parts();
            for label in key.labels() {
                let (label, value) = (label.key().to_owned(), label.value().to_owned());
                let counter = (key.name().to_owned(), label, value);
                *self.counters.entry(counter).or_default() += count;
            }
        }
    }

    pub(crate) fn matched(&self, handler: &str) -> u64 {
        self.counter("changestream_events_total", "handler", handler)
    }

    pub(crate) fn dead_letters(&self, handler: &str) -> u64 {
        self.counter(DEAD_LETTERS, "handler", handler)
    }

    /// Of handlers and of deliveries.
    pub(crate) fn all_dead_letters(&self) -> u64 {
        let counters = self.counters.iter();
        let of_dead_letters = counters.filter(|((name, label, _), _)| {
            name == DEAD_LETTERS && (label == "handler" || label == "sink")
        });
        of_dead_letters.map(|(_, count)| count).sum()
    }

    pub(crate) fn redeliveries(&self, handler: &str) -> u64 {
        self.counter(REDELIVERIES, "handler", handler)
    }

    fn counter(&self, name: &str, label: &str, value: &str) -> u64 {
        let key = (name.to_owned(), label.to_owned(), value.to_owned());
        self.counters.get(&key).copied().unwrap_or_default()
    }
}

/// As a tower layer around each sink, counts retried deliveries by handler, which the runtime does by sink.
pub(crate) fn count_attempt(delivery: Delivery) -> Delivery {
    if delivery.attempt().0 > 1 {
        let handler = delivery.handler().to_owned();
        metrics::counter!(REDELIVERIES, "handler" => handler).increment(1);
    }
    delivery
}
