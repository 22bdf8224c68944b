//! Named places at which a crash run lets the process die.
//!
//! They exist only in builds with `--cfg changestream_crash`, which `cargo xtask crash` makes. A further one takes a line
//! in `POINTS` and a line where it is: `crate::crash_point!("its.name");`.

#[cfg(changestream_crash)]
pub use armed::reach;

/// All points. Those that begin with `start.` or `shutdown.` are passed once each time that the work begins or ends.
#[cfg(changestream_crash)]
pub const POINTS: &[&str] = &[
    "start.checkpoint_loaded",
    "start.opened",
    "start.first_checkpoint_saved",
    "source.reopened",
    "source.batch_received",
    "batch.begun",
    "batch.ended",
    "event.begun",
    "event.handled",
    "event.done",
    "retry.waiting",
    "dead_letter.failed",
    "dead_letter.written",
    "checkpoint.due",
    "checkpoint.saved",
    "shutdown.begun",
    "shutdown.drained",
    "shutdown.committed",
    "fragment.received",
    "snapshot.begun",
    "snapshot.chunk_handled",
    "snapshot.chunk_saved",
    "partition.acquired",
    "partition.given_up",
    "partition.released",
    // These are in the service of the crash runs.
    "effect.before",
    "effect.after",
    "checkpoint.sending",
    "checkpoint.reply_lost",
    "dead_letter.reply_lost",
];

/// Lets the process die here when a crash run says so.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(changestream_crash)]
        $crate::crash_point::reach(const { $crate::crash_point::listed($name) });
    };
}
pub(crate) use crash_point;

/// `name`, which does not compile unless it is one of them.
#[cfg(changestream_crash)]
pub(crate) const fn listed(name: &'static str) -> &'static str {
    let mut index = 0;
    while index < POINTS.len() {
        if equal(POINTS[index].as_bytes(), name.as_bytes()) {
            return name;
        }
        index += 1;
    }
    panic!("the crash point is not in POINTS")
}

#[cfg(changestream_crash)]
const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

#[cfg(changestream_crash)]
mod armed {
    use std::{
        env, process,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    /// `NAME:N`: the process dies when it comes to the point `NAME` for the `N`th time.
    const VARIABLE: &str = "CHANGESTREAM_CRASH_POINT";

    struct Armed {
        point: String,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let value = env::var(VARIABLE).ok()?;
        let (point, left) = value.split_once(':').expect("NAME:N");
        Some(Armed {
            point: point.to_owned(),
            left: AtomicU64::new(left.parse().expect("a number")),
        })
    });

    /// Ends the process, which tidies nothing up, if this is the point at which it is to die.
    pub fn reach(point: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            process::abort();
        }
    }
}
