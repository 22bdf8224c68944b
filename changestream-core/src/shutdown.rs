//! What asks a process, and the tasks in it, to stop.

use tokio::sync::watch;

/// Resolves when the process is asked to stop: on Ctrl-C, and on Unix on SIGTERM.
///
/// Once it has been called, the process no longer ends by itself on these signals. Given to
/// [`Runtime::run_until`](crate::Runtime::run_until), a second signal aborts the drain.
///
/// # Panics
///
/// When the process cannot listen for signals.
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).expect("the process can listen for signals");
        let mut interrupt = listen(SignalKind::interrupt());
        let mut terminate = listen(SignalKind::terminate());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c()
        .await
        .expect("the process can listen for signals");
}

/// Resolves when `stop` says so, or when nobody is left to say so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}
