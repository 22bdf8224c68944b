//! The checks of the annotation's values. Each mistake is reported on its token, and all of them at once.

use std::{collections::HashSet, time::Duration};

use syn::{Error, LitInt, LitStr};

use crate::{
    model::{Annotation, Batch, BatchLimits, Operation, Setting, Spec, usage},
    signature::Function,
    suggest::suggest,
};

/// Says what is wrong with a value.
type Check = fn(&str) -> Result<(), String>;

/// Checks the annotation, by itself and against the function it is on.
pub(crate) fn spec(annotation: Annotation, function: &Function, errors: &mut Vec<Error>) -> Spec {
    let operations = operations(&annotation, errors);
    if annotation.batch.is_some() {
        fits_batch(&annotation, errors);
    } else if let Some(to) = &annotation.to
        && function.returns_unit()
    {
        for sink in &to.value {
            let message = format!(
                "this handler returns `()`, so there is nothing to send to `{}`: return what it shall receive, \
                 or leave `to` out",
                sink.value()
            );
            errors.push(Error::new(sink.span(), message));
        }
    }
    let name = annotation
        .name
        .and_then(|name| one(name.value, handler, errors));
    Spec {
        name: name.unwrap_or_else(|| function.name()),
        database: annotation.db.and_then(|db| one(db.value, database, errors)),
        collections: all(annotation.coll, collection, errors),
        operations,
        fields: all(annotation.field, path, errors),
        to: all(annotation.to, sink, errors),
        key: annotation.key.and_then(|key| one(key.value, path, errors)),
        timeout: annotation
            .timeout
            .and_then(|timeout| duration(&timeout, errors)),
        retries: annotation
            .retries
            .and_then(|retries| count(&retries, errors)),
        backoff: annotation
            .backoff
            .and_then(|backoff| duration(&backoff, errors)),
        batch: annotation.batch.map(|batch| limits(batch, errors)),
    }
}

/// What a handler of batches cannot have.
fn fits_batch(annotation: &Annotation, errors: &mut Vec<Error>) {
    if let Some(to) = &annotation.to {
        let message = "nothing of a batch goes to a sink: leave `to` out, or take events one by one, without `batch`";
        errors.push(Error::new(to.key.span(), message));
    }
    if let Some(key) = &annotation.key {
        let message = "the events of a handler of batches are all in one order: leave `key` out";
        errors.push(Error::new(key.key.span(), message));
    }
}

/// Mistaken ones are the least there are, lest the function be taken for a handler of single events.
fn limits(batch: Setting<Batch>, errors: &mut Vec<Error>) -> BatchLimits {
    let Batch { max, within } = batch.value;
    let max = max.and_then(|max| match count(&max, errors)? {
        0 => {
            let message = format!("a batch has 1 event at least: write {}", usage(&max.key));
            errors.push(Error::new(max.value.span(), message));
            None
        }
        count => Some(count),
    });
    let within = within.and_then(|within| duration(&within, errors));
    BatchLimits {
        max: max.unwrap_or(1),
        within: within.unwrap_or(Duration::from_millis(1)),
    }
}

fn operations(annotation: &Annotation, errors: &mut Vec<Error>) -> Vec<Operation> {
    let mut operations = Vec::new();
    let before = errors.len();
    for name in annotation.op.iter().flat_map(|op| &op.value) {
        match Operation::from_name(&name.value()) {
            None => {
                let known = Operation::ALL.iter().map(|(name, _)| *name);
                let suggestion = suggest(&name.value(), "the operations", known);
                let message = format!("unknown operation `{}`: {suggestion}", name.value());
                errors.push(Error::new(name.span(), message));
            }
            Some(operation) if operations.contains(&operation) => errors.push(listed_twice(name)),
            Some(operation) => operations.push(operation),
        }
    }
    if operations.is_empty() {
        return default_operations(annotation.field.is_some());
    }
    if errors.len() == before {
        operations_fit(annotation, &operations, errors);
    }
    operations
}

fn default_operations(field: bool) -> Vec<Operation> {
    if field {
        vec![Operation::Update, Operation::Replace]
    } else {
        vec![
            Operation::Insert,
            Operation::Update,
            Operation::Replace,
            Operation::Delete,
        ]
    }
}

