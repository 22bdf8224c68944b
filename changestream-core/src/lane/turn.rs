use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// A call's turn on its lane, over when the call is. While nothing of the call does more than wait to be tried
/// again, the lane goes to others.
///
/// A call that is on no lane, as in a test, has a turn that is nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    lane: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The parts of the call that are at work.
    active: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    pub(crate) fn new(lane: Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        let state = State {
            active: 1,
            permit: Some(permit),
        };
        Self(Some(Arc::new(Held {
            lane,
            state: Mutex::new(state),
        })))
    }

    pub(crate) fn is_on_lane(&self) -> bool {
        self.0.is_some()
    }

    /// Makes it the turn of another call, if nothing of the one before it is left and the lane is still held.
    pub(crate) fn begin_again(&mut self) -> bool {
        let Some(held) = self.0.as_mut().and_then(Arc::get_mut) else {
            return false;
        };
        let state = held.state.get_mut();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.active = 1;
        state.permit.is_some()
    }

    /// The call goes on in so many parts, each of which ends with [`leave`](Self::leave).
    pub(crate) fn fan_out(&self, parts: usize) {
        if let Some(held) = &self.0 {
            held.state().active += parts.saturating_sub(1);
        }
    }

    /// A part of the call is over, or waits.
    pub(crate) fn leave(&self) {
        if let Some(held) = &self.0 {
            let mut state = held.state();
            state.active -= 1;
            if state.active == 0 {
                state.permit = None;
            }
        }
    }

    /// Waits, and leaves the lane to others meanwhile.
    pub(crate) async fn rest(self, wait: Duration) {
        self.rest_for(sleep(wait)).await;
    }

    /// The same for what comes of another wait.
    pub(crate) async fn rest_for<T>(self, wait: impl Future<Output = T>) -> T {
        self.leave();
        let waited = wait.await;
        self.enter().await;
        waited
    }

    async fn enter(&self) {
        let Some(held) = &self.0 else { return };
        if held.enter_if_held() {
            return;
        }
        let permit = Arc::clone(&held.lane).acquire_owned().await.ok();
        let mut state = held.state();
        state.active += 1;
        state.permit = state.permit.take().or(permit);
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter_if_held(&self) -> bool {
        let mut state = self.state();
        let is_held = state.permit.is_some();
        state.active += usize::from(is_held);
        is_held
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn turn() -> (Arc<Semaphore>, Turn) {
        let lane = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&lane).try_acquire_owned().expect("a free lane");
        (Arc::clone(&lane), Turn::new(lane, permit))
    }

    #[test]
    fn a_turn_ends_with_its_call() {
        let (lane, turn) = turn();
        let clone = turn.clone();
        drop(turn);
        assert_eq!(lane.available_permits(), 0);
        drop(clone);
        assert_eq!(lane.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resting_call_leaves_its_lane_and_waits_for_it_again() {
        let (lane, turn) = turn();
        let mut resting = Box::pin(turn.clone().rest(SECOND));
        assert!(resting.as_mut().now_or_never().is_none());
        let other = Arc::clone(&lane).try_acquire_owned().expect("a free lane");
        sleep(2 * SECOND).await;
        assert!(
            resting.as_mut().now_or_never().is_none(),
            "taken by the other"
        );
        drop(other);
        resting.await;
        assert_eq!(lane.available_permits(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lane_is_left_when_all_parts_rest_or_are_over() {
        let (lane, turn) = turn();
        turn.fan_out(2);
        let resting = tokio::spawn(turn.clone().rest(SECOND));
        tokio::task::yield_now().await;
        assert_eq!(lane.available_permits(), 0, "the other part is at work");
        turn.leave();
        assert_eq!(lane.available_permits(), 1);
        resting.await.expect("no panic");
        assert_eq!(lane.available_permits(), 0);
        turn.leave();
        assert_eq!(lane.available_permits(), 1);
    }
}
