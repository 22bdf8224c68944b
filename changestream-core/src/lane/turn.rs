use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// A call's turn on its lane, over when the call is. While the call does no more than wait to be tried again, or for its
/// messages to be delivered, the lane goes to others.
///
/// A call that is on no lane, as in a test, has a turn that is nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    held: Option<Arc<Held>>,
    /// Of a call that came by a lane, which may be over.
    is_of_lane: bool,
}

#[derive(Debug)]
struct Held {
    lane: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    pub(crate) fn new(lane: Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        let permit = Mutex::new(Some(permit));
        Self {
            held: Some(Arc::new(Held { lane, permit })),
            is_of_lane: true,
        }
    }

    pub(crate) fn is_of_lane(&self) -> bool {
        self.is_of_lane
    }

    /// For a part of the call that needs no lane.
    pub(crate) fn beside_lane(&self) -> Self {
        Self {
            held: None,
            is_of_lane: self.is_of_lane,
        }
    }

    /// Makes it the turn of another call, if nothing of the one before it is left and the lane is still held.
    pub(crate) fn begin_again(&mut self) -> bool {
        let held = self.held.as_mut().and_then(Arc::get_mut);
        held.is_some_and(|held| held.permit().is_some())
    }

    /// Gives the lane up.
    pub(crate) fn leave(&self) {
        if let Some(held) = &self.held {
            held.permit().take();
        }
    }

    /// Waits, and leaves the lane to others meanwhile.
    pub(crate) async fn rest(self, wait: Duration) {
        self.leave();
        sleep(wait).await;
        if let Some(held) = &self.held {
            let permit = Arc::clone(&held.lane).acquire_owned().await.ok();
            *held.permit() = permit;
        }
    }
}

impl Held {
    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
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
}
