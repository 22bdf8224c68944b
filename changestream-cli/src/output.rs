use std::io::{self, Write};

use bson::DateTime;
use serde::Serialize;

/// What is printed, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A line for people.
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        match self.json {
            true => Ok(()),
            false => writeln!(io::stdout(), "{text}"),
        }
    }

    /// The one document for scripts.
    pub(crate) fn document(self, document: &impl Serialize) -> io::Result<()> {
        match self.json {
            true => print_json(document),
            false => Ok(()),
        }
    }

    /// A table for people: columns as wide as what is in them.
    pub(crate) fn table<const N: usize>(
        self,
        header: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let header = header.map(str::to_owned);
        let all = || std::iter::once(&header).chain(rows);
        let widths: [usize; N] = std::array::from_fn(|column| {
            let widths = all().map(|row| row[column].chars().count());
            widths.max().unwrap_or_default()
        });
        for row in all() {
            let cells = row.iter().zip(widths);
            let cells: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            self.line(cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Pretty, so that people can read it too.
pub(crate) fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, document)?;
    writeln!(stdout)
}

/// A time as RFC 3339 has it, in UTC.
pub(crate) fn time(time: DateTime) -> String {
    let text = time.try_to_rfc3339_string();
    text.unwrap_or_else(|_| format!("{} ms", time.timestamp_millis()))
}

/// `3 dead letters`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
