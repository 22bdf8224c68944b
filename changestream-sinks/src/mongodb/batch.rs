//! A batch of deliveries as commands.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use changestream_core::{Delivery, Disposition, HandlerError};

use super::{
    Mode, Target,
    statement::{MAX_BYTES, Statement},
};

/// The most statements that a server takes in one command.
const MAX_STATEMENTS: usize = 100_000;

/// A statement, and the place of its delivery in the batch.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) place: usize,
    pub(super) statement: Statement,
}

impl Target {
    /// Writes what a batch of deliveries says.
    ///
    /// # Errors
    ///
    /// Which of it failed; or one error for all, after which all of it may be written once more.
    pub(super) async fn write(&self, deliveries: &[Delivery]) -> Result<(), HandlerError> {
        let mut failed = Vec::new();
        let mut writes = Vec::with_capacity(deliveries.len());
        for (place, delivery) in deliveries.iter().enumerate() {
            match self.statement(delivery) {
                Ok(statement) => writes.push(Write { place, statement }),
                Err(error) => failed.push((place, error)),
            }
        }
        let rounds = match self.mode {
            Mode::Insert => vec![writes],
            Mode::Upsert | Mode::Merge => rounds(writes),
        };
        let mut unsettled = Unsettled::default();
        for round in rounds {
            let (late, round): (Vec<_>, Vec<_>) =
                round.into_iter().partition(|write| unsettled.has(write));
            failed.extend(late.iter().map(|write| (write.place, self.to_come_again())));
            for writes in commands(round) {
                for (index, error) in self.run(&writes, deliveries).await? {
                    unsettled.note(&writes[index], &error);
                    failed.push((writes[index].place, error));
                }
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(HandlerError::partial(failed)),
        }
    }

    pub(super) fn to_come_again(&self) -> HandlerError {
        HandlerError::retry(format!(
            "another write to the same document of `{}` was under way",
            self.namespace
        ))
    }
}

/// Documents of which a statement comes again: one after it must not be done before.
#[derive(Default)]
struct Unsettled(HashSet<Vec<u8>>);

impl Unsettled {
    fn note(&mut self, write: &Write, error: &HandlerError) {
        if error.disposition() != Disposition::Reject {
            self.0.insert(write.statement.id.as_bytes().to_vec());
        }
    }

    fn has(&self, write: &Write) -> bool {
        self.0.contains(write.statement.id.as_bytes())
    }
}

/// One statement for each document, then the second ones, and so on: the server is free to do those of one command in any
/// order.
fn rounds(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut counts = HashMap::with_capacity(writes.len());
    let mut rounds: Vec<Vec<Write>> = Vec::new();
    for write in writes {
        let id = write.statement.id.as_bytes().to_vec();
        let count: &mut usize = counts.entry(id).or_default();
        if rounds.len() == *count {
            rounds.push(Vec::new());
        }
        rounds[*count].push(write);
        *count += 1;
    }
    rounds
}

/// Statements of one kind, as many as go into a command.
fn commands(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut commands = Vec::new();
    let mut kinds: HashMap<_, (usize, Vec<Write>)> = HashMap::new();
    for write in writes {
        // In the array there is a type and an index before it.
        let size = write.statement.body.as_bytes().len() + 8;
        let (bytes, command) = kinds.entry(write.statement.kind).or_default();
        if *bytes + size > MAX_BYTES || command.len() == MAX_STATEMENTS {
            *bytes = 0;
            commands.extend(Some(mem::take(command)).filter(|command| !command.is_empty()));
        }
        *bytes += size;
        command.push(write);
    }
    commands.extend(kinds.into_values().map(|(_, command)| command));
    commands
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::mongodb::statement::Kind;

    fn write(place: usize, id: i32, kind: Kind, bytes: usize) -> Write {
        let statement = Statement {
            kind,
            id: rawdoc! { "_id": id },
            body: rawdoc! { "text": "x".repeat(bytes) },
        };
        Write { place, statement }
    }

    fn places(groups: &[Vec<Write>]) -> Vec<Vec<usize>> {
        let of_group = |writes: &Vec<Write>| writes.iter().map(|write| write.place).collect();
        groups.iter().map(of_group).collect()
    }

    #[test]
    fn those_of_one_document_follow_each_other() {
        let ids = [1, 2, 1, 3, 1, 2];
        let writes = ids.into_iter().enumerate();
        let writes = writes.map(|(place, id)| write(place, id, Kind::Update, 1));
        let rounds = rounds(writes.collect());
        assert_eq!(places(&rounds), [vec![0, 1, 3], vec![2, 5], vec![4]]);
    }

    #[test]
    fn what_comes_after_a_statement_that_comes_again_waits_for_it() {
        let mut unsettled = Unsettled::default();
        let update = |place, id| write(place, id, Kind::Update, 1);
        unsettled.note(&update(0, 1), &HandlerError::retry("a conflict"));
        unsettled.note(&update(1, 2), &HandlerError::reject("too deep"));
        assert!(unsettled.has(&update(3, 1)));
        assert!(!unsettled.has(&update(4, 2)), "a rejected one is settled");
        assert!(!unsettled.has(&update(5, 3)));
    }

    #[test]
    fn a_command_has_one_kind_and_less_than_16_mb() {
        const MB: usize = 1 << 20;
        let kinds = [Kind::Update, Kind::Delete, Kind::Update];
        let writes = kinds.into_iter().enumerate();
        let writes = writes.map(|(place, kind)| write(place, 1, kind, 1));
        let mut found = places(&commands(writes.collect()));
        found.sort();
        assert_eq!(found, [vec![0, 2], vec![1]]);
        let sizes = [6 * MB, 6 * MB, 6 * MB, 15 * MB, MB / 2, 16 * MB];
        let writes = sizes.into_iter().enumerate();
        let writes = writes.map(|(place, size)| write(place, 1, Kind::Update, size));
        let found = places(&commands(writes.collect()));
        assert_eq!(found, [vec![0, 1], vec![2], vec![3, 4], vec![5]]);
    }
}
