//! Places at which a crash run ends or stops the service.

use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use changestream::{
    MongoCheckpoints,
    mongodb::event::{EventHandler, command::CommandEvent},
};
use nix::sys::signal::{Signal, raise};

/// `NAME:N`: the process dies when it comes to the point `NAME` for the `N`th time.
pub(crate) const CRASH_POINT: &str = "CHANGESTREAM_CRASH_POINT";

/// The same for where it stops itself, until it is told to go on.
pub(crate) const STOP_POINT: &str = "CHANGESTREAM_STOP_POINT";

struct Stop {
    point: String,
    left: AtomicU64,
}

static STOP: LazyLock<Option<Stop>> = LazyLock::new(|| {
    let value = env::var(STOP_POINT).ok()?;
    let (point, left) = value.split_once(':').expect("NAME:N");
    Some(Stop {
        point: point.to_owned(),
        left: AtomicU64::new(left.parse().expect("a number")),
    })
});

/// A place at which a crash run lets the service die, or stops it.
pub(super) fn crash_point(name: &str) {
    #[cfg(changestream_crash)]
    changestream::crash_point::reach(name);
    let stop = STOP.as_ref().filter(|stop| stop.point == name);
    if stop.is_some_and(|stop| stop.left.fetch_sub(1, Ordering::SeqCst) == 1) {
        raise(Signal::SIGSTOP).expect("a process may stop itself");
    }
}

/// Comes to the point `checkpoint.sending` each time that a checkpoint is about to go out on a connection: nothing
/// that happens to the process after that, short of its end, keeps it back.
pub(super) fn on_checkpoints_sent() -> EventHandler<CommandEvent> {
    EventHandler::callback(|event| {
        if let CommandEvent::Started(started) = event
            && let Ok(MongoCheckpoints::COLLECTION) = started.command.get_str("update")
        {
            crash_point("checkpoint.sending");
        }
    })
}
