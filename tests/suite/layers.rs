//! Users' own tower layers: where they stand, and what passes through them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use changestream::{BoxError, BoxHandler, ChangeRequest, HandlerError, RuntimeBuilder, prelude::*};
use tower::{
    Service, ServiceExt, layer::layer_fn, limit::ConcurrencyLimitLayer, timeout::TimeoutLayer,
};

use crate::support::{Event, Scene, Seen, Started, TestResult, eventually, recorder};

/// What layers and handlers wrote down.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, entry: impl Into<String>) {
        self.0.lock().expect("no panic").push(entry.into());
    }

    fn entries(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    /// A layer that writes down `name` when a call passes.
    fn layer(
        &self,
        name: &'static str,
    ) -> impl tower::Layer<BoxHandler, Service = BoxHandler> + Send + Sync + 'static {
        let log = self.clone();
        layer_fn(move |inner: BoxHandler| {
            let log = log.clone();
            BoxHandler::new(inner.map_request(move |request: ChangeRequest| {
                log.note(format!("{name} {}", request.attempt().0));
                request
            }))
        })
    }
}

/// Runs a handler on one order.
async fn run(
    scene: &Scene<impl Sized>,
    seen: &Seen,
    setup: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
) -> TestResult {
    let runtime = Started::new(setup(scene.runtime(seen)).handlers([recorder(&["customers"])]));
    scene.insert([1]).await?;
    scene.insert_into("customers", [2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    Ok(())
}

async fn note(
    State(seen): State<Seen>,
    change: RawChange,
    attempt: Attempt,
) -> Result<(), HandlerError> {
    seen.push(Event::of(&change, attempt.0));
    Ok(())
}

fn spec() -> HandlerSpec<Seen> {
    HandlerSpec::new("note", note).collections(["orders"])
}

#[tokio::test]
async fn layers_run_within_retry_from_the_outermost_to_the_innermost() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    let handled = log.clone();
    let handle = move |Attempt(attempt): Attempt| {
        handled.note(format!("handler {attempt}"));
        async move {
            if attempt == 1 {
                Err(HandlerError::retry("again"))
            } else {
                Ok(())
            }
        }
    };
    let spec = HandlerSpec::new("noted", handle).collections(["orders"]);
    let spec = spec
        .layer(log.layer("own first"))
        .layer(log.layer("own second"));
    run(&scene, &seen, |builder| {
        builder
            .layer(log.layer("first"))
            .layer(log.layer("second"))
            .handlers([spec])
    })
    .await?;
    let of_orders: Vec<_> = log.entries().into_iter().take(10).collect();
    let attempt = |n| {
        ["first", "second", "own first", "own second", "handler"].map(|name| format!("{name} {n}"))
    };
    assert_eq!(of_orders, [attempt(1), attempt(2)].concat());
    // The other handler is within the runtime's layers alone.
    assert_eq!(log.entries()[10..], ["first 1", "second 1"]);
    Ok(())
}

#[tokio::test]
async fn towers_own_layers_compose() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    run(&scene, &seen, |builder| {
        builder
            .layer(ConcurrencyLimitLayer::new(1))
            .layer(TimeoutLayer::new(Duration::from_secs(5)))
            .handlers([spec().layer(ConcurrencyLimitLayer::new(1))])
    })
    .await?;
    assert_eq!(seen.ids(), [1, 2]);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

/// Takes room when it is ready, and does not give it to the call.
struct Reserving {
    inner: BoxHandler,
    taken: Arc<AtomicUsize>,
    has_taken: bool,
}

impl Reserving {
    fn new(inner: BoxHandler, taken: &Arc<AtomicUsize>) -> Self {
        Self {
            inner,
            taken: Arc::clone(taken),
            has_taken: false,
        }
    }
}

impl Clone for Reserving {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), &self.taken)
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        let taken = usize::from(self.has_taken);
        self.taken.fetch_sub(taken, Ordering::SeqCst);
    }
}

impl Service<ChangeRequest> for Reserving {
    type Response = Vec<Message>;
    type Error = HandlerError;
    type Future = <BoxHandler as Service<ChangeRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        if !std::mem::replace(&mut self.has_taken, true) {
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        assert!(self.has_taken, "called without being asked");
        self.inner.call(request)
    }
}

#[tokio::test]
async fn what_a_layer_takes_for_a_call_it_has_no_longer_than_that() -> TestResult {
    let scene = Scene::new().await;
    let (seen, taken) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let takes = Arc::clone(&taken);
    let layer = layer_fn(move |inner: BoxHandler| BoxHandler::new(Reserving::new(inner, &takes)));
    let spec = spec().retries(0).layer(layer);
    let runtime = scene.runtime(&seen).handlers([spec]);
    let runtime = Started::new(runtime);
    scene.insert([1]).await?;
    seen.all([1]).await;
    eventually("room", async || {
        (taken.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn towers_timeout_is_a_failure_like_any_other() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let hang = async || std::future::pending::<Result<(), HandlerError>>().await;
    let spec = HandlerSpec::new("hang", hang)
        .collections(["orders"])
        .retries(1);
    let spec = spec.layer(TimeoutLayer::new(Duration::from_millis(50)));
    run(&scene, &seen, |builder| builder.handlers([spec])).await?;
    let letters = scene.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].get_str("kind")?, "failed");
    assert!(
        letters[0].get_array("error")?[0]
            .as_str()
            .is_some_and(|error| error.contains("timed out"))
    );
    Ok(())
}

/// A layer that knows nothing but boxed errors.
fn boxing(
    inner: BoxHandler,
) -> impl Service<ChangeRequest, Response = Vec<Message>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    inner.map_err(BoxError::from)
}

#[tokio::test]
async fn an_error_keeps_its_disposition_through_layers_that_box_it() -> TestResult {
    let scene = Scene::new().await;
    let (seen, log) = (Seen::default(), Log::default());
    let handled = log.clone();
    let handle = move |Attempt(attempt): Attempt| {
        handled.note(attempt.to_string());
        async { Err::<(), _>(HandlerError::reject("no")) }
    };
    let spec = HandlerSpec::new("rejecting", handle)
        .collections(["orders"])
        .layer(layer_fn(boxing));
    run(&scene, &seen, |builder| {
        builder.layer(layer_fn(boxing)).handlers([spec])
    })
    .await?;
    assert_eq!(log.entries(), ["1"]);
    assert_eq!(scene.dead_letters().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_layer_that_panics_or_fails_is_a_failed_attempt() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let panicking = layer_fn(|inner: BoxHandler| {
        BoxHandler::new(
            inner.map_request(|request: ChangeRequest| match request.attempt().0 {
                1 => panic!("a layer's"),
                _ => request,
            }),
        )
    });
    run(&scene, &seen, |builder| {
        builder.handlers([spec().layer(panicking)])
    })
    .await?;
    assert_eq!(seen.events()[0].attempt, 2);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}
