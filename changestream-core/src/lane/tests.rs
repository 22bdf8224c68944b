//! Events on the lanes, and batches, in virtual time.

use std::{thread, time::Duration};

use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    Attempt, HandlerError, HandlerSpec, MemoryCheckpoints, MemoryDeadLetters, MemoryLeases,
    builder::RuntimeBuilder,
    snapshot::MemorySnapshots,
    testing::change::{self, DATABASE},
};

const WITHIN: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

/// A batch that the handler was given: when, which attempt, and the ids of its documents.
type Seen = (Duration, u32, Vec<i32>);

/// Lanes with a handler of batches of four orders at most, each of which takes `lasts`, and that fails as told; and
/// others of one event.
struct Stage {
    lanes: Lanes,
    seen: mpsc::UnboundedReceiver<Seen>,
    /// The ids of what the others were begun with.
    begins: mpsc::UnboundedReceiver<i32>,
}

fn id(change: &RawChange) -> i32 {
    let key = change.document_key().expect("a key");
    key.get("_id").expect("an integer").expect("an id")
}

impl Stage {
    fn new(config: Config, lasts: Duration, fail: fn(u32, i32) -> Option<HandlerError>) -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        let began = Instant::now();
        let orders = move |batch: Vec<RawChange>, Attempt(attempt): Attempt| {
            let ids: Vec<_> = batch.iter().map(id).collect();
            tell.send((began.elapsed(), attempt, ids.clone())).ok();
            async move {
                sleep(lasts).await;
                let errors = ids.into_iter().map(|id| fail(attempt, id)).enumerate();
                let failed: Vec<_> = errors
                    .filter_map(|(place, error)| Some((place, error?)))
                    .collect();
                match failed.is_empty() {
                    true => Ok(()),
                    false => Err(HandlerError::partial(failed)),
                }
            }
        };
        let slow = || async {
            sleep(60 * SECOND).await;
            Ok::<_, HandlerError>(())
        };
        let (begun, begins) = mpsc::unbounded_channel();
        let begin = begun.clone();
        let blocking = move |change: RawChange| {
            begin.send(id(&change)).ok();
            thread::sleep(Duration::from_millis(10));
            async { Ok::<_, HandlerError>(()) }
        };
        let product = move |change: RawChange| {
            begun.send(id(&change)).ok();
            async move {
                sleep(lasts).await;
                Ok::<_, HandlerError>(())
            }
        };
        let builder = RuntimeBuilder::new(()).name("test").handlers([
            HandlerSpec::batch("orders", 4, WITHIN, orders).collections(["orders"]),
            HandlerSpec::new("returns", slow)
                .collections(["returns"])
                .timeout(120 * SECOND),
            HandlerSpec::new("blocking", blocking).collections(["blocking"]),
            HandlerSpec::new("parts", product.clone()).collections(["parts"]),
            HandlerSpec::new("products", product).collections(["products", "parts"]),
        ]);
        let parts = builder.into_parts(
            |()| Arc::new(MemoryCheckpoints::default()),
            |()| Arc::new(MemoryDeadLetters::default()),
            |()| Arc::new(MemoryLeases::default()),
            |()| Arc::new(MemorySnapshots::default()),
        );
        let ((), parts) = parts.expect("a valid runtime");
        Self {
            lanes: Lanes::new(parts.into_engine(DATABASE), config),
            seen,
            begins,
        }
    }

    fn quick(config: Config) -> Self {
        Self::new(config, Duration::ZERO, |_, _| None)
    }

    fn admit(&mut self, collection: &str, ids: impl IntoIterator<Item = i32>) -> bool {
        ids.into_iter().all(|id| {
            let change = change::insert(collection).id(id).build();
            let is_admitted = self.lanes.admit(&[change]) == 1;
            self.lanes.begin();
            is_admitted
        })
    }

    fn admit_row(&mut self, collection: &str, id: i32, rows: &Rows) -> bool {
        let row = change::snapshot(collection).id(id).build();
        self.lanes.admit_row(&row, rows, false)
    }

    async fn next(&mut self) -> Seen {
        self.seen.recv().await.expect("a batch")
    }

    async fn idle(&mut self) {
        while !self.lanes.is_idle() {
            self.lanes.progress().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait() {
    let mut stage = Stage::quick(Config::default());
    assert!(stage.admit("orders", 1..=4));
    assert_eq!(stage.next().await, (Duration::ZERO, 1, vec![1, 2, 3, 4]));
}

#[tokio::test(start_paused = true)]
async fn the_first_event_waits_so_long_for_others() {
    let mut stage = Stage::quick(Config::default());
    assert!(stage.admit("orders", [1]));
    sleep(WITHIN / 2).await;
    assert!(stage.admit("orders", [2]));
    assert_eq!(stage.next().await, (WITHIN, 1, vec![1, 2]));
    sleep(SECOND).await;
    assert!(stage.admit("orders", [3]));
    assert_eq!(
        stage.next().await,
        (WITHIN + SECOND + WITHIN, 1, vec![3]),
        "counted from its first event"
    );
}

#[tokio::test(start_paused = true)]
async fn one_batch_is_under_way_and_the_next_takes_what_came_meanwhile() {
    let mut stage = Stage::new(Config::default(), SECOND, |_, _| None);
    assert!(stage.admit("orders", 1..=6));
    assert_eq!(stage.next().await, (Duration::ZERO, 1, vec![1, 2, 3, 4]));
    sleep(SECOND / 2).await;
    assert!(stage.admit("orders", 7..=9));
    assert_eq!(stage.next().await, (SECOND, 1, vec![5, 6, 7, 8]));
    assert_eq!(
        stage.next().await,
        (2 * SECOND, 1, vec![9]),
        "its time was over"
    );
}

#[tokio::test(start_paused = true)]
async fn retries_come_before_the_next_batch() {
    let mut stage = Stage::new(Config::default(), SECOND, |attempt, id| {
        (attempt == 1 && id % 2 == 0).then(|| HandlerError::retry_after(10 * SECOND, "not yet"))
    });
    assert!(stage.admit("orders", 1..=5));
    assert_eq!(stage.next().await.2, [1, 2, 3, 4]);
    assert_eq!(stage.next().await, (11 * SECOND, 2, vec![2, 4]));
    assert_eq!(stage.next().await, (12 * SECOND, 1, vec![5]));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_done_while_the_rest_is_retried() {
    let mut stage = Stage::new(Config::default(), Duration::ZERO, |_, id| {
        (id == 3).then(|| HandlerError::retry_after(60 * SECOND, "not yet"))
    });
    assert!(stage.admit("orders", 1..=4));
    stage.next().await;
    sleep(SECOND).await;
    let look = |tracker: &mut Tracker| (tracker.events(), tracker.passed());
    let (in_flight, passed) = stage.lanes.tracker(look);
    assert_eq!(
        (in_flight, passed),
        (1, 2),
        "the fourth is done behind the third"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_where_there_is_no_room_for_more() {
    let config = Config {
        in_flight_events: 4,
        ..Config::default()
    };
    let mut stage = Stage::quick(config);
    assert!(stage.admit("returns", [1]));
    assert!(stage.admit("orders", 2..=4));
    assert!(!stage.admit("orders", [5]));
    assert_eq!(stage.next().await, (Duration::ZERO, 1, vec![2, 3, 4]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_where_rows_have_no_room() {
    let config = Config {
        concurrency: 2,
        ..Config::default()
    };
    let (mut stage, rows) = (Stage::quick(config), Rows::default());
    let others = config.rows_in_flight() as i32 - 3;
    assert!((0..others).all(|id| stage.admit_row("returns", id, &rows)));
    assert!(
        [1, 2, 3]
            .iter()
            .all(|id| stage.admit_row("orders", *id, &rows))
    );
    assert!(!stage.admit_row("orders", 4, &rows));
    assert_eq!(stage.next().await, (Duration::ZERO, 1, vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_where_no_more_will_come() {
    let mut stage = Stage::quick(Config::default());
    assert!(stage.admit("orders", [1]));
    stage.idle().await;
    assert_eq!(stage.next().await, (Duration::ZERO, 1, vec![1]));
}

#[tokio::test(start_paused = true)]
async fn rows_and_events_of_a_document_keep_their_order() {
    let (mut stage, rows) = (Stage::quick(Config::default()), Rows::default());
    assert!(stage.admit_row("orders", 1, &rows));
    assert!(stage.admit("orders", [1]));
    assert!(stage.admit_row("orders", 2, &rows));
    assert_eq!(stage.next().await, (WITHIN, 1, vec![1, 1, 2]));
    rows.all_done().await;
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_holds_back_no_other_handler() {
    let config = Config {
        concurrency: 1,
        ..Config::default()
    };
    let mut stage = Stage::quick(config);
    assert!(stage.admit("orders", [1]));
    assert!(stage.admit("returns", [2]));
    sleep(WITHIN).await;
    sleep(WITHIN).await;
    assert!(stage.seen.try_recv().is_err(), "the lane is taken");
    assert_eq!(stage.next().await, (60 * SECOND, 1, vec![1]));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_alone_is_begun_with_in_place() {
    let mut stage = Stage::new(Config::default(), SECOND, |_, _| None);
    yield_now().await;
    assert!(stage.admit("products", [1]));
    assert_eq!(stage.begins.try_recv(), Ok(1), "no other task has run");
    stage.idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_while_another_is_in_flight_is_left_to_a_lane() {
    let mut stage = Stage::new(Config::default(), SECOND, |_, _| None);
    yield_now().await;
    assert!(stage.admit("products", [1]));
    sleep(SECOND / 2).await;
    assert!(stage.admit("products", [2]));
    sleep(SECOND * 3 / 4).await;
    // The first lane is free again.
    assert!(stage.admit("products", [3]));
    assert_eq!(stage.begins.recv().await, Some(1));
    assert_eq!(stage.begins.recv().await, Some(2));
    assert!(stage.begins.try_recv().is_err());
    yield_now().await;
    assert_eq!(stage.begins.try_recv(), Ok(3));
}

#[tokio::test(start_paused = true)]
async fn events_that_come_together_are_left_to_lanes() {
    let mut stage = Stage::quick(Config::default());
    yield_now().await;
    let changes = [1, 2].map(|id| change::insert("products").id(id).build());
    assert_eq!(stage.lanes.admit(&changes), 2);
    stage.lanes.begin();
    assert!(stage.begins.try_recv().is_err());
    stage.idle().await;
    let begun = [stage.begins.try_recv(), stage.begins.try_recv()];
    assert_eq!(begun, [Ok(1), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn all_handlers_of_an_event_that_comes_alone_have_it() {
    let mut stage = Stage::new(Config::default(), SECOND, |_, _| None);
    yield_now().await;
    assert!(stage.admit("parts", [1]));
    assert_eq!(stage.begins.try_recv(), Ok(1));
    stage.idle().await;
    assert_eq!(stage.begins.try_recv(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_handler_that_blocked_an_event_that_comes_alone_is_left_to_a_lane() {
    let mut stage = Stage::quick(Config::default());
    yield_now().await;
    assert!(stage.admit("blocking", [1]));
    assert_eq!(stage.begins.try_recv(), Ok(1));
    assert!(stage.admit("blocking", [2]));
    assert!(stage.begins.try_recv().is_err());
    let begun = timeout(SECOND, stage.begins.recv()).await;
    assert_eq!(begun, Ok(Some(2)));
}
