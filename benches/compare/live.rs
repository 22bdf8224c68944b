//! What is written while a contestant runs, so that it can tell how long ago.

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mongodb::{Database, options::WriteConcern};
use serde::{Deserialize, Serialize};
use tokio::{select, time::interval};

use crate::{
    Figures, Result,
    backlog::{Item, collection},
    measure::Measure,
};

/// From a write to the next.
pub(crate) const PERIOD: Duration = Duration::from_millis(5);

/// Some contestants take all of the machine for seconds when they start. A machine that writes fewer has no time for them.
const LEAST: f64 = 150.0;

/// Inserts 200 items in a second until the contestant is done, and counts them.
pub(crate) async fn write_during<T>(
    contestant: impl Future<Output = Result<T>>,
    database: &Database,
    written: &mut u64,
) -> Result<T> {
    let items = database.collection::<Timed>(&collection(0));
    let mut contestant = pin!(contestant);
    let mut clock = interval(PERIOD);
    let (begin, before) = (Instant::now(), *written);
    loop {
        select! {
            done = &mut contestant => {
                let rate = (*written - before) as f64 / begin.elapsed().as_secs_f64();
                return match done {
                    Ok(_) if rate < LEAST => {
                        Err(format!("only {rate:.0} items were written in a second").into())
                    }
                    done => done,
                };
            }
            _ = clock.tick() => {}
        }
        let insert = items.insert_one(Timed::new(*written));
        insert.write_concern(WriteConcern::majority()).await?;
        *written += 1;
    }
}

/// An [`Item`] and when it was written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timed {
    #[serde(rename = "_id")]
    id: u64,
    sku: String,
    name: String,
    category: String,
    price: f64,
    quantity: i32,
    status: String,
    description: String,
    pub(crate) written: f64,
}

impl Timed {
    fn new(id: u64) -> Self {
        let item = Item::new(id, Item::LEAST_BYTES);
        Self {
            id,
            sku: item.sku,
            name: item.name,
            category: item.category,
            price: item.price,
            quantity: item.quantity,
            status: item.status,
            description: item.description,
            written: now(),
        }
    }
}

/// In microseconds since the Unix epoch: a double, which is a plain number in every JSON.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e6)
}

/// How long ago each event was written when it was handled.
#[derive(Default)]
pub(crate) struct Ages(Vec<f64>);

impl Ages {
    pub(crate) fn note(&mut self, written: f64) {
        self.0.push(now() - written);
    }

    /// Those of the second half. The first one warms up.
    pub(crate) fn figures(&self) -> Figures {
        let (p50, p99) = percentiles(self.0[self.0.len() / 2..].to_vec());
        Figures::from([(Measure::FromWriteP50, p50), (Measure::FromWriteP99, p99)])
    }
}

/// The 50th and the 99th.
///
/// # Panics
///
/// When there are no values.
pub(crate) fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values[values.len() * percent / 100];
    (at(50), at(99))
}
