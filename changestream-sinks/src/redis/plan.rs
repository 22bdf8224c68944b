//! What there is to do for a delivery.

use std::collections::VecDeque;

use ::redis::{Arg, Cmd, cluster_routing::Slot};
use changestream_core::{Delivery, HandlerError};

use super::Settings;

#[derive(Default)]
pub(super) struct Plan {
    /// First, since it takes several requests.
    pub(super) patterns: Vec<String>,
    pub(super) parts: VecDeque<Part>,
    step: usize,
}

/// Commands that one node does, one after the other.
pub(super) struct Part {
    pub(super) commands: Vec<Cmd>,
    /// Those of a later step are begun when those of the ones before are done.
    pub(super) step: usize,
}

impl Plan {
    pub(super) fn of(delivery: &Delivery, settings: &Settings) -> Result<Self, HandlerError> {
        let mut plan = Self::default();
        for (step, action) in settings.actions.iter().enumerate() {
            plan.step = step;
            action.plan(delivery, settings, &mut plan)?;
        }
        if settings.is_atomic {
            plan.make_atomic();
        }
        Ok(plan)
    }

    pub(super) fn add(&mut self, commands: impl IntoIterator<Item = Cmd>) {
        self.parts.push_back(Part {
            commands: commands.into_iter().collect(),
            step: self.step,
        });
    }

    fn make_atomic(&mut self) {
        let mut commands: Vec<_> = self
            .parts
            .drain(..)
            .flat_map(|part| part.commands)
            .collect();
        if commands.len() > 1 {
            // Not by the library's own means, which take a refused `MULTI` for a fault of their own.
            commands.insert(0, ::redis::cmd("MULTI"));
            commands.push(::redis::cmd("EXEC"));
        }
        if !commands.is_empty() {
            self.add(commands);
        }
    }
}

impl Part {
    /// Where a cluster has its keys.
    pub(super) fn slot(&self) -> Result<Slot, HandlerError> {
        let mut slots = self.keys().map(Slot::for_key);
        let first = match slots.next() {
            Some(slot) => slot,
            // Every node publishes to the subscribers of all; those of one channel stay in order by this.
            None => Slot::for_key(
                self.commands
                    .iter()
                    .find_map(first_argument)
                    .unwrap_or_default(),
            ),
        };
        match slots.all(|slot| slot == first) {
            true => Ok(first),
            false => Err(HandlerError::reject(
                "the keys of what is to be done at once have several slots of a cluster; leave `.atomic()` out, or give \
                 them one hash tag, as `{1}` in `product:{1}` and `prices:{1}`",
            )),
        }
    }

    /// Whether any node can do it.
    pub(super) fn has_no_key(&self) -> bool {
        self.keys().next().is_none()
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let with_key = self
            .commands
            .iter()
            .filter(|command| name(command) != Some("PUBLISH"));
        with_key.filter_map(first_argument)
    }

    /// The commands, as a node takes them that has the keys or, where it `is_asking`, one that is only about to.
    pub(super) fn into_commands(self, is_asking: bool) -> impl Iterator<Item = Cmd> {
        self.commands.into_iter().flat_map(move |command| {
            let asking = is_asking.then(|| ::redis::cmd(ASKING));
            asking.into_iter().chain([command])
        })
    }

    /// Of commands that were sent, for another node.
    pub(super) fn again<'a>(sent: impl Iterator<Item = &'a Cmd>, step: usize) -> Self {
        let commands = sent.filter(|command| name(command) != Some(ASKING));
        Self {
            commands: commands.cloned().collect(),
            step,
        }
    }
}

const ASKING: &str = "ASKING";

pub(super) fn name(command: &Cmd) -> Option<&str> {
    match command.args_iter().next()? {
        Arg::Simple(name) => std::str::from_utf8(name).ok(),
        _ => None,
    }
}

/// Of all commands that the sink sends, the key or the channel.
fn first_argument(command: &Cmd) -> Option<&[u8]> {
    match command.args_iter().nth(1)? {
        Arg::Simple(argument) => Some(argument),
        _ => None,
    }
}
