//! What the writer wrote, read out of a change.

use std::fmt;

use changestream::{
    ChangeRequest,
    bson::{Document, doc},
    prelude::*,
};

use crate::log::{Deed, Event, Version};

/// The field of a document that changes with each version of it.
pub(crate) const STATE: &str = "state";

/// What is to happen while a version is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It can't be handled, and becomes a dead letter.
    Poison,
    /// So many attempts fail.
    Fails(u32),
    /// So many attempts fail after they have had their effect.
    FailsLate(u32),
    /// It takes so many milliseconds.
    Slow(u64),
}

/// One version of a document.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    version: Version,
    /// It is a document of a snapshot.
    is_row: bool,
    pub(crate) trouble: Trouble,
}

impl Written {
    /// What stands in the field [`STATE`] of a version.
    pub(crate) fn state(number: u64, trouble: Trouble) -> Document {
        doc! { "version": number as i64, "trouble": trouble.to_string() }
    }

    /// What an event says; `None` where it is not of the writer's.
    pub(crate) fn of(change: &RawChange) -> Option<Self> {
        let fields = match change.operation() {
            Operation::Update => {
                let description = change.raw_update_description()?;
                description.get_document("updatedFields").ok()?
            }
            _ => change.full_document()?,
        };
        let state = fields.get_document(STATE).ok()?;
        let key = change.raw_document_key()?.get_str("_id").ok()?;
        Some(Self {
            version: Version {
                key: key.to_owned(),
                number: state.get_i64("version").ok()?.try_into().ok()?,
            },
            is_row: *change.operation() == Operation::Snapshot,
            trouble: Trouble::parse(state.get_str("trouble").ok()?)?,
        })
    }

    /// What the log says once it was handled in an attempt of this number.
    pub(crate) fn handled(
        self,
        id: &EventId,
        token: &ResumeToken,
        attempt: u32,
        is_done: bool,
    ) -> Deed {
        match self.is_row {
            true => Deed::Row(self.version, is_done),
            false => Deed::Effect(self.event(id, token), attempt, is_done),
        }
    }

    /// What the log says once its dead letter is written.
    pub(crate) fn given_up(self, id: &EventId, token: &ResumeToken) -> Deed {
        match self.is_row {
            true => Deed::Row(self.version, true),
            false => Deed::Letter(self.event(id, token)),
        }
    }

    fn event(self, id: &EventId, token: &ResumeToken) -> Event {
        let token = token.as_raw().get_str("_data");
        Event {
            version: self.version,
            id: id.to_string(),
            token: token.unwrap_or_default().to_owned(),
        }
    }
}

impl<S> FromChange<S> for Written {
    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        Self::of(request.change()).ok_or_else(|| Rejection::new("the writer never wrote this"))
    }
}

impl Trouble {
    fn parse(text: &str) -> Option<Self> {
        let (name, number) = text.split_once(' ').unwrap_or((text, ""));
        Some(match name {
            "none" => Self::None,
            "poison" => Self::Poison,
            "fails" => Self::Fails(number.parse().ok()?),
            "fails-late" => Self::FailsLate(number.parse().ok()?),
            "slow" => Self::Slow(number.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Poison => f.write_str("poison"),
            Self::Fails(times) => write!(f, "fails {times}"),
            Self::FailsLate(times) => write!(f, "fails-late {times}"),
            Self::Slow(pause) => write!(f, "slow {pause}"),
        }
    }
}
