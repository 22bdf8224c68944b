use std::time::Duration;

use mongodb::error::{Error as DriverError, ErrorKind};

/// How long a reply may be overdue before its connection counts as dead.
///
/// It doubles with each that was, up to 32 times as long, until one comes: a server with a long way to read through the
/// oplog is slow, not dead. An error that comes in time is no sign of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    first: Duration,
    overdue: u32,
}

impl Patience {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, overdue: 0 }
    }

    pub(crate) fn time(self) -> Duration {
        self.first.saturating_mul(2_u32.pow(self.overdue.min(5)))
    }

    /// Learns from an error.
    pub(crate) fn failed(&mut self, error: &DriverError) {
        let is_silence = matches!(&*error.kind, ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::TimedOut);
        self.overdue = self.overdue.saturating_add(is_silence.into());
    }

    /// A reply came.
    pub(crate) fn answered(&mut self) {
        self.overdue = 0;
    }
}

/// That no reply came in time.
pub(crate) fn silence() -> DriverError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_makes_it_longer_and_not_for_ever() {
        let mut patience = Patience::new(Duration::from_secs(30));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into();
        for _ in 0..10 {
            patience.failed(&refused);
        }
        assert_eq!(patience.time().as_secs(), 30);
        let mut after = |silences| {
            patience.answered();
            (0..silences).for_each(|_| patience.failed(&silence()));
            patience.time().as_secs()
        };
        assert_eq!(
            [0, 1, 2, 5, 6, 100].map(&mut after),
            [30, 60, 120, 960, 960, 960]
        );
    }
}
