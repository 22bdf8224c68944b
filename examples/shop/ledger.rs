//! What should arrive, by what was written, and what did arrive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    /// What is still to arrive, by handler and service.
    open: HashMap<(String, String), Vec<Expectation>>,
    /// By handler.
    pub(crate) tallies: BTreeMap<String, Tally>,
    pub(crate) problems: Vec<String>,
    /// Handler and document of every dead letter that should be there.
    pub(crate) dead_letters: BTreeSet<(String, String)>,
    seen: HashSet<String>,
    pub(crate) repeats: u64,
}

#[derive(Debug)]
struct Expectation {
    body: Value,
    correlation: Option<String>,
    acknowledged: Acknowledged,
}

/// When the server acknowledged the write behind an expectation.
type Acknowledged = Arc<OnceLock<Instant>>;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) services: BTreeSet<String>,
    pub(crate) expected: u64,
    pub(crate) arrived: u64,
    arrivals: Vec<(Instant, Acknowledged)>,
}

/// One write to the database, and what must come of it.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    ledger: &'a Ledger,
    correlation: Option<String>,
    acknowledged: Acknowledged,
}

/// A message that a service accepted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) service: String,
    pub(crate) handler: String,
    pub(crate) key: String,
    pub(crate) event_id: String,
    pub(crate) correlation: String,
    pub(crate) body: Value,
}

impl Arrival {
    /// What came to `service`, or what is wrong with it. Without a correlation of its own it is correlated by its event.
    pub(crate) fn new(
        service: &str,
        key: &str,
        event_id: &str,
        correlation: Option<&str>,
        body: &[u8],
    ) -> Result<Self, String> {
        let handler = match key.split('/').collect::<Vec<_>>()[..] {
            [event, handler, _] if event == event_id => handler.to_owned(),
            _ => return Err(format!("{service} got the idempotency key {key}")),
        };
        let body = serde_json::from_slice(body)
            .map_err(|error| format!("{service} got no JSON from {handler}: {error}"))?;
        Ok(Self {
            service: service.to_owned(),
            handler,
            key: key.to_owned(),
            event_id: event_id.to_owned(),
            correlation: correlation.unwrap_or(event_id).to_owned(),
            body,
        })
    }
}

impl Ledger {
    /// Takes note of what came, or of what was wrong with it.
    pub(crate) fn take(&self, arrival: Result<Arrival, String>) {
        match arrival {
            Ok(arrival) => self.arrived(arrival),
            Err(problem) => self.problem(problem),
        }
    }

    pub(crate) fn write(&self) -> Write<'_> {
        Write {
            ledger: self,
            correlation: None,
            acknowledged: Acknowledged::default(),
        }
    }

    /// A message that is part of the writer's order arrives under the order's correlation id.
    pub(crate) fn write_of(&self, correlation: &str) -> Write<'_> {
        Write {
            correlation: Some(correlation.to_owned()),
            ..self.write()
        }
    }

    pub(crate) fn expect_dead_letter(&self, handler: &str, document: &str) {
        let letter = (handler.to_owned(), document.to_owned());
        self.book().dead_letters.insert(letter);
    }

    pub(crate) fn arrived(&self, arrival: Arrival) {
        let at = Instant::now();
        let mut book = self.book();
        if !book
            .seen
            .insert(format!("{} {}", arrival.service, arrival.key))
        {
            book.repeats += 1;
            return;
        }
        let route = (arrival.handler.clone(), arrival.service.clone());
        let open = book.open.entry(route).or_default();
        match open
            .iter()
            .position(|expectation| expectation.is_met_by(&arrival))
        {
            Some(index) => {
                let met = open.remove(index);
                let tally = book.tallies.entry(arrival.handler).or_default();
                tally.arrived += 1;
                tally.arrivals.push((at, met.acknowledged));
            }
            None => book.problems.push(format!(
                "unexpected at {}, from {}: {}",
                arrival.service, arrival.handler, arrival.body
            )),
        }
    }

    pub(crate) fn problem(&self, problem: String) {
        self.book().problems.push(problem);
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write<'_> {
    /// `service` must get from `handler` a message that holds at least what `body` does.
    pub(crate) fn expect(&self, handler: &str, service: &str, body: Value) {
        let mut book = self.ledger.book();
        let tally = book.tallies.entry(handler.to_owned()).or_default();
        tally.expected += 1;
        tally.services.insert(service.to_owned());
        let route = (handler.to_owned(), service.to_owned());
        book.open.entry(route).or_default().push(Expectation {
            body,
            correlation: self.correlation.clone(),
            acknowledged: Arc::clone(&self.acknowledged),
        });
    }

    pub(crate) fn acknowledged(self) {
        self.acknowledged.get_or_init(Instant::now);
    }
}

impl Book {
    pub(crate) fn expected(&self) -> u64 {
        self.tallies.values().map(|tally| tally.expected).sum()
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.tallies.values().map(|tally| tally.arrived).sum()
    }

    /// What has not arrived, a line for each handler and service.
    pub(crate) fn missing(&self) -> Vec<String> {
        let open = self.open.iter();
        let mut missing: Vec<_> = open
            .filter_map(|((handler, service), open)| {
                let (first, count) = (open.first()?, open.len());
                let body = &first.body;
                Some(format!(
                    "missing at {service}, from {handler}: {count}, the first {body}"
                ))
            })
            .collect();
        missing.sort();
        missing
    }
}

impl Tally {
    /// How long messages took from the acknowledged write to their arrival, sorted.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let arrivals = self.arrivals.iter();
        let mut latencies: Vec<_> = arrivals
            .filter_map(|(at, written)| Some(at.saturating_duration_since(*written.get()?)))
            .collect();
        latencies.sort();
        latencies
    }
}

impl Expectation {
    fn is_met_by(&self, arrival: &Arrival) -> bool {
        let correlation = self.correlation.as_ref().unwrap_or(&arrival.event_id);
        *correlation == arrival.correlation && holds(&arrival.body, &self.body)
    }
}

/// Whether `actual` has every field of `expected`, with its value.
fn holds(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(field, expected)| {
                actual
                    .get(field)
                    .is_some_and(|actual| holds(actual, expected))
            })
        }
        (actual, expected) => actual == expected,
    }
}