fn operations_fit(annotation: &Annotation, operations: &[Operation], errors: &mut Vec<Error>) {
    let changes_fields = |operation| matches!(operation, &Operation::Update | &Operation::Replace);
    if let Some(field) = &annotation.field
        && !operations.iter().any(changes_fields)
    {
        let message = "`field` restricts updates and replaces, but `op` has neither: add one of them, or leave \
                       `field` out";
        errors.push(Error::new(field.key.span(), message));
    }
    if let Some(coll) = &annotation.coll
        && operations == [Operation::DropDatabase]
    {
        let message = "the drop of a database is of no collection: leave `coll` out";
        errors.push(Error::new(coll.key.span(), message));
    }
}

fn all(
    setting: Option<Setting<Vec<LitStr>>>,
    check: Check,
    errors: &mut Vec<Error>,
) -> Vec<LitStr> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for value in setting.into_iter().flat_map(|setting| setting.value) {
        if !seen.insert(value.value()) {
            errors.push(listed_twice(&value));
        } else if let Some(value) = one(value, check, errors) {
            kept.push(value);
        }
    }
    kept
}

fn listed_twice(value: &LitStr) -> Error {
    Error::new(value.span(), format!("`{}` is listed twice", value.value()))
}

fn one(value: LitStr, check: Check, errors: &mut Vec<Error>) -> Option<LitStr> {
    match check(&value.value()) {
        Ok(()) => Some(value),
        Err(message) => {
            errors.push(Error::new(value.span(), message));
            None
        }
    }
}

fn handler(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err(
            "the name of a handler cannot be empty: for the function's own, leave `name` out"
                .to_owned(),
        );
    }
    without(name, "the name of a handler", &['\0'])
}

fn sink(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("the name of a sink cannot be empty".to_owned());
    }
    without(name, "the name of a sink", &['\0'])
}

/// <https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>
fn collection(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(
            "the name of a collection cannot be empty: for every collection, leave `coll` out"
                .to_owned(),
        );
    }
    without(name, "the name of a collection", &['$', '\0'])
}

/// As on Windows, where the rules are the strictest:
/// <https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>
fn database(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(
            "the name of a database cannot be empty: for the runtime's, leave `db` out".to_owned(),
        );
    }
    let forbidden = [
        '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0',
    ];
    without(name, "the name of a database", &forbidden)
}

fn path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err(
            r#"a path cannot be empty: write one such as "status" or "customer.name""#.to_owned(),
        );
    }
    without(path, "a path", &['\0'])?;
    for segment in path.split('.') {
        if segment.is_empty() {
            return Err(format!(
                "`{path}` has an empty segment: a path is names with single dots between them"
            ));
        }
        if let Some(name) = segment.strip_prefix('$') {
            let suggestion = if name.is_empty() {
                String::new()
            } else {
                format!(": did you mean `{name}`?")
            };
            return Err(format!(
                "`{segment}` names no field, since `$` begins an operator{suggestion}"
            ));
        }
    }
    Ok(())
}

fn without(name: &str, what: &str, forbidden: &[char]) -> Result<(), String> {
    match name.chars().find(|c| forbidden.contains(c)) {
        Some('\0') => Err(format!("{what} cannot contain NUL")),
        Some(' ') => Err(format!("{what} cannot contain a space")),
        Some(c) => Err(format!("{what} cannot contain `{c}`")),
        None => Ok(()),
    }
}

fn duration(setting: &Setting<LitStr>, errors: &mut Vec<Error>) -> Option<Duration> {
    let Setting { key, value } = setting;
    let message = match humantime::parse_duration(&value.value()) {
        Err(_) => format!(
            "not a duration: write numbers with units, such as {}",
            usage(key)
        ),
        Ok(Duration::ZERO) => format!("`{key}` cannot be zero"),
        Ok(duration) if duration.subsec_nanos() % 1_000_000 != 0 => {
            format!("`{key}` is in whole milliseconds: write {}", usage(key))
        }
        Ok(duration) if u64::try_from(duration.as_millis()).is_err() => {
            format!("`{key}` is too long")
        }
        Ok(duration) => return Some(duration),
    };
    errors.push(Error::new(value.span(), message));
    None
}

fn count(setting: &Setting<LitInt>, errors: &mut Vec<Error>) -> Option<u32> {
    let Setting { key, value } = setting;
    match value.base10_parse::<u32>() {
        Ok(count) if matches!(value.suffix(), "" | "u32") => Some(count),
        _ => {
            let message = format!(
                "`{key}` is a whole number from 0 to {}: write {}",
                u32::MAX,
                usage(key)
            );
            errors.push(Error::new(value.span(), message));
            None
        }
    }
}
