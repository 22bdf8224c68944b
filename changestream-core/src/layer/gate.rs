//! How many deliveries to a sink are under way, and which comes next.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use tower::{ServiceExt, service_fn};

use super::breaker::SinkService;
use crate::{message::Priority, sink::Delivery};

/// Lets so many deliveries be under way at a time; of those that wait the most urgent first, then the oldest.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BTreeMap<Rank, oneshot::Sender<Pass>>,
    /// How many have waited so far.
    waited: u64,
}

type Rank = (Reverse<Priority>, u64);

/// That a delivery is under way.
#[derive(Debug)]
struct Pass(Gate);

/// A place among those that wait, given up on drop.
struct Place(Gate, Rank);

impl Gate {
    pub(super) fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: room,
            waiting: BTreeMap::new(),
            waited: 0,
        })))
    }

    /// Sends a delivery when it is its turn.
    pub(super) fn around<S: SinkService>(self, sink: S) -> impl SinkService {
        service_fn(move |delivery: Delivery| {
            let (gate, sink) = (self.clone(), sink.clone());
            async move {
                let _pass = gate.pass(delivery.message().get_priority()).await;
                sink.oneshot(delivery).await
            }
        })
    }

    async fn pass(&self, priority: Priority) -> Pass {
        let (rank, let_in) = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Pass(self.clone());
            }
            let rank = (Reverse(priority), state.waited);
            state.waited += 1;
            let (sender, let_in) = oneshot::channel();
            state.waiting.insert(rank, sender);
            (rank, let_in)
        };
        let _place = Place(self.clone(), rank);
        let_in.await.expect("who waits is let in")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.state();
            let next = state.waiting.pop_first();
            state.free += usize::from(next.is_none());
            next
        };
        if let Some((_, next)) = next {
            // Whoever does not wait any more gives the pass on by dropping it.
            next.send(Self(self.0.clone())).ok();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().waiting.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn the_most_urgent_comes_first_then_the_oldest() {
        let gate = Gate::new(1);
        let under_way = gate.pass(Priority::Low).now_or_never().expect("room");
        let order = Mutex::new(Vec::new());
        let [low, normal, high, later] = [
            Priority::Low,
            Priority::Normal,
            Priority::High,
            Priority::Normal,
        ];
        let waiting = [
            ("low", low),
            ("normal", normal),
            ("high", high),
            ("later", later),
        ];
        let waiting = waiting.map(|(name, priority)| {
            let (gate, order) = (gate.clone(), &order);
            async move {
                let _pass = gate.pass(priority).await;
                order.lock().expect("no panic").push(name);
            }
        });
        let mut all = join_all(waiting).boxed_local();
        assert!(all.as_mut().now_or_never().is_none());
        drop(under_way);
        all.await;
        assert_eq!(
            order.into_inner().expect("no panic"),
            ["high", "normal", "later", "low"]
        );
        assert!(
            gate.pass(Priority::Low).now_or_never().is_some(),
            "there is room again"
        );
    }

    #[test]
    fn who_waits_no_more_is_in_nobodys_way() {
        let gate = Gate::new(2);
        let one = gate.pass(Priority::Normal).now_or_never().expect("room");
        let other = gate.pass(Priority::Normal).now_or_never().expect("room");
        let mut given_up = gate.pass(Priority::High).boxed_local();
        let mut let_in = gate.pass(Priority::Normal).boxed_local();
        assert!(given_up.as_mut().now_or_never().is_none());
        assert!(let_in.as_mut().now_or_never().is_none());
        drop(one);
        drop(given_up);
        let pass = let_in.now_or_never().expect("given on");
        drop((pass, other));
        assert_eq!(gate.state().free, 2);
    }
}
