//! What the terminal shows: a table while the shop is open, and the account at the end.

mod letter;
mod screen;

pub(crate) use letter::Letter;

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ledger::{Book, Ledger, Tally},
    telemetry::Telemetry,
    writer::Progress,
};
use screen::{BOLD, DIM, GREEN, RED, Screen, YELLOW};

/// Lines that are printed of problems and of dead letters.
const MOST_PROBLEMS: usize = 30;
const MOST_LETTERS: usize = 10;
/// Between lines where there is no terminal to redraw.
const LINE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Report {
    handlers: Vec<String>,
    ledger: Arc<Ledger>,
    progress: Arc<Progress>,
    telemetry: Telemetry,
    screen: Screen,
    /// Lines of the table that is on the screen.
    drawn: usize,
    started: Instant,
    last_line: Instant,
}

impl Report {
    pub(crate) fn new(
        handlers: Vec<String>,
        ledger: Arc<Ledger>,
        progress: Arc<Progress>,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            handlers,
            ledger,
            progress,
            telemetry,
            screen: Screen::of_stdout(),
            drawn: 0,
            started: Instant::now(),
            last_line: Instant::now(),
        }
    }

    /// Shows how things stand: redraws the table, or now and then prints a line.
    pub(crate) fn show(&mut self) -> io::Result<()> {
        self.telemetry.refresh();
        if self.screen.is_terminal() {
            return self.draw(false);
        }
        if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            println!("{}", self.totals());
        }
        Ok(())
    }

    /// Whether all that was expected so far is there.
    pub(crate) fn is_settled(&self) -> bool {
        let book = self.ledger.book();
        let dead = self.telemetry.all_dead_letters();
        book.arrived() == book.expected() && dead >= book.dead_letters.len() as u64
    }

    /// Prints the account, and says whether everything went where it should.
    pub(crate) fn conclude(&mut self, letters: &[Letter]) -> io::Result<bool> {
        self.telemetry.refresh();
        self.draw(true)?;
        let problems = self.problems(letters);
        self.dead_letter_lines(letters);
        let book = self.ledger.book();
        for problem in problems.iter().take(MOST_PROBLEMS) {
            println!("{} {problem}", self.screen.paint(RED, "✘"));
        }
        if problems.len() > MOST_PROBLEMS {
            println!("  ... and {} more", problems.len() - MOST_PROBLEMS);
        }
        let (arrived, expected) = (book.arrived(), book.expected());
        let verdict = match problems.is_empty() {
            true => self.screen.paint(
                GREEN,
                &format!("✔ all {expected} deliveries arrived, each where it should, as it should"),
            ),
            false => self.screen.paint(
                RED,
                &format!(
                    "✘ {arrived} of {expected} deliveries arrived; {} problems",
                    problems.len()
                ),
            ),
        };
        println!("{verdict}");
        Ok(problems.is_empty())
    }

    fn problems(&self, letters: &[Letter]) -> Vec<String> {
        let book = self.ledger.book();
        let mut problems = book.problems.clone();
        problems.extend(book.missing());
        for (handler, document) in &book.dead_letters {
            if !letters
                .iter()
                .any(|letter| letter.is_about(handler, document))
            {
                problems.push(format!("no dead letter of {handler} about {document}"));
            }
        }
        let expected = |letter: &Letter| {
            let mut expected = book.dead_letters.iter();
            expected.any(|(handler, document)| letter.is_about(handler, document))
        };
        let unexpected = letters.iter().filter(|letter| !expected(letter));
        problems.extend(unexpected.map(|letter| format!("not expected: dead letter {letter}")));
        problems
    }

    fn dead_letter_lines(&self, letters: &[Letter]) {
        println!("\n{}", self.screen.paint(BOLD, "Dead letters"));
        for letter in letters.iter().take(MOST_LETTERS) {
            println!("  {letter}");
        }
        if letters.len() > MOST_LETTERS {
            println!("  ... and {} more", letters.len() - MOST_LETTERS);
        }
        println!();
    }

    fn draw(&mut self, last: bool) -> io::Result<()> {
        let lines = self.table(last);
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        for line in &lines {
            self.screen.write_line(&mut out, line)?;
        }
        self.drawn = if last || !self.screen.is_terminal() {
            0
        } else {
            lines.len()
        };
        out.flush()
    }

    fn table(&self, last: bool) -> Vec<String> {
        let book = self.ledger.book();
        let mut head = format!(
            "{:<24}{:>8}  {:<25}{:>8}{:>6}",
            "HANDLER", "MATCHED", "DELIVERED", "RETRIED", "DEAD"
        );
        if last {
            head.push_str(&format!("{:>10}{:>10}  TO", "P50", "P99"));
        }
        let mut lines = vec![String::new(), self.screen.paint(BOLD, &head)];
        let rows = self.handlers.iter();
        lines.extend(rows.map(|handler| self.row(handler, &book, last)));
        drop(book);
        lines.push(String::new());
        lines.push(self.totals());
        lines
    }

    fn row(&self, handler: &str, book: &Book, last: bool) -> String {
        let nothing = Tally::default();
        let tally = book.tallies.get(handler).unwrap_or(&nothing);
        let count = |count: u64, color: &str, width: usize| match count {
            0 => self.screen.paint(DIM, &format!("{:>width$}", "·")),
            count => self.screen.paint(color, &format!("{count:>width$}")),
        };
        let mut row = format!(
            "{handler:<24}{:>8}  {} {:>11} {}{}",
            self.telemetry.matched(handler),
            self.screen.bar(tally.arrived, tally.expected),
            format!("{}/{}", tally.arrived, tally.expected),
            count(self.telemetry.redeliveries(handler), YELLOW, 8),
            count(self.telemetry.dead_letters(handler), RED, 6),
        );
        if last {
            let latencies = tally.latencies();
            for percent in [50, 99] {
                row.push_str(&format!("{:>10}", screen::percentile(&latencies, percent)));
            }
            let services = tally.services.iter();
            let services: Vec<_> = services
                .map(|service| service.trim_end_matches("-service"))
                .collect();
            row.push_str(
                &self
                    .screen
                    .paint(DIM, &format!("  {}", services.join(", "))),
            );
        }
        row
    }

    fn totals(&self) -> String {
        let book = self.ledger.book();
        let handlers = self.handlers.iter();
        let retried: u64 = handlers
            .map(|handler| self.telemetry.redeliveries(handler))
            .sum();
        format!(
            "{:5.1} s   {} written   {}/{} delivered   {retried} retried   {} dead letters   {} repeated",
            self.started.elapsed().as_secs_f64(),
            self.progress.writes(),
            book.arrived(),
            book.expected(),
            self.telemetry.all_dead_letters(),
            book.repeats,
        )
    }
}
