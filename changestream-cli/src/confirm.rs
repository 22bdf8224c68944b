use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

impl Confirm {
    /// Asks on the terminal whether to go on; `false` is no. Without one, there must be `--yes`.
    pub(crate) fn ask(&self, question: &str) -> Result<bool, Failure> {
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "there is no terminal to ask on; --yes goes on without asking. The question was: {question}"
            )));
        }
        eprint!("{question} [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        let answer = answer.trim().to_lowercase();
        Ok(answer == "y" || answer == "yes")
    }
}
