//! Any filter on any event: the two back ends hold together, and nothing that a handler wants gets lost on the way to it.
//!
//! An input is the length of its first part in one byte, the choices from which the filters are made, and an event.

mod random;
mod server;

use arbitrary::{Result, Unstructured};
use bson::{Bson, Document, doc};
use changestream_core::{Filter, Operation, RawChange, internals::Selections};
use random::Random;

pub(crate) fn check(data: &[u8]) {
    let Some((length, data)) = data.split_first() else {
        return;
    };
    let Some((choices, event)) = data.split_at_checked((*length).into()) else {
        return;
    };
    if let Ok(change) = RawChange::new(event.to_vec()) {
        // Where the choices end, so do the questions.
        let _ = check_all(&change, Unstructured::new(choices));
    }
}

fn check_all(change: &RawChange, choices: Unstructured<'_>) -> Result<()> {
    let mut random = Random::new(change, choices);
    let (one, other) = (random.filter(0)?, random.filter(0)?);
    check_identities(&one, &other, change);
    check_stages(&one.stages());

    let handlers = random.handlers()?;
    let handlers = Selections::new(handlers, random::DATABASE).expect("handlers of a runtime");
    let wanting = handlers.filters().enumerate();
    let wanting: Vec<_> = wanting
        .filter(|(_, filter)| filter.matches(change))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(handlers.routed(change), wanting);

    let merged = handlers.merged();
    check_stages(&merged);
    let is_lost = || server::event(change).is_some_and(|event| !server::selects(&merged, &event));
    // The server has no event of a snapshot.
    if !wanting.is_empty() && *change.operation() != Operation::Snapshot && is_lost() {
        panic!("lost to handlers {wanting:?} of {handlers:#?}");
    }
    Ok(())
}

/// What holds for all filters.
fn check_identities(one: &Filter, other: &Filter, change: &RawChange) {
    let is_wanted = |filter: &Filter| filter.matches(change);
    let both = || vec![one.clone(), other.clone()];
    let (by_one, by_other) = (is_wanted(one), is_wanted(other));
    assert_eq!(is_wanted(&Filter::And(both())), by_one && by_other);
    assert_eq!(is_wanted(&Filter::Or(both())), by_one || by_other);
    assert_eq!(is_wanted(&Filter::Not(Box::new(one.clone()))), !by_one);
}

/// They can be sent, and each is a `$match`.
fn check_stages(stages: &[Document]) {
    let pipeline = doc! { "pipeline": stages };
    let sent = bson::serialize_to_vec(&pipeline).expect("it is BSON");
    let received: Document = bson::deserialize_from_slice(&sent).expect("it is BSON");
    assert_eq!(received, pipeline);
    let is_match = |stage: &Document| stage.keys().eq(["$match"]);
    assert!(stages.iter().all(is_match), "{}", Bson::from(stages));
}
