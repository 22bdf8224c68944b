use std::{error::Error as StdError, fmt};

use super::HandlerError;

/// Which items of a batch failed, by their places, and what that means for the others.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) failed: Vec<(usize, HandlerError)>,
    /// The handler was not called: it is to be called with the others.
    pub(crate) is_untried: bool,
}

impl Partial {
    /// These failed, and the others are done.
    pub(super) fn failed(failed: impl IntoIterator<Item = (usize, HandlerError)>) -> Self {
        Self {
            failed: failed.into_iter().collect(),
            is_untried: false,
        }
    }

    /// These cannot be handed to the handler.
    pub(super) fn rejected(failed: Vec<(usize, HandlerError)>) -> Self {
        Self {
            failed,
            is_untried: true,
        }
    }

    /// The first place that a batch of so many items does not have.
    pub(crate) fn misplaced(&self, items: usize) -> Option<usize> {
        let mut places = self.failed.iter().map(|(place, _)| *place);
        places.find(|place| *place >= items)
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items of the batch failed", self.failed.len())
    }
}

impl StdError for Partial {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let (_, first) = self.failed.first()?;
        Some(first.source())
    }
}
