//! Plays the shop's other services: writes to the database with the ordinary driver, and notes what must
//! come of each write.

mod consequence;
mod customers;
mod orders;
mod products;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use changestream::mongodb::{
    Collection, Database, error::Result, options::ChangeStreamPreAndPostImages,
};
use fastrand::Rng;
use tokio::time::sleep;

use crate::{
    domain::{Customer, Order, Product, Stock},
    ledger::Ledger,
};

const SEED: u64 = 2026;
const PRODUCTS: usize = 10;
const CUSTOMERS: usize = 6;
/// Between writes, and once all that was asked for is written.
const PAUSE: Duration = Duration::from_millis(15);
const GENTLE_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Writer {
    ledger: Arc<Ledger>,
    progress: Arc<Progress>,
    rng: Rng,
    products: Collection<Product>,
    orders: Collection<Order>,
    customers: Collection<Customer>,
    inventory: Collection<Stock>,
    catalog: Vec<Product>,
    /// What is left of each product once all orders are reserved.
    stock: HashMap<String, i64>,
    open_orders: Vec<Order>,
    people: Vec<Customer>,
    /// So many ids were given out.
    ids: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    writes: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// A writer to `database`, in which it creates the collections.
    pub(crate) async fn new(
        database: &Database,
        ledger: Arc<Ledger>,
        progress: Arc<Progress>,
    ) -> Result<Self> {
        let images = ChangeStreamPreAndPostImages::builder()
            .enabled(true)
            .build();
        for collection in ["products", "orders"] {
            database
                .create_collection(collection)
                .change_stream_pre_and_post_images(images.clone())
                .await?;
        }
        for collection in ["customers", "inventory"] {
            database.create_collection(collection).await?;
        }
        Ok(Self {
            ledger,
            progress,
            rng: Rng::with_seed(SEED),
            products: database.collection("products"),
            orders: database.collection("orders"),
            customers: database.collection("customers"),
            inventory: database.collection("inventory"),
            catalog: Vec::new(),
            stock: HashMap::new(),
            open_orders: Vec::new(),
            people: Vec::new(),
            ids: 0,
        })
    }

    /// Makes about `events` writes, one of them a poisonous order; with `keep_running` then goes on gently
    /// until it is stopped.
    pub(crate) async fn run(mut self, events: u64, keep_running: bool) -> Result<()> {
        for _ in 0..PRODUCTS {
            self.add_product().await?;
        }
        for _ in 0..CUSTOMERS {
            self.add_customer().await?;
        }
        let mut poison = Some(events / 2);
        while !self.progress.is_stopped() {
            let writes = self.progress.writes();
            if poison.is_some_and(|at| writes >= at) {
                poison = None;
                self.place_poisonous_order().await?;
            }
            if writes >= events && !keep_running {
                break;
            }
            self.step().await?;
            if writes >= events {
                sleep(GENTLE_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        match self.rng.u32(0..100) {
            0..22 => self.place_order().await,
            22..58 => self.advance_order().await,
            58..64 => self.cancel_order().await,
            64..70 => self.touch_order().await,
            70..88 => self.change_product().await,
            88..91 => self.add_product().await,
            91..93 => self.delete_product().await,
            93..95 => self.add_customer().await,
            _ => self.change_customer().await,
        }
    }

    /// Counts a write that the server acknowledged.
    async fn written(&self) {
        self.progress.writes.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }

    fn next_id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}-{:04}", self.ids)
    }

    fn choose<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.rng.choice(from.iter().copied()).unwrap_or_default()
    }
}

/// `amount` to the cent, which survives JSON.
fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}
