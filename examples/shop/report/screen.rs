//! How things look.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

pub(super) const GREEN: &str = "32";
pub(super) const RED: &str = "31";
pub(super) const YELLOW: &str = "33";
pub(super) const BOLD: &str = "1";
pub(super) const DIM: &str = "2";

const BAR: usize = 12;

#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    terminal: bool,
    color: bool,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        self.terminal
    }

    pub(super) fn paint(self, color: &str, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{color}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A line that a narrow terminal cuts off instead of wrapping it, so that tables keep their height.
    pub(super) fn write_line(self, out: &mut impl Write, line: &str) -> io::Result<()> {
        match self.terminal {
            true => writeln!(out, "\x1b[?7l{line}\x1b[?7h"),
            false => writeln!(out, "{line}"),
        }
    }

    pub(super) fn bar(self, part: u64, whole: u64) -> String {
        let filled = match whole {
            0 => 0,
            whole => (part * BAR as u64 / whole) as usize,
        };
        let full = self.paint(GREEN, &"█".repeat(filled));
        let rest = self.paint(DIM, &"░".repeat(BAR - filled));
        format!("{full}{rest}")
    }
}

pub(super) fn percentile(sorted: &[Duration], percent: usize) -> String {
    let rank = (sorted.len() * percent).div_ceil(100);
    match sorted.get(rank.saturating_sub(1)) {
        Some(latency) if *latency >= Duration::from_secs(1) => {
            format!("{:.1} s", latency.as_secs_f64())
        }
        Some(latency) => format!("{:.1} ms", latency.as_secs_f64() * 1e3),
        None => "·".to_owned(),
    }
}
