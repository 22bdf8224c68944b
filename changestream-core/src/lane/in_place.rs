//! Work that a task drives, and that who brings some can drive a step without waking the task.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
};

struct Driven {
    work: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    /// The task, once it has begun.
    task: Option<Waker>,
}

/// Drives the work of a task from outside of it, for as long as there is the task.
pub(super) struct InPlace(Weak<Mutex<Driven>>);

/// What is to be spawned to have `work` done.
pub(super) fn drive(
    work: impl Future<Output = Infallible> + Send + 'static,
) -> (impl Future<Output = ()> + Send, InPlace) {
    let driven = Arc::new(Mutex::new(Driven {
        work: Box::pin(work),
        task: None,
    }));
    let in_place = InPlace(Arc::downgrade(&driven));
    let task = poll_fn(move |context| {
        // If a step panicked, whoever made it tells of that.
        let Ok(mut driven) = driven.lock() else {
            return Poll::Pending;
        };
        let Driven { work, task } = &mut *driven;
        match task {
            Some(task) => task.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
        work.as_mut().poll(context).map(|never| match never {})
    });
    (task, in_place)
}

impl InPlace {
    /// Drives the work until it waits; what that is for wakes the task. Does nothing where the task has not begun, or is at it.
    pub(super) fn step(&self) {
        let Some(driven) = self.0.upgrade() else {
            return;
        };
        if let Ok(mut driven) = driven.try_lock()
            && let Driven {
                work,
                task: Some(task),
            } = &mut *driven
        {
            let Poll::Pending = work.as_mut().poll(&mut Context::from_waker(task));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        sync::mpsc,
        task::{JoinSet, yield_now},
    };

    use super::*;

    /// A task that passes on what it is sent, how to step it, and both ends.
    fn passing() -> (
        JoinSet<()>,
        InPlace,
        mpsc::UnboundedSender<u32>,
        mpsc::UnboundedReceiver<u32>,
    ) {
        let (send, mut received) = mpsc::unbounded_channel();
        let (pass, passed) = mpsc::unbounded_channel();
        let (task, in_place) = drive(async move {
            loop {
                if let Some(item) = received.recv().await {
                    pass.send(item).ok();
                }
            }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        (tasks, in_place, send, passed)
    }

    #[tokio::test]
    async fn a_step_needs_no_task_to_run() {
        let (_tasks, in_place, send, mut passed) = passing();
        yield_now().await;
        send.send(1).expect("a task");
        assert!(passed.try_recv().is_err());
        in_place.step();
        assert_eq!(passed.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn the_task_goes_on_after_a_step() {
        let (_tasks, in_place, send, mut passed) = passing();
        yield_now().await;
        in_place.step();
        send.send(1).expect("a task");
        assert_eq!(passed.recv().await, Some(1));
    }

    #[tokio::test]
    async fn work_whose_task_has_not_begun_or_is_over_makes_no_step() {
        let (mut tasks, in_place, send, mut passed) = passing();
        send.send(1).expect("a task");
        in_place.step();
        assert!(passed.try_recv().is_err());
        tasks.shutdown().await;
        in_place.step();
        assert!(passed.recv().await.is_none(), "the work was dropped");
    }
}
