use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{task::yield_now, time::sleep};

use super::{
    oracle::{Oracle, Part},
    world::{millis, percent},
};
use crate::handler::HandlerError;

/// An attempt of a handler or a sink at an event: goes well, or wrong in one of many ways.
///
/// What it does hangs on the seed and on what it is an attempt at, not on when it comes.
pub(super) async fn attempt(
    oracle: Arc<Oracle>,
    life: u32,
    event: usize,
    handler: usize,
    part: Part,
    attempt: u32,
) -> Result<(), HandlerError> {
    let world = oracle.world();
    let place = [life, event as u32, handler as u32, part.number(), attempt];
    let rng = &mut rng_at(world.seed, &place);
    let good = world.handlers[handler].good;
    let _active = oracle.begin(life, event, handler, part);
    take_time(rng).await;
    if percent(rng, good) {
        oracle.succeeded(event, handler, part);
        return Ok(());
    }
    Err(fail(rng).await)
}

/// An attempt of a handler at a batch, which may go wrong as a whole, or in some of its events.
pub(super) async fn attempt_batch(
    oracle: Arc<Oracle>,
    life: u32,
    events: Vec<usize>,
    handler: usize,
    attempt: u32,
) -> Result<(), HandlerError> {
    let world = oracle.world();
    let place = |event: usize| [life, event as u32, handler as u32, 0, attempt];
    let rng = &mut rng_at(world.seed, &place(events[0]));
    let good = world.handlers[handler].good;
    let _active = oracle.begin_batch(life, &events, handler);
    take_time(rng).await;
    if !percent(rng, good) && rng.bool() {
        return Err(fail(rng).await);
    }
    let mut failed = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let rng = &mut rng_at(world.seed, &place(event));
        match percent(rng, good) {
            true => oracle.succeeded(event, handler, Part::Handler),
            false => failed.push((index, error(rng))),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(HandlerError::partial(failed)),
    }
}

async fn take_time(rng: &mut Rng) {
    match rng.u32(0..4) {
        0 => sleep(millis(rng, 0, 800)).await,
        1 => {
            for _ in 0..rng.u32(1..8) {
                yield_now().await;
            }
        }
        _ => {}
    }
}

/// Fails, panics or hangs.
async fn fail(rng: &mut Rng) -> HandlerError {
    match rng.u32(0..9) {
        0..7 => {}
        // Silent, as the hook for panics is not run.
        7 => std::panic::resume_unwind(Box::new("told to panic")),
        _ => sleep(Duration::MAX).await,
    }
    error(rng)
}

fn error(rng: &mut Rng) -> HandlerError {
    match rng.u32(0..7) {
        0..4 => HandlerError::retry("told to fail"),
        4..6 => HandlerError::retry_after(millis(rng, 0, 1_500), "told to fail"),
        _ => HandlerError::reject("told to give up"),
    }
}

/// Draws that hang on the seed and a place alone.
pub(super) fn rng_at(seed: u64, place: &[u32]) -> Rng {
    let mut rng = Rng::with_seed(seed);
    for number in place {
        rng = Rng::with_seed(rng.u64(..) ^ u64::from(*number));
    }
    rng
}
