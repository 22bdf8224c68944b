//! Work that a task drives, and that who brings some can drive a step without waking the task.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// What is not done after this time has blocked, or computed.
const QUICK: Duration = Duration::from_millis(1);

/// After a step that was not quick there is none for so many times as long: who drives has other things to do.
const PAUSE: u32 = 100;

type Work = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// The work, between its task and who drives it in place. Neither waits for the other.
struct Shared {
    /// Gone while one of them drives it.
    work: Option<Work>,
    /// The task, once it has begun.
    task: Option<Waker>,
    /// The task was woken during a step.
    was_woken: bool,
}

/// Drives the work of a task from outside of it, for as long as there is the task.
pub(super) struct InPlace {
    shared: Weak<Mutex<Shared>>,
    pauses_until: Option<Instant>,
}

/// What is to be spawned to have `work` done.
pub(super) fn drive(
    work: impl Future<Output = Infallible> + Send + 'static,
) -> (impl Future<Output = ()> + Send, InPlace) {
    let shared = Arc::new(Mutex::new(Shared {
        work: Some(Box::pin(work)),
        task: None,
        was_woken: false,
    }));
    let in_place = InPlace {
        shared: Arc::downgrade(&shared),
        pauses_until: None,
    };
    let task = poll_fn(move |context| {
        let work = lock(&shared).take_for_task(context.waker());
        if let Some(mut work) = work {
            let Poll::Pending = work.as_mut().poll(context);
            lock(&shared).work = Some(work);
        }
        Poll::Pending
    });
    (task, in_place)
}

impl InPlace {
    /// Drives the work until it waits, however long that takes; what it waits for wakes the task. Does nothing where the task has not
    /// begun, is at it, or is over.
    pub(super) fn step(&mut self) {
        let began = Instant::now();
        if self.pauses_until.is_some_and(|until| began < until) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Some((mut work, task)) = lock(&shared).take_for_step() else {
            return;
        };
        let Poll::Pending = work.as_mut().poll(&mut Context::from_waker(&task));
        let was_woken = lock(&shared).put_back(work);
        if was_woken {
            task.wake();
        }
        let took = began.elapsed();
        self.pauses_until = match took > QUICK {
            true => began.checked_add(took.saturating_mul(PAUSE)),
            false => None,
        };
    }
}

impl Shared {
    fn take_for_task(&mut self, waker: &Waker) -> Option<Work> {
        match &mut self.task {
            Some(task) => task.clone_from(waker),
            task => *task = Some(waker.clone()),
        }
        let work = self.work.take();
        self.was_woken = work.is_none();
        work
    }

    fn take_for_step(&mut self) -> Option<(Work, Waker)> {
        let task = self.task.clone()?;
        Some((self.work.take()?, task))
    }

    /// Whether the task was woken meanwhile.
    fn put_back(&mut self, work: Work) -> bool {
        self.work = Some(work);
        mem::take(&mut self.was_woken)
    }
}

/// Never held while the work is driven.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, panic, thread};

    use futures::future::join;
    use tokio::{
        sync::{
            Notify,
            mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel},
        },
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A task that calls a function with what it is sent, and passes on what that gives.
    struct Stage {
        tasks: JoinSet<()>,
        in_place: InPlace,
        send: UnboundedSender<u64>,
        passed: UnboundedReceiver<u64>,
    }

    impl Stage {
        fn new(call: impl Fn(u64) -> u64 + Send + 'static) -> Self {
            let (send, mut sent) = unbounded_channel();
            let (pass, passed) = unbounded_channel();
            let (task, in_place) = drive(async move {
                loop {
                    if let Some(item) = sent.recv().await {
                        pass.send(call(item)).ok();
                    }
                }
            });
            let mut tasks = JoinSet::new();
            tasks.spawn(task);
            Self {
                tasks,
                in_place,
                send,
                passed,
            }
        }

        /// One whose task has begun.
        async fn begun(call: impl Fn(u64) -> u64 + Send + 'static) -> Self {
            let stage = Self::new(call);
            yield_now().await;
            stage
        }

        fn step_with(&mut self, item: u64) -> Result<u64, TryRecvError> {
            self.send.send(item).expect("a task");
            self.in_place.step();
            self.passed.try_recv()
        }

        async fn next(&mut self) -> Option<u64> {
            let next = timeout(DEADLINE, self.passed.recv());
            next.await.expect("the task goes on")
        }
    }

    #[tokio::test]
    async fn a_step_needs_no_task_to_run() {
        let mut stage = Stage::begun(|item| item).await;
        assert_eq!(stage.step_with(1), Ok(1));
    }

    #[tokio::test]
    async fn the_task_goes_on_after_a_step() {
        let mut stage = Stage::begun(|item| item).await;
        stage.in_place.step();
        stage.send.send(1).expect("a task");
        assert_eq!(stage.next().await, Some(1));
    }

    #[tokio::test]
    async fn work_whose_task_has_not_begun_or_is_over_makes_no_step() {
        let mut stage = Stage::new(|item| item);
        assert_eq!(stage.step_with(1), Err(TryRecvError::Empty));
        stage.tasks.shutdown().await;
        stage.in_place.step();
        assert_eq!(
            stage.passed.try_recv(),
            Err(TryRecvError::Disconnected),
            "the work was dropped"
        );
    }

    #[tokio::test]
    async fn a_task_that_is_woken_during_a_step_does_not_wait_and_goes_on_after_it() {
        let (send, mut sent) = unbounded_channel();
        let (pass, mut passed) = unbounded_channel();
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let go = Arc::new(Notify::new());
        let told = Arc::clone(&go);
        let (task, mut in_place) = drive(async move {
            let passing = async {
                pass.send(sent.recv().await).ok();
            };
            let blocking = async move {
                told.notified().await;
                begin.send(()).ok();
                ended
                    .recv_timeout(DEADLINE)
                    .expect("the task does not wait");
            };
            join(passing, blocking).await;
            pending().await
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        yield_now().await;

        go.notify_one();
        let step = thread::spawn(move || in_place.step());
        begun.recv_timeout(DEADLINE).expect("the step begins");
        send.send(1).expect("the work");
        yield_now().await;
        end.send(()).expect("the step");
        step.join().expect("the step ends");
        let passed = timeout(DEADLINE, passed.recv()).await;
        assert_eq!(passed.expect("the task goes on"), Some(Some(1)));
    }

    #[tokio::test]
    async fn after_a_step_that_took_long_there_is_none_for_a_while() {
        let mut stage = Stage::begun(|millis| {
            thread::sleep(Duration::from_millis(millis));
            millis
        })
        .await;
        assert_eq!(stage.step_with(10), Ok(10));
        assert_eq!(stage.step_with(0), Err(TryRecvError::Empty));
        assert_eq!(stage.next().await, Some(0));
    }

    #[tokio::test]
    async fn a_panic_in_a_step_is_of_who_made_it() {
        let mut stage = Stage::begun(|_| panic!("on purpose")).await;
        stage.send.send(1).expect("a task");
        let step = panic::AssertUnwindSafe(|| stage.in_place.step());
        assert!(panic::catch_unwind(step).is_err());
        yield_now().await;
        assert!(
            stage.tasks.try_join_next().is_none(),
            "the task did not panic"
        );
    }
}
