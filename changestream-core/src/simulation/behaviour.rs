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
    match rng.u32(0..4) {
        0 => sleep(millis(rng, 0, 800)).await,
        1 => {
            for _ in 0..rng.u32(1..8) {
                yield_now().await;
            }
        }
        _ => {}
    }
    if percent(rng, good) {
        oracle.succeeded(event, handler, part);
        return Ok(());
    }
    match rng.u32(0..9) {
        0..4 => Err(HandlerError::retry("told to fail")),
        4..6 => Err(HandlerError::retry_after(
            millis(rng, 0, 1_500),
            "told to fail",
        )),
        6 => Err(HandlerError::reject("told to give up")),
        // Silent, as the hook for panics is not run.
        7 => std::panic::resume_unwind(Box::new("told to panic")),
        _ => {
            sleep(Duration::MAX).await;
            Ok(())
        }
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
